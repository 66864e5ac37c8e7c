//! [`Tiling`]: encoding and decoding of large pictures in tiles.

use crate::error::{Error, Result};
use tch::{Device, Kind, Tensor};

/// A rule for encoding and decoding large pictures in overlapping tiles that are blended into each other. Memory use is
/// then that of one tile and the picture.
///
/// The default decides by an estimate of peak memory, three times the network's largest tensor:
///
/// - A batch that needs at most 3 GiB is processed whole, with the same bits as [`Tiling::whole`]. For the VAE of
///   Stable Diffusion, 3 GiB are one picture of 1024 × 1024 pixels in f32, or of 1448 × 1448 in f16.
/// - A larger batch is processed one image at a time.
/// - An image that is too large alone is split into the fewest tiles within the limit. The tiles overlap by at least 16
///   cells or a quarter of a tile, whichever is less.
///
/// A pixel in only one tile equals that tile's pixel bit for bit. In an overlap, a pixel is a weighted mean of the
/// tiles, so its error is at most that of the worst tile. A tile's result differs from the same part of the whole
/// result, because the network would also read pixels beyond the tile. Convolutions differ near the tile's edge, which
/// has weight 0 in the outer quarter of an overlap. Means and attention over the whole picture differ little as long as
/// a tile shows enough of the picture. `docs/guide.md` has measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiling(Rule);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Whole,
    Tiles { tile: i64, overlap: i64 },
    Above { bytes: u64 },
}

impl Default for Tiling {
    /// Returns [`Tiling::above`] with 3 GiB, the memory for 1024 × 1024 pixels in f32. This limit covers every size
    /// that SDXL was trained at.
    fn default() -> Self {
        Self::above(3 << 30)
    }
}

/// Pixels and memory of a latent cell in a network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cell {
    /// Pixels of a cell, in each direction.
    pub factor: i64,
    /// Peak memory of the network for a cell, in bytes.
    pub bytes: f64,
}

impl Tiling {
    /// Splits images with an estimated memory of more than `bytes` into tiles, and processes smaller images whole.
    pub const fn above(bytes: u64) -> Self {
        Self(Rule::Above { bytes })
    }

    /// Processes every picture whole, however much memory this takes.
    pub const fn whole() -> Self {
        Self(Rule::Whole)
    }

    /// Uses tiles of `tile` × `tile` latent cells, with an overlap of at least `overlap` rows and columns. `tile` is in
    /// 8..=65536, and `overlap` is at least 1 and at most half of a tile. A picture that fits into one tile is
    /// processed whole.
    ///
    /// # Errors
    /// [`Error::Parameter`] for other numbers.
    pub fn new(tile: i64, overlap: i64) -> Result<Self> {
        if !(8..=1 << 16).contains(&tile) {
            return Err(Error::parameter("tile", tile, "8 to 65536 latent cells; 64 is usual"));
        }
        if !(1..=tile / 2).contains(&overlap) {
            return Err(Error::parameter(
                "overlap",
                overlap,
                format!("1 to {} latent cells, half of a tile", tile / 2),
            ));
        }
        Ok(Self(Rule::Tiles { tile, overlap }))
    }

    /// Decodes `latent`, [b, c, h, w] → [b, n, factor·h, factor·w]. `decode` does the same for one tile.
    ///
    /// # Errors
    /// The errors of `decode`; [`Error::Shape`] if `decode` returns pictures of another size.
    pub(crate) fn decode(
        &self,
        latent: &Tensor,
        cell: Cell,
        decode: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        self.work(latent, cell, (1, cell.factor), decode)
    }

    /// Encodes `picture`, [b, c, factor·h, factor·w] → [b, n, h, w]. `encode` does the same for one tile. A picture
    /// whose sides are not multiples of the factor cannot be split at cells and is encoded whole.
    ///
    /// # Errors
    /// The errors of `encode`; [`Error::Shape`] if `encode` returns latents of another size.
    pub(crate) fn encode(
        &self,
        picture: &Tensor,
        cell: Cell,
        encode: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let (_, _, height, width) = picture.size4()?;
        if height % cell.factor != 0 || width % cell.factor != 0 {
            return encode(picture);
        }
        self.work(picture, cell, (cell.factor, 1), encode)
    }

