//! [`Unmerged`]: a LoRA beside the weights of a model.

use super::Lora;
use super::change::Change;
use super::merge::find;
use super::paths::{DENOISING, Paths};
use crate::error::{Error, Result};
use crate::weights::Parts;
use crate::weights::beside::Factors;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// A LoRA beside the weights of a model: the changes of the layers of the network that denoises, by the paths of the
/// layers.
#[derive(Debug)]
pub(crate) struct Unmerged {
    /// Name of the LoRA: that of its file, without the ending.
    pub name: String,
    pub layers: BTreeMap<String, Factors>,
}

impl Unmerged {
    /// Returns a second handle on the same tensors.
    pub(crate) fn share(&self) -> Self {
        let layers = self.layers.iter().map(|(path, factors)| (path.clone(), factors.share()));
        Self { name: self.name.clone(), layers: layers.collect() }
    }
}

impl Lora {
    /// Finds the changes of the layers of the network that denoises, and leaves the tensors of the model as they are.
    /// LoRAs do not change each other: each is a change of the model's own weights. `known` are the names of LoRAs that
    /// the model has already.
    ///
    /// Returns notes, in whole sentences, about the parts of a file that are not used: those of [`Lora::merge`], and
    /// changes of text encoders, biases and norms.
    ///
    /// # Errors
    /// The errors of [`Lora::merge`]; [`Error::Parameter`] for a second LoRA of one name; [`Error::Malformed`] for a
    /// LoRA that changes no matrix or kernel of that network.
    pub(crate) fn beside(loras: &[Self], parts: &Parts, known: &[&str]) -> Result<(Vec<Unmerged>, Vec<String>)> {
        let paths = Paths::of(parts);
        let (changes, mut notes) = find(loras, parts, &paths)?;
        let mut all = Vec::new();
        for lora in loras {
            let name = lora.name();
            if known.contains(&name.as_str()) || all.iter().any(|other: &Unmerged| other.name == name) {
                let expected = "a name of its own for each LoRA; rename the file";
                return Err(Error::parameter("the LoRA's name", name, expected));
            }
            let (mut layers, mut elsewhere, mut others) = (BTreeMap::new(), 0, 0);
            let own = changes.values().flatten().filter(|change| std::ptr::eq(change.lora, lora));
            for change in own {
                if !DENOISING.contains(&change.found.part) {
                    elsewhere += 1;
                    continue;
                }
                match factors(change, parts)? {
                    Some(factors) => layers.extend(factors),
                    None => others += 1,
                }
                others += usize::from(change.module.bias.is_some() && layers.contains_key(change.found.path()));
            }
            if layers.is_empty() {
                let problem = "the LoRA changes no matrix or kernel of the denoising network, so it has no effect \
                               beside the weights; merge it";
                return Err(Error::Malformed { file: lora.file.clone(), problem: problem.into() });
            }
            if elsewhere > 0 {
                notes.push(format!(
                    "{}: {elsewhere} modules of the LoRA change text encoders, which stay as they are; merge the LoRA \
                     with a strength of 0 in the denoising network to add these modules for the whole run",
                    lora.file
                ));
            }
            if others > 0 {
                notes.push(format!(
                    "{}: {others} changes of biases and norms are not used, because only a merged LoRA has them",
                    lora.file
                ));
            }
            all.push(Unmerged { name, layers });
        }
        Ok((all, notes))
    }
}

/// Returns the changes of the matrices or kernels of a module's layers at the LoRA's strength, by path; `None` for a
/// change of a norm or a bias.
fn factors(change: &Change<'_>, parts: &Parts) -> Result<Option<Vec<(String, Factors)>>> {
    let found = change.found;
    let weight = |path: &&str| parts.get(found.part)?.get(&format!("{path}.weight"));
    let weights: Option<Vec<&Tensor>> = found.layers.iter().map(weight).collect();
    let Some(weights) = weights.filter(|all| all.iter().all(|weight| weight.dim() > 1)) else { return Ok(None) };
    let weights: Vec<Tensor> = weights.into_iter().map(Tensor::shallow_clone).collect();
    let kind = weights.first().map_or(Ok(Kind::Float), Tensor::f_kind)?;
    let mut size = weights.first().map(Tensor::size).unwrap_or_default();
    if let Some(rows) = size.first_mut() {
        *rows *= weights.len() as i64;
    }
    let whole = match change.low_rank(&size)? {
        Some(factors) => factors,
        None => {
            let own = found.join(&weights)?.f_to_kind(Kind::Float)?;
            let Some(changed) = change.apply("weight", &own)? else { return Ok(None) };
            Factors { down: None, up: changed.f_sub(&own)?.f_to_kind(kind)?, ratio: 1.0 }
        }
    };
    let each = found.layers.iter().zip(found.split(&whole.up)?);
    let own = |up: Tensor| Factors { up, down: whole.down.as_ref().map(Tensor::shallow_clone), ratio: whole.ratio };
    Ok(Some(each.map(|(path, up)| ((*path).to_owned(), own(up))).collect()))
}
