//! The task of a training run: the part that differs between networks.

use super::{Parameters, Rule};
use impasto::Raster;
use impasto::Result;
use impasto::diffusion::Noise;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use tch::Tensor;

/// One network, or several networks that are trained together, with their training data.
///
/// Every worker has a task of its own, in its own thread. All randomness comes from the [`Shard`], so that a training
/// step depends only on its number and the weights. A training run can therefore be resumed.
///
/// ```
/// use impasto::{Raster, Result};
/// use impasto_train::{Loss, Parameters, Shard, Task};
/// use tch::{Device, Kind, Tensor};
///
/// /// Learns the matrix that doubles a vector.
/// struct Double;
///
/// impl Task for Double {
///     fn loss(&self, parameters: &Parameters, shard: &Shard) -> Result<Loss> {
///         let x = shard.noise().draw(&[16, 4])?;
///         let matrix = parameters.weights("", Kind::Float).tensor("matrix", &[4, 4])?;
///         let total = x.f_matmul(&matrix)?.f_sub(&x.f_mul_scalar(2.0)?)?.f_square()?.f_mean(Kind::Float)?;
///         Ok(Loss { total, parts: Vec::new() })
///     }
///     fn evaluate(&self, _: &Parameters) -> Result<Vec<(&'static str, f64)>> {
///         Ok(Vec::new())
///     }
///     fn sheet(&self, _: &Parameters) -> Result<Option<Raster>> {
///         Ok(None)
///     }
/// }
///
/// let matrix = Tensor::eye(4, (Kind::Float, Device::Cpu)) * 2.0;
/// let parameters = Parameters::new(&[("matrix".to_owned(), matrix)].into(), Device::Cpu)?;
/// let shard = Shard { seed: 1, step: 0, part: 0, parts: 1, progress: 0.0 };
/// assert_eq!(Double.loss(&parameters, &shard)?.total.double_value(&[]), 0.0);
/// # Ok::<(), impasto::Error>(())
/// ```
pub trait Task {
    /// Returns the loss of a shard of a batch, a scalar that gradients flow back from, with figures for the journal.
    ///
    /// # Errors
    /// Any error that prevents the loss; the training ends with this error.
    fn loss(&self, parameters: &Parameters, shard: &Shard) -> Result<Loss>;

    /// Returns figures on held-out data, by name.
    ///
    /// # Errors
    /// Any error that prevents the evaluation.
    fn evaluate(&self, parameters: &Parameters) -> Result<Vec<(&'static str, f64)>>;

    /// Returns a sample sheet for people to look at, if the task has one.
    ///
    /// # Errors
    /// Any error that prevents the sheet.
    fn sheet(&self, parameters: &Parameters) -> Result<Option<Raster>>;

    /// Returns the pictures of an animation, of one size and in their order; none by default.
    ///
    /// # Errors
    /// Any error that prevents the animation.
    fn animation(&self, parameters: &Parameters) -> Result<Vec<Raster>> {
        let _ = parameters;
        Ok(Vec::new())
    }

    /// Returns the optimizer that moves a tensor. The default is [`Rule::of_shape`].
    fn rule(&self, name: &str, shape: &[i64]) -> Rule {
        let _ = name;
        Rule::of_shape(shape)
    }
}

/// A loss and its parts.
#[derive(Debug)]
pub struct Loss {
    /// Scalar to minimize.
    pub total: Tensor,
    /// Figures for the journal, by name; averaged over the workers.
    pub parts: Vec<(&'static str, f64)>,
}

/// A part of a training step: the samples that a worker takes at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shard {
    /// Seed of the training.
    pub seed: u64,
    /// Number of the training step, from 0.
    pub step: u64,
    /// Number of this part of the step, from 0.
    pub part: u64,
    /// Number of parts of a step.
    pub parts: u64,
    /// Progress of the training, 0..1.
    pub progress: f64,
}

impl Shard {
    /// Returns the number of the `i`-th sample of this part among all samples of the training, if each part takes
    /// `batch` samples.
    pub const fn sample(&self, batch: u64, i: u64) -> u64 {
        (self.step.wrapping_mul(self.parts).wrapping_add(self.part)).wrapping_mul(batch).wrapping_add(i)
    }

    /// Returns the random numbers of this part; each call begins the same sequence anew.
    pub fn rng(&self) -> Pcg64Mcg {
        Pcg64Mcg::seed_from_u64(self.mixed())
    }

    /// Returns the normal noise of this part; each call begins the same sequence anew.
    pub fn noise(&self) -> Noise {
        Noise::shared(self.mixed())
    }

    /// Returns a seed that is far from those of near steps (SplitMix64's increments).
    fn mixed(&self) -> u64 {
        let mixed = self.seed.wrapping_mul(0xd134_2543_de82_ef95);
        let mixed = mixed.wrapping_add(self.step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed.wrapping_add(self.part.wrapping_mul(0xbf58_476d_1ce4_e5b9))
    }
}
