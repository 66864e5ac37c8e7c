//! [`Denoiser`]: the interface between the sampler and a model.

use crate::attention::{AttentionSite, Tap};
use crate::branch::Branch;
use crate::conditioning::{Codec, Conditioning};
use crate::diffusion::prediction::Prediction;
use crate::error::{Error, Result};
use crate::step::Step;
use tch::{Device, Tensor};

/// Predicts clean pictures (x0) from noisy latents: a model, a test's fake, or a model with ControlNets.
///
/// ```
/// use impasto::attention::{AttentionSite, Tap};
/// use impasto::diffusion::{Denoiser, Input, Predictions};
/// use impasto::{Result, Step};
///
/// /// A model that takes every latent for a gray picture with noise.
/// struct Gray;
///
/// impl Denoiser for Gray {
///     fn sites(&self) -> &[AttentionSite] {
///         &[]
///     }
///     fn denoise(&self, step: &Step, inputs: &[Input], _: &mut Tap) -> Result<Predictions> {
///         let x0 = inputs.iter().map(|input| Ok(input.x.f_zeros_like()?)).collect::<Result<Vec<_>>>()?;
///         Ok(Predictions::new(step, inputs, x0))
///     }
/// }
/// ```
pub trait Denoiser {
    /// Every attention site, in order of [`AttentionSite::index`]: first the UNet's sites, then the sites of
    /// ControlNets.
    fn sites(&self) -> &[AttentionSite];

    /// The network's device. A run creates its latents on this device. Default: the CPU.
    fn device(&self) -> Device {
        Device::Cpu
    }

    /// Channels of a latent. Default: 4, as in Stable Diffusion.
    fn channels(&self) -> i64 {
        4
    }

    /// Returns true if the network reads a mask and the masked picture's latent in addition to the latent that it
    /// denoises ([`Conditioning::concat`], 1 + 4 channels). Default: false, as for most networks.
    fn inpaints(&self) -> bool {
        false
    }

    /// Returns the side, in cells, of the patches that the network reads as one; the sides of a latent are multiples of
    /// it. Default: 1. A transformer usually has 2.
    fn patch(&self) -> i64 {
        1
    }

    /// Returns the longest side, in cells, of a latent that the network reads. A pipeline refuses larger pictures
    /// before the first step. Default: `None`, for a network that reads latents of any size.
    fn longest_side(&self) -> Option<i64> {
        None
    }

    /// Predicts x0 of each input at noise level `step.sigma`, all in one batch. An implementation passes `tap` to its
    /// attention sites. `tap` expects a batch with the branches in the order of `inputs`.
    fn denoise(&self, step: &Step, inputs: &[Input<'_>], tap: &mut Tap<'_>) -> Result<Predictions>;
}

/// A network with the codec of its latents, which is all that a run needs of a model.
pub(crate) trait Network: Denoiser + Codec {}

impl<M: Denoiser + Codec> Network for M {}

/// A model's input for one branch.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The branch to evaluate.
    pub branch: Branch,
    /// The branch's latent in sigma space, [n, c, h, w] f32. Latents may differ between branches (a noised reference,
    /// for instance).
    pub x: &'a Tensor,
    /// The branch's conditioning.
    pub conditioning: &'a Conditioning,
}

impl<'a> Input<'a> {
    /// Creates the input of `branch`.
    pub const fn new(branch: Branch, x: &'a Tensor, conditioning: &'a Conditioning) -> Self {
        Self { branch, x, conditioning }
    }

    /// Returns true for the branch of the negative prompt and for its variations.
    pub(crate) fn is_negative(&self) -> bool {
        self.branch == Branch::Uncond || self.conditioning.against
    }
}

/// The predicted clean picture x0 of every evaluated branch: one latent per branch, [n, c, h, w] f32.
#[derive(Debug, Default)]
pub struct Predictions(Vec<Evaluated>);

/// A model's result for one branch.
#[derive(Debug)]
struct Evaluated {
    branch: Branch,
    x: Tensor,
    sigma: f64,
    x0: Tensor,
    prediction: Prediction,
}

impl Predictions {
    /// Pairs each input with the x0 that the model predicted for it. `inputs` and `x0` have the same order.
    pub fn new(step: &Step, inputs: &[Input<'_>], x0: impl IntoIterator<Item = Tensor>) -> Self {
        let rows = inputs.iter().zip(x0);
        let evaluated = |(input, x0): (&Input<'_>, _)| Evaluated {
            branch: input.branch,
            x: input.x.shallow_clone(),
            sigma: step.sigma,
            x0,
            prediction: Prediction::default(),
        };
        Self(rows.map(evaluated).collect())
    }

    /// Sets the network's prediction type; the default is [`Prediction::Epsilon`]. The prediction type changes
    /// [`Predictions::output`], but neither x0 nor [`Predictions::eps`].
    #[must_use]
    pub fn of(mut self, prediction: Prediction) -> Self {
        self.0.iter_mut().for_each(|row| row.prediction = prediction);
        self
    }

    /// Adds the branches of `other`, which another call evaluated.
    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Joins the predictions of consecutive groups of images into one batch, each branch concatenated along the first
    /// dimension.
    ///
    /// # Errors
    /// [`Error::NoPrediction`] if another part lacks a branch of the first part.
    pub(crate) fn join(mut parts: Vec<Self>) -> Result<Self> {
        if parts.len() < 2 {
            return Ok(parts.pop().unwrap_or_default());
        }
        let Some(first) = parts.first() else { return Ok(Self::default()) };
        let joined = first.0.iter().map(|row| {
            let rows: Result<Vec<&Evaluated>> = parts.iter().map(|part| part.row(row.branch)).collect();
            let rows = rows?;
            let cat = |side: fn(&Evaluated) -> &Tensor| {
                Tensor::f_cat(&rows.iter().map(|row| side(row)).collect::<Vec<_>>(), 0)
            };
            let (x, x0) = (cat(|row| &row.x)?, cat(|row| &row.x0)?);
            Ok(Evaluated { x, x0, ..*row })
        });
        joined.collect::<Result<_>>().map(Self)
    }

    /// The evaluated branches, in order.
    pub fn branches(&self) -> impl Iterator<Item = Branch> + '_ {
        self.0.iter().map(|row| row.branch)
    }

