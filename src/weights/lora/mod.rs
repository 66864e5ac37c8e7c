//! [`Lora`]: changes to the weights of a model, from one file.
//!
//! A file has modules, each with the tensors that change one layer. `piece.rs` finds the place of a tensor in its
//! module from the tensor's name, and `module.rs` puts the tensors of a module together. `delta.rs` has one arm for
//! each algorithm. `paths.rs` finds the layer, and `change.rs` computes its changed weight. `merge.rs` changes the
//! weights of a model, and `unmerged.rs` keeps the changes beside the weights.

mod change;
mod delta;
mod dora;
mod glora;
mod ia3;
mod loha;
mod lokr;
mod merge;
mod metadata;
mod module;
mod oft;
mod paths;
pub(super) mod piece;
mod product;
mod summary;
#[cfg(test)]
mod tests;
mod unmerged;

pub use summary::LoraSummary;
pub(crate) use unmerged::Unmerged;

use super::Tensors;
use super::file::{Header, read_with_header};
use super::recognize::Contents;
use crate::error::{Error, Result};
use crate::family::ModelFamily;
use crate::files;
use crate::json;
use module::{Flaw, Module, Pieces};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A LoRA (low-rank adaptation) or one of its relatives: a small file that changes weights W of a model.
///
/// | algorithm | change of a weight at strength 1, with α/r from the file |
/// |---|---|
/// | LoRA, LoCon, also with a middle matrix | (α/r) · up · down |
/// | LoHa, also in Tucker form | (α/r) · (w1_a · w1_b) ∘ (w2_a · w2_b) |
/// | LoKr, whole or with factors, also in Tucker form | (α/r) · w1 ⊗ w2 |
/// | full differences (`diff`), differences of norms (`w_norm`) and biases | as in the file |
/// | IA3 | a factor for each input or output |
/// | diagonal OFT, BOFT | rotations of blocks of outputs |
/// | GLoRA | (α/r) · (W · a1 · a2 + b1 · b2) |
///
/// DoRA gives the rows or the columns of the changed weight trained lengths, after any of these changes.
///
/// Supported tensor names are those of PEFT, of diffusers (today's names and two older forms), of kohya's trainer (with
/// diffusers' or SGM's numbers of blocks), of LyCORIS, OneTrainer and ComfyUI. Names may have prefixes that wrappers
/// and converters leave, such as `base_model.model.` and `state_dict.`
///
/// ```no_run
/// # fn main() -> impasto::Result<()> {
/// use impasto::weights::Lora;
/// use impasto::{Model, Source};
///
/// let model = Model::load(&Source::file("model.safetensors"))?;
/// let ink = model.with_lora(&[Lora::open("ink.safetensors")?.scale(0.8)])?; // unchanged weights are shared
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Lora {
    file: String,
    modules: BTreeMap<String, Module>,
    /// Modules that change nothing, each with the reason as the end of a sentence.
    empty: BTreeMap<String, &'static str>,
    /// Names of tensors that are not part of any supported form of LoRA.
    strange: Vec<String>,
    family: Option<ModelFamily>,
    /// PEFT's configuration.
    adapter: Value,
    /// Texts that the trainer wrote about the LoRA.
    metadata: BTreeMap<String, String>,
    /// Words whose embeddings the file also contains.
    words: BTreeSet<String>,
    scale: f64,
    text_scale: Option<f64>,
}

