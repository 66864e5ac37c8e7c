//! [`Paths`]: the layers of a model by the names that LoRA files give them.

use crate::error::Result;
use crate::weights::names::{self, Layout, Storage};
use crate::weights::{Parts, anima, sd3, z_image};
use std::collections::{BTreeMap, BTreeSet};
use tch::Tensor;

/// The parts of a model that LoRAs change. A name without a part is looked up in this order.
const CHANGED: [&str; 6] =
    ["unet", "transformer", "text_conditioner", "text_encoder", "text_encoder_2", "text_encoder_3"];

/// Parts that a file means by the part `unet`: the network that denoises, of either kind.
pub(super) const DENOISING: [&str; 2] = ["unet", "transformer"];

/// Beginnings of module names with `_` for `.`, each with the part that it names. A name may have several: the file's
/// writer wraps the model in modules of its own, or writes the part twice. Further `_` may follow a beginning, as in
/// VideoX-Fun's `lora_unet__`.
///
/// Source: kohya's sd-scripts, LyCORIS, OneTrainer, diffusers, PEFT, VideoX-Fun, and ComfyUI's `comfy/lora.py`.
const STARTS: [(&str, Option<&str>); 30] = [
    ("lora_unet_", Some("unet")),
    ("lora_transformer_", Some("unet")), // OneTrainer, for transformers
    ("lora_te1_", Some("text_encoder")),
    ("lora_te2_", Some("text_encoder_2")),
    ("lora_te3_", Some("text_encoder_3")),
    ("lora_te_", Some("text_encoder")),
    ("lycoris_", None),
    ("unet_", Some("unet")),
    ("text_encoder_2_", Some("text_encoder_2")),
    ("text_encoder_3_", Some("text_encoder_3")),
    ("text_encoder_", Some("text_encoder")),
    ("diffusion_model_", Some("unet")),
    ("text_encoders_", None),
    ("clip_l_", Some("text_encoder")),
    ("clip_h_", Some("text_encoder")),
    ("clip_g_", Some("text_encoder_2")),
    ("t5xxl_", Some("text_encoder_3")),
    ("t5_", Some("text_encoder_3")), // OneTrainer, with the names of the original files
    ("qwen3_06b_", Some("text_encoder")),
    ("qwen3_4b_", Some("text_encoder")),
    ("qwen3_", Some("text_encoder")),
    ("text_conditioner_", Some("text_conditioner")),
    (CONDITIONER, Some("text_conditioner")),
    // Modules around a network or around all networks.
    ("wrapped_", None),
    ("transformer_", None),
    ("model_", None),
    ("module_", None),
    ("state_dict_", None),
    ("orig_mod_", None), // `_orig_mod`, whose `_` is stripped
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

/// Strips one of the [`STARTS`] from a joined name without `_` in front, and returns the rest of the name in the same
/// form, with the part that the beginning names; `None` if the name has no such beginning.
fn strip_start(path: &str) -> Option<(&str, Option<&'static str>)> {
    STARTS.iter().find_map(|(start, part)| Some((path.strip_prefix(start)?.trim_start_matches('_'), *part)))
}

/// Returns the part of a model that a file's module changes, as its name alone shows. Names without a part count as
/// the UNet, except those of a text encoder's layers. A transformer counts as the UNet.
pub(super) fn part_of(module: &str) -> &'static str {
    const TEXT: [&str; 4] = ["text_model_", "encoder_layers_", "resblocks_", "text_projection"];
    let joined = module.get(..LONGEST).unwrap_or(module).replace('.', "_").replace(PEFT, "");
    let (mut part, mut path) = (None, joined.trim_start_matches('_'));
    for _ in 0..=MOST_STARTS {
        let Some((rest, named)) = strip_start(path) else { break };
        (path, part) = (rest, named.or(part));
    }
    part.unwrap_or(if TEXT.iter().any(|start| path.starts_with(start)) { "text_encoder" } else { "unet" })
}

/// Layers of a model that a module of a file changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found<'p> {
    /// Part of the model that has the layers.
    pub part: &'p str,
    /// Paths of the layers in the part. The rows of a module of several layers are those of the first layer, then
    /// those of the next.
    pub layers: Vec<&'p str>,
    /// True if the module has the two halves of the layer's rows exchanged.
    pub exchanged: bool,
    /// Path that modules have in common if they change some of the same layers.
    pub unit: &'p str,
}

impl<'p> Found<'p> {
    /// Creates the only layer of a module.
    fn one(part: &'p str, path: &'p str) -> Self {
        Self { part, layers: vec![path], exchanged: false, unit: path }
    }

    /// Returns the path of the first layer.
    pub(super) fn path(&self) -> &'p str {
        self.layers.first().copied().unwrap_or(self.unit)
    }

    /// Joins the tensors of the layers to the tensor that the module changes, by their rows.
    pub(super) fn join(&self, tensors: &[Tensor]) -> Result<Tensor> {
        match tensors {
            [only] => self.exchange(only),
            all => Ok(Tensor::f_cat(all, 0)?),
        }
    }

    /// Splits a tensor of the module's rows into equal parts for the layers.
    pub(super) fn split(&self, whole: &Tensor) -> Result<Vec<Tensor>> {
        match self.layers.len() {
            0 | 1 => Ok(vec![self.exchange(whole)?]),
            several => Ok(whole.f_chunk(several as i64, 0)?),
        }
    }

    /// Exchanges the halves of a tensor's rows if the module has them exchanged.
    fn exchange(&self, x: &Tensor) -> Result<Tensor> {
        Ok(if self.exchanged {
            x.f_roll([x.size().first().map_or(0, |rows| rows / 2)], [0])?
        } else {
            x.shallow_clone()
        })
    }
}

