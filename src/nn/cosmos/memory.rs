//! Estimate of the memory that an evaluation of a Cosmos transformer takes beside the weights.

use super::CosmosConfig;
use crate::step::Grid;

/// Tensors of the network's width that a block holds at once for each token, beside the hidden values of the
/// feed-forward layer: the sum of the blocks, its modulated norm, and the result.
const TOKENS: f64 = 3.0;

impl CosmosConfig {
    /// Estimates the largest number of values that each row of an evaluation on latents of `grid` holds at once. Beside
    /// the tokens of the picture, these are the keys and values of `columns` columns of the context, which are kept for
    /// the run.
    pub(crate) fn peak_values(&self, grid: Grid, columns: usize) -> f64 {
        let tokens = grid.halved(1).cells() as f64;
        let (width, hidden) = (self.width() as f64, self.inner_width() as f64);
        // Before and after the activation, the hidden values are two tensors.
        let block = tokens * (TOKENS * width + 2.0 * hidden);
        block + 2.0 * columns as f64 * width * self.num_layers as f64
    }
}
