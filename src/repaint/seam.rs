//! [`Seam`]: the difference in color across the border of a mask.

use super::window::mean_around;
use crate::color::{Lab, linear};
use crate::error::Result;
use serde::Serialize;
use tch::{Device, Kind, Tensor};

/// Distance from the border, in pixels, up to which colors are compared.
const REACH: i64 = 8;

/// Largest CIEDE2000 across the border at a place where the given picture is smooth.
const SMOOTH: f64 = 2.0;
/// Smallest share of the border that has to be smooth.
const LEAST: f64 = 0.02;

/// The difference in color across the border of a mask.
///
/// For each pixel along the inside of the border, the mean color of the kept pixels around it is compared with the mean
/// color of the repainted pixels around it. Around is up to 8 pixels away in rows and columns. Means are taken in
/// linear light. Only places count at which the given picture is smooth, with a difference of at most 2, because a new
/// step in color is seen there. Each figure is the median of these CIEDE2000 differences.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Seam {
    /// Share of the border at which the given picture is smooth.
    pub(crate) smooth: f64,
    /// Difference in the picture that was given.
    pub(crate) given: f64,
    /// Difference if the new pixels are pasted into the given picture as they are.
    pub(crate) pasted: f64,
    /// Difference in the finished picture.
    pub(crate) result: f64,
}

/// Measures the seam of each image. `given` is [1, 3, H, W], `pasted` and `result` are [n, 3, H, W], all in -1..=1, and
/// `mask` is [1, 1, H, W]. The list is empty if the mask has no border, or a border that is hardly smooth anywhere.
pub(super) fn measure(given: &Tensor, pasted: &Tensor, result: &Tensor, mask: &Tensor) -> Result<Vec<Seam>> {
    let border = Border::new(mask)?;
    let given = border.differences(&given.f_select(0, 0)?)?;
    let is_smooth = |(place, difference): (usize, &f64)| (*difference <= SMOOTH).then_some(place);
    let places: Vec<usize> = given.iter().enumerate().filter_map(is_smooth).collect();
    let smooth = places.len() as f64 / given.len().max(1) as f64;
    if smooth < LEAST {
        return Ok(Vec::new());
    }
    let middle = |differences: &[f64]| {
        let mut here: Vec<f64> = places.iter().filter_map(|place| differences.get(*place).copied()).collect();
        here.sort_by(f64::total_cmp);
        here.get(here.len() / 2).copied().unwrap_or_default()
    };
    let given = middle(&given);
    let of = |pictures: &Tensor, image: i64| -> Result<f64> {
        Ok(middle(&border.differences(&pictures.f_select(0, image)?)?))
    };
    let seam = |image| Ok(Seam { smooth, given, pasted: of(pasted, image)?, result: of(result, image)? });
    (0..result.size4()?.0).map(seam).collect()
}

/// The border of a mask.
struct Border {
    /// Pixels of the mask, and the kept pixels, [1, 1, H, W] as 0 and 1.
    sides: [Tensor; 2],
    /// Indices of the mask's pixels that have a kept pixel beside them, row by row.
    pixels: Tensor,
}

impl Border {
    fn new(mask: &Tensor) -> Result<Self> {
        let inside = mask.f_to_device(Device::Cpu)?.f_gt(0.0)?.f_to_kind(Kind::Float)?;
        let kept = inside.f_neg()?.f_add_scalar(1.0)?;
        let beside = kept.f_max_pool2d([3; 2], [1; 2], [1; 2], [1; 2], false)?.f_mul(&inside)?;
        let pixels = beside.f_flatten(0, -1)?.f_nonzero()?.f_flatten(0, -1)?;
        Ok(Self { sides: [inside, kept], pixels })
    }

    /// Returns the differences across the border of a picture, [3, H, W] in -1..=1, place by place.
    fn differences(&self, picture: &Tensor) -> Result<Vec<f64>> {
        let light = linear(&picture.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?)?.f_unsqueeze(0)?;
        let [inside, kept] = &self.sides;
        let [inside, kept] = [inside, kept].map(|side| self.colors(&mean_around(&light, side, REACH)?));
        Ok(inside?.into_iter().zip(kept?).map(|(new, old)| new.delta_e(old)).collect())
    }

    /// Returns the colors along the border of a picture in linear light, [1, 3, H, W].
    fn colors(&self, light: &Tensor) -> Result<Vec<Lab>> {
        let rows = light.f_flatten(2, -1)?.f_squeeze_dim(0)?.f_transpose(0, 1)?.f_index_select(0, &self.pixels)?;
        let values = Vec::<f32>::try_from(&rows.f_contiguous()?.f_flatten(0, -1)?)?;
        let (pixels, _) = values.as_chunks::<3>();
        Ok(pixels.iter().map(|light| Lab::from_linear(light.map(f64::from))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::color::Rgb;
    use crate::raster::Raster;

    const DARK: Rgb = Rgb(100, 100, 100);
    const LIGHT: Rgb = Rgb(120, 110, 100);

    fn flat(color: Rgb) -> Tensor {
        Raster::flat(color, (40, 24)).to_tensor(Device::Cpu).unwrap()
    }

    /// A mask that repaints the right half.
    fn right() -> Tensor {
        let mask = Tensor::zeros([1, 1, 24, 40], (Kind::Float, Device::Cpu));
        let _ = mask.narrow(3, 20, 20).fill_(1.0);
        mask
    }

    #[test]
    fn seam_is_the_step_between_two_flat_colors() -> Result<()> {
        let pasted = flat(LIGHT).f_where_self(&right().f_gt(0.0)?, &flat(DARK))?;
        let seams = measure(&flat(DARK), &pasted, &flat(LIGHT), &right())?;
        let [Seam { smooth, given, pasted, result }] = seams[..] else { panic!("one seam") };
        assert!(smooth >= 1.0 && given.abs() < 1e-3 && result.abs() < 1e-3, "{smooth} {given} {result}");
        assert!((pasted - DARK.delta_e(LIGHT)).abs() < 0.01, "{pasted} {}", DARK.delta_e(LIGHT));
        Ok(())
    }

    #[test]
    fn edges_of_the_given_picture_do_not_count() -> Result<()> {
        // The lower half of the given picture has an edge along the border.
        let lower = Tensor::zeros([1, 1, 24, 40], (Kind::Bool, Device::Cpu));
        let _ = lower.narrow(2, 12, 12).fill_(1);
        let given = flat(Rgb(250, 0, 0)).f_where_self(&lower.f_logical_and(&right().f_gt(0.0)?)?, &flat(DARK))?;
        let seams = measure(&given, &given, &given, &right())?;
        let [Seam { smooth, given, .. }] = seams[..] else { panic!("one seam") };
        assert!((0.1..0.5).contains(&smooth) && given <= SMOOTH, "{smooth} {given}");
        Ok(())
    }

    #[test]
    fn mask_without_a_border_has_no_seam() -> Result<()> {
        for gray in [0.0, 1.0] {
            let mask = Tensor::full([1, 1, 24, 40], gray, (Kind::Float, Device::Cpu));
            assert!(measure(&flat(DARK), &flat(DARK), &flat(DARK), &mask)?.is_empty());
        }
        Ok(())
    }
}
