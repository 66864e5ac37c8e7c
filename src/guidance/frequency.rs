//! [`FrequencyDecoupled`]: guidance with a scale for each size of detail.

use super::{Cfg, Combine};
use crate::branch::{Branch, BranchInfo};
use crate::diffusion::Predictions;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::step::Step;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Most scales; a latent of 512 cells has eight sizes of detail.
const MOST: usize = 8;

/// Fewest cells of a side that the blur of a level can reflect.
const LEAST: i64 = 3;

/// Frequency-decoupled guidance: classifier-free guidance with a large scale for fine details and a small scale for
/// coarse ones. Details gain quality, while colors and composition stay varied.
///
/// A Laplacian pyramid divides cond − uncond into levels. Each level is multiplied by its own scale, and the sum is
/// added to uncond. A level of scale 1 is that of the prompt's prediction. If all scales are 1, there is no guidance,
/// and the negative prompt is not evaluated.
///
/// ```
/// use impasto::Pipeline;
/// use impasto::guidance::FrequencyDecoupled;
///
/// # fn main() -> impasto::Result<()> {
/// let guidance = FrequencyDecoupled::new([10.0, 5.0]);
/// Pipeline::builder().build()?.request("a red boat").seed(7).steps(2).combine(guidance).run()?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Error::Parameter`] at the start of a run without scales, with more than eight, or for a scale that [`Cfg`]
/// rejects; [`Error::Parameter`] in a step if the latent has too few cells for the number of scales.
///
/// Source: Sadat et al., "Guidance in the Frequency Domain Enables High-Fidelity Sampling at Low CFG Scales" (2025,
/// arXiv 2506.19713); diffusers' `FrequencyDecoupledGuidance`, whose pyramid is kornia's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrequencyDecoupled {
    scales: Vec<f64>,
}

impl FrequencyDecoupled {
    /// Creates guidance with the scales of the levels, from the finest details to the coarsest. 10 and 5 are usual.
    pub fn new(scales: impl Into<Vec<f64>>) -> Self {
        Self { scales: scales.into() }
    }

    fn guides(&self) -> bool {
        self.scales.iter().any(|scale| *scale != 1.0)
    }

    /// Multiplies the levels of the pyramid of `change`, [n, channels, h, w], and adds them up.
    fn scale(&self, change: &Tensor) -> Result<Tensor> {
        let (_, _, h, w) = change.size4()?;
        let steps = self.scales.len().saturating_sub(1) as u32;
        let smallest = (h.min(w) - 1) >> steps.saturating_sub(1);
        if steps > 0 && smallest + 1 < LEAST {
            let expected = "fewer scales; each scale after the first halves the latent, which needs 3 cells before";
            return Err(Error::parameter("the number of scales", self.scales.len(), expected));
        }
        // Sides that do not halve evenly are reflected beyond their end, and cut off again.
        let whole = |side: i64| (side + (1 << steps) - 1) >> steps << steps;
        let padded = change.f_pad([0, whole(w) - w, 0, whole(h) - h], "reflect", None)?;
        let mut levels = vec![padded];
        for _ in 0..steps {
            if let Some(last) = levels.last() {
                levels.push(down(last)?);
            }
        }
        let mut sum: Option<(Tensor, Tensor)> = None; // the sum so far, and the level below
        for (level, scale) in levels.iter().zip(&self.scales).rev() {
            let next = match &sum {
                None => level.f_mul_scalar(*scale)?,
                Some((sum, below)) => up(sum)?.f_add(&level.f_sub(&up(below)?)?.f_mul_scalar(*scale)?)?,
            };
            sum = Some((next, level.shallow_clone()));
        }
        let sum = sum.map_or_else(|| change.shallow_clone(), |(sum, _)| sum);
        Ok(sum.f_narrow(2, 0, h)?.f_narrow(3, 0, w)?)
    }
}

