//! The color of a forced region at every step, for reports.

use crate::color::Rgb;
use crate::error::Result;
use tch::{Device, Kind, Tensor};

/// A record of a few numbers per step. On request, the colors of a run are computed from these numbers, by the linear
/// map from latents to colors that fits this picture best. Decoding every step would cost more than the run.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Sum of the clean latent under each step's mask, [n, 4, 1, 1], and the mask, [n or 1, 1, h, w].
    sums: Vec<(Tensor, Tensor)>,
    /// The latent that was decoded, [n, c, h, w].
    pub latent: Option<Tensor>,
    /// The picture at the latent's size, [n, 3, h, w] in -1..=1.
    small: Option<Tensor>,
}

/// Ridge term that keeps the fit from dividing by 0 for a picture of one color.
const RIDGE: f64 = 1e-3;

impl Seen {
    /// Records a step: `x0` is [n, c, h, w], `mask` is [n or 1, 1, h, w].
    pub(super) fn step(&mut self, x0: &Tensor, mask: &Tensor) -> Result<()> {
        self.sums.push((over_cells(&x0.f_mul(mask)?)?, mask.shallow_clone()));
        Ok(())
    }

    /// Stores the decoded picture, [n, 3, H, W] in about -1..=1, scaled down to the latent's size.
    pub(super) fn picture(&mut self, picture: &Tensor) -> Result<()> {
        let Some((_, _, h, w)) = self.latent.as_ref().map(Tensor::size4).transpose()? else { return Ok(()) };
        self.small = Some(picture.f_to_kind(Kind::Float)?.f_adaptive_avg_pool2d([h, w])?);
        Ok(())
    }

    /// Returns one image's color at every step; `None` for a step with an empty mask. The list is empty without a
    /// picture.
    pub(super) fn colors(&self, image: i64) -> Result<Vec<Option<Rgb>>> {
        let (Some(latent), Some(small)) = (&self.latent, &self.small) else { return Ok(Vec::new()) };
        if self.sums.is_empty() {
            return Ok(Vec::new());
        }
        // [rows, channels] → [rows, channels + 1] in f64 on the CPU
        let with_one = |rows: &Tensor| -> Result<Tensor> {
            let rows = rows.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
            Ok(Tensor::f_cat(&[rows.f_narrow(1, 0, 1)?.f_ones_like()?, rows], 1)?)
        };
        let cells = |x: &Tensor| x.f_select(0, image)?.f_flatten(1, -1)?.f_transpose(0, 1);
        let from = with_one(&cells(latent)?)?;
        let to = cells(small)?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
        let turned = from.f_transpose(0, 1)?;
        let square = turned.f_matmul(&from)?;
        let ridge = Tensor::f_eye(square.size2()?.0, (Kind::Double, Device::Cpu))?.f_mul_scalar(RIDGE)?;
        let map = Tensor::f_linalg_solve(&square.f_add(&ridge)?, &turned.f_matmul(&to)?, true)?;
        let mean = |(sum, mask): &(Tensor, Tensor)| -> Result<Tensor> {
            let mean = sum.f_div(&over_cells(mask)?)?;
            Ok(mean.f_select(0, image)?.f_flatten(0, -1)?)
        };
        let means: Vec<Tensor> = self.sums.iter().map(mean).collect::<Result<_>>()?;
        let colors = with_one(&Tensor::f_stack(&means, 0)?)?.f_matmul(&map)?;
        let bytes = colors.f_add_scalar(1.0)?.f_mul_scalar(127.5)?.f_clamp(0.0, 255.0)?.f_round()?;
        let values = Vec::<f64>::try_from(&bytes.f_flatten(0, -1)?)?;
        let (rows, _) = values.as_chunks::<3>();
        let color = |[red, green, blue]: &[f64; 3]| {
            let there = red.is_finite() && green.is_finite() && blue.is_finite();
            there.then_some(Rgb(*red as u8, *green as u8, *blue as u8))
        };
        Ok(rows.iter().map(color).collect())
    }
}

/// Sums the cells of a map, [n, channels, h, w] → [n, channels, 1, 1].
fn over_cells(map: &Tensor) -> Result<Tensor> {
    Ok(map.f_sum_dim_intlist([2i64, 3].as_slice(), true, Kind::Float)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_of_a_linear_decoder_are_exact() -> Result<()> {
        let latent = Tensor::randn([1, 4, 6, 8], (Kind::Float, Device::Cpu));
        let decode = |latent: &Tensor| latent.narrow(1, 1, 3) * 0.2 + latent.narrow(1, 0, 1) * 0.1 - 0.1;
        let picture = decode(&latent).upsample_nearest2d([48, 64], None, None);
        let flat = Tensor::from_slice(&[1.0f32, 0.5, -2.0, 3.0]).reshape([1, 4, 1, 1]).expand([1, 4, 6, 8], false);
        let mask = latent.narrow(1, 0, 1).gt(0.0).to_kind(Kind::Float);
        let mut seen = Seen::default();
        seen.step(&flat, &mask)?;
        seen.step(&flat, &mask.zeros_like())?;
        assert_eq!(seen.colors(0)?, []);
        seen.latent = Some(latent.shallow_clone());
        seen.picture(&picture)?;
        // 0.2·(0.5, −2, 3) + 0.1 − 0.1 in -1..=1
        assert_eq!(seen.colors(0)?, [Some(Rgb(140, 77, 204)), None]);
        Ok(())
    }
}
