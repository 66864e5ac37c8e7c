//! The blend of new and kept pixels.

use crate::error::Result;
use crate::mask::{distances, pieces};
use crate::step::Grid;
use tch::{Kind, Tensor};

/// Returns the share of the new picture in each pixel, [1, 1, H, W] in 0..=1, for a mask of the same shape.
///
/// A pixel of the mask at the distance d from the nearest kept pixel has the share d/b, at most 1. The band b is
/// `feather` + 1 pixels. In a narrow piece of the mask, whose largest distance is m, b is at most (m + 1)/2, so that
/// the middle of the piece is all new. Kept pixels have the share 0.
pub(super) fn share(mask: &Tensor, feather: f64) -> Result<Tensor> {
    let (_, _, height, width) = mask.size4()?;
    let inside: Vec<bool> = Vec::<f32>::try_from(&mask.f_flatten(0, -1)?)?.iter().map(|gray| *gray > 0.0).collect();
    let kept: Vec<bool> = inside.iter().map(|inside| !inside).collect();
    let far = distances(&kept, Grid::new(height, width));
    let mut share = vec![0f32; inside.len()];
    for piece in pieces(inside, width as usize) {
        let at = |pixel: &usize| far.get(*pixel).copied().unwrap_or_default();
        let largest = piece.iter().map(at).fold(0.0, f64::max);
        let band = (feather + 1.0).min(f64::midpoint(largest, 1.0));
        for pixel in &piece {
            if let Some(share) = share.get_mut(*pixel) {
                *share = (at(pixel) / band).min(1.0) as f32;
            }
        }
    }
    Ok(Tensor::f_from_slice(&share)?.f_reshape([1, 1, height, width])?.f_to_device(mask.device())?)
}

/// Blends two pictures, [1 or n, 3, H, W], by the share of the new one, [1, 1, H, W]. Pixels of the shares 0 and 1 are
/// those of the pictures, to the bit.
pub(super) fn blend(kept: &Tensor, new: &Tensor, share: &Tensor) -> Result<Tensor> {
    let share = share.f_to_kind(Kind::Float)?;
    let between = kept.f_add(&new.f_sub(kept)?.f_mul(&share)?)?;
    let joined = new.f_where_self(&share.f_ge(1.0)?, &between)?;
    Ok(kept.f_where_self(&share.f_le(0.0)?, &joined)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(t: &Tensor) -> Vec<f32> {
        Vec::try_from(t.flatten(0, -1)).unwrap()
    }

    #[test]
    fn share_grows_inside_the_mask_alone() -> Result<()> {
        let mask = Tensor::from_slice(&[0f32, 0.1, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]).reshape([1, 1, 1, 8]);
        let near = |got: Vec<f32>, want: &[f32]| got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-6);
        assert!(near(values(&share(&mask, 3.0)?), &[0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0]));
        assert_eq!(values(&share(&mask, 0.0)?), [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
        Ok(())
    }

    #[test]
    fn middle_of_a_narrow_piece_is_new() -> Result<()> {
        let mask = Tensor::from_slice(&[0f32, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0]).reshape([1, 1, 1, 8]);
        let third = 2.0 / 3.0;
        assert_eq!(values(&share(&mask, 100.0)?), [0.0, third, 1.0, third, 0.0, 0.0, 1.0, 0.0]);
        Ok(())
    }

    #[test]
    fn whole_mask_has_no_border() -> Result<()> {
        assert_eq!(values(&share(&Tensor::ones([1, 1, 2, 2], (Kind::Float, tch::Device::Cpu)), 8.0)?), [1.0; 4]);
        Ok(())
    }

    #[test]
    fn blend_keeps_the_bits_of_both_ends() -> Result<()> {
        let (kept, new) = (
            Tensor::rand([1, 3, 1, 3], (Kind::Float, tch::Device::Cpu)),
            Tensor::rand([2, 3, 1, 3], (Kind::Float, tch::Device::Cpu)),
        );
        let joined = blend(&kept, &new, &Tensor::from_slice(&[0f32, 0.5, 1.0]).reshape([1, 1, 1, 3]))?;
        assert_eq!(joined.narrow(3, 0, 1), kept.narrow(3, 0, 1).repeat([2, 1, 1, 1]));
        assert_eq!(joined.narrow(3, 2, 1), new.narrow(3, 2, 1));
        assert!(
            (joined.narrow(3, 1, 1) - (kept.narrow(3, 1, 1) + new.narrow(3, 1, 1)) / 2.0).abs().max().double_value(&[])
                < 1e-6
        );
        Ok(())
    }
}
