//! [`Lora::merge`]: adds LoRAs to the tensors of a model.

use super::Lora;
use super::change::Change;
use super::module::Module;
use super::paths::{DENOISING, Paths};
use super::piece::reads_context;
use crate::error::{Error, Result};
use crate::family::ModelFamily;
use crate::weights::Parts;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

impl Lora {
    /// Adds LoRAs to the tensors of a model, in their order: each changes the weights that the ones before it left.
    /// Arithmetic is in f32, and each changed tensor is cast to its kind once. Tensors that no LoRA changes stay the
    /// same objects. A LoRA of a model that reads the latent alone also fits the first layer of an inpainting model,
    /// whose other inputs it leaves as they are.
    ///
    /// Returns notes, in whole sentences, about the parts of a file that are not used: modules that the model lacks or
    /// that are one half of a pair, learned words, and tensors that are not part of a LoRA.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a LoRA that does not fit the model, with the reason; [`Error::Parameter`] for a scale
    /// that is not finite. The tensors of the model are then unchanged.
    pub fn merge(loras: &[Self], parts: &mut Parts) -> Result<Vec<String>> {
        let paths = Paths::of(parts);
        let (changes, notes) = find(loras, parts, &paths)?;
        let mut changed = Vec::new();
        for ((part, _), all) in &changes {
            for kind in ["weight", "bias"] {
                let own = |path: &str| parts.get(*part)?.get(&format!("{path}.{kind}"));
                let mut so_far = BTreeMap::<&str, Tensor>::new();
                for change in all {
                    let float = |path: &&str| match so_far.get(path) {
                        Some(x) => Ok(Some(x.shallow_clone())),
                        None => own(path).map(|x| x.f_to_kind(Kind::Float)).transpose(),
                    };
                    let layers = &change.found.layers;
                    let Some(xs) = layers.iter().map(float).collect::<std::result::Result<Option<Vec<_>>, _>>()? else {
                        continue;
                    };
                    if let Some(applied) = change.apply(kind, &change.found.join(&xs)?)? {
                        so_far.extend(layers.iter().copied().zip(change.found.split(&applied)?));
                    }
                }
                for (path, x) in so_far {
                    if let Some(w) = own(path) {
                        changed.push(((*part).to_owned(), format!("{path}.{kind}"), x.f_to_kind(w.f_kind()?)?));
                    }
                }
            }
        }
        drop(changes);
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
        let (file, all) = (&self.file, self.modules.len() + self.empty.len());
        let malformed = |problem: String| Error::Malformed { file: file.clone(), problem };
        let module_of = |name: &str| {
            let mut ends = name.rmatch_indices('.').take(BELOW);
            ends.find_map(|(at, _)| paths.find(name.get(..at)?))
        };
        if let Some(name) = self.strange.iter().find(|name| module_of(name).is_some()) {
            return Err(malformed(format!(
                "the file has the tensor {name}, which is not part of any known LoRA format; save the LoRA again as \
                 kohya's trainer, LyCORIS or PEFT save it"
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
        if let Some((first, reason)) = self.empty.first_key_value() {
            let empty = self.empty.len();
            notes.push(format!(
                "{file}: {empty} of the LoRA's {all} modules are incomplete and not used, such as {first}, which {reason}"
            ));
        }
        if let Some(first) = self.strange.first() {
            let strange = self.strange.len();
            notes.push(format!("{file}: {strange} tensors are not part of a LoRA and not used, such as {first}"));
        }
        Ok(notes)
    }

    /// Returns the strength in a part of the model.
    pub(super) fn strength(&self, part: &str) -> f64 {
        if part.starts_with("text_encoder") { self.text_scale.unwrap_or(self.scale) } else { self.scale }
    }

    /// Checks that the LoRA was trained with a context as wide as this model's.
    fn check_context(&self, parts: &Parts) -> Result<()> {
        let mut widths = DENOISING.iter().filter_map(|part| parts.get(*part)).flatten();
        let width = widths.find(|(name, _)| name.ends_with("attn2.to_k.weight"));
        let (Some((key, own)), Some(width)) = (self.context(), width.and_then(|(_, x)| x.size().get(1).copied()))
        else {
            return Ok(());
        };
        if own == width {
            return Ok(());
        }
        let name = |family: Option<ModelFamily>| family.map_or("another model".into(), |family| family.to_string());
        let is_transformer = parts.contains_key("transformer");
        let here = if is_transformer { None } else { ModelFamily::of_context(width) };
        let (trained, here, count) = (name(self.family), name(here), self.modules.len());
        let problem = format!(
            "the file is a LoRA for {trained} (cross-attention width {own}, {count} modules); this model is {here} \
             (width {width}); the width is that of {key}"
        );
        Err(Error::Malformed { file: self.file.clone(), problem })
    }

    /// Returns the width of the context in the model that the LoRA was trained on, and a module that shows the width.
    fn context(&self) -> Option<(&str, i64)> {
        let inputs = |module: &Module| module.delta.as_ref()?.inputs();
        let mut modules = self.modules.iter().filter(|(key, _)| reads_context(key));
        modules.find_map(|(key, module)| Some((key.as_str(), inputs(module)?)))
    }
}

/// Changes of a model's layers, by part and unit. Each LoRA has at most one change of a layer.
pub(super) type Changes<'l> = BTreeMap<(&'l str, &'l str), Vec<Change<'l>>>;

/// Finds the layers that LoRAs change, and returns notes about the parts of their files that are not used.
///
/// # Errors
/// The errors of [`Lora::merge`] that do not depend on the shape of a weight.
pub(super) fn find<'l>(loras: &'l [Lora], parts: &Parts, paths: &'l Paths<'l>) -> Result<(Changes<'l>, Vec<String>)> {
    let (mut changes, mut notes) = (Changes::new(), Vec::new());
    for lora in loras {
        if let Some(scale) = [Some(lora.scale), lora.text_scale].into_iter().flatten().find(|x| !x.is_finite()) {
            return Err(Error::parameter("scale", scale, "a finite number; 0 to 1 is usual for a LoRA"));
        }
        lora.check_context(parts)?;
        let mut unused = Unused::default();
        for (key, module) in &lora.modules {
            let Some(found) = paths.find(key) else {
                unused.lost.push(key);
                continue;
            };
            let tensors = parts.get(found.part);
            let has_bias = |path: &&str| tensors.is_some_and(|all| all.contains_key(&format!("{path}.bias")));
            if module.bias.is_some() && !found.layers.iter().all(has_bias) {
                unused.biases.push(key);
            }
            let all = changes.entry((found.part, found.unit)).or_default();
            let repeats = |other: &Change<'_>| {
                std::ptr::eq(other.lora, lora) && other.found.layers.iter().any(|path| found.layers.contains(path))
            };
            match all.iter().any(repeats) {
                true => unused.repeated.push(key),
                false => all.push(Change { lora, key, module, found }),
            }
        }
        notes.extend(lora.notes(paths, &unused)?);
    }
    Ok((changes, notes))
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
