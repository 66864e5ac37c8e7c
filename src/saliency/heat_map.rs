//! [`HeatMap`]: one map of attention, which can be drawn and measured.

use crate::error::{Error, Result};
use crate::guidance::Picture;
use crate::raster::Raster;
use crate::size::Size;
use tch::{Device, Kind, Tensor};

/// A map of the share of attention that goes to a word or phrase, cell by cell.
#[derive(Debug)]
#[non_exhaustive]
pub struct HeatMap {
    /// Word or phrase of the map.
    pub label: String,
    /// Mean share of attention, 0 or more, [h, w] f32 on the CPU.
    pub values: Tensor,
}

impl HeatMap {
    /// Creates a heat map from `values`, [h, w] on any device.
    pub fn new(label: &str, values: &Tensor) -> Result<Self> {
        Ok(Self { label: label.into(), values: values.f_to_device(Device::Cpu)? })
    }

    /// Returns the size of a picture of the map with a pixel per cell.
    fn size(&self) -> Result<Size> {
        let (h, w) = self.values.size2()?;
        Ok(Size::new(w as u32, h as u32))
    }

    /// Returns the largest value.
    pub fn max(&self) -> Result<f64> {
        Ok(self.values.f_max()?.f_double_value(&[])?)
    }

    /// Resizes the map (bicubic) to [height, width], and scales it to 0..=1: (m − min) / (max − min + 1e-8).
    pub fn expand(&self, size: impl Into<Size>) -> Result<Tensor> {
        let map = self.resized(size.into())?;
        let low = map.f_min()?;
        let spread = map.f_max()?.f_sub(&low)?.f_add_scalar(1e-8)?;
        Ok(map.f_sub(&low)?.f_div(&spread)?)
    }

    /// Resizes the map (bicubic) to [height, width], without scaling its values.
    fn resized(&self, size: Size) -> Result<Tensor> {
        let (height, width) = (i64::from(size.height), i64::from(size.width));
        let map = self.values.f_unsqueeze(0)?.f_unsqueeze(0)?;
        Ok(map.f_upsample_bicubic2d([height, width], false, None, None)?.f_reshape([height, width])?)
    }

    /// Returns the cells where the map at its own size, scaled to 0..=1, is above `threshold`: [h, w] booleans. The
    /// authors' package uses .4 by default.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless 0 ≤ threshold < 1.
    pub fn mask(&self, threshold: f64) -> Result<Tensor> {
        if !(0.0..1.0).contains(&threshold) {
            return Err(Error::parameter("threshold", threshold, "0 or more and less than 1; .4 is usual"));
        }
        Ok(self.expand(self.size()?)?.f_gt(threshold)?)
    }

    /// Returns the map for a report, divided by the largest value, which the caption gives.
    pub(super) fn picture(&self) -> Result<Picture> {
        let largest = self.max()?;
        let caption = format!("attention to \"{}\", {:.1} % at most", self.label, 100.0 * largest);
        Ok(Picture::map(caption, &self.values.f_div_scalar(largest.max(f64::MIN_POSITIVE))?))
    }

    /// Draws the map in colors from dark blue to bright yellow, a pixel per cell.
    pub fn raster(&self) -> Result<Raster> {
        colored(&self.expand(self.size()?)?)
    }

    /// Draws the map in colors over a picture, at the picture's size. `alpha` in 0..=1 is the share of the colors where
    /// the map is largest; .6 is a good start.
    ///
    /// # Errors
    /// [`Error::Parameter`] if `alpha` is outside 0..=1.
    pub fn overlay(&self, picture: &Raster, alpha: f64) -> Result<Raster> {
        if !(0.0..=1.0).contains(&alpha) {
            return Err(Error::parameter("alpha", alpha, "0..=1; .6 is usual"));
        }
        let map = self.expand(picture.size())?.f_clamp(0.0, 1.0)?;
        let colors = colored(&map)?.to_tensor(Device::Cpu)?;
        let picture = picture.to_tensor(Device::Cpu)?;
        // A quarter of `alpha` applies even where the map is 0, so that cells without attention look dark blue.
        let share = map.f_mul_scalar(0.75)?.f_add_scalar(0.25)?.f_mul_scalar(alpha)?;
        Raster::from_tensor(&picture.f_add(&colors.f_sub(&picture)?.f_mul(&share)?)?)
    }
}

/// Five stops of the inferno color map, evenly spaced.
const STOPS: [[f64; 3]; 5] =
    [[0.0, 0.0, 14.0], [87.0, 16.0, 110.0], [188.0, 55.0, 84.0], [249.0, 142.0, 9.0], [252.0, 255.0, 164.0]];

/// Colors a map, [h, w] in 0..=1.
fn colored(map: &Tensor) -> Result<Raster> {
    let place = map.f_to_kind(Kind::Float)?.f_clamp(0.0, 1.0)?.f_mul_scalar((STOPS.len() - 1) as f64)?;
    let mut channels = Vec::with_capacity(3);
    for channel in 0..3 {
        // Linear interpolation: the weight of a stop is a tent that reaches to the next stop on either side.
        let mut sum = place.f_zeros_like()?;
        for (stop, color) in STOPS.iter().enumerate() {
            let tent = place.f_sub_scalar(stop as f64)?.f_abs()?.f_neg()?.f_add_scalar(1.0)?.f_clamp_min(0.0)?;
            sum = sum.f_add(&tent.f_mul_scalar(color.get(channel).copied().unwrap_or_default())?)?;
        }
        channels.push(sum.f_div_scalar(127.5)?.f_sub_scalar(1.0)?);
    }
    Raster::from_tensor(&Tensor::f_stack(&channels, 0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resized_map_equals_the_golden_case() -> Result<()> {
        let case = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tiny_daam/tensors.safetensors");
        let tensors: std::collections::HashMap<_, _> = Tensor::read_safetensors(case)?.into_iter().collect();
        let map = HeatMap::new("blue eyes", &tensors["out.word.0"])?;
        let (want, expanded) = (&tensors["out.expanded_absolute"], &tensors["out.expanded"]);
        assert!(map.resized(Size::new(48, 48))?.allclose(want, 1e-4, 2e-5, false));
        assert!(map.expand((48, 48))?.allclose(expanded, 1e-4, 2e-5, false));
        Ok(())
    }

    #[test]
    fn mask_has_the_cells_above_the_threshold() -> Result<()> {
        let map = HeatMap::new("eyes", &Tensor::from_slice(&[2f32, 4.0, 5.0, 6.0]).reshape([2, 2]))?;
        let above = |threshold| Ok::<_, Error>(Vec::<bool>::try_from(map.mask(threshold)?.flatten(0, -1)).unwrap());
        assert_eq!(above(0.4)?, [false, true, true, true]);
        assert_eq!(above(0.8)?, [false, false, false, true]);
        let error = map.mask(1.0).unwrap_err().to_string();
        assert!(error.contains("threshold is 1; expected 0 or more and less than 1"), "{error}");
        Ok(())
    }
}
