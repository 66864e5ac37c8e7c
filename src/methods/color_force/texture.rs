//! The part of a color shift that a force applies. Some parts leave the texture of the region as it is.

use crate::error::{Error, Result};
use crate::mask::blur;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// The part of the color shift d = gold − base that a force applies, cell by cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Texture {
    /// The whole shift: the region becomes flat, as in the published method.
    #[default]
    Off,
    /// The shift's mean over the mask, Σ m·d / Σ m per channel and image. The region's mean moves as far as with the
    /// whole shift, and the variation around the mean stays.
    MaskedMean,
    /// The shift's low frequencies, G∗(m·d) / (G∗m), where G is a Gaussian with a standard deviation of this many
    /// cells, above 0 and up to 64; 2 is usual. Finer detail stays.
    LowPass(f64),
    /// The shift's low frequencies as in [`LowPass`](Self::LowPass). The standard deviation is this share of the
    /// latent's shorter side, above 0 and up to 1; 1/16 is usual. At every picture size, two bows of different colors
    /// both reach the color asked for, while folds and shades stay.
    Local(f64),
}

impl Texture {
    pub(super) fn check(self) -> Result<()> {
        match self {
            Self::LowPass(sigma) if !(sigma > 0.0 && sigma <= 64.0) => {
                Err(Error::parameter("texture.LowPass", sigma, "a deviation above 0 and up to 64 cells; 2 is usual"))
            }
            Self::Local(share) if !(share > 0.0 && share <= 1.0) => {
                Err(Error::parameter("texture.Local", share, "a share of the side above 0 and up to 1; 1/16 is usual"))
            }
            _ => Ok(()),
        }
    }

    /// Returns this part of the whole shift `way`, [n, c, h, w], under `mask`, [n, 1, h, w].
    pub(super) fn part(self, way: &Tensor, mask: &Tensor) -> Result<Tensor> {
        const CELLS: [i64; 2] = [2, 3];
        Ok(match self {
            Self::Off => way.shallow_clone(),
            Self::MaskedMean => {
                let sum = |x: &Tensor| x.f_sum_dim_intlist(CELLS.as_slice(), true, Kind::Float);
                // An empty mask moves nothing, and the clamp prevents 0/0.
                sum(&way.f_mul(mask)?)?.f_div(&sum(mask)?.f_clamp_min(1e-6)?)?.f_expand_as(way)?
            }
            Self::LowPass(sigma) => slow(way, mask, sigma)?,
            Self::Local(share) => {
                let (.., h, w) = way.size4()?;
                slow(way, mask, share * h.min(w) as f64)?
            }
        })
    }
}

/// Returns the low frequencies of a shift, G∗(m·d) / (G∗m). `way` is the shift d, `mask` is m, and G is a Gaussian with
/// a standard deviation of `sigma` cells.
fn slow(way: &Tensor, mask: &Tensor, sigma: f64) -> Result<Tensor> {
    Ok(blur(&way.f_mul(mask)?, sigma)?.f_div(&blur(mask, sigma)?.f_add_scalar(1e-6)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn textures_equal_the_reference() -> Result<()> {
        let golden: Value = serde_json::from_str(include_str!("../../../tests/golden/specs/saliency.json")).unwrap();
        let want = &golden["texture"];
        let map: Vec<Vec<f64>> = serde_json::from_value(golden["minmax"].clone()).unwrap();
        let mask = Tensor::from_slice(&map.concat()).ge(0.3).to_kind(Kind::Float).reshape([1, 1, 8, 8]);
        let base: Vec<f64> = (0..64)
            .map(|i| (f64::from(i / 8), f64::from(i % 8)))
            .map(|(y, x)| 0.3 * (1.1 * x).sin() * (0.7 * y).cos() + 0.1 * x)
            .collect();
        let base = Tensor::from_slice(&base).to_kind(Kind::Float).reshape([1, 1, 8, 8]);
        let (gold, strength) = (want["g"].as_f64().unwrap(), want["k"].as_f64().unwrap());
        let moved = |texture: Texture| -> Result<Tensor> {
            Ok(&base + strength * &mask * texture.part(&(gold - &base), &mask)?)
        };
        let inside = |x: &Tensor| x.masked_select(&mask.gt(0.5));
        let close = |got: f64, name: &str| {
            let want = want[name].as_f64().unwrap();
            assert!((got - want).abs() < 1e-5, "{name}: {got} is not {want}");
        };
        let spread = |x: &Tensor| inside(x).std(false).double_value(&[]);
        let (mean, low) = (moved(Texture::MaskedMean)?, moved(Texture::LowPass(2.0))?);
        close(inside(&mean).mean(Kind::Double).double_value(&[]), "masked_mean_out");
        close(spread(&base), "std_in");
        close(spread(&mean), "std_out_mean_shift");
        close(spread(&low), "std_out_lowpass_sigma2");
        close(spread(&moved(Texture::Off)?), "std_out_plain");
        for (got, name) in [(&mean, "row2_mean_shift"), (&low, "row2_lowpass")] {
            let row: Vec<f64> = serde_json::from_value(want[name].clone()).unwrap();
            let apart = (got.select(2, 2).flatten(0, -1) - Tensor::from_slice(&row)).abs().max().double_value(&[]);
            assert!(apart < 1e-5, "{name}");
        }
        Ok(())
    }

    /// Two halves of different colors, each with stripes, fill the mask. Each half moves by its own shift, at both
    /// sizes.
    #[test]
    fn local_texture_moves_each_color_by_its_own_shift() -> Result<()> {
        for side in [32, 64] {
            let index = Tensor::arange(side, (Kind::Int64, tch::Device::Cpu));
            let stripes = index.remainder(2).to_kind(Kind::Float).reshape([1, 1, -1, 1]) - 0.5;
            let right = index.ge(side / 2).to_kind(Kind::Float).reshape([1, 1, 1, -1]);
            let (base, mask) =
                (&right * 2.0 + 0.2 * stripes, Tensor::ones([1, 1, side, side], (Kind::Float, tch::Device::Cpu)));
            let moved = |texture: Texture| -> Result<(f64, f64)> {
                let moved = &base + texture.part(&(&base * -1.0), &mask)?;
                let quarter = |column| moved.narrow(3, column, side / 4);
                let mean = |column| quarter(column).mean(Kind::Double).double_value(&[]);
                Ok(((mean(0) - mean(3 * side / 4)).abs(), quarter(0).std(false).double_value(&[])))
            };
            let ((together, _), (local, pattern)) = (moved(Texture::MaskedMean)?, moved(Texture::Local(1.0 / 16.0))?);
            assert!(together > 1.99 && local < 0.05, "{side}: {together} and {local} apart");
            assert!((0.09..0.11).contains(&pattern), "{side}: stripes of .1 became {pattern}");
        }
        Ok(())
    }

    #[test]
    fn shift_under_an_empty_mask_is_zero() -> Result<()> {
        let (way, mask) = (
            Tensor::ones([2, 4, 3, 3], (Kind::Float, tch::Device::Cpu)),
            Tensor::zeros([2, 1, 3, 3], (Kind::Float, tch::Device::Cpu)),
        );
        for texture in [Texture::MaskedMean, Texture::LowPass(1.0), Texture::Local(0.1)] {
            assert_eq!(texture.part(&way, &mask)?.abs().max().double_value(&[]), 0.0);
        }
        Ok(())
    }
}
