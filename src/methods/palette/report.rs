//! Report of a palette.

use serde::Serialize;

/// The colors of the pictures of a run, compared with the palette.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PaletteReport {
    /// One entry for each image.
    pub painted: Vec<PaintedPalette>,
}

/// The colors of one picture, compared with the palette.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PaintedPalette {
    /// Index in the batch.
    pub image: usize,
    /// Mean distance in CIE L\*a\*b\* by which the picture's pixels differ from their nearest swatches.
    pub distance: f64,
    /// Share of the pixels that are nearest to each swatch, in the order of the swatches, 0..=1 each.
    pub shares: Vec<f64>,
    /// Number of further corrections that brought the colors nearer.
    pub rounds: usize,
}