    /// Returns the tiles' size in cells for an image of `h` × `w` cells with `bytes` of memory each; `None` if no tiles
    /// are needed.
    pub(crate) fn tile(&self, h: i64, w: i64, bytes: f64) -> Option<(i64, i64)> {
        let (rows, columns) = self.spans(h, w, bytes)?;
        Some((rows.first()?.length, columns.first()?.length))
    }

    /// Returns the number of cells that are processed at once, of `images` images of `h` × `w` cells with `bytes` of
    /// memory each.
    pub(crate) fn cells_at_once(&self, images: i64, h: i64, w: i64, bytes: f64) -> f64 {
        let is_apart = matches!(self.0, Rule::Above { bytes: most } if (images * h * w) as f64 * bytes > most as f64);
        let images = if is_apart { 1 } else { images };
        let (rows, columns) = self.tile(h, w, bytes).unwrap_or((h, w));
        (images * rows * columns) as f64
    }

    /// Returns the spans of tiles in each direction; `None` if the image is processed whole.
    fn spans(&self, h: i64, w: i64, bytes: f64) -> Option<(Vec<Span>, Vec<Span>)> {
        let (rows, columns, overlap) = match self.0 {
            Rule::Whole => return None,
            Rule::Tiles { tile, overlap } => (tile, tile, overlap),
            Rule::Above { bytes: most } => {
                if (h * w) as f64 * bytes <= most as f64 {
                    return None;
                }
                let tile = ((most as f64 / bytes).sqrt() as i64).clamp(8, 1 << 16);
                let overlap = (tile / 4).min(16);
                (shortened(h, tile, overlap), shortened(w, tile, overlap), overlap)
            }
        };
        (h > rows || w > columns).then(|| (spans(h, rows, overlap), spans(w, columns, overlap)))
    }

    /// Applies `network` to `x`, one image at a time if the batch is too large. A cell has `from` rows and columns in
    /// `x`, and `to` in the result.
    fn work(
        &self,
        x: &Tensor,
        cell: Cell,
        (from, to): (i64, i64),
        network: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let (b, _, h, w) = x.size4()?;
        let (h, w) = (h / from, w / from);
        if let Rule::Above { bytes } = self.0
            && b > 1
            && (b * h * w) as f64 * cell.bytes > bytes as f64
        {
            let each = (0..b).map(|image| self.one(&x.f_narrow(0, image, 1)?, cell, (h, w), (from, to), &network));
            return Ok(Tensor::f_cat(&each.collect::<Result<Vec<_>>>()?, 0)?);
        }
        self.one(x, cell, (h, w), (from, to), &network)
    }

    /// Applies `network` to all images of `x` at once, whole or in tiles.
    fn one(
        &self,
        x: &Tensor,
        cell: Cell,
        (h, w): (i64, i64),
        (from, to): (i64, i64),
        network: &impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let Some((rows, columns)) = self.spans(h, w, cell.bytes) else { return network(x) };
        let mut sums: Option<(Tensor, Tensor)> = None;
        for row in &rows {
            for column in &columns {
                let tile = x.f_narrow(2, row.start * from, row.length * from)?;
                let tile = network(&tile.f_narrow(3, column.start * from, column.length * from)?)?;
                let (b, channels, height, width) = tile.size4()?;
                if (height, width) != (row.length * to, column.length * to) {
                    let expected = format!("[b, c, {}, {}]", row.length * to, column.length * to);
                    return Err(Error::Shape { what: "the network's result for a tile", got: tile.size(), expected });
                }
                let options = (Kind::Float, tile.device());
                let weight = row.weight(to, options.1)?.f_unsqueeze(1)?; // [height, 1]
                let weight = weight.f_mul(&column.weight(to, options.1)?)?; // [height, width]
                let (sum, total) = match sums.take() {
                    Some(sums) => sums,
                    None => (
                        Tensor::f_zeros([b, channels, h * to, w * to], options)?,
                        Tensor::f_zeros([h * to, w * to], options)?,
                    ),
                };
                let part = |of: &Tensor, axis: i64| {
                    let rows = of.f_narrow(axis, row.start * to, height)?;
                    rows.f_narrow(axis + 1, column.start * to, width)
                };
                let _ = part(&sum, 2)?.f_add_(&tile.f_to_kind(Kind::Float)?.f_mul(&weight)?)?;
                let _ = part(&total, 0)?.f_add_(&weight)?;
                sums = Some((sum, total));
            }
        }
        match sums {
            Some((mut sum, total)) => Ok(sum.f_div_(&total)?.f_to_kind(x.kind())?),
            None => network(x),
        }
    }
}

