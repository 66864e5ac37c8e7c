//! [`Tiling`]: large latents, decoded piece by piece.

use crate::error::{Error, Result};
use tch::{Device, Kind, Tensor};

/// Decodes a latent in overlapping tiles that are blended into each other, so that memory is that of one tile and the
/// picture.
///
/// A latent that fits into a tile is decoded whole. Otherwise a pixel that one tile covers is that tile's, bit for bit;
/// where tiles overlap it is a weighted mean of theirs, so it is never further from the whole picture's than the worst
/// of them. What a tile differs by is what its VAE looks at beyond the tile: convolutions at the tile's edge, which the
/// outer quarter of an overlap hides, and means and attention over the whole latent, which differ by little as long as
/// a tile shows enough of the picture. `docs/guide.md` has measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiling {
    tile: i64,
    overlap: i64,
}

impl Default for Tiling {
    /// Tiles of 64 × 64 cells, 512 pixels, with 16 cells in common.
    fn default() -> Self {
        Self { tile: 64, overlap: 16 }
    }
}

impl Tiling {
    /// Tiles of `tile` × `tile` latent cells, 8 or more, that have `overlap` rows and columns in common, at least 1 and
    /// at most half of a tile.
    ///
    /// # Errors
    /// [`Error::Parameter`] for other numbers.
    pub fn new(tile: i64, overlap: i64) -> Result<Self> {
        if !(8..=1 << 16).contains(&tile) {
            return Err(Error::parameter("tile", tile, "8 latent cells or more; 64 is usual"));
        }
        if !(1..=tile / 2).contains(&overlap) {
            return Err(Error::parameter(
                "overlap",
                overlap,
                format!("1 to {} latent cells, half of a tile", tile / 2),
            ));
        }
        Ok(Self { tile, overlap })
    }

    /// Decodes `latent`, [b, c, h, w] → [b, 3, factor·h, factor·w], by `decode`, which does the same for a tile.
    ///
    /// # Errors
    /// Those of `decode`; [`Error::Shape`] if it makes pictures of another size.
    pub fn decode(&self, latent: &Tensor, factor: i64, decode: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let (_, _, h, w) = latent.size4()?;
        if h <= self.tile && w <= self.tile {
            return decode(latent);
        }
        let (rows, columns) = (self.spans(h), self.spans(w));
        let mut sums: Option<(Tensor, Tensor)> = None;
        for row in &rows {
            for column in &columns {
                let tile = latent.f_narrow(2, row.start, row.length)?.f_narrow(3, column.start, column.length)?;
                let picture = decode(&tile)?;
                let (b, channels, height, width) = picture.size4()?;
                if (height, width) != (row.length * factor, column.length * factor) {
                    let expected = format!("[b, c, {}, {}]", row.length * factor, column.length * factor);
                    return Err(Error::Shape { what: "a decoded tile", got: picture.size(), expected });
                }
                let options = (Kind::Float, picture.device());
                let weight = self.weight(row, h, factor, options.1)?.f_unsqueeze(1)?; // [height, 1]
                let weight = weight.f_mul(&self.weight(column, w, factor, options.1)?)?; // [height, width]
                let (sum, total) = match sums.take() {
                    Some(sums) => sums,
                    None => (
                        Tensor::f_zeros([b, channels, h * factor, w * factor], options)?,
                        Tensor::f_zeros([h * factor, w * factor], options)?,
                    ),
                };
                let part = |of: &Tensor, axis: i64| {
                    let rows = of.f_narrow(axis, row.start * factor, height)?;
                    rows.f_narrow(axis + 1, column.start * factor, width)
                };
                let _ = part(&sum, 2)?.f_add_(&picture.f_to_kind(Kind::Float)?.f_mul(&weight)?)?;
                let _ = part(&total, 0)?.f_add_(&weight)?;
                sums = Some((sum, total));
            }
        }
        match sums {
            Some((sum, total)) => Ok(sum.f_div(&total)?.f_to_kind(latent.kind())?),
            None => decode(latent),
        }
    }

