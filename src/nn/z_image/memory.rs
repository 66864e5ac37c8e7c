//! Estimate of the memory that an evaluation of a transformer of Z-Image takes beside the weights.

use super::ZImageConfig;
use crate::step::Grid;

/// Tensors of the network's width that a layer holds at once for each token, beside the hidden values of the
/// feed-forward layer: the sum of the layers, its scaled norm, and the result.
const TOKENS: f64 = 3.0;
/// Hidden values that the feed-forward layer holds at once: the gate, and the values that it multiplies.
const HIDDEN: f64 = 2.0;

impl ZImageConfig {
    /// Estimates the largest number of values that each row of an evaluation on latents of `grid` and on `columns`
    /// columns of the context holds at once.
    pub(crate) fn peak_values(&self, grid: Grid, columns: usize) -> f64 {
        let tokens = grid.halved(1).cells() as f64 + columns as f64;
        tokens * (TOKENS * self.dim as f64 + HIDDEN * self.inner_width() as f64)
    }
}
