//! The graph of ComfyUI.

use super::settings::{Settings, text};
use crate::pipeline::infotext::{Infotext, Program};
use crate::prompt::LONGEST;
use serde_json::{Map, Value};
use std::collections::{HashSet, VecDeque};

/// Name of a node's class.
pub(super) const CLASS: &str = "class_type";
/// Largest number of sampler nodes that are looked at.
const MOST_SAMPLERS: usize = 64;
/// Largest number of nodes that are looked at on the way to a value.
const LONGEST_WAY: usize = 256;
/// Largest number of bytes of a setting. Many nodes may link to one long text.
const LONGEST_SETTING: usize = 1024;
/// Inputs of the nodes that are samplers: the settings themselves, or links to nodes for parts of the settings.
const SAMPLERS: [&[&str]; 3] =
    [&["sampler_name", "steps", "positive"], &["sampler", "sigmas", "positive"], &["sampler", "sigmas", "guider"]];
/// Inputs of a sampler that lead to the nodes for parts of its settings.
const PARTS: [&str; 4] = ["noise", "guider", "sampler", "sigmas"];
/// Class of the guider without classifier-free guidance.
const BASIC_GUIDER: &str = "BasicGuider";
/// Classes of the nodes for parts of a sampler's settings whose inputs are all read.
const READ: [&str; 8] = [
    "RandomNoise",
    BASIC_GUIDER,
    "CFGGuider",
    "KSamplerSelect",
    "BasicScheduler",
    "KarrasScheduler",
    "ExponentialScheduler",
    "Reroute",
];
/// Inputs that may hold the text of a node.
const TEXTS: [&str; 8] = ["text", "text_g", "text_l", "prompt", "string", "t5xxl", "clip_g", "clip_l"];
/// Inputs that may hold the value of a node for one value.
const VALUES: [&str; 9] = ["value", "text", "string", "prompt", "seed", "noise_seed", "int", "float", "number"];
/// Class of a node that replaces a conditioning by zeros.
const ERASER: &str = "ConditioningZeroOut";
/// Inputs that lead to no text.
const OTHERS: [&str; 8] = ["clip", "clip_vision", "control_net", "image", "latent", "model", "pixels", "vae"];

/// Returns the web UI's name of a spacing of ComfyUI. Both have a spacing "beta", of timesteps here and of noise levels
/// there.
pub(super) fn schedule(name: &str) -> String {
    if name == "beta" { "Beta timesteps".into() } else { name.to_owned() }
}

