//! What is trained: the part of a training that differs between networks.

use super::{Parameters, Rule};
use impasto::Raster;
use impasto::Result;
use impasto::diffusion::Noise;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use tch::Tensor;

/// One network, or several trained together, and what they learn from.
///
/// Every worker has a task of its own, in its own thread. All randomness comes from the [`Shard`], so that a step depends on
/// nothing but its number and the weights: that is what makes a training resumable.
pub trait Task {
    /// The loss of a shard of a batch, a scalar that gradients flow back from, and what to write down beside it.
    ///
    /// # Errors
    /// Whatever hinders it; the training ends with it.
    fn loss(&self, parameters: &Parameters, shard: &Shard) -> Result<Loss>;

    /// Figures on held-out data, by name.
    ///
    /// # Errors
    /// Whatever hinders it.
    fn evaluate(&self, parameters: &Parameters) -> Result<Vec<(&'static str, f64)>>;

    /// What a person wants to see, if there is something.
    ///
    /// # Errors
    /// Whatever hinders it.
    fn sheet(&self, parameters: &Parameters) -> Result<Option<Raster>>;

    /// Pictures of one size that show something as it grows, in their order; none by default.
    ///
    /// # Errors
    /// Whatever hinders it.
    fn animation(&self, parameters: &Parameters) -> Result<Vec<Raster>> {
        let _ = parameters;
        Ok(Vec::new())
    }

    /// Which optimizer moves a tensor. By default [`Rule::of_shape`].
    fn rule(&self, name: &str, shape: &[i64]) -> Rule {
        let _ = name;
        Rule::of_shape(shape)
    }
}

/// A loss and its parts.
#[derive(Debug)]
pub struct Loss {
    /// The scalar to lower.
    pub total: Tensor,
    /// Figures for the journal, by name; averaged over the workers.
    pub parts: Vec<(&'static str, f64)>,
}

/// A part of a step: what one worker does at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shard {
    /// Seed of the training.
    pub seed: u64,
    /// The step, from 0.
    pub step: u64,
    /// Number of this part of the step, from 0.
    pub part: u64,
    /// Number of parts of a step.
    pub parts: u64,
    /// How far the training is, 0..1.
    pub progress: f64,
}

impl Shard {
    /// Number of the `i`-th sample of this part, among all samples that a training takes in its order, if each part takes `batch`.
    pub const fn sample(&self, batch: u64, i: u64) -> u64 {
        (self.step.wrapping_mul(self.parts).wrapping_add(self.part)).wrapping_mul(batch).wrapping_add(i)
    }

    /// The random numbers of this part; each call begins them anew.
    pub fn rng(&self) -> Pcg64Mcg {
        Pcg64Mcg::seed_from_u64(self.mixed())
    }

    /// Its normal noise; each call begins it anew.
    pub fn noise(&self) -> Noise {
        Noise::shared(self.mixed())
    }

    /// Far apart for near steps (SplitMix64's increments).
    fn mixed(&self) -> u64 {
        let mixed = self.seed.wrapping_mul(0xd134_2543_de82_ef95);
        let mixed = mixed.wrapping_add(self.step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed.wrapping_add(self.part.wrapping_mul(0xbf58_476d_1ce4_e5b9))
    }
}
