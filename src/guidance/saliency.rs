//! Where something is in the picture.

use super::repeated::SUM;
use super::{Competition, Guidance, Plan, Report, Setup};
use crate::attention::CrossAttentionHook;
use crate::branch::BranchInfo;
use crate::conditioning::{Codec, Conditioning};
use crate::diffusion::{Denoised, Predictions, Transition};
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::step::Step;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// A guidance that also knows where something is. Any consumer takes any saliency; `(a, b)` is their sum.
pub trait Saliency: Guidance {
    /// [n, 1, h, w] f32 in 0..=`range()` at latent resolution; `None` until it knows.
    fn map(&self) -> Result<Option<Tensor>>;

    /// The largest value a map can have.
    fn range(&self) -> f64 {
        1.0
    }

    /// Whom the phrase competed with in each image, for a saliency that tells words apart ([`Refine::Compete`](super::Refine::Compete)).
    ///
    /// # Errors
    /// [`Error::Torch`].
    fn competitions(&self) -> Result<Vec<Competition>> {
        Ok(Vec::new())
    }
}

impl<S: Saliency + ?Sized> Saliency for &mut S {
    fn map(&self) -> Result<Option<Tensor>> {
        (**self).map()
    }
    fn range(&self) -> f64 {
        (**self).range()
    }
    fn competitions(&self) -> Result<Vec<Competition>> {
        (**self).competitions()
    }
}

impl<S: Saliency + ?Sized> Saliency for Box<S> {
    fn map(&self) -> Result<Option<Tensor>> {
        (**self).map()
    }
    fn range(&self) -> f64 {
        (**self).range()
    }
    fn competitions(&self) -> Result<Vec<Competition>> {
        (**self).competitions()
    }
}

impl<A: Saliency, B: Saliency> Saliency for (A, B) {
    fn map(&self) -> Result<Option<Tensor>> {
        Ok(match (self.0.map()?, self.1.map()?) {
            (Some(a), Some(b)) => Some(a.f_add(&b)?),
            (a, b) => a.or(b),
        })
    }
    fn range(&self) -> f64 {
        self.0.range() + self.1.range()
    }
    fn competitions(&self) -> Result<Vec<Competition>> {
        Ok(self.0.competitions()?.into_iter().chain(self.1.competitions()?).collect())
    }
}

/// Both, one after the other.
impl<A: Guidance, B: Guidance> Guidance for (A, B) {
    fn check(&self) -> Result<()> {
        self.0.check()?;
        self.1.check()
    }
    fn rehearsal(&self) -> Option<f64> {
        [self.0.rehearsal(), self.1.rehearsal()].into_iter().flatten().reduce(f64::min)
    }
    fn begin(&mut self, setup: &mut Setup<'_>) -> Result<()> {
        self.0.begin(setup)?;
        self.1.begin(setup)
    }
    fn condition(&mut self, branch: &BranchInfo, conditioning: &mut Conditioning, codec: &dyn Codec) -> Result<()> {
        self.0.condition(branch, conditioning, codec)?;
        self.1.condition(branch, conditioning, codec)
    }
    fn noise(&mut self, noise: &mut Tensor) -> Result<()> {
        self.0.noise(noise)?;
        self.1.noise(noise)
    }
    fn plan(&mut self, step: &Step, plan: &mut Plan) -> Result<()> {
        self.0.plan(step, plan)?;
        self.1.plan(step, plan)
    }
    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        self.0.hooks().into_iter().chain(self.1.hooks()).collect()
    }
    fn predicted(&mut self, step: &Step, predictions: &mut Predictions) -> Result<()> {
        self.0.predicted(step, predictions)?;
        self.1.predicted(step, predictions)
    }
    fn denoised(&mut self, step: &Step, denoised: &mut Denoised) -> Result<()> {
        self.0.denoised(step, denoised)?;
        self.1.denoised(step, denoised)
    }
    fn transition(&mut self, step: &Step, transition: &mut Transition) -> Result<()> {
        self.0.transition(step, transition)?;
        self.1.transition(step, transition)
    }
    fn finish(&mut self, latent: &mut Tensor, codec: &dyn Codec) -> Result<()> {
        self.0.finish(latent, codec)?;
        self.1.finish(latent, codec)
    }
    fn decoded(&mut self, picture: &Tensor) -> Result<()> {
        self.0.decoded(picture)?;
        self.1.decoded(picture)
    }
    fn notes(&self) -> Vec<String> {
        [self.0.notes(), self.1.notes()].concat()
    }
    fn report(&self) -> Result<Option<Report>> {
        let both = [self.0.report()?, self.1.report()?];
        Ok(both.into_iter().flatten().reduce(|mut a, b| {
            a.name = format!("{} + {}", a.name, b.name);
            a.data = serde_json::json!([a.data, b.data]);
            a.swatches.extend(b.swatches);
            a.curves.extend(b.curves);
            a.strips.extend(b.strips);
            a.pictures.extend(b.pictures);
            a
        }))
    }
    fn recipe(&self) -> Result<Recipe> {
        Recipe::of(SUM, &(self.0.recipe()?, self.1.recipe()?))
    }
}

