//! [`Lora`]: low-rank changes to the weights of a model, from one file.

pub(super) mod module;
mod paths;
#[cfg(test)]
mod tests;

use super::file::{Header, read_safetensors};
use super::recognize::Contents;
use super::{Parts, Tensors};
use crate::error::{Error, Result};
use crate::family::ModelFamily;
use crate::files;
use crate::json;
use module::{Delta, Flaw, Module, Pieces, bare};
use paths::Paths;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tch::{Kind, Tensor};

/// A LoRA (low-rank adaptation): some weights W of a model become W + scale · α/r · up · down, where r is the rank.
///
/// Supported tensor names are those of PEFT, of diffusers (today's names and two older forms), of kohya's trainer (with
/// diffusers' or SGM's numbers of blocks), of LyCORIS, OneTrainer and ComfyUI. Names may have prefixes that wrappers
/// and converters leave, such as `base_model.model.` and `state_dict.`
///
/// Linear layers and convolutions, LoCon's middle matrix, full differences (`diff`) and differences of norms (`w_norm`,
/// `b_norm`) are supported. LoHa, LoKr, DoRA and other algorithms are refused with an error that names the algorithm.
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
    /// Modules that change nothing, each with its flaw.
    flawed: BTreeMap<String, Flaw>,
    /// Names of tensors that are not part of any supported form of LoRA.
    strange: Vec<String>,
    family: Option<ModelFamily>,
    adapter: Value,
    /// Words whose embeddings the file also contains.
    words: BTreeSet<String>,
    scale: f64,
    text_scale: Option<f64>,
}

/// Channels of a latent, which are the first inputs of every UNet.
const LATENT: i64 = 4;

