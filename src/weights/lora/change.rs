//! [`Change`]: a module of a LoRA for a layer of the model, and the changed weights.

use super::Lora;
use super::delta::{Delta, Misfit};
use super::module::Module;
use super::paths::Found;
use super::product::float;
use crate::error::{Error, Result};
use crate::weights::beside::Factors;
use serde_json::Value;
use tch::Tensor;

/// Channels of a latent, which are the first inputs of every UNet.
const LATENT: i64 = 4;

/// A module of a LoRA, for a layer of the model or for several layers whose rows the file joins.
pub(super) struct Change<'l> {
    pub lora: &'l Lora,
    /// Name of the module in the file.
    pub key: &'l str,
    pub module: &'l Module,
    /// The layers of the model that the module changes.
    pub found: &'l Found<'l>,
}

impl Change<'_> {
    /// Returns the layer's `weight` or `bias` with this change, in f32; `None` if the module leaves this tensor
    /// as it is.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the module is not one of this tensor.
    pub(super) fn apply(&self, kind: &str, x: &Tensor) -> Result<Option<Tensor>> {
        if kind == "weight" { self.apply_to_weight(x) } else { self.apply_to_bias(x) }
    }

    fn apply_to_weight(&self, w: &Tensor) -> Result<Option<Tensor>> {
        let Some(delta) = &self.module.delta else { return Ok(None) };
        let size = w.size();
        match (delta.check(&size), latent_inputs(self.found.path(), &size)) {
            (Ok(()), _) => self.compute(w).map(Some),
            // Inpainting models read a mask and a masked picture behind the latent.
            (Err(_), Some(latent)) if delta.check(&latent).is_ok() => {
                let rest = size.get(1).map_or(0, |inputs| inputs - LATENT);
                let own = self.compute(&w.f_narrow(1, 0, LATENT)?)?;
                Ok(Some(Tensor::f_cat(&[own, w.f_narrow(1, LATENT, rest)?], 1)?))
            }
            (Err(Misfit::Shape(shape)), _) => Err(self.misfit(&shape, &size)),
            (Err(Misfit::Tensors(rule)), _) => Err(self.unfit(rule, &size)),
        }
    }

    /// Returns the change of a weight of shape `weight` as factors of low rank; `None` for a change of another form.
    pub(super) fn low_rank(&self, weight: &[i64]) -> Result<Option<Factors>> {
        let (Some(delta), None) = (&self.module.delta, &self.module.magnitude) else { return Ok(None) };
        let (Delta::LowRank(product), Ok(())) = (delta, delta.check(weight)) else { return Ok(None) };
        let ratio = self.strength() * product.rank().map_or(1.0, |rank| self.alpha_ratio(rank));
        Ok(product.factors()?.map(|(up, down)| Factors { down: Some(down), up, ratio }))
    }

    /// Returns W + s·(α/r)·ΔW at strength s. With trained lengths m, returns W + s·(W' − W), where W' = V·m/‖V‖ and
    /// V = W + (α/r)·ΔW. Strength 0 therefore changes nothing, and strength 1 is the trained weight.
    fn compute(&self, w: &Tensor) -> Result<Tensor> {
        let Some(delta) = &self.module.delta else { return Ok(w.shallow_clone()) };
        let (s, ratio) = (self.strength(), delta.rank().map_or(1.0, |rank| self.alpha_ratio(rank)));
        let change = delta.compute(w)?;
        let Some(magnitude) = &self.module.magnitude else {
            return Ok(w.f_add(&change.f_mul_scalar(s * ratio)?)?);
        };
        let size = w.size();
        let rule = "a length (DoRA) for each output or for each input";
        let axis = magnitude.axis(&size).ok_or_else(|| self.unfit(rule, &size))?;
        let trained = magnitude.rescale(&w.f_add(&change.f_mul_scalar(ratio)?)?, axis)?;
        Ok(w.f_add(&trained.f_sub(w)?.f_mul_scalar(s)?)?)
    }

    fn apply_to_bias(&self, bias: &Tensor) -> Result<Option<Tensor>> {
        let Some(change) = &self.module.bias else { return Ok(None) };
        if change.size() != bias.size() {
            return Err(self.misfit(&change.size(), &bias.size()));
        }
        Ok(Some(bias.f_add(&float(change, bias.device())?.f_mul_scalar(self.strength())?)?))
    }

    fn strength(&self) -> f64 {
        self.lora.strength(self.found.part)
    }

    /// Returns α/r, or α/√r with rsLoRA, for a change of rank r. α comes from the file, else from PEFT's configuration,
    /// and is r by default.
    fn alpha_ratio(&self, rank: i64) -> f64 {
        let rank = (rank as f64).max(1.0);
        let (adapter, part) = (&self.lora.adapter, self.found.part);
        let told = |field: &str| adapter.get(format!("{part}.{field}")).or_else(|| adapter.get(field));
        let pattern = || {
            let mut patterns = told("alpha_pattern")?.as_object()?.iter();
            patterns
                .find(|(pattern, _)| matches(pattern, self.key, self.found.path()))
                .and_then(|(_, alpha)| alpha.as_f64())
        };
        // PEFT's LoHa and LoKr call the same number `alpha`.
        let usual = || told("lora_alpha").or_else(|| told("alpha"))?.as_f64();
        let alpha = self.module.alpha.or_else(pattern).or_else(usual).unwrap_or(rank);
        let root = told("use_rslora").and_then(Value::as_bool).unwrap_or(false);
        alpha / if root { rank.sqrt() } else { rank }
    }

    /// The error for a change of another shape than the weight's.
    fn misfit(&self, got: &[i64], want: &[i64]) -> Error {
        let Self { lora, key, .. } = self;
        let family = lora.family.map_or("another model".into(), |family| family.to_string());
        self.error(format!(
            "the LoRA is for {family}: {key} changes a weight of shape {got:?}, which has shape {want:?} in this model; use \
             a LoRA that was trained on a model of the same family"
        ))
    }

    /// The error for tensors of a module that do not fit together, or do not fit a weight of shape `weight`.
    fn unfit(&self, rule: &str, weight: &[i64]) -> Error {
        let Self { key, module, .. } = self;
        self.error(format!(
            "the tensors of {key} ({}) are no change of a weight of shape {weight:?}; expected {rule}; use a LoRA that was \
             trained on a model of the same family, or download the file again",
            module.shapes
        ))
    }

    fn error(&self, problem: String) -> Error {
        Error::Malformed { file: self.lora.file.clone(), problem }
    }
}

/// Returns the shape that the first layer of an inpainting model has in a model that reads the latent alone; `None` for
/// other layers.
fn latent_inputs(path: &str, weight: &[i64]) -> Option<Vec<i64>> {
    match *weight {
        [outputs, inputs, height, width] if path == "conv_in" && inputs > LATENT => {
            Some(vec![outputs, LATENT, height, width])
        }
        _ => None,
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