/// How a raw map is brought to 0..=1, per image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Normalize {
    /// (m − min) / (max − min). A map without structure (max − min < 1e-6) becomes all zero.
    #[default]
    MinMax,
    /// m / max.
    Max,
    /// As it is, clipped.
    Raw,
    /// The phrase's share of the attention to all words, Σ phrase / (Σ words + 1e-6). Of a [`Daam`](super::Daam) only: maps
    /// that know no other words are clipped as by `Raw`.
    TokenShare,
    /// As `MinMax` between the quantiles p and 1 − p, clipped; p in 0..0.5.
    Quantile(f64),
}

impl Normalize {
    pub(crate) fn check(self) -> Result<()> {
        match self {
            Self::Quantile(p) if !(0.0..0.5).contains(&p) => {
                Err(Error::parameter("normalize quantile", p, "0 or more and less than 0.5; .01 is usual"))
            }
            _ => Ok(()),
        }
    }

    /// [n, 1, h, w] → the same in 0..=1.
    pub fn apply(self, map: &Tensor) -> Result<Tensor> {
        const CELLS: [i64; 3] = [1, 2, 3];
        Ok(match self {
            Self::MinMax => {
                let low = map.f_amin(CELLS, true)?;
                let spread = map.f_amax(CELLS, true)?.f_sub(&low)?;
                // A spread below 1e-6 is rounding; dividing by infinity makes it zero.
                let spread = spread.f_add_scalar(1e-8)?.f_masked_fill(&spread.f_lt(1e-6)?, f64::INFINITY)?;
                map.f_sub(&low)?.f_div(&spread)?
            }
            Self::Max => map.f_div(&map.f_amax(CELLS, true)?.f_add_scalar(1e-8)?)?,
            Self::Raw | Self::TokenShare => map.f_clamp(0.0, 1.0)?,
            Self::Quantile(p) => {
                let flat = map.f_flatten(1, -1)?;
                let at = |p: f64| -> Result<Tensor> {
                    let level = flat.f_quantile_scalar(p, 1, true, "linear")?;
                    Ok(level.f_reshape([-1, 1, 1, 1])?)
                };
                let (low, high) = (at(p)?, at(1.0 - p)?);
                let spread = high.f_sub(&low)?.f_add_scalar(1e-8)?;
                map.f_sub(&low)?.f_div(&spread)?.f_clamp(0.0, 1.0)?
            }
        })
    }
}

/// Is the map ([n, 1, h, w]) of any image without structure, its largest and smallest value less than 1e-6 apart?
pub(crate) fn is_flat(map: &Tensor) -> Result<bool> {
    let spread = map.f_amax([1i64, 2, 3], false)?.f_sub(&map.f_amin([1i64, 2, 3], false)?)?;
    Ok(spread.f_min()?.f_double_value(&[])? < 1e-6)
}