impl Lora {
    /// Reads a LoRA from a `.safetensors` file. For a file named `adapter_model.safetensors`, PEFT's scales are also
    /// read from `adapter_config.json` in the same folder.
    ///
    /// # Errors
    /// The errors of [`read_safetensors`](super::read_safetensors); [`Error::Malformed`] if the file is not a LoRA, or
    /// is a LoRA of an unsupported algorithm, which the error names.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut lora = Self::new(Header::open(path)?, read_safetensors(path)?)?;
        if lora.adapter.is_null() && path.file_name().is_some_and(|name| name == "adapter_model.safetensors") {
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
        let (mut pieces, mut words, mut strange) = (BTreeMap::<String, Pieces>::new(), BTreeSet::new(), Vec::new());
        for (name, x) in tensors {
            if let Some(algorithm) = module::unsupported(&name) {
                return Err(malformed(format!(
                    "the file uses {algorithm} ({name}), which is not supported; only LoRA is supported"
                )));
            }
            if let Some(rest) = name.strip_prefix("bundle_emb.") {
                words.insert(rest.split('.').next().unwrap_or(rest).to_owned());
                continue;
            }
            let Some((key, piece)) = module::split(&name) else {
                strange.push(name);
                continue;
            };
            if piece(pieces.entry(key.into()).or_default()).replace(x).is_some() {
                return Err(malformed(format!(
                    "the file has several tensors for the place of {name}; expected one adapter in a file"
                )));
            }
        }
        let (mut modules, mut flawed) = (BTreeMap::new(), BTreeMap::new());
        for (key, pieces) in pieces {
            match pieces.assemble()? {
                Ok(module) => drop(modules.insert(key, module)),
                Err(flaw) => drop(flawed.insert(key, flaw)),
            }
        }
        if let (true, Some((key, flaw))) = (modules.is_empty(), flawed.first_key_value()) {
            return Err(malformed(format!(
                "the file is a LoRA without a complete module; {key} {flaw}; download the file again, or ask the \
                 file's maker for a complete one"
            )));
        }
        let adapter = header.metadata.get("lora_adapter_metadata");
        let adapter = adapter.and_then(|text| json::parse(text).ok()).unwrap_or(Value::Null);
        Ok(Self { file: header.file, modules, flawed, strange, family, adapter, words, scale: 1.0, text_scale: None })
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

    /// Adds the changes of several LoRAs to the tensors of a model. The changes are summed in f32 and cast once.
    /// Tensors that no LoRA changes stay the same objects. A LoRA of a model that reads the latent alone also fits the
    /// first layer of an inpainting model, whose other inputs it leaves as they are.
    ///
    /// Returns notes, in whole sentences, about the parts of a file that are not used: modules that the model lacks or
    /// that are incomplete, learned words, and tensors that are not part of a LoRA.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a LoRA that does not fit the model, with the reason; [`Error::Parameter`] for a scale
    /// that is not finite.
    pub fn merge(loras: &[Self], parts: &mut Parts) -> Result<Vec<String>> {
        let paths = Paths::of(parts);
        let mut notes = Vec::new();
        let mut changes = BTreeMap::<(&str, &str), Vec<Change<'_>>>::new();
        for lora in loras {
            if let Some(scale) = [Some(lora.scale), lora.text_scale].into_iter().flatten().find(|x| !x.is_finite()) {
                return Err(Error::parameter("scale", scale, "a finite number; 0 to 1 is usual for a LoRA"));
            }
            lora.check_context(parts)?;
            let mut unused = Unused::default();
            for (key, module) in &lora.modules {
                let Some((part, path)) = paths.find(key) else {
                    unused.lost.push(key);
                    continue;
                };
                let has = |kind: &str| parts.get(part).is_some_and(|all| all.contains_key(&format!("{path}.{kind}")));
                if module.bias.is_some() && !has("bias") {
                    unused.biases.push(key);
                }
                let all = changes.entry((part, path)).or_default();
                match all.last().is_some_and(|other| std::ptr::eq(other.lora, lora)) {
                    true => unused.repeated.push(key),
                    false => all.push(Change { lora, key, module }),
                }
            }
            notes.extend(lora.notes(&paths, &unused)?);
        }
        let mut changed = Vec::new();
        for ((part, path), all) in changes {
            for kind in ["weight", "bias"] {
                let name = format!("{path}.{kind}");
                let Some(w) = parts.get(part).and_then(|tensors| tensors.get(&name)) else { continue };
                let mut sum = w.f_to_kind(Kind::Float)?;
                let mut touched = false;
                for change in &all {
                    let added = match kind {
                        "weight" => change.of_weight(part, path, &w.size())?,
                        _ => change.of_bias(part, &w.size())?,
                    };
                    if let Some(added) = added {
                        sum = sum.f_add(&added.f_to_device(w.device())?)?;
                        touched = true;
                    }
                }
                if touched {
                    changed.push((part.to_owned(), name, sum.f_to_kind(w.f_kind()?)?));
                }
            }
        }
        drop(paths);
        for (part, name, x) in changed {
            parts.entry(part).or_default().insert(name, x);
        }
        Ok(notes)
    }

    /// Returns notes about the parts of the file that are not used.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the model has no module of the LoRA, or if a tensor changes one of the model's layers in
    /// an unknown way. The layer would then not do what it was trained to do.
    fn notes(&self, paths: &Paths<'_>, unused: &Unused<'_>) -> Result<Vec<String>> {
        /// Largest number of names that an unknown tensor has below its module, as in `lora_B.default.bias`.
        const BELOW: usize = 3;
        let (file, all) = (&self.file, self.modules.len() + self.flawed.len());
        let malformed = |problem: String| Error::Malformed { file: file.clone(), problem };
        let module_of = |name: &str| {
            let mut ends = name.rmatch_indices('.').take(BELOW);
            ends.find_map(|(at, _)| paths.find(name.get(..at)?))
        };
        if let Some(name) = self.strange.iter().find(|name| module_of(name).is_some()) {
            return Err(malformed(format!(
                "the file has the tensor {name}, which is not part of any known LoRA format; save the LoRA again as \
                 kohya's trainer or PEFT save it"
            )));
        }
        if let (true, Some(first)) = (unused.lost.len() == self.modules.len(), unused.lost.first()) {
            return Err(malformed(format!(
                "none of the LoRA's {all} modules is in this model; one of the modules is {first}; use a LoRA that was \
                 trained on a model of the same family"
            )));
        }
        let mut notes = Vec::new();
        if !self.words.is_empty() {
            let words = self.words.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            let way = "load these words from separate files, as embeddings";
            notes.push(format!("{file}: the LoRA's learned words are not loaded ({words}); {way}"));
        }
        for (names, told) in [
            (&unused.lost, "are not in this model"),
            (&unused.biases, "change a bias that this model lacks"),
            (&unused.repeated, "are not used, because another module of the file changes the same layer"),
        ] {
            if let Some(first) = names.first() {
                let count = names.len();
                notes.push(format!("{file}: {count} of the LoRA's {all} modules {told}, such as {first}"));
            }
        }
        if let Some((first, flaw)) = self.flawed.first_key_value() {
            let flawed = self.flawed.len();
            notes.push(format!(
                "{file}: {flawed} of the LoRA's {all} modules are incomplete and not used, such as {first}, which {flaw}"
            ));
        }
        if let Some(first) = self.strange.first() {
            let strange = self.strange.len();
            notes.push(format!("{file}: {strange} tensors are not part of a LoRA and not used, such as {first}"));
        }
        Ok(notes)
    }

    /// Returns the strength in a part of the model.
    fn strength(&self, part: &str) -> f64 {
        if part == "unet" { self.scale } else { self.text_scale.unwrap_or(self.scale) }
    }

    /// Checks that the LoRA was trained with a context as wide as this model's.
    fn check_context(&self, parts: &Parts) -> Result<()> {
        let mut widths = parts.get("unet").into_iter().flatten();
        let width = widths.find(|(name, _)| name.ends_with("attn2.to_k.weight"));
        let (Some(own), Some(width)) = (self.context(), width.and_then(|(_, x)| x.size().get(1).copied())) else {
            return Ok(());
        };
        if own == width {
            return Ok(());
        }
        let name = |width| ModelFamily::of_context(width).map_or("another model".into(), |family| family.to_string());
        let (trained, here, count) = (name(own), name(width), self.modules.len());
        let problem = format!(
            "the file is a LoRA for {trained} (cross-attention width {own}, {count} modules); this model is {here} \
             (width {width})"
        );
        Err(Error::Malformed { file: self.file.clone(), problem })
    }

    /// Returns the width of the context in the model that the LoRA was trained on, if a change shows the width.
    fn context(&self) -> Option<i64> {
        self.modules.iter().find_map(|(key, module)| {
            let key = key.replace('.', "_").replace("_processor", "");
            let reads_context = key.ends_with("attn2_to_k") || key.ends_with("attn2_to_v");
            module.delta.as_ref().filter(|_| reads_context)?.inputs()
        })
    }
}

/// Names of a LoRA's modules that a model does not use.
#[derive(Default)]
struct Unused<'l> {
    /// Modules that the model lacks.
    lost: Vec<&'l str>,
    /// Modules with a change of a bias that the model lacks.
    biases: Vec<&'l str>,
    /// Modules for a layer that an earlier module of the file changes. Some files name every layer in two notations.
    repeated: Vec<&'l str>,
}