impl Lora {
    /// Reads a LoRA from a file of weights. For a file named `adapter_model.safetensors` or `adapter_model.bin`, PEFT's
    /// scales are also read from `adapter_config.json` in the same folder.
    ///
    /// # Errors
    /// The errors of [`read_tensors`](super::read_tensors); [`Error::Malformed`] if the file is not a LoRA, is one of
    /// an unsupported algorithm, or has a module that lacks tensors. The error names the algorithm or the module.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (tensors, header) = read_with_header(path)?;
        let mut lora = Self::new(header, tensors)?;
        if lora.adapter.is_null() && path.file_stem().is_some_and(|stem| stem == "adapter_model") {
            lora.adapter = beside(&path.with_file_name("adapter_config.json"))?;
        }
        Ok(lora)
    }

    /// Wraps tensors that are in memory already; `file` names them in messages.
    ///
    /// # Errors
    /// The errors of [`open`](Self::open).
    pub fn of(file: impl Into<String>, tensors: Tensors) -> Result<Self> {
        Self::new(Header::of(file, &tensors), tensors)
    }

    /// Returns the name of the LoRA: that of its file, without folder and ending.
    pub fn name(&self) -> String {
        let stem = Path::new(&self.file).file_stem();
        stem.map_or_else(|| self.file.clone(), |stem| stem.to_string_lossy().into_owned())
    }

    /// Returns the file's name in messages.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    fn new(header: Header, tensors: Tensors) -> Result<Self> {
        let malformed = |problem: String| Error::Malformed { file: header.file.clone(), problem };
        let family = match Contents::of(&header)? {
            Contents::Lora { family } => family,
            other => return Err(malformed(format!("the file is {other}, not a LoRA"))),
        };
        let has = |name: &str| header.tensors.contains_key(name);
        let (mut pieces, mut words, mut strange) = (BTreeMap::<String, Pieces>::new(), BTreeSet::new(), Vec::new());
        for (name, x) in tensors {
            if let Some(algorithm) = piece::other_algorithm(&name) {
                return Err(malformed(format!(
                    "the file uses {algorithm} ({name}), which is not supported; save the LoRA as LyCORIS or kohya's \
                     trainer save it"
                )));
            }
            if let Some(rest) = name.strip_prefix("bundle_emb.") {
                words.insert(rest.split('.').next().unwrap_or(rest).to_owned());
                continue;
            }
            let Some((key, piece)) = piece::split(&name).or_else(|| piece::split_scale(&name, has)) else {
                strange.push(name);
                continue;
            };
            if !pieces.entry(key.into()).or_default().insert(piece, x) {
                return Err(malformed(format!(
                    "the file has several tensors for the place of {name}; expected one adapter in a file"
                )));
            }
        }
        let (mut modules, mut empty) = (BTreeMap::new(), BTreeMap::new());
        for (key, pieces) in pieces {
            match pieces.assemble() {
                Ok(module) => drop(modules.insert(key, module)),
                Err(Flaw::Empty(reason)) => drop(empty.insert(key, reason)),
                Err(Flaw::Broken(reason)) => {
                    return Err(malformed(format!(
                        "the module {key} {reason}; download the file again, or ask the file's maker for a correct one"
                    )));
                }
            }
        }
        if let (true, Some((key, reason))) = (modules.is_empty(), empty.first_key_value()) {
            return Err(malformed(format!(
                "the file is a LoRA without a complete module; {key} {reason}; download the file again, or ask the \
                 file's maker for a complete one"
            )));
        }
        let adapter = header.metadata.get("lora_adapter_metadata");
        let adapter = adapter.and_then(|text| json::parse(text).ok()).unwrap_or(Value::Null);
        let Header { file, metadata, .. } = header;
        let (scale, text_scale) = (1.0, None);
        Ok(Self { file, modules, empty, strange, family, adapter, metadata, words, scale, text_scale })
    }

    /// Sets the strength of the LoRA in the model: 1 as trained, 0 not at all. Default: 1.
    pub fn scale(mut self, scale: f64) -> Self {
        self.scale = scale;
        self
    }

    /// Sets the strength of the LoRA in text encoders. Default: the strength in the UNet.
    pub fn text_scale(mut self, scale: f64) -> Self {
        self.text_scale = Some(scale);
        self
    }
}

/// Reads PEFT's `adapter_config.json`; returns `Null` if there is none.
fn beside(config: &Path) -> Result<Value> {
    let Some(json) = files::read_if_there(config, files::LARGEST_CONFIG)? else { return Ok(Value::Null) };
    json::parse(&json).map_err(|error| Error::Malformed {
        file: config.display().to_string(),
        problem: format!("the file is not a valid adapter configuration: {error}"),
    })
}
