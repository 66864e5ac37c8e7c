//! Estimate of the memory that an evaluation of a UNet takes beside the weights.

use super::{Level, UnetConfig};
use crate::step::Grid;

/// Tensors that a transformer holds at once, each of the size of its input: the input, the sum of the blocks, its norm,
/// and the four times as wide hidden values of the feed-forward layer. Queries, keys, values and their attention take
/// as much.
const TRANSFORMER: f64 = 7.0;
/// Tokens of a prompt of one chunk, whose keys and values are kept for the run.
const TOKENS: f64 = 77.0;

/// A skip connection as an evaluation holds it.
#[derive(Clone, Copy)]
struct Skip {
    channels: f64,
    cells: f64,
    /// Share of the rows that are computed: less than 1 before the first cross-attention, where branches share rows.
    share: f64,
}

impl UnetConfig {
    /// Estimates the largest number of values that each row of an evaluation on latents of `grid` holds at once.
    /// `branches` branches share a latent, and so what the network computes of it before the first cross-attention.
    pub(crate) fn peak_values(&self, grid: Grid, branches: usize) -> f64 {
        let levels = self.levels().unwrap_or_default(); // a network has been built from the configuration
        let (mut skips, mut peak) = contract(&levels, grid, branches);
        let mut x = levels.last().map_or(0.0, |level| level.channels as f64);
        for level in levels.iter().rev() {
            let (channels, cells, all) = (level.channels as f64, cells(grid, level.halvings), values(&skips));
            // The block's own skip connections stay until the block ends.
            for _ in 0..=level.layers {
                let resnet = match skips.pop() {
                    // The input, the input joined with the skip connection, its norm, and the result.
                    Some(skip) if skip.share == 1.0 => {
                        let joined = x + skip.channels;
                        x + joined + joined.max(channels) + channels
                    }
                    // Rows that branches share are convolved apart from the input.
                    skip => x + x.max(skip.map_or(0.0, |skip| skip.share * (skip.channels + channels))) + channels,
                };
                let transformer = if level.up_attends { TRANSFORMER * channels } else { 0.0 };
                peak = peak.max(all + resnet.max(transformer) * cells);
                x = channels;
            }
            if let Some(above) = level.halvings.checked_sub(1) {
                peak = peak.max(all + channels * (cells + 2.0 * self::cells(grid, above)));
            }
        }
        peak + keys_and_values(&levels)
    }

    /// Returns the number of values that the residuals of ControlNets hold for each row.
    pub(crate) fn residuals(&self, grid: Grid) -> f64 {
        values(&contract(&self.levels().unwrap_or_default(), grid, 1).0)
    }
}

/// Returns the skip connections that the contracting half makes, and the largest number of values that this half and
/// the middle block hold at once.
fn contract(levels: &[Level], grid: Grid, branches: usize) -> (Vec<Skip>, f64) {
    let (mut share, mut peak) = (1.0 / branches.max(1) as f64, 0f64);
    let mut x = levels.first().map_or(0.0, |level| level.channels as f64);
    let mut skips = vec![Skip { channels: x, cells: cells(grid, 0), share }];
    for (index, level) in levels.iter().enumerate() {
        let (channels, cells) = (level.channels as f64, cells(grid, level.halvings));
        let is_last = index + 1 == levels.len();
        if level.down_attends {
            share = 1.0;
        }
        for _ in 0..level.layers {
            let resnet = (x + channels).max(2.0 * channels);
            let transformer = if level.down_attends || is_last { TRANSFORMER * channels } else { 0.0 };
            peak = peak.max(values(&skips) + resnet.max(transformer) * cells);
            skips.push(Skip { channels, cells, share });
            x = channels;
        }
        if !is_last {
            skips.push(Skip { channels, cells: self::cells(grid, level.halvings + 1), share });
        }
    }
    (skips, peak)
}

/// Returns the number of values of the keys and values of all cross-attention sites.
fn keys_and_values(levels: &[Level]) -> f64 {
    let of_level = |(index, level): (usize, &Level)| {
        let down = if level.down_attends { level.layers } else { 0 };
        let up = if level.up_attends { level.layers + 1 } else { 0 };
        let middle = i64::from(index + 1 == levels.len());
        ((down + up + middle) * level.depth * level.channels) as f64
    };
    2.0 * TOKENS * levels.iter().enumerate().map(of_level).sum::<f64>()
}

/// Returns the number of values of skip connections.
fn values(skips: &[Skip]) -> f64 {
    skips.iter().map(|skip| skip.channels * skip.cells * skip.share).sum()
}

/// Returns the number of cells of a level.
fn cells(grid: Grid, halvings: u32) -> f64 {
    grid.halved(halvings).cells() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widest_block_of_sd15_is_the_last() {
        let config = UnetConfig::default();
        let kept = keys_and_values(&config.levels().expect("levels"));
        // In units of 320 channels: 3 skip connections, of which branches share one, an input of 640 channels, twice
        // 960 channels, and the result.
        for (branches, skips) in [(1, 3.0), (2, 2.5), (4, 2.25)] {
            let widest = (skips + 2.0 + 2.0 * 3.0 + 1.0) * 320.0 * 4096.0;
            assert_eq!(config.peak_values(Grid::new(64, 64), branches), widest + kept);
        }
    }

    #[test]
    fn residuals_have_the_size_of_the_skip_connections() {
        let levels = [(3.0, 64.0, 320.0), (1.0, 16.0, 320.0), (2.0, 16.0, 640.0), (1.0, 4.0, 640.0)];
        let deep = [(2.0, 4.0, 1280.0), (3.0, 1.0, 1280.0)];
        let sum: f64 = levels.iter().chain(&deep).map(|(count, cells, channels)| count * cells * channels).sum();
        assert_eq!(UnetConfig::default().residuals(Grid::new(8, 8)), sum);
    }
}