/// A module of a LoRA, for a layer of the model.
struct Change<'l> {
    lora: &'l Lora,
    /// Name of the module in the file.
    key: &'l str,
    module: &'l Module,
}

impl Change<'_> {
    /// Returns the change of a weight of shape `weight`, f32 on the CPU; `None` if the module does not change the
    /// weight.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the change has another shape.
    fn of_weight(&self, part: &str, path: &str, weight: &[i64]) -> Result<Option<Tensor>> {
        let Some(delta) = &self.module.delta else { return Ok(None) };
        let shape = delta.shape().ok_or_else(|| self.unfit())?;
        let extra = match (bare(&shape), bare(weight)) {
            (own, wanted) if own == wanted => 0,
            // Inpainting models read a mask and a masked picture behind the latent.
            (&[o, LATENT, h, w], &[outputs, inputs, height, width])
                if path == "conv_in" && [o, h, w] == [outputs, height, width] && inputs > LATENT =>
            {
                inputs - LATENT
            }
            _ => return Err(self.misfit(&shape, weight)),
        };
        let mut change = delta.tensor(&shape)?;
        if extra > 0 {
            change = change.f_constant_pad_nd([0, 0, 0, 0, 0, extra])?;
        }
        let factor = self.lora.strength(part) * delta.rank().map_or(1.0, |rank| self.alpha_ratio(part, path, rank));
        Ok(Some(change.f_reshape(weight)?.f_mul_scalar(factor)?))
    }

    /// Returns the change of a bias of shape `bias`, f32 on the CPU; `None` if the module does not change the bias.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the change has another shape.
    fn of_bias(&self, part: &str, bias: &[i64]) -> Result<Option<Tensor>> {
        let Some(change) = &self.module.bias else { return Ok(None) };
        if change.size() != bias {
            return Err(self.misfit(&change.size(), bias));
        }
        Ok(Some(change.f_to_kind(Kind::Float)?.f_mul_scalar(self.lora.strength(part))?))
    }

    /// Returns α/r, or α/√r with rsLoRA, for a change of rank r. α comes from the file, else from PEFT's configuration,
    /// and is r by default.
    fn alpha_ratio(&self, part: &str, path: &str, rank: i64) -> f64 {
        let rank = (rank as f64).max(1.0);
        let adapter = &self.lora.adapter;
        let told = |field: &str| adapter.get(format!("{part}.{field}")).or_else(|| adapter.get(field));
        let pattern = || {
            let mut patterns = told("alpha_pattern")?.as_object()?.iter();
            patterns.find(|(pattern, _)| matches(pattern, self.key, path)).and_then(|(_, alpha)| alpha.as_f64())
        };
        let alpha = self.module.alpha.or_else(pattern).or_else(|| told("lora_alpha")?.as_f64()).unwrap_or(rank);
        let root = told("use_rslora").and_then(Value::as_bool).unwrap_or(false);
        alpha / if root { rank.sqrt() } else { rank }
    }

    fn misfit(&self, got: &[i64], want: &[i64]) -> Error {
        let Self { lora, key, .. } = self;
        let family = lora.family.map_or("another model".into(), |family| family.to_string());
        let problem = format!(
            "the LoRA is for {family}: {key} changes a weight of shape {got:?}, which has shape {want:?} in this model; use \
             a LoRA that was trained on a model of the same family"
        );
        Error::Malformed { file: lora.file.clone(), problem }
    }

    /// The error for tensors of a module that do not fit together.
    fn unfit(&self) -> Error {
        let shapes = match &self.module.delta {
            Some(Delta::LowRank { down, mid, up }) => {
                let mid = mid.as_ref().map_or(String::new(), |mid| format!(", mid {:?}", mid.size()));
                format!("down {:?}{mid}, up {:?}", down.size(), up.size())
            }
            _ => String::new(),
        };
        let problem = format!(
            "the matrices of {} do not fit together ({shapes}); expected as many rows in down as columns in up",
            self.key
        );
        Error::Malformed { file: self.lora.file.clone(), problem }
    }
}

/// Returns true if a pattern of PEFT names a module, which the file calls `key` and the model `path`. A pattern is the
/// module's name or its last names; `^` before a pattern excludes the latter.
fn matches(pattern: &str, key: &str, path: &str) -> bool {
    match pattern.strip_prefix('^') {
        Some(whole) => whole == path,
        None => key.strip_suffix(pattern).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
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
