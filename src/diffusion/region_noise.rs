//! Noise of several seeds in one picture.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// The rule for the noise of a cell that regions cover in part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NoiseEdges {
    /// The noise of the region with the largest coverage of the cell if that coverage is at least 0.5, otherwise the
    /// base noise. No values are mixed.
    #[default]
    Hard,
    /// The sum of all noises weighted by their coverages c, divided by √(Σ c²) so that the variance stays 1. The base
    /// noise has the coverage that the regions leave.
    Blend,
}

/// Replaces the noise of `base` within regions by other noise.
///
/// `base` is noise of unit variance, [n, c, h, w]. Each region is a pair: its coverage of each cell in 0..=1,
/// [1 or n, 1, h, w], and its noise, in the shape of `base`. If the coverages of a cell sum to more than 1,
/// [`NoiseEdges::Blend`] scales them to a sum of 1.
///
/// ```
/// use impasto::diffusion::{Noise, NoiseEdges, region_noise};
/// use tch::{Device, Kind, Tensor};
///
/// let [base, other] = [7, 8].map(|seed| Noise::seeded(seed).draw(&[1, 4, 8, 8]));
/// let (base, left) = (base?, Tensor::zeros([1, 1, 8, 8], (Kind::Float, Device::Cpu)));
/// let _ = left.narrow(3, 0, 4).fill_(1.0);
/// let mixed = region_noise(&base, &[(left, other?)], NoiseEdges::Hard)?;
/// assert_eq!(mixed.narrow(3, 4, 4), base.narrow(3, 4, 4));
/// # Ok::<(), impasto::Error>(())
/// ```
///
/// # Errors
/// [`Error::Shape`] if a region's noise has another shape than `base`.
pub fn region_noise(base: &Tensor, regions: &[(Tensor, Tensor)], edges: NoiseEdges) -> Result<Tensor> {
    if let Some((_, noise)) = regions.iter().find(|(_, noise)| noise.size() != base.size()) {
        let expected = format!("{:?}, the shape of the noise around the region", base.size());
        return Err(Error::Shape { what: "a region's noise", got: noise.size(), expected });
    }
    if regions.is_empty() {
        return Ok(base.shallow_clone());
    }
    match edges {
        NoiseEdges::Hard => {
            let mut most = Tensor::f_zeros([1], (Kind::Float, base.device()))?;
            let mut mixed = base.shallow_clone();
            for (coverage, noise) in regions {
                let mine = coverage.f_ge(0.5)?.f_logical_and(&coverage.f_gt_tensor(&most)?)?;
                mixed = noise.f_where_self(&mine, &mixed)?;
                most = most.f_maximum(coverage)?;
            }
            Ok(mixed)
        }
        NoiseEdges::Blend => {
            let one = Tensor::f_ones([1], (Kind::Float, base.device()))?;
            let mut total = one.f_zeros_like()?;
            for (coverage, _) in regions {
                total = total.f_add(coverage)?;
            }
            let scale = total.f_maximum(&one)?;
            let rest = one.f_sub(&total.f_div(&scale)?)?;
            let (mut sum, mut squares) = (base.f_mul(&rest)?, rest.f_square()?);
            for (coverage, noise) in regions {
                let coverage = coverage.f_div(&scale)?;
                sum = sum.f_add(&noise.f_mul(&coverage)?)?;
                squares = squares.f_add(&coverage.f_square()?)?;
            }
            Ok(sum.f_div(&squares.f_sqrt()?)?)
        }
    }
}