/// The layers of a model, by their paths in the notation of kohya's trainer, with `_` for `.`. Paths contain other `_`
/// too, so the notation cannot be converted back, and every path of the model is converted instead.
pub(super) struct Paths<'p> {
    parts: BTreeMap<&'p str, BTreeMap<String, Found<'p>>>,
    layout: Layout,
}

/// Returns the layers of a transformer by their names in the original layouts.
fn originals<'p>(part: &'p str, paths: &[&'p str]) -> BTreeMap<String, Found<'p>> {
    let last = sd3::last_block(paths.iter().copied());
    let mut all = BTreeMap::<String, Found<'p>>::new();
    for path in paths {
        if let Some(original) = anima::original(path) {
            all.insert(join_names(&original), Found::one(part, path));
        }
    }
    let is_joint = paths.iter().any(|path| path.contains(".attn.add_q_proj"));
    let is_z_image = paths.iter().any(|path| path.starts_with("cap_embedder."));
    let stored = |path: &str| match (is_joint, is_z_image) {
        (true, _) => sd3::original(path, last),
        (_, true) => z_image::original(path),
        _ => None,
    };
    let mut stored: Vec<_> = paths.iter().filter_map(|path| Some((*path, stored(path)?))).collect();
    // Queries come before keys, and keys before values.
    stored.sort_by_key(|(_, (_, storage))| if let Storage::Third(third) = storage { *third } else { 0 });
    for (path, (original, storage)) in stored {
        let joined = join_names(&original);
        let found = all.entry(joined.clone()).or_insert_with(|| Found { layers: Vec::new(), ..Found::one(part, path) });
        found.layers.push(path);
        found.exchanged = storage == Storage::Exchanged;
        if let Storage::Third(third) = storage {
            // OneTrainer counts the thirds of a layer, as in `qkv.0`.
            let unit = found.unit;
            all.insert(format!("{joined}_{third}"), Found { unit, ..Found::one(part, path) });
        }
    }
    all
}

/// Returns a path in kohya's notation.
fn join_names(path: &str) -> String {
    path.replace('.', "_")
}

impl<'p> Paths<'p> {
    pub(super) fn of(parts: &'p Parts) -> Self {
        let mut layers = BTreeMap::new();
        for (part, tensors) in parts.iter().filter(|(part, _)| CHANGED.contains(&part.as_str())) {
            let paths: Vec<&str> = tensors.keys().filter_map(|name| name.strip_suffix(".weight")).collect();
            let originals = if part == "transformer" { originals(part, &paths) } else { BTreeMap::new() };
            let units: BTreeMap<&str, &str> =
                originals.values().flat_map(|found| found.layers.iter().map(|path| (*path, found.unit))).collect();
            let named = |path: &'p str| {
                let name = match part.starts_with("text") && !path.starts_with("text_") {
                    true => format!("text_model_{}", join_names(path)), // some files omit the prefix
                    false => join_names(path),
                };
                let unit = units.get(path).copied().unwrap_or(path);
                (name, Found { unit, ..Found::one(part, path) })
            };
            let mut own: BTreeMap<String, Found<'_>> = paths.iter().map(|path| named(path)).collect();
            own.extend(originals);
            layers.insert(part.as_str(), own);
        }
        let unet = parts.get("unet");
        let resnet = |name: &String| Some(name.strip_prefix("down_blocks.0.resnets.")?.split('.').next()?.to_owned());
        let resnets: BTreeSet<String> = unet.into_iter().flatten().filter_map(|(name, _)| resnet(name)).collect();
        let usual = Layout::default();
        let unet_blocks = if resnets.is_empty() { usual.unet_blocks } else { resnets.len() + 1 };
        Self { parts: layers, layout: Layout { unet_blocks, ..usual } }
    }

    /// Returns the layers that a file calls `module`.
    pub(super) fn find(&self, module: &str) -> Option<&Found<'p>> {
        if module.len() > LONGEST {
            return None;
        }
        let joined = join_names(module).replace(PEFT, "");
        let (mut part, mut path) = (None, joined.trim_start_matches('_'));
        for _ in 0..=MOST_STARTS {
            let is_named = |name: &str, part: &str| name == part || part == "unet" && DENOISING.contains(&name);
            let mut parts = CHANGED.iter().filter(|name| part.is_none_or(|part| is_named(name, part)));
            if let Some(found) = parts.find_map(|part| self.within(part, path)) {
                return Some(found);
            }
            let (rest, named) = strip_start(path)?;
            (path, part) = (rest, named.or(part));
        }
        None
    }

    /// Returns the layers at a joined path inside a part.
    fn within(&self, part: &str, path: &str) -> Option<&Found<'p>> {
        let layers = self.parts.get(part)?;
        let path = path.replace("_processor_to_", "_to_");
        let found = |path: &str| layers.get(path);
        let old = |from: &str, to: &str| found(&format!("{}{to}", path.strip_suffix(from)?));
        found(&path)
            .or_else(|| found(&format!("text_model_{path}")))
            .or_else(|| old("_attn_to_q", "_attn_q_proj"))
            .or_else(|| old("_attn_to_k", "_attn_k_proj"))
            .or_else(|| old("_attn_to_v", "_attn_v_proj"))
            .or_else(|| old("_attn_to_out", "_attn_out_proj"))
            .or_else(|| old("_to_out", "_to_out_0"))
            .or_else(|| found(&join_names(&names::unet_joined(&path, self.layout)?)))
            .or_else(|| found(&names::open_clip_joined(&path)?))
    }
}
