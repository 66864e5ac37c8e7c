//! [`SketchKeras`]: a network that finds the lines of a picture.

use super::line_art::{blurred, channels, gaussian, gray};
use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::raster::{Filter, Raster};
use crate::weights::{Weights, read_tensors};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// A convolution: input channels, output channels, kernel side, stride.
type Shape = (i64, i64, i64, i64);

/// Blocks of convolutions on the way down.
const DOWN: [&[Shape]; 6] = [
    &[(1, 32, 3, 1)],
    &[(32, 64, 4, 2), (64, 64, 3, 1)],
    &[(64, 128, 4, 2), (128, 128, 3, 1)],
    &[(128, 256, 4, 2), (256, 256, 3, 1)],
    &[(256, 512, 4, 2)],
    &[(512, 512, 3, 1)],
];
/// Blocks of convolutions on the way up. The input of a block is joined with the output of the same grid on the way
/// down, and the grid of the joined input is doubled.
const UP: [&[Shape]; 4] = [
    &[(1024, 512, 4, 1), (512, 256, 3, 1)],
    &[(512, 256, 4, 1), (256, 128, 3, 1)],
    &[(256, 128, 4, 1), (128, 64, 3, 1)],
    &[(128, 64, 4, 1), (64, 32, 3, 1)],
];
/// The sides of a picture are multiples of this number, because the network halves the grid four times.
const MULTIPLE: u32 = 16;
/// Number ε that the batch norms add to the variance.
const EPS: f64 = 1e-3;
/// Deviation in pixels of the blur that the picture is compared with.
const BLUR: f64 = 3.0;
/// Lines fainter than this share of full ink are left out.
const FAINTEST: f64 = 0.1;

/// The network of sketchKeras, which draws the lines of a picture. Its weights are not part of this crate.
///
/// The network follows faded outlines and leaves out much of the texture of photographs, where
/// [`LineArt`](super::LineArt) follows contrast alone. At its usual side of 512 pixels, the network takes about 530
/// billion multiplications for a square picture: 175 billion for each color channel.
///
/// ```no_run
/// use impasto::hint::SketchKeras;
/// use impasto::{Raster, tch::Device};
/// let lines = SketchKeras::open("sketch_keras.safetensors", Device::Cpu)?.of(&Raster::open("photo.png")?)?;
/// lines.save("lines.png")?;
/// # Ok::<(), impasto::Error>(())
/// ```
///
/// Source: lllyasviel, "sketchKeras" (2017), in its form for PyTorch, which ColorizeDiffusion's application downloads
/// as `tellurion/line_extractor/model.pth`.
#[derive(Debug)]
pub struct SketchKeras {
    down: Vec<Vec<Layer>>,
    up: Vec<Vec<Layer>>,
    last: (Tensor, Tensor),
    side: u32,
    device: Device,
}

/// A convolution with its batch norm folded in, before a ReLU.
#[derive(Debug)]
struct Layer {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
}

impl SketchKeras {
    /// Loads the network from the original's file, or from a safetensors file with the same tensors. A prefix `module.`
    /// is accepted.
    ///
    /// # Errors
    /// - [`Error::Io`] if the file cannot be read.
    /// - [`Error::Malformed`] if the file is not a file of weights.
    /// - [`Error::Weights`] if tensors are missing or have other shapes.
    pub fn open(path: impl AsRef<Path>, device: Device) -> Result<Self> {
        let path = path.as_ref();
        let tensors = read_tensors(path)?;
        let plain = |name: String| name.strip_prefix("module.").map(str::to_owned).unwrap_or(name);
        let tensors = tensors.into_iter().map(|(name, tensor)| (plain(name), tensor)).collect();
        Self::new(&Weights::new(path.display().to_string(), tensors, Kind::Float, device))
    }

    /// Builds the network from the weights `w`, which must be f32.
    ///
    /// # Errors
    /// - [`Error::Parameter`] for weights of another kind.
    /// - [`Error::Weights`] if tensors are missing or have other shapes.
    pub fn new(w: &Weights) -> Result<Self> {
        if w.kind() != Kind::Float {
            return Err(Error::parameter("kind of the weights", format!("{:?}", w.kind()), "Kind::Float"));
        }
        let w = w.in_memory();
        // In the file's lists of layers, every convolution has a padding before it, and a norm and a ReLU after it. On
        // the way up, the list begins with the doubling of the grid.
        let block = |name: String, shapes: &[Shape], first: usize| -> Result<Vec<Layer>> {
            let layer = |(i, &shape)| Layer::new(&w.at(&name), first + 4 * i, shape);
            shapes.iter().enumerate().map(layer).collect()
        };
        let blocks = |half: &str, shapes: &[&[Shape]], first: usize| -> Result<Vec<Vec<Layer>>> {
            shapes.iter().zip(1..).map(|(shapes, i)| block(format!("{half}block_{i}"), shapes, first)).collect()
        };
        let (down, up) = (blocks("down", &DOWN, 1)?, blocks("up", &UP, 2)?);
        let last = w.at("last_conv");
        let last = (last.tensor("weight", &[1, 64, 3, 3])?, last.tensor("bias", &[1])?);
        w.finish()?;
        Ok(Self { down, up, last, side: 512, device: w.device() })
    }

    /// Sets the longer side in pixels at which the network reads a picture: 64..=2048, rounded to a multiple of 16.
    /// Default 512, the size at which ColorizeDiffusion's application uses the network. Larger sides find finer lines.
    #[must_use]
    pub fn side(self, side: u32) -> Self {
        Self { side, ..self }
    }

