//! Files of masks and of the pictures that they belong to.

use crate::failure::Failure;
use crate::picture::Picture;
use crate::random::fnv;
use crate::regions::Mask;
use impasto::{Raster, Size};
use std::path::Path;

/// Reads a mask from a file: white is inside.
pub(super) fn read_mask(path: &Path, (h, w): (usize, usize)) -> Result<Mask, Failure> {
    let raster = Raster::open(path)?;
    let Size { width, height } = raster.size();
    if (height as usize, width as usize) != (h, w) {
        return Err(format!(
            "{}: the mask has {width}×{height} pixels; expected the picture's size, {w}×{h}",
            path.display()
        )
        .into());
    }
    let inside = raster.bytes().chunks_exact(3).map(|pixel| pixel.iter().map(|c| u32::from(*c)).sum::<u32>() >= 384);
    Ok(Mask::from_shape_vec((h, w), inside.collect())?)
}

/// Returns a name for a picture, which follows from its pixels.
pub(super) fn name(picture: &Picture) -> String {
    let (h, w) = picture.dim();
    let mut bytes = format!("{w}x{h}").into_bytes();
    bytes.extend(picture.iter().flat_map(|pixel| [pixel.0, pixel.1, pixel.2]));
    format!("{:016x}", fnv(bytes))
}
