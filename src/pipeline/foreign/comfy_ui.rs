//! The graph of ComfyUI.

use super::settings::{Settings, text};
use crate::pipeline::infotext::{Infotext, Program};
use serde_json::{Map, Value};
use std::collections::{HashSet, VecDeque};

/// Name of a node's class.
pub(super) const CLASS: &str = "class_type";
/// Largest number of sampler nodes that are looked at.
const MOST_SAMPLERS: usize = 64;
/// Largest number of nodes that are looked at on the way to a value.
const LONGEST_WAY: usize = 256;
/// Inputs that may hold the text of a node.
const TEXTS: [&str; 4] = ["text", "text_g", "prompt", "string"];
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
/// Source: `nodes.py` and `comfy/samplers.py` of ComfyUI.
pub(super) fn read(graph: Map<String, Value>) -> Option<Infotext> {
    let graph = Graph(graph);
    let samplers = graph.samplers();
    let first = samplers.iter().find(|node| graph.empty_latent(**node).is_some());
    let node = *first.or_else(|| samplers.first())?;
    let positive = graph.texts(node.input("positive")?, "negative");
    let (encoder, _) = positive.first()?;
    let mut settings = Settings::new(Program::ComfyUi, Map::new());
    settings.prompt(&joined(&positive));
    let negative = node.input("negative").map(|link| graph.texts(link, "positive"));
    settings.negative(joined(&negative.unwrap_or_default()));
    settings.add("Steps", graph.value(node, &["steps"]));
    settings.add("Sampler", graph.value(node, &["sampler_name"]));
    settings.add("Schedule type", graph.value(node, &["scheduler"]).map(|name| schedule(&name)));
    settings.add("CFG scale", graph.value(node, &["cfg"]));
    settings.add("Seed", graph.value(node, &["seed", "noise_seed"]));
    let latent = graph.empty_latent(node);
    let side = |name| graph.value(latent?, &[name]);
    settings.add("Size", side("width").zip(side("height")).map(|(width, height)| format!("{width}x{height}")));
    let way = graph.way(node, "model");
    settings.add("Model", way.iter().find_map(|node| graph.value(*node, &["ckpt_name", "unet_name"])));
    let layer = graph.way(*encoder, "clip").into_iter().find_map(|node| graph.value(node, &["stop_at_clip_layer"]));
    settings.add("Clip skip", layer.map(|layer| layer.trim_start_matches('-').to_owned()));
    settings.add("Denoising strength", graph.value(node, &["denoise"]).filter(|share| share != "1"));
    settings.add("RNG", Some("CPU".into()));
    for node in way {
        let strength = graph.value(node, &["strength_model"]).unwrap_or_default();
        settings.add("LoRA", graph.value(node, &["lora_name"]).map(|name| format!("{name} {strength}")));
    }
    for name in ["start_at_step", "end_at_step", "add_noise"] {
        settings.add(name, graph.value(node, &[name]));
    }
    settings.add("Other samplers", (samplers.len() > 1).then(|| (samplers.len() - 1).to_string()));
    Some(settings.finish())
}

/// Joins the texts of several nodes.
fn joined(texts: &[(Node<'_>, String)]) -> String {
    texts.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join(", ")
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
    fn linked(&self, input: &Value) -> Option<Node<'_>> {
        match input.as_array()?.as_slice() {
            [Value::String(id), Value::Number(_)] => self.node(id),
            [Value::Number(id), Value::Number(_)] => self.node(&id.to_string()),
            _ => None,
        }
    }

    /// Returns the sampler nodes, in the order of their ids.
    fn samplers(&self) -> Vec<Node<'_>> {
        let inputs = ["sampler_name", "steps", "positive"];
        let is_sampler = |node: &Node<'_>| inputs.iter().all(|name| node.inputs.contains_key(*name));
        let nodes = self.0.keys().filter_map(|id| self.node(id)).filter(is_sampler);
        let mut samplers: Vec<Node<'_>> = nodes.take(MOST_SAMPLERS).collect();
        samplers.sort_by_key(|node| (node.id.len(), node.id));
        samplers
    }

    /// Returns the value of the first of these inputs that is there. A link leads to a node that holds the value.
    fn value(&self, node: Node<'_>, names: &[&str]) -> Option<String> {
        let mut input = node.first(names)?;
        for _ in 0..LONGEST_WAY {
            input = match input {
                Value::String(_) | Value::Number(_) => return Some(text(input.clone())),
                link => self.linked(link)?.first(&VALUES)?,
            };
        }
        None
    }

    /// Returns the nodes to which the input `name` leads, one after the other.
    fn way(&self, from: Node<'_>, name: &str) -> Vec<Node<'_>> {
        // The only input of a node without a name for it, such as `Reroute`, is the empty one.
        let next = |node: &Node<'_>| self.linked(node.first(&[name, ""])?);
        let first = from.input(name).and_then(|link| self.linked(link));
        std::iter::successors(first, next).take(LONGEST_WAY).collect()
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
    fn texts(&self, conditioning: &Value, other: &str) -> Vec<(Node<'_>, String)> {
        let (mut texts, mut seen) = (Vec::new(), HashSet::new());
        let mut open: VecDeque<Node<'_>> = self.linked(conditioning).into_iter().collect();
        while let Some(node) = open.pop_front().filter(|_| seen.len() < LONGEST_WAY) {
            if !seen.insert(node.id) || node.class == ERASER {
                continue;
            }
            match self.value(node, &TEXTS) {
                Some(text) => texts.push((node, text)),
                None => {
                    let follows = |name: &str| name != other && !OTHERS.contains(&name);
                    let links = node.inputs.iter().filter(|(name, _)| follows(name)).map(|(_, input)| input);
                    open.extend(links.filter_map(|link| self.linked(link)).take(LONGEST_WAY));
                }
            }
        }
        texts
    }
}
