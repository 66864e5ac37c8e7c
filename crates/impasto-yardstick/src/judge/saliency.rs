//! The judge for any model: the model's own attention in the unforced picture.
//!
//! The forced and the unforced picture share the region, so a force cannot move the region on which it is measured. But
//! judge and force then read the phrase in the same way, and can share a mistake. Reports call such figures
//! self-judged.

use super::view::{Judge, Seen, View};
use crate::failure::Failure;
use crate::regions::Mask;
use ndarray::Array2;
use tch::{Device, Kind, Tensor};

pub struct Saliency;

impl Judge for Saliency {
    fn look(&mut self, view: &View<'_>) -> Result<Option<Seen>, Failure> {
        let mut regions = Vec::new();
        for (phrase, map) in view.attention {
            regions.push((phrase.as_str(), region(map, view.picture.dim())?));
        }
        Ok(Some(Seen::of(view, regions)))
    }

    fn wants_attention(&self) -> bool {
        true
    }
}

/// Returns the region in which a map, resized to the picture, is above Otsu's threshold.
fn region(map: &Array2<f32>, (h, w): (usize, usize)) -> Result<Mask, Failure> {
    let values: Vec<f32> = map.iter().copied().collect();
    let (rows, columns) = map.dim();
    let map = Tensor::f_from_slice(&values)?.f_to_device(Device::Cpu)?;
    let map = map.f_reshape([1, 1, rows as i64, columns as i64])?;
    let map = map.f_upsample_bicubic2d([h as i64, w as i64], false, None, None)?.f_to_kind(Kind::Float)?;
    let values = Vec::<f32>::try_from(&map.f_flatten(0, -1)?)?;
    let threshold = otsu(&values);
    Ok(Mask::from_shape_vec((h, w), values.into_iter().map(|value| value > threshold).collect())?)
}

/// Returns the threshold that divides values into the two groups with the largest difference of means, weighed by the
/// groups' sizes.
///
/// Source: Otsu, A Threshold Selection Method from Gray-Level Histograms (1979), on 256 bins.
fn otsu(values: &[f32]) -> f32 {
    const BINS: usize = 256;
    let (low, high) =
        values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), x| (low.min(*x), high.max(*x)));
    let width = (high - low) / BINS as f32;
    if width.is_nan() || width <= 0.0 {
        return high; // no value of a flat map is above
    }
    let mut histogram = [0.0; BINS];
    for value in values {
        histogram[(((value - low) / width) as usize).min(BINS - 1)] += 1.0;
    }
    let all = values.len() as f64;
    let total: f64 = histogram.iter().enumerate().map(|(bin, count)| bin as f64 * count).sum();
    let (mut below, mut sum, mut best) = (0.0, 0.0, (0.0, 0));
    for (bin, count) in histogram.iter().enumerate() {
        below += count;
        sum += bin as f64 * count;
        let above = all - below;
        if below > 0.0 && above > 0.0 {
            let between = below * above * (sum / below - (total - sum) / above).powi(2);
            if between > best.0 {
                best = (between, bin + 1);
            }
        }
    }
    low + best.1 as f32 * width
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bright_square_is_found() {
        let map = Array2::from_shape_fn((64, 64), |(y, x)| {
            let inside = (16..32).contains(&y) && (8..40).contains(&x);
            (if inside { 0.8 } else { 0.1 }) + 0.05 * ((y + x) % 3) as f32
        });
        let region = region(&map, (128, 128)).unwrap();
        let found = region.indexed_iter().filter(|(_, inside)| **inside).count() as f64;
        assert!((found / (32.0 * 64.0) - 1.0).abs() < 0.1, "{found}");
        assert!(region[(48, 48)] && !region[(100, 100)]);
    }

    #[test]
    fn nothing_is_above_a_flat_map() {
        assert!(region(&Array2::from_elem((64, 64), 0.5), (64, 64)).unwrap().iter().all(|inside| !inside));
    }
}
