//! [`LoraSummary`]: a description of a LoRA file, without a model.

use super::Lora;
use super::metadata::{resolution, tags, trigger_words};
use super::module::{Algorithm, Module};
use super::paths::part_of;
use crate::size::Size;
use std::collections::{BTreeMap, BTreeSet};

/// A description of a LoRA file.
///
/// ```
/// use impasto::weights::{Lora, Tensors};
/// use tch::{Device, Kind, Tensor};
///
/// let ones = |shape: [i64; 2]| Tensor::f_ones(shape, (Kind::Float, Device::Cpu));
/// let module = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k";
/// let tensors = Tensors::from([
///     (format!("{module}.lora_down.weight"), ones([4, 768])?),
///     (format!("{module}.lora_up.weight"), ones([320, 4])?),
/// ]);
/// let summary = Lora::of("ink.safetensors", tensors)?.summary();
/// assert_eq!(summary.algorithms["LoRA"], 1);
/// assert_eq!(summary.ranks, [4].into());
/// assert_eq!(summary.modules["unet"], 1);
/// # Ok::<(), impasto::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoraSummary {
    /// Names of the algorithms, such as `LoHa`, each with its number of modules.
    pub algorithms: BTreeMap<String, usize>,
    /// Ranks of the changes that have a rank.
    pub ranks: BTreeSet<i64>,
    /// Parts of a model that the LoRA changes (`unet`, `text_encoder`, `text_encoder_2`), each with its number of
    /// changed layers.
    pub modules: BTreeMap<String, usize>,
    /// Words that the trainer says a prompt needs.
    pub trigger_words: Vec<String>,
    /// The ten most frequent tags of the training pictures, the most frequent one first.
    pub tags: Vec<String>,
    /// Resolution of the training pictures in pixels.
    pub resolution: Option<Size>,
}

impl Lora {
    /// Describes the file by its tensors and by the metadata of its trainer.
    pub fn summary(&self) -> LoraSummary {
        let mut summary = LoraSummary {
            trigger_words: trigger_words(&self.metadata),
            tags: tags(&self.metadata),
            resolution: resolution(&self.metadata),
            ..LoraSummary::default()
        };
        for (key, module) in &self.modules {
            *summary.algorithms.entry(algorithm(module)).or_default() += 1;
            *summary.modules.entry(part_of(key).to_owned()).or_default() += 1;
            summary.ranks.extend(module.delta.as_ref().and_then(|delta| delta.rank()));
        }
        summary
    }
}

/// Returns the name of a module's algorithm.
fn algorithm(module: &Module) -> String {
    match (module.algorithm, &module.magnitude) {
        (algorithm, None) => algorithm.to_string(),
        (Algorithm::Lora, Some(_)) => "DoRA".into(),
        (algorithm, Some(_)) => format!("{algorithm} with DoRA"),
    }
}