    /// Where the tiles of a side begin: spread evenly, and overlapping by `overlap` or more.
    fn spans(&self, side: i64) -> Vec<Span> {
        let Self { tile, overlap } = *self;
        if side <= tile {
            return vec![Span { start: 0, length: side }];
        }
        let (rest, stride) = (side - tile, tile - overlap);
        let steps = (rest + stride - 1) / stride;
        (0..=steps).map(|i| Span { start: rest * i / steps, length: tile }).collect()
    }

    /// The weights of a tile's pixels along a side of `side` cells: 1, and toward a neighbor nothing in the outer
    /// quarter of the overlap, then a line up to its inner quarter.
    fn weight(&self, span: &Span, side: i64, factor: i64, device: Device) -> Result<Tensor> {
        let options = (Kind::Float, device);
        let pixels = span.length * factor;
        let overlap = (self.overlap * factor) as f64;
        // (distance to the edge − overlap/4)/(overlap/2), in 0..=1: where one tile has nothing, the next one has 1.
        let from_edge = Tensor::f_arange(pixels, options)?.f_add_scalar(0.5)?;
        let ramp = |distance: &Tensor| -> Result<Tensor> {
            let way = distance.f_sub_scalar(overlap / 4.0)?.f_div_scalar(overlap / 2.0)?;
            Ok(way.f_clamp(0.0, 1.0)?)
        };
        let mut weight = Tensor::f_ones([pixels], options)?;
        if span.start > 0 {
            weight = weight.f_mul(&ramp(&from_edge)?)?;
        }
        if span.start + span.length < side {
            weight = weight.f_mul(&ramp(&from_edge.f_flip([0])?)?)?;
        }
        Ok(weight)
    }
}

/// Cells of one side that a tile covers.
#[derive(Debug)]
struct Span {
    start: i64,
    length: i64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Each cell as 2 × 2 pixels.
    fn doubled(latent: &Tensor) -> Result<Tensor> {
        let (_, _, h, w) = latent.size4()?;
        Ok(latent.f_upsample_nearest2d([2 * h, 2 * w], None::<f64>, None::<f64>)?)
    }

    fn noise(h: i64, w: i64) -> Tensor {
        (Tensor::arange(h * w, (Kind::Float, Device::Cpu)) * 0.37).sin().reshape([1, 1, h, w])
    }

    #[test]
    fn a_decoder_that_looks_at_single_cells_is_not_changed() -> Result<()> {
        for (h, w, tile, overlap) in [(8, 8, 8, 2), (9, 30, 8, 1), (40, 13, 8, 4), (100, 8, 16, 5), (64, 65, 64, 16)] {
            let (latent, largest) = (noise(h, w), Cell::new(0));
            let tiled = Tiling::new(tile, overlap)?.decode(&latent, 2, |part| {
                let (_, _, h, w) = part.size4()?;
                largest.set(largest.get().max(h.max(w)));
                doubled(part)
            })?;
            assert!(tiled.allclose(&doubled(&latent)?, 1e-6, 1e-6, false), "{h} × {w}");
            assert!(largest.get() <= tile);
        }
        Ok(())
    }

    #[test]
    fn a_pixel_is_no_further_off_than_the_worst_tile_that_covers_it() -> Result<()> {
        // Every tile is off by its own number, between −1 and 1.
        let (latent, calls) = (noise(20, 20), Cell::new(0));
        let tiled = Tiling::new(8, 3)?.decode(&latent, 2, |part| {
            calls.set(calls.get() + 1);
            Ok(doubled(part)? + f64::from(calls.get()).sin())
        })?;
        let off = (tiled - doubled(&latent)?).abs().max().double_value(&[]);
        assert!(off <= 1.0 + 1e-6 && calls.get() == 16, "{off} in {} tiles", calls.get());
        Ok(())
    }

    #[test]
    fn impossible_tiles_are_refused() {
        assert!(Tiling::new(4, 1).unwrap_err().to_string().contains("tile is 4"));
        assert!(Tiling::new(16, 9).unwrap_err().to_string().contains("1 to 8 latent cells"));
        let small = |_: &Tensor| Ok(Tensor::zeros([1, 1, 3, 3], (Kind::Float, Device::Cpu)));
        let error = Tiling::default().decode(&noise(65, 65), 8, small).unwrap_err().to_string();
        assert!(error.contains("a decoded tile has shape"), "{error}");
    }
}