    /// The predicted clean picture x0 of a branch, [n, c, h, w].
    ///
    /// # Errors
    /// [`Error::NoPrediction`] if the branch was not evaluated.
    pub fn x0(&self, branch: Branch) -> Result<&Tensor> {
        Ok(&self.row(branch)?.x0)
    }

    /// The predicted clean picture x0 of a branch, [n, c, h, w], for editing.
    ///
    /// # Errors
    /// [`Error::NoPrediction`] if the branch was not evaluated.
    pub fn x0_mut(&mut self, branch: Branch) -> Result<&mut Tensor> {
        let row = self.0.iter_mut().find(|row| row.branch == branch);
        row.map(|row| &mut row.x0).ok_or(Error::NoPrediction(branch))
    }

    /// Noise prediction of a branch, (x − x0)/σ.
    ///
    /// # Errors
    /// [`Error::NoPrediction`] if the branch was not evaluated.
    pub fn eps(&self, branch: Branch) -> Result<Tensor> {
        let row = self.row(branch)?;
        Ok(row.x.f_sub(&row.x0)?.f_div_scalar(row.sigma)?)
    }

    /// The network output that corresponds to clean picture `x0` at a branch's latent, in the network's prediction
    /// type.
    ///
    /// # Errors
    /// [`Error::NoPrediction`] if the branch was not evaluated.
    pub fn output(&self, branch: Branch, x0: &Tensor) -> Result<Tensor> {
        let row = self.row(branch)?;
        row.prediction.output(x0, &row.x, row.sigma)
    }

    /// The clean picture that corresponds to network output `output` at a branch's latent, the reverse of
    /// [`Predictions::output`].
    ///
    /// # Errors
    /// [`Error::NoPrediction`] if the branch was not evaluated.
    pub(crate) fn meaning(&self, branch: Branch, output: &Tensor) -> Result<Tensor> {
        let row = self.row(branch)?;
        row.prediction.x0(output, &row.x, row.sigma)
    }

    fn row(&self, branch: Branch) -> Result<&Evaluated> {
        self.0.iter().find(|row| row.branch == branch).ok_or(Error::NoPrediction(branch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Predictions of `Cond` and `Uncond` for a latent with one cell of value `x` at σ = 2. The clean pictures are
    /// x − 2 for `Cond` and x − 4 for `Uncond`.
    fn predictions(x: f64) -> Predictions {
        let conditioning = Conditioning::new(Tensor::from_slice(&[0f32]));
        let x = Tensor::from_slice(&[x]).reshape([1, 1, 1, 1]);
        let inputs = [Branch::Uncond, Branch::Cond].map(|branch| Input::new(branch, &x, &conditioning));
        Predictions::new(&Step::new(0, 1, 2.0, 0.0, 500.0), &inputs, [&x - 4.0, &x - 2.0])
    }

    #[test]
    fn eps_follows_x0_and_its_edits() {
        let mut predictions = predictions(5.0);
        assert_eq!(predictions.eps(Branch::Cond).unwrap().double_value(&[0, 0, 0, 0]), 1.0);
        *predictions.x0_mut(Branch::Cond).unwrap() += 1.0;
        assert_eq!(predictions.x0(Branch::Cond).unwrap().double_value(&[0, 0, 0, 0]), 4.0);
        assert_eq!(predictions.eps(Branch::Cond).unwrap().double_value(&[0, 0, 0, 0]), 0.5);
    }

    #[test]
    fn join_stacks_the_images_of_each_branch() {
        let joined = Predictions::join(vec![predictions(5.0), predictions(7.0)]).unwrap();
        assert_eq!(joined.branches().collect::<Vec<_>>(), [Branch::Uncond, Branch::Cond]);
        assert_eq!(joined.x0(Branch::Cond).unwrap().size(), [2, 1, 1, 1]);
        assert_eq!(joined.x0(Branch::Uncond).unwrap().double_value(&[1, 0, 0, 0]), 3.0);
        assert_eq!(joined.eps(Branch::Uncond).unwrap().double_value(&[1, 0, 0, 0]), 2.0);
        assert!(Predictions::join(vec![]).unwrap().branches().next().is_none());
    }

    #[test]
    fn missing_branch_is_named_in_the_error() {
        let error = predictions(1.0).x0(Branch::Extra(0)).unwrap_err().to_string();
        assert!(error.contains("Extra(0) was not evaluated"), "{error}");
        let parts = vec![predictions(1.0), Predictions::default()];
        assert!(matches!(Predictions::join(parts), Err(Error::NoPrediction(Branch::Uncond))));
    }
}
