//! The hint of T2I adapters for colors: a picture in large cells of one color.

use crate::error::{Error, Result};
use crate::raster::{Filter, Raster};
use crate::size::Size;

/// Side of a cell, in pixels.
const CELL: u32 = 64;

/// Returns the hint of a T2I adapter for colors: the picture in cells of one color, each of about 64 × 64 pixels. The
/// picture is resized to 1/64 of its sides (rounded down) by Pillow's bicubic filter, and back to its own size by the
/// nearest pixel.
///
/// ```
/// use impasto::hint::color_palette;
/// use impasto::{Raster, Rgb};
/// let mut picture = Raster::flat(Rgb(200, 40, 40), (128, 128));
/// (0..128).for_each(|x| picture.set(x, 100, Rgb(0, 0, 0)));
/// let palette = color_palette(&picture)?;
/// assert_eq!(palette.size(), picture.size());
/// assert_eq!(palette.pixel(0, 64), palette.pixel(63, 127));
/// # Ok::<(), impasto::Error>(())
/// ```
///
/// # Errors
/// [`Error::Parameter`] for a picture with a side of less than 64 pixels.
///
/// Source: diffusers' documentation of `TencentARC/t2iadapter_color_sd14v1`. The original code resizes with OpenCV's
/// bicubic filter, so its cells differ by a few levels.
pub fn color_palette(picture: &Raster) -> Result<Raster> {
    let size = picture.size();
    let cells = Size::new(size.width / CELL, size.height / CELL);
    if cells.width == 0 || cells.height == 0 {
        return Err(Error::parameter("size of the palette's picture", size, "sides of at least 64 pixels"));
    }
    picture.resize(cells, Filter::Bicubic)?.resize(size, Filter::Nearest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::color::Rgb;

    #[test]
    fn palette_of_a_small_picture_is_refused() {
        let error = color_palette(&Raster::flat(Rgb(1, 2, 3), (64, 63))).unwrap_err().to_string();
        assert!(error.contains("size of the palette's picture is 64×63; expected sides of at least 64"), "{error}");
    }
}