/// Reads a graph in the form of ComfyUI's API: the values of one sampler node, and of the nodes that lead to it. `None`
/// without a sampler node that has a prompt.
///
/// Of several samplers, the first one that starts from an empty latent counts.
///
/// Source: `nodes.py`, `comfy/samplers.py` and `comfy_extras/nodes_custom_sampler.py` of ComfyUI.
pub(super) fn read(graph: Map<String, Value>) -> Option<Infotext> {
    let graph = Graph(graph);
    let samplers = graph.samplers();
    let first = samplers.iter().find(|node| graph.empty_latent(**node).is_some());
    let node = *first.or_else(|| samplers.first())?;
    // A sampler without a node for a part has the values of the part itself.
    let part = |name| graph.way(node, name).last().copied().unwrap_or(node);
    let [noise, guider, solver, sigmas] = PARTS.map(part);
    let positive = graph.texts(guider.first(&["positive", "conditioning"])?, "negative");
    let (encoder, _) = positive.first()?;
    let mut settings = Settings::new(Program::ComfyUi, Map::new());
    settings.prompt(&join(&positive));
    let negative = guider.input("negative").map(|link| graph.texts(link, "positive"));
    settings.negative(join(&negative.unwrap_or_default()));
    settings.add("Steps", graph.value(sigmas, &["steps"]));
    settings.add("Sampler", graph.value(solver, &["sampler_name"]));
    // The class of a node with one spacing names the spacing.
    let spacing = graph.value(sigmas, &["scheduler"]);
    let spacing = spacing.or_else(|| sigmas.class.strip_suffix("Scheduler").map(str::to_owned));
    settings.add("Schedule type", spacing.map(|name| schedule(&name)));
    let scale = graph.value(guider, &["cfg"]);
    settings.add("CFG scale", scale.or_else(|| (guider.class == BASIC_GUIDER).then(|| "1".to_owned())));
    settings.add("Seed", graph.value(noise, &["seed", "noise_seed"]));
    let latent = graph.empty_latent(node);
    let side = |name| graph.value(latent?, &[name]);
    settings.add("Size", side("width").zip(side("height")).map(|(width, height)| format!("{width}x{height}")));
    let way = graph.way(guider, "model");
    settings.add("Model", way.iter().find_map(|node| graph.value(*node, &["ckpt_name", "unet_name"])));
    let layer = graph.way(*encoder, "clip").into_iter().find_map(|node| graph.value(node, &["stop_at_clip_layer"]));
    settings.add("Clip skip", layer.map(|layer| layer.trim_start_matches('-').to_owned()));
    settings.add("Denoising strength", graph.value(sigmas, &["denoise"]).filter(|share| share != "1"));
    settings.add("RNG", Some("CPU".into()));
    settings.add("Shift", way.iter().find_map(|node| graph.value(*node, &["shift"])));
    for node in way {
        let strength = graph.value(node, &["strength_model"]).unwrap_or_default();
        settings.add("LoRA", graph.value(node, &["lora_name"]).map(|name| format!("{name} {strength}")));
    }
    for name in ["start_at_step", "end_at_step"] {
        settings.add(name, graph.value(node, &[name]));
    }
    let is_off = |switch: &String| ["disable", "false"].contains(&switch.as_str());
    settings.add("add_noise", graph.value(node, &["add_noise"]).filter(is_off));
    for name in ["sigma_max", "sigma_min", "rho"] {
        settings.add(name, graph.value(sigmas, &[name]));
    }
    for part in PARTS {
        for node in graph.way(node, part).into_iter().filter(|node| !READ.contains(&node.class)) {
            settings.add(part, Some(node.class.chars().take(LONGEST_SETTING).collect()));
        }
    }
    let mut texts = graph.texts_of(*encoder);
    let read = texts.next();
    for (name, text) in texts.filter(|(_, text)| !text.is_empty() && read.is_some_and(|(_, read)| read != *text)) {
        settings.add(name, Some(text.chars().take(LONGEST_SETTING).collect()));
    }
    settings.add("Other samplers", (samplers.len() > 1).then(|| (samplers.len() - 1).to_string()));
    Some(settings.finish())
}

/// Joins the texts of several nodes, up to the first text that makes the prompt too long to be read.
fn join(texts: &[(Node<'_>, &str)]) -> String {
    let mut joined = String::new();
    for (index, (_, text)) in texts.iter().enumerate() {
        if joined.len() > LONGEST {
            break;
        }
        joined.push_str(if index > 0 { ", " } else { "" });
        joined.push_str(text);
    }
    joined
}

/// Nodes by their ids.
struct Graph(Map<String, Value>);

/// A node: its id, its class, and its inputs, which are values or links to other nodes.
#[derive(Clone, Copy)]
struct Node<'g> {
    id: &'g str,
    class: &'g str,
    inputs: &'g Map<String, Value>,
}

impl<'g> Node<'g> {
    fn input(self, name: &str) -> Option<&'g Value> {
        self.inputs.get(name)
    }

    /// Returns the first of these inputs that is there.
    fn first(self, names: &[&str]) -> Option<&'g Value> {
        names.iter().find_map(|name| self.input(name))
    }
}

