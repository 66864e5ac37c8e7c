//! Weighted means in windows around each pixel.

use crate::error::Result;
use tch::Tensor;

/// Returns the weighted mean around each pixel, up to `reach` pixels away in rows and columns. `values` is [n, c, H,
/// W], and `weights` is [1, 1, H, W] of 0 or more. The mean is 0 where the window has no weight.
pub(super) fn mean_around(values: &Tensor, weights: &Tensor, reach: i64) -> Result<Tensor> {
    // Both sums have the same factor, which the quotient does not have.
    let sum = |x: &Tensor| -> Result<Tensor> {
        let side = 2 * reach + 1;
        let rows = x.f_avg_pool2d([side, 1], [1; 2], [reach, 0], false, true, None)?;
        Ok(rows.f_avg_pool2d([1, side], [1; 2], [0, reach], false, true, None)?)
    };
    Ok(sum(&values.f_mul(weights)?)?.f_div(&sum(weights)?.f_clamp_min(f64::from(f32::MIN_POSITIVE))?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_counts_the_weighted_pixels_of_the_window() -> Result<()> {
        let line = |values: [f32; 5]| Tensor::from_slice(&values).reshape([1, 1, 1, 5]);
        let mean = mean_around(&line([1.0, 2.0, 3.0, 4.0, 5.0]), &line([1.0, 0.0, 1.0, 1.0, 0.0]), 1)?;
        let mean: Vec<f32> = Vec::try_from(mean.flatten(0, -1)).unwrap();
        assert!(mean.iter().zip([1.0, 2.0, 3.5, 3.5, 4.0]).all(|(got, want)| (got - want).abs() < 1e-6), "{mean:?}");
        Ok(())
    }
}
