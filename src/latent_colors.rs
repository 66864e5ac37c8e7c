//! [`LatentColors`]: the colors of latents without a decoder.

use crate::color::{Lab, Rgb};
use crate::conditioning::Codec;
use crate::error::Result;
use crate::step::Grid;
use tch::{Device, Kind, Tensor};

/// Returns the latents of the flat colors of a cube of `levels`³, 2 to 6 levels, f64 [levels³, channels] on the CPU,
/// and the colors. Each color is encoded as `side`×`side` pixels and represented by the median of its cells, as cells
/// in the middle are not affected by the edges.
pub(crate) fn flats(codec: &dyn Codec, levels: usize, side: i64) -> Result<(Tensor, Vec<Rgb>)> {
    let side = (side / codec.cell()).max(1);
    let level = |index: usize| (255 * (index % levels) / (levels - 1).max(1)) as u8;
    let colors: Vec<Rgb> =
        (0..levels.pow(3)).map(|i| Rgb(level(i / levels.pow(2)), level(i / levels), level(i))).collect();
    let latent = |color: &Rgb| -> Result<Tensor> {
        let flat = codec.flat(*color, Grid::new(side, side))?;
        Ok(flat.f_flatten(2, -1)?.f_median_dim(2, false)?.0.f_flatten(0, -1)?.f_to_device(Device::Cpu)?)
    };
    let latents = colors.iter().map(latent).collect::<Result<Vec<_>>>()?;
    Ok((Tensor::f_stack(&latents, 0)?.f_to_kind(Kind::Double)?, colors))
}

/// A linear map from the channels of a latent to linear light, for previews and for steering. The map ignores edges,
/// and its colors are off by some CIEDE2000, but it takes almost no time.
#[derive(Debug)]
pub(crate) struct LatentColors {
    /// Matrix of the map, [channels + 1, 3] f64 on the CPU; the last row is the color of a latent of 0.
    map: Tensor,
    /// Error over the fitted colors in CIEDE2000, root mean square.
    misfit: f64,
}

/// Deviation of a latent's texture in every direction, which the fit expects beside the colors.
const TEXTURE: f64 = 0.02;

impl LatentColors {
    /// Fits the map by ridge regression to the [`flats`].
    pub(crate) fn fit(codec: &dyn Codec, levels: usize, side: i64) -> Result<Self> {
        let (latents, colors) = flats(codec, levels, side)?;
        let count = colors.len();
        let lights =
            colors.iter().map(|color| Ok(Tensor::f_from_slice(&color.to_linear())?)).collect::<Result<Vec<_>>>()?;
        let ones = Tensor::f_ones([count as i64, 1], (Kind::Double, Device::Cpu))?;
        let latents = Tensor::f_cat(&[latents, ones], 1)?;
        let lights = Tensor::f_stack(&lights, 0)?;
        // Rows of zeros keep the map small in directions in which hardly any color lies. Without them, the rounding
        // of the latents decides there, and texture shows as noise.
        let channels = latents.size2()?.1 - 1;
        let ridge = Tensor::f_eye_m(channels, channels + 1, (Kind::Double, Device::Cpu))?
            .f_mul_scalar(TEXTURE * (count as f64).sqrt())?;
        let zeros = lights.f_new_zeros([channels, 3], (Kind::Double, Device::Cpu))?;
        let (rows, wanted) = (Tensor::f_cat(&[&latents, &ridge], 0)?, Tensor::f_cat(&[lights, zeros], 0)?);
        let map = rows.f_linalg_lstsq(&wanted, None, "gelsd")?.0;
        let fitted = Vec::<f64>::try_from(&latents.f_matmul(&map)?.f_clamp(0.0, 1.0)?.f_flatten(0, -1)?)?;
        let squares = fitted.chunks_exact(3).zip(&colors).map(|(fitted, color)| {
            let light =
                [fitted.first(), fitted.get(1), fitted.get(2)].map(|channel| channel.copied().unwrap_or_default());
            Lab::from_linear(light).delta_e(color.lab()).powi(2)
        });
        let misfit = (squares.sum::<f64>() / count as f64).sqrt();
        Ok(Self { map, misfit })
    }

    /// Returns the error over the fitted colors in CIEDE2000, root mean square.
    pub(crate) const fn misfit(&self) -> f64 {
        self.misfit
    }