impl Graph {
    fn node(&self, id: &str) -> Option<Node<'_>> {
        let (id, node) = self.0.get_key_value(id)?;
        let class = node.get(CLASS).and_then(Value::as_str).unwrap_or_default();
        Some(Node { id, class, inputs: node.get("inputs")?.as_object()? })
    }

    /// Returns the node that a link leads to; `None` for a value. A link is a node's id and the index of an output.
    fn link(&self, input: &Value) -> Option<Node<'_>> {
        match input.as_array()?.as_slice() {
            [Value::String(id), Value::Number(_)] => self.node(id),
            [Value::Number(id), Value::Number(_)] => self.node(&id.to_string()),
            _ => None,
        }
    }

    /// Returns the sampler nodes, in the order of their ids.
    fn samplers(&self) -> Vec<Node<'_>> {
        let has = |node: &Node<'_>, inputs: &[&str]| inputs.iter().all(|name| node.inputs.contains_key(*name));
        let is_sampler = |node: &Node<'_>| SAMPLERS.iter().any(|inputs| has(node, inputs));
        let nodes = self.0.keys().filter_map(|id| self.node(id)).filter(is_sampler);
        let mut samplers: Vec<Node<'_>> = nodes.take(MOST_SAMPLERS).collect();
        samplers.sort_by_key(|node| (node.id.len(), node.id));
        samplers
    }

    /// Returns the value of the first of these inputs that is there: a text, a number or a truth value. A link leads to
    /// a node that holds the value.
    fn found<'g>(&'g self, node: Node<'g>, names: &[&str]) -> Option<&'g Value> {
        let mut input = node.first(names)?;
        for _ in 0..LONGEST_WAY {
            input = match input {
                Value::String(_) | Value::Number(_) | Value::Bool(_) => return Some(input),
                link => self.link(link)?.first(&VALUES)?,
            };
        }
        None
    }

    /// Returns the texts of a node for text encoders, each with the name of its input. Empty texts come last: a prompt
    /// without T5 leaves T5's text empty.
    fn texts_of<'g>(&'g self, node: Node<'g>) -> impl Iterator<Item = (&'static str, &'g str)> {
        let text = |name| Some((name, self.found(node, &[name])?.as_str()?));
        let (empty, full): (Vec<_>, Vec<_>) = TEXTS.into_iter().filter_map(text).partition(|(_, text)| text.is_empty());
        full.into_iter().chain(empty)
    }

    /// Returns a value as [`found`](Self::found) does, as text; `None` for a text that is too long for a setting.
    fn value(&self, node: Node<'_>, names: &[&str]) -> Option<String> {
        let is_setting = |value: &&Value| value.as_str().is_none_or(|text| text.len() <= LONGEST_SETTING);
        self.found(node, names).filter(is_setting).cloned().map(text)
    }

    /// Returns the nodes to which the input `name` leads, one after the other.
    fn way(&self, from: Node<'_>, name: &str) -> Vec<Node<'_>> {
        // The only input of a node without a name for it, such as `Reroute`, is the empty one.
        let next = |node: &Node<'_>| self.link(node.first(&[name, ""])?);
        let first = from.input(name).and_then(|link| self.link(link));
        let mut seen = HashSet::new();
        std::iter::successors(first, next).take(LONGEST_WAY).take_while(|node| seen.insert(node.id)).collect()
    }

    /// Returns the node of the empty latent that a sampler starts from; `None` if it starts from a picture or from the
    /// latent of another sampler.
    fn empty_latent(&self, sampler: Node<'_>) -> Option<Node<'_>> {
        let latent = self.way(sampler, "latent_image").into_iter().find(|node| !node.inputs.contains_key(""))?;
        let is_empty = !latent.inputs.keys().any(|name| ["samples", "pixels", "latent_image"].contains(&name.as_str()));
        Some(latent).filter(|latent| is_empty && latent.inputs.contains_key("width"))
    }

    /// Returns the nodes that hold the texts of a conditioning, with their texts. Links of the input `other` are not
    /// followed.
    fn texts(&self, conditioning: &Value, other: &str) -> Vec<(Node<'_>, &str)> {
        let (mut texts, mut seen) = (Vec::new(), HashSet::new());
        let mut open: VecDeque<Node<'_>> = self.link(conditioning).into_iter().collect();
        while let Some(node) = open.pop_front().filter(|_| seen.len() < LONGEST_WAY) {
            if !seen.insert(node.id) || node.class == ERASER {
                continue;
            }
            match self.texts_of(node).next() {
                Some((_, text)) => texts.push((node, text)),
                None => {
                    let follows = |name: &str| name != other && !OTHERS.contains(&name);
                    let links = node.inputs.iter().filter(|(name, _)| follows(name)).map(|(_, input)| input);
                    open.extend(links.filter_map(|link| self.link(link)).take(LONGEST_WAY));
                }
            }
        }
        texts
    }
}
