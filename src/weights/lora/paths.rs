//! [`Paths`]: the layers of a model by the names that LoRA files give them.

use crate::weights::names::{self, Layout};
use crate::weights::{Parts, anima};
use std::collections::{BTreeMap, BTreeSet};

/// The parts of a model that LoRAs change. A name without a part is looked up in this order.
const CHANGED: [&str; 5] = ["unet", "transformer", "text_conditioner", "text_encoder", "text_encoder_2"];

/// Parts that a file means by the part `unet`: the network that denoises, of either kind.
pub(super) const DENOISING: [&str; 2] = ["unet", "transformer"];

/// Beginnings of module names with `_` for `.`, each with the part that it names. A name may have several: the file's
/// writer wraps the model in modules of its own, or writes the part twice.
///
/// Source: kohya's sd-scripts, LyCORIS, OneTrainer, diffusers, PEFT, and ComfyUI's `comfy/lora.py`.
const STARTS: [(&str, Option<&str>); 23] = [
    ("lora_unet_", Some("unet")),
    ("lora_te1_", Some("text_encoder")),
    ("lora_te2_", Some("text_encoder_2")),
    ("lora_te_", Some("text_encoder")),
    ("lycoris_", None),
    ("unet_", Some("unet")),
    ("text_encoder_2_", Some("text_encoder_2")),
    ("text_encoder_", Some("text_encoder")),
    ("diffusion_model_", Some("unet")),
    ("text_encoders_", None),
    ("clip_l_", Some("text_encoder")),
    ("clip_h_", Some("text_encoder")),
    ("clip_g_", Some("text_encoder_2")),
    ("qwen3_06b_", Some("text_encoder")),
    ("text_conditioner_", Some("text_conditioner")),
    (CONDITIONER, Some("text_conditioner")),
    // Modules around a network or around all networks.
    ("wrapped_", None),
    ("transformer_", None),
    ("model_", None),
    ("module_", None),
    ("state_dict_", None),
    ("_orig_mod_", None),
    ("net_", None),
];

/// Beginning of the names of Anima's text conditioner, which files count as a part of the transformer.
const CONDITIONER: &str = "llm_adapter_";

/// The module that PEFT wraps a model in, which files name anywhere before the path.
const PEFT: &str = "base_model_model_";

/// Largest number of bytes of a module's name; names of real files have about a hundred.
const LONGEST: usize = 512;
/// Largest number of beginnings that a name may have.
const MOST_STARTS: usize = 8;

/// Returns the part of a model that a file's module changes, as its name alone shows. Names without a part count as
/// the UNet, except those of a text encoder's layers. A transformer counts as the UNet.
pub(super) fn part_of(module: &str) -> &'static str {
    const TEXT: [&str; 4] = ["text_model_", "encoder_layers_", "resblocks_", "text_projection"];
    let joined = module.get(..LONGEST).unwrap_or(module).replace('.', "_").replace(PEFT, "");
    let (mut part, mut path) = (None, joined.as_str());
    for _ in 0..=MOST_STARTS {
        let Some((start, named)) = STARTS.iter().find(|(start, _)| path.starts_with(start)) else { break };
        path = path.get(start.len()..).unwrap_or_default();
        part = named.or(part);
    }
    part.unwrap_or(if TEXT.iter().any(|start| path.starts_with(start)) { "text_encoder" } else { "unet" })
}

/// The layers of a model, by their paths in the notation of kohya's trainer, with `_` for `.`. Paths contain other `_`
/// too, so the notation cannot be converted back, and every path of the model is converted instead.
pub(super) struct Paths<'p> {
    parts: BTreeMap<&'p str, BTreeMap<String, &'p str>>,
    layout: Layout,
}

impl<'p> Paths<'p> {
    pub(super) fn of(parts: &'p Parts) -> Self {
        let joined = |path: &str| path.replace('.', "_");
        let mut layers = BTreeMap::new();
        for (part, tensors) in parts.iter().filter(|(part, _)| CHANGED.contains(&part.as_str())) {
            let paths = tensors.keys().filter_map(|name| name.strip_suffix(".weight"));
            let named = |path: &'p str| match part.starts_with("text") && !path.starts_with("text_") {
                true => (format!("text_model_{}", joined(path)), path), // some files omit the prefix
                false => (joined(path), path),
            };
            let mut own: BTreeMap<String, &str> = paths.map(named).collect();
            if part == "transformer" {
                let original: Vec<_> =
                    own.values().filter_map(|path| Some((joined(&anima::original(path)?), *path))).collect();
                own.extend(original);
            }
            layers.insert(part.as_str(), own);
        }
        let unet = parts.get("unet");
        let resnet = |name: &String| Some(name.strip_prefix("down_blocks.0.resnets.")?.split('.').next()?.to_owned());
        let resnets: BTreeSet<String> = unet.into_iter().flatten().filter_map(|(name, _)| resnet(name)).collect();
        let usual = Layout::default();
        let unet_blocks = if resnets.is_empty() { usual.unet_blocks } else { resnets.len() + 1 };
        Self { parts: layers, layout: Layout { unet_blocks, ..usual } }
    }

    /// Returns part and path of the layer that a file calls `module`.
    pub(super) fn find(&self, module: &str) -> Option<(&'p str, &'p str)> {
        if module.len() > LONGEST {
            return None;
        }
        let joined = module.replace('.', "_").replace(PEFT, "");
        let (mut part, mut path) = (None, joined.as_str());
        for _ in 0..=MOST_STARTS {
            let is_named = |name: &str, part: &str| name == part || part == "unet" && DENOISING.contains(&name);
            let mut parts = CHANGED.iter().filter(|name| part.is_none_or(|part| is_named(name, part)));
            if let Some(found) = parts.find_map(|part| self.within(part, path)) {
                return Some(found);
            }
            let (start, named) = STARTS.iter().find(|(start, _)| path.starts_with(start))?;
            path = path.get(start.len()..)?;
            part = named.or(part);
        }
        None
    }

    /// Returns part and path of the layer at a joined path inside a part.
    fn within(&self, part: &str, path: &str) -> Option<(&'p str, &'p str)> {
        let (part, layers) = self.parts.get_key_value(part)?;
        let path = path.replace("_processor_to_", "_to_");
        let found = |path: &str| layers.get(path).map(|path| (*part, *path));
        let old = |from: &str, to: &str| found(&format!("{}{to}", path.strip_suffix(from)?));
        found(&path)
            .or_else(|| found(&format!("text_model_{path}")))
            .or_else(|| old("_attn_to_q", "_attn_q_proj"))
            .or_else(|| old("_attn_to_k", "_attn_k_proj"))
            .or_else(|| old("_attn_to_v", "_attn_v_proj"))
            .or_else(|| old("_attn_to_out", "_attn_out_proj"))
            .or_else(|| old("_to_out", "_to_out_0"))
            .or_else(|| found(&names::unet_joined(&path, self.layout)?.replace('.', "_")))
            .or_else(|| found(&names::open_clip_joined(&path)?))
    }
}
