//! Morphology of masks: growing, shrinking, and the removal of narrow parts.

use crate::error::Result;
use crate::step::Grid;
use tch::Tensor;

/// Grows a mask, [1, 1, H, W], by some pixels: each pixel becomes the largest around it.
pub(super) fn dilate(mask: &Tensor, by: i64) -> Result<Tensor> {
    Ok(mask.f_max_pool2d([2 * by + 1; 2], [1, 1], [by; 2], [1, 1], false)?)
}

/// Shrinks a mask, [1, 1, H, W], by some pixels: each pixel becomes the smallest around it.
pub(super) fn erode(mask: &Tensor, by: i64) -> Result<Tensor> {
    let not = |x: &Tensor| -> Result<Tensor> { Ok(x.f_neg()?.f_add_scalar(1.0)?) };
    not(&dilate(&not(mask)?, by)?)
}

/// Returns the pixels up to `by` pixels from those of a mask, in rows and columns.
pub(super) fn grown(mask: &[bool], size: Grid, by: i64) -> Result<Vec<bool>> {
    inside(&dilate(&plane(mask, size)?, by)?)
}

/// Removes the parts of a mask that are narrower than 2·`by` + 1 pixels: a morphological opening.
pub(super) fn opened(mask: &[bool], size: Grid, by: i64) -> Result<Vec<bool>> {
    inside(&dilate(&erode(&plane(mask, size)?, by)?, by)?)
}

/// Returns a mask as 0 and 1, [1, 1, H, W].
pub(super) fn plane(mask: &[bool], Grid { h, w }: Grid) -> Result<Tensor> {
    let values: Vec<f32> = mask.iter().map(|inside| f32::from(u8::from(*inside))).collect();
    Ok(Tensor::f_from_slice(&values)?.f_reshape([1, 1, h, w])?)
}

/// Returns the pixels in which a mask, [1, 1, H, W], is above .5.
fn inside(mask: &Tensor) -> Result<Vec<bool>> {
    Ok(Vec::<f32>::try_from(&mask.f_flatten(0, -1)?)?.into_iter().map(|inside| inside > 0.5).collect())
}