/// Blurs with the weights 1, 4, 6, 4, 1 of sixteenths in both directions; reflected cells continue the sides.
fn blur(x: &Tensor) -> Result<Tensor> {
    let channels = x.size4()?.1;
    let line = Tensor::f_from_slice(&[1.0, 4.0, 6.0, 4.0, 1.0])?.f_div_scalar(16.0)?;
    let kernel = line.f_outer(&line)?.f_to_kind(x.kind())?.f_to_device(x.device())?;
    let kernel = kernel.f_expand([channels, 1, 5, 5], false)?;
    Ok(x.f_pad([2, 2, 2, 2], "reflect", None)?.f_conv2d(&kernel, None::<Tensor>, 1, 0, 1, channels)?)
}

/// Blurs and halves both sides, which are even.
fn down(x: &Tensor) -> Result<Tensor> {
    let (_, _, h, w) = x.size4()?;
    Ok(blur(x)?.f_upsample_bilinear2d([h / 2, w / 2], false, None::<f64>, None::<f64>)?)
}

/// Doubles both sides and blurs.
fn up(x: &Tensor) -> Result<Tensor> {
    let (_, _, h, w) = x.size4()?;
    blur(&x.f_upsample_bilinear2d([2 * h, 2 * w], false, None::<f64>, None::<f64>)?)
}

impl Combine for FrequencyDecoupled {
    fn begin(&mut self, branches: &[BranchInfo]) -> Result<()> {
        if !(1..=MOST).contains(&self.scales.len()) {
            return Err(Error::parameter("the number of scales", self.scales.len(), "1 to 8; 2 is usual"));
        }
        self.scales.iter().try_for_each(|scale| Cfg(*scale).begin(branches))
    }

    fn branches(&self, _: &Step) -> Vec<Branch> {
        if self.guides() { vec![Branch::Uncond, Branch::Cond] } else { vec![Branch::Cond] }
    }

    fn combine(&self, _: &Step, predictions: &Predictions) -> Result<Tensor> {
        let cond = predictions.x0(Branch::Cond)?;
        if !self.guides() {
            return Ok(cond.shallow_clone());
        }
        // The pyramid is linear, so combining x0 equals combining the network's outputs.
        let uncond = predictions.x0(Branch::Uncond)?;
        Ok(uncond.f_add(&self.scale(&cond.f_sub(uncond)?)?)?)
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("FrequencyDecoupled", self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guidance::guiders;
    use tch::{Device, Kind};

    #[test]
    fn outputs_are_those_of_the_reference() -> Result<()> {
        guiders::compare("frequency", FrequencyDecoupled::new([10.0, 5.0]))?;
        guiders::compare("frequency_3", FrequencyDecoupled::new([9.0, 4.0, 1.5]))?;
        guiders::compare("frequency_1", FrequencyDecoupled::new([7.5]))
    }

    #[test]
    fn equal_scales_are_those_of_cfg_for_every_size() -> Result<()> {
        for (h, w, levels) in [(8, 8, 3), (9, 7, 2), (12, 5, 2), (3, 3, 2)] {
            let change = Tensor::f_randn([2, 4, h, w], (Kind::Double, Device::Cpu))?;
            let scaled = FrequencyDecoupled::new(vec![6.0; levels]).scale(&change)?;
            assert!(scaled.allclose(&(change * 6.0), 1e-9, 1e-9, false), "{h} × {w}");
        }
        Ok(())
    }

    #[test]
    fn wrong_scales_are_errors() -> Result<()> {
        let told = |scales: &[f64]| FrequencyDecoupled::new(scales).begin(&[]).unwrap_err().to_string();
        assert!(told(&[]).starts_with("the number of scales is 0"));
        assert!(told(&[1.0; 9]).starts_with("the number of scales is 9"));
        assert!(told(&[5.0, -1.0]).starts_with("guidance_scale is -1"));
        let small = Tensor::f_zeros([1, 4, 4, 4], (Kind::Float, Device::Cpu))?;
        let error = FrequencyDecoupled::new([3.0, 2.0, 1.0, 0.5]).scale(&small).unwrap_err().to_string();
        assert!(error.starts_with("the number of scales is 4"), "{error}");
        Ok(())
    }
}
