//! Estimate of the memory that an evaluation of a transformer of Stable Diffusion 3 takes beside the weights.

use super::Sd3Config;
use crate::step::Grid;

/// Tensors of the network's width that a block holds at once for each token. In the feed-forward layer these are the
/// hidden values before and after the activation, of four widths each, and the sum, its modulated norm and the result.
const TOKENS: f64 = 11.0;

impl Sd3Config {
    /// Estimates the largest number of values that each row of an evaluation on latents of `grid` and on `columns`
    /// columns of the context holds at once.
    pub(crate) fn peak_values(&self, grid: Grid, columns: usize) -> f64 {
        (grid.halved(1).cells() as f64 + columns as f64) * self.width() as f64 * TOKENS
    }
}