    /// Draws the lines of a picture, black on white in shades of gray, at the picture's size.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a picture without pixels, and for a side out of its range.
    pub fn of(&self, picture: &Raster) -> Result<Raster> {
        if !(64..=2048).contains(&self.side) {
            return Err(Error::parameter("side", self.side, "64..=2048 pixels; 512 is usual"));
        }
        let size = picture.size();
        let longer = size.width.max(size.height);
        if size.width == 0 || size.height == 0 {
            return Err(Error::parameter("picture", format!("{size} pixels"), "a picture with at least one pixel"));
        }
        let side = |length: u32| {
            let exact = f64::from(length) * f64::from(self.side) / f64::from(longer) / f64::from(MULTIPLE);
            (exact.round() as u32).max(2) * MULTIPLE
        };
        let picture = picture.resize((side(size.width), side(size.height)), Filter::Bicubic)?;
        let x = channels(&picture)?.f_to_kind(Kind::Double)?;
        let contrast = x.f_sub(&blurred_bytes(&x)?)?;
        let most = contrast.f_max()?.f_double_value(&[])?;
        if most <= 0.0 {
            return Ok(Raster::flat(Rgb(255, 255, 255), size));
        }
        let contrast = contrast.f_div_scalar(most)?.f_to_kind(Kind::Float)?.f_to_device(self.device)?;
        let light = self.forward(&contrast)?.f_amax([0i64], false)?.f_to_device(Device::Cpu)?;
        let light = light.f_threshold(FAINTEST, 0.0)?.f_clamp(0.0, 1.0)?;
        gray(&light.f_mul_scalar(-255.0)?.f_add_scalar(255.0)?.f_round()?, &picture)?.resize(size, Filter::Bicubic)
    }

    /// Computes lines from contrast, [n, 1, h, w] in −1..=1, where 0 is blank and about 1 is a line. Each color channel
    /// is a picture of its own.
    fn forward(&self, contrast: &Tensor) -> Result<Tensor> {
        let (mut x, mut skips) = (contrast.shallow_clone(), Vec::new());
        for block in &self.down {
            for layer in block {
                x = layer.forward(&x, [1, 1, 1, 1])?;
            }
            skips.push(x.shallow_clone());
        }
        // The way up begins with the last output of the way down, which is joined with the output before it.
        let mut skips = skips.into_iter().rev().skip(1);
        let mut join = |x: &Tensor| match skips.next() {
            Some(skip) => Tensor::f_cat(&[&skip, x], 1),
            None => Ok(x.shallow_clone()),
        };
        for block in &self.up {
            x = join(&x)?;
            let (_, _, h, w) = x.size4()?;
            x = x.f_upsample_bicubic2d([2 * h, 2 * w], false, 2.0, 2.0)?;
            for (i, layer) in block.iter().enumerate() {
                x = layer.forward(&x, if i == 0 { [1, 2, 1, 2] } else { [1, 1, 1, 1] })?;
            }
        }
        let (weight, bias) = &self.last;
        let x = join(&x)?.f_reflection_pad2d([1, 1, 1, 1])?;
        Ok(x.f_conv2d(weight, Some(bias), [1, 1], [0, 0], [1, 1], 1)?)
    }
}

impl Layer {
    /// Builds the layer from the convolution at index `at` and the batch norm after it.
    fn new(w: &Weights, at: usize, (inputs, outputs, kernel, stride): Shape) -> Result<Self> {
        let (conv, norm) = (w.at(at), w.at(at + 1));
        let weight = conv.tensor("weight", &[outputs, inputs, kernel, kernel])?;
        let [bias, gain, shift, mean, variance] = [
            conv.tensor("bias", &[outputs])?,
            norm.tensor("weight", &[outputs])?,
            norm.tensor("bias", &[outputs])?,
            norm.tensor("running_mean", &[outputs])?,
            norm.tensor("running_var", &[outputs])?,
        ];
        let factor = gain.f_div(&variance.f_add_scalar(EPS)?.f_sqrt()?)?;
        let bias = bias.f_sub(&mean)?.f_mul(&factor)?.f_add(&shift)?;
        Ok(Self { weight: weight.f_mul(&factor.f_reshape([outputs, 1, 1, 1])?)?, bias, stride })
    }

    /// Applies the layer after mirrored borders of the given widths: left, right, top, bottom.
    fn forward(&self, x: &Tensor, borders: [i64; 4]) -> Result<Tensor> {
        let (x, step) = (x.f_reflection_pad2d(borders)?, [self.stride, self.stride]);
        Ok(x.f_conv2d(&self.weight, Some(&self.bias), step, [0, 0], [1, 1], 1)?.f_relu_()?)
    }
}

/// Blurs bytes, [n, 1, h, w] f64, to bytes. The result equals OpenCV's, which rounds the Gaussian's weights to
/// multiples of 1/256 and carries every rounding error to the next weight.
fn blurred_bytes(x: &Tensor) -> Result<Tensor> {
    let reach = (3.0 * BLUR) as usize;
    let mut error = 0.0;
    let half = gaussian(BLUR, reach as i64).into_iter().take(reach).map(|tap| {
        let exact = tap + error;
        let rounded = (256.0 * exact).round_ties_even() / 256.0;
        error = exact - rounded;
        rounded
    });
    let half: Vec<f64> = half.collect();
    let middle = 1.0 - 2.0 * half.iter().sum::<f64>();
    let taps: Vec<f64> = half.iter().copied().chain([middle]).chain(half.iter().copied().rev()).collect();
    Ok(blurred(x, &taps)?.f_add_scalar(0.5)?.f_floor()?)
}
