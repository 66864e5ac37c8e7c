//! [`Normalize`]: scales raw maps to 0..=1.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Range of values below which a map has no structure: a smaller range is a rounding error.
pub(crate) const FLAT: f64 = 1e-6;
/// Term that keeps a divisor above 0.
const TINY: f64 = 1e-8;

/// Scaling of a raw map to 0..=1, per image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Normalize {
    /// (m − min) / (max − min). A map without structure (max − min < 1e-6) becomes all zero.
    #[default]
    MinMax,
    /// Division by the largest value, m / max.
    Max,
    /// The raw map, clamped to 0..=1.
    Raw,
    /// Share of the phrase in the attention to all words, Σ phrase / (Σ words + 1e-6). Only a
    /// [`Daam`](crate::saliency::Daam) knows other words; all other maps are clamped as by `Raw`.
    TokenShare,
    /// Scaling like `MinMax`, but between the quantiles p and 1 − p, then clamped to 0..=1; p in 0..0.5.
    Quantile(f64),
}

impl Normalize {
    pub(crate) fn check(self) -> Result<()> {
        match self {
            Self::Quantile(p) if !(0.0..0.5).contains(&p) => {
                Err(Error::parameter("normalize.quantile", p, "0 or more and less than 0.5; .01 is usual"))
            }
            _ => Ok(()),
        }
    }

    /// Scales a map, [n, 1, h, w], to 0..=1.
    pub fn apply(self, map: &Tensor) -> Result<Tensor> {
        const CELLS: [i64; 3] = [1, 2, 3];
        Ok(match self {
            Self::MinMax => {
                let (low, high) = match map.size4()?.0 {
                    1 => map.f_aminmax(None, false)?, // one operation in place of two
                    _ => (map.f_amin(CELLS, true)?, map.f_amax(CELLS, true)?),
                };
                let spread = high.f_sub(&low)?;
                // The division by infinity makes a map without structure zero.
                let spread = spread.f_add_scalar(TINY)?.f_threshold(FLAT + TINY, f64::INFINITY)?;
                map.f_sub(&low)?.f_div(&spread)?
            }
            Self::Max => map.f_div(&map.f_amax(CELLS, true)?.f_add_scalar(TINY)?)?,
            Self::Raw | Self::TokenShare => map.f_clamp(0.0, 1.0)?,
            Self::Quantile(p) => {
                let flat = map.f_flatten(1, -1)?;
                let at = |p: f64| -> Result<Tensor> {
                    let level = flat.f_quantile_scalar(p, 1, true, "linear")?;
                    Ok(level.f_reshape([-1, 1, 1, 1])?)
                };
                let (low, high) = (at(p)?, at(1.0 - p)?);
                let spread = high.f_sub(&low)?.f_add_scalar(TINY)?;
                map.f_sub(&low)?.f_div(&spread)?.f_clamp(0.0, 1.0)?
            }
        })
    }
}

/// Returns true if the map ([n, 1, h, w]) of any image has no structure.
pub(crate) fn is_flat(map: &Tensor) -> Result<bool> {
    let spread = map.f_amax([1i64, 2, 3], false)?.f_sub(&map.f_amin([1i64, 2, 3], false)?)?;
    Ok(spread.f_min()?.f_double_value(&[])? < FLAT)
}