    /// Computes the colors of cells, [cells, channels] on any device → [3, cells] f64 of sRGB in −1..=1 on the CPU.
    pub(crate) fn of(&self, cells: &Tensor) -> Result<Tensor> {
        let cells = cells.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
        let channels = cells.size2()?.1;
        let light = cells.f_matmul(&self.map.f_narrow(0, 0, channels)?)?.f_add(&self.map.f_narrow(0, channels, 1)?)?;
        let light = light.f_clamp(0.0, 1.0)?;
        // IEC 61966-2-1: 12.92·l up to .0031308, 1.055·l^(1/2.4) − .055 above.
        let dark = light.f_mul_scalar(12.92)?;
        let bright =
            light.f_clamp_min(1e-12)?.f_pow_tensor_scalar(1.0 / 2.4)?.f_mul_scalar(1.055)?.f_sub_scalar(0.055)?;
        let srgb = bright.f_where_self(&light.f_gt(0.003_130_8)?, &dark)?;
        Ok(srgb.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?.f_transpose(0, 1)?)
    }

    /// Computes the picture of a latent with a pixel per cell, [n, channels, h, w] → [n, 3, h, w] f32 in −1..=1 on the
    /// CPU.
    pub(crate) fn picture(&self, latent: &Tensor) -> Result<Tensor> {
        let (images, _, h, w) = latent.size4()?;
        let cells = latent.f_permute([0, 2, 3, 1])?.f_flatten(0, 2)?; // [n·h·w, channels]
        let picture = self.of(&cells)?.f_reshape([3, images, h, w])?.f_transpose(0, 1)?;
        Ok(picture.f_to_kind(Kind::Float)?.f_contiguous()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditioning::{Conditioning, Texts};
    use crate::error::Error;
    use crate::prompt::Prompt;

    /// A codec of 16 channels: fixed mixtures of the linear light of a cell and of its squares. One cell is one pixel.
    struct Sixteen;

    /// The mixtures, [6, 16].
    fn mixtures() -> Tensor {
        let cells: Vec<f64> =
            (0..96).map(|i| (1.3 * f64::from(i * i) + 0.4).sin() * if i < 48 { 1.0 } else { 0.1 }).collect();
        Tensor::from_slice(&cells).reshape([6, 16])
    }

    impl Codec for Sixteen {
        fn prompt(&self, _: Texts<'_>) -> Result<Prompt> {
            Err(Error::custom("no texts"))
        }
        fn text(&self, _: Texts<'_>) -> Result<Conditioning> {
            Err(Error::custom("no texts"))
        }
        fn encode(&self, picture: &Tensor) -> Result<Tensor> {
            let light = ((picture.to_kind(Kind::Double) + 1.0) / 2.0).pow_tensor_scalar(2.2);
            let parts = Tensor::cat(&[&light, &light.square()], 1).permute([0, 2, 3, 1]);
            Ok(parts.matmul(&mixtures()).permute([0, 3, 1, 2]).to_kind(Kind::Float))
        }
        fn decode(&self, _: &Tensor) -> Result<Tensor> {
            Err(Error::custom("no pictures"))
        }
        fn cell(&self) -> i64 {
            1
        }
    }

    #[test]
    fn sixteen_channels_show_colors_and_no_texture() -> Result<()> {
        let colors = LatentColors::fit(&Sixteen, 4, 4)?;
        assert!(colors.misfit() < 2.0, "{}", colors.misfit());
        // A direction in which no flat color lies is texture, and does not color the picture.
        let (span, any) = (mixtures().transpose(0, 1), Tensor::ones([16, 1], (Kind::Double, Device::Cpu)));
        let texture = &any - span.matmul(&span.f_linalg_lstsq(&any, None, "gelsd")?.0);
        assert!(texture.norm().double_value(&[]) > 0.5);
        let texture = texture.reshape([1, 16, 1, 1]);
        for color in [Rgb(200, 40, 90), Rgb(20, 160, 60), Rgb(120, 130, 220)] {
            let latent = Sixteen.flat(color, Grid::new(2, 3))?;
            let plain = colors.picture(&latent)?;
            assert_eq!(plain.size(), [1, 3, 2, 3]);
            let seen = plain.select(3, 1).select(2, 1).flatten(0, -1);
            let [r, g, b] = [0, 1, 2].map(|i| ((seen.double_value(&[i]) + 1.0) * 127.5).round() as u8);
            let delta_e = Rgb(r, g, b).lab().delta_e(color.lab());
            assert!(delta_e < 4.0, "{color}: {delta_e}");
            let textured = colors.picture(&(latent + &texture * 3.0))?;
            assert!(textured.allclose(&plain, 0.0, 1e-4, false), "{color}");
        }
        Ok(())
    }
}
