//! Gaussian blur.

use crate::error::Result;
use tch::{Kind, Tensor};

/// Blurs [n, c, h, w] with a Gaussian of `sigma` cells, cut off at three sigmas, with zeros outside. Each image is
/// convolved alone, because convolutions round differently with the size of the batch. An image of a batch therefore
/// equals the same image blurred alone, to the bit.
pub(crate) fn blur(x: &Tensor, sigma: f64) -> Result<Tensor> {
    let radius = (3.0 * sigma).ceil() as i64;
    let offsets = Tensor::f_arange_start(-radius, radius + 1, (Kind::Float, x.device()))?;
    let kernel = offsets.f_square()?.f_mul_scalar(-0.5 / (sigma * sigma))?.f_softmax(0, Kind::Float)?;
    let (column, row) = (kernel.f_reshape([1, 1, -1, 1])?, kernel.f_reshape([1, 1, 1, -1])?);
    let along = |x: &Tensor, kernel: &Tensor, padding: [i64; 2]| {
        x.f_conv2d(kernel, None::<&Tensor>, [1, 1], padding, [1, 1], 1)
    };
    let blurred = |image: &Tensor| Ok(along(&along(image, &column, [radius, 0])?, &row, [0, radius])?);
    let images = x.f_to_kind(Kind::Float)?.f_unsqueeze(2)?.f_unbind(0)?; // n of [c, 1, h, w]
    let blurred = images.iter().map(blurred).collect::<Result<Vec<Tensor>>>()?;
    Ok(Tensor::f_stack(&blurred, 0)?.f_squeeze_dim(2)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blur_of_an_image_is_the_same_in_a_batch() -> Result<()> {
        let batch = Tensor::randn([3, 4, 8, 6], (Kind::Float, tch::Device::Cpu));
        let all = blur(&batch, 0.4)?;
        for image in 0..3 {
            assert_eq!(all.narrow(0, image, 1), blur(&batch.narrow(0, image, 1), 0.4)?, "image {image}");
        }
        Ok(())
    }
}