/// The cells along one side that a tile covers.
#[derive(Debug)]
struct Span {
    start: i64,
    length: i64,
    /// Overlap in cells with the previous tile and with the next one; 0 at the picture's edges.
    common: [i64; 2],
}

/// Returns the number of tiles of `tile` cells that a side needs after the first one.
const fn further(side: i64, tile: i64, overlap: i64) -> i64 {
    if side <= tile { 0 } else { (side - overlap - 1) / (tile - overlap) }
}

/// Returns the shortest length of tiles that cover a side with as few tiles as tiles of length `tile`.
const fn shortened(side: i64, tile: i64, overlap: i64) -> i64 {
    let further = further(side, tile, overlap);
    (side + further * overlap + further) / (further + 1) // rounded up
}

/// Returns the fewest tiles of `tile` cells that cover a side, spread evenly, with an overlap of `overlap` or more.
fn spans(side: i64, tile: i64, overlap: i64) -> Vec<Span> {
    if side <= tile {
        return vec![Span { start: 0, length: side, common: [0, 0] }];
    }
    let further = further(side, tile, overlap);
    let start = |i: i64| (side - tile) * i / further;
    let common = |i: i64| if (1..=further).contains(&i) { start(i - 1) + tile - start(i) } else { 0 };
    (0..=further).map(|i| Span { start: start(i), length: tile, common: [common(i), common(i + 1)] }).collect()
}

impl Span {
    /// Returns the weights of a tile's rows or columns, `to` for each cell. The weight is 1 outside of overlaps. In an
    /// overlap the weight is 0 in the outer quarter, 1 in the inner quarter, and linear between them.
    fn weight(&self, to: i64, device: Device) -> Result<Tensor> {
        let options = (Kind::Float, device);
        // (distance to the edge − overlap/4)/(overlap/2), in 0..=1: where one tile has weight 0, the next one has
        // weight 1.
        let from_edge = Tensor::f_arange(self.length * to, options)?.f_add_scalar(0.5)?;
        let mut weight = Tensor::f_ones([self.length * to], options)?;
        for (common, distance) in self.common.into_iter().zip([from_edge.shallow_clone(), from_edge.f_flip([0])?]) {
            if common > 0 {
                let overlap = (common * to) as f64;
                let way = distance.f_sub_scalar(overlap / 4.0)?.f_div_scalar(overlap / 2.0)?;
                weight = weight.f_mul(&way.f_clamp(0.0, 1.0)?)?;
            }
        }
        Ok(weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell as Count;

    /// Decodes each cell to 2 × 2 equal pixels.
    fn double(latent: &Tensor) -> Result<Tensor> {
        let (_, _, h, w) = latent.size4()?;
        Ok(latent.f_upsample_nearest2d([2 * h, 2 * w], None::<f64>, None::<f64>)?)
    }

    const CELL: Cell = Cell { factor: 2, bytes: 10.0 };

    fn noise(h: i64, w: i64) -> Tensor {
        (Tensor::arange(h * w, (Kind::Float, Device::Cpu)) * 0.37).sin().reshape([1, 1, h, w])
    }

    #[test]
    fn cellwise_decoder_is_not_changed_by_tiles() -> Result<()> {
        for (h, w, tile, overlap) in [(8, 8, 8, 2), (9, 30, 8, 1), (40, 13, 8, 4), (100, 8, 16, 5), (64, 65, 64, 16)] {
            let (latent, largest) = (noise(h, w), Count::new(0));
            let tiled = Tiling::new(tile, overlap)?.decode(&latent, CELL, |part| {
                let (_, _, h, w) = part.size4()?;
                largest.set(largest.get().max(h.max(w)));
                double(part)
            })?;
            assert!(tiled.allclose(&double(&latent)?, 1e-6, 1e-6, false), "{h} × {w}");
            assert!(largest.get() <= tile);
        }
        Ok(())
    }

    #[test]
    fn pixel_error_is_at_most_that_of_the_worst_tile() -> Result<()> {
        // Every tile has its own error, between −1 and 1.
        let (latent, calls) = (noise(20, 20), Count::new(0));
        let tiled = Tiling::new(8, 3)?.decode(&latent, CELL, |part| {
            calls.set(calls.get() + 1);
            Ok(double(part)? + f64::from(calls.get()).sin())
        })?;
        let off = (tiled - double(&latent)?).abs().max().double_value(&[]);
        assert!(off <= 1.0 + 1e-6 && calls.get() == 16, "{off} in {} tiles", calls.get());
        Ok(())
    }

    #[test]
    fn impossible_tiles_are_refused() -> Result<()> {
        assert!(Tiling::new(4, 1).unwrap_err().to_string().contains("tile is 4"));
        assert!(Tiling::new(16, 9).unwrap_err().to_string().contains("1 to 8 latent cells"));
        let small = |_: &Tensor| Ok(Tensor::zeros([1, 1, 3, 3], (Kind::Float, Device::Cpu)));
        let error = Tiling::new(64, 16)?.decode(&noise(80, 80), CELL, small).unwrap_err().to_string();
        assert!(error.contains("the network's result for a tile has shape"), "{error}");
        Ok(())
    }

    /// Returns the size of the largest tile and the number of tiles, for a decoder of 10 bytes a cell.
    fn given(tiling: Tiling, size: [i64; 4]) -> Result<(i64, usize)> {
        let (largest, calls) = (Count::new(0), Count::new(0));
        let latent = Tensor::arange(size.iter().product::<i64>(), (Kind::Float, Device::Cpu)).reshape(size);
        let made = tiling.decode(&latent, CELL, |tile| {
            largest.set(largest.get().max(tile.numel()));
            calls.set(calls.get() + 1);
            double(tile)
        })?;
        assert!(made.allclose(&double(&latent)?, 1e-6, 1e-4, false), "{size:?}");
        Ok((largest.get() as i64, calls.get()))
    }

    #[test]
    fn images_stay_whole_or_tiles_within_the_limit() -> Result<()> {
        let tiling = Tiling::above(10 * 24 * 24);
        assert_eq!(given(tiling, [1, 1, 24, 24])?, (24 * 24, 1));
        assert_eq!(given(tiling, [1, 1, 12, 48])?, (12 * 48, 1), "as many cells");
        assert_eq!(given(tiling, [2, 1, 12, 24])?, (24 * 24, 1), "two images");
        assert_eq!(given(tiling, [2, 1, 24, 24])?, (24 * 24, 2), "two images, one at a time");
        assert_eq!(given(tiling, [1, 1, 24, 25])?, (24 * 16, 2), "(25 + an overlap of 6)/2, rounded up");
        assert_eq!(given(tiling, [2, 1, 40, 42])?, (23 * 24, 8));
        assert_eq!(given(Tiling::whole(), [2, 1, 40, 42])?, (2 * 40 * 42, 1));
        // SD 1.5 in f32 at 512 × 512, 768 × 512 and 1024 × 1024 pixels, and the sizes that SDXL was trained at.
        for (h, w) in [(64, 64), (64, 96), (128, 128), (104, 152), (144, 112), (96, 168), (80, 192)] {
            assert_eq!(Tiling::default().tile(h, w, 196_608.0), None, "{h} × {w} cells");
        }
        assert_eq!(Tiling::default().tile(144, 144, 196_608.0), Some((80, 80)), "and at 1152");
        Ok(())
    }

    #[test]
    fn encoding_splits_pictures_at_cells() -> Result<()> {
        let picture = noise(60, 84);
        let mean = |picture: &Tensor| -> Result<Tensor> {
            Ok(picture.f_avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None::<i64>)?)
        };
        for tiling in [Tiling::above(10 * 16 * 16), Tiling::new(16, 8)?] {
            let made = tiling.encode(&picture, CELL, mean)?;
            assert!(made.allclose(&mean(&picture)?, 1e-6, 1e-6, false));
        }
        let odd = noise(61, 84);
        assert_eq!(Tiling::above(1).encode(&odd, CELL, mean)?, mean(&odd)?, "a side that is no multiple of a cell");
        Ok(())
    }
}
