//! A small network that finds the parts of a picture, to judge models.

use super::dataset::{Class, Dataset};
use super::vae::HELD_OUT;
use super::{Loss, Parameters, Rule, Shard, Task};
use impasto::Raster;
use impasto::nn::{Conv, Conv2d, Vae};
use impasto::weights::{Tensors, Weights, parse_safetensors};
use impasto::{Error, Result};
use rand::Rng;
use rand_pcg::Pcg64Mcg;
use tch::{Device, Kind, Reduction, Tensor};

/// Channels of the four downsampling stages, and of the last layer before the classes.
const CHANNELS: [i64; 5] = [16, 32, 64, 96, 24];
/// Number of held-out drawings of an evaluation.
const EVALUATED: u64 = 96;

/// A network of convolutions down to a sixteenth of the picture and up to half of it, with skip connections.
#[derive(Debug)]
pub struct Evaluator {
    /// Two convolutions for each downsampling stage; the first convolution halves the size.
    down: Vec<[Conv2d; 2]>,
    /// One convolution after each upsampling, over the upsampled features and the skip connection of the same size.
    up: Vec<Conv2d>,
    out: Conv2d,
}

impl Evaluator {
    /// Side in pixels of the pictures that the network is trained on. Reduce larger pictures to this side.
    pub const SIDE: i64 = 128;

    /// Classes of the trained network and its IoU for each class in held-out drawings, as JSON.
    pub const CARD: &'static str = include_str!("../evaluator/evaluator.json");
    /// Weights of the trained network, a safetensors file.
    pub const WEIGHTS: &'static [u8] = include_bytes!("../evaluator/evaluator.safetensors");

    /// Returns the trained network. The network judges pictures of the embedded model, and of other models that draw
    /// the same [`Class`]es.
    ///
    /// # Errors
    /// [`Error::Torch`] only.
    pub fn trained() -> Result<Self> {
        let file = "evaluator.safetensors";
        Self::new(&Weights::new(file, parse_safetensors(file, Self::WEIGHTS)?, Kind::Float, Device::Cpu))
    }

    /// Takes the network's weights from `w`: `e1`, `e1b` to `e4b`, `d3` to `d1`, `out`.
    ///
    /// # Errors
    /// [`Error::Weights`] if the weights do not fit the network.
    pub fn new(w: &Weights) -> Result<Self> {
        let [a, b, c, d, last] = CHANNELS;
        let halving = |(i, (inputs, outputs)): (usize, (i64, i64))| -> Result<[Conv2d; 2]> {
            let first = w.at(format!("e{}", i + 1)).conv2d(inputs, outputs, Conv::HALVE)?;
            Ok([first, w.at(format!("e{}b", i + 1)).conv2d(outputs, outputs, Conv::SAME)?])
        };
        let sizes = [(3, a), (a, b), (b, c), (c, d)];
        let doubling = |(name, inputs, outputs): (&str, i64, i64)| w.at(name).conv2d(inputs, outputs, Conv::SAME);
        let evaluator = Self {
            down: sizes.into_iter().enumerate().map(halving).collect::<Result<_>>()?,
            up: [("d3", d + c, c), ("d2", c + b, b), ("d1", b + a, last)]
                .into_iter()
                .map(doubling)
                .collect::<Result<_>>()?,
            out: w.at("out").conv2d(last, Class::ALL.len() as i64, Conv::CELL)?,
        };
        w.finish()?;
        Ok(evaluator)
    }

    /// Returns the logits of the classes, [b, classes, h/2, w/2], for pictures [b, 3, h, w] in −1..=1. Sides are
    /// multiples of 16.
    ///
    /// # Errors
    /// [`Error::Shape`] for other sides.
    pub fn forward(&self, pictures: &Tensor) -> Result<Tensor> {
        let (_, _, h, w) = pictures.size4()?;
        if h % 16 != 0 || w % 16 != 0 {
            let expected = "sides that are multiples of 16".into();
            return Err(Error::Shape { what: "picture", got: pictures.size(), expected });
        }
        let mut sizes = Vec::new();
        let mut x = pictures.shallow_clone();
        for [first, second] in &self.down {
            x = second.forward(&first.forward(&x)?.f_relu()?)?.f_relu()?;
            sizes.push(x.shallow_clone());
        }
        for (conv, beside) in self.up.iter().zip(sizes.iter().rev().skip(1)) {
            let (_, _, h, w) = beside.size4()?;
            let larger = x.f_upsample_nearest2d([h, w], None::<f64>, None::<f64>)?;
            x = conv.forward(&Tensor::f_cat(&[&larger, beside], 1)?)?.f_relu()?;
        }
        self.out.forward(&x)
    }
}

/// Learns to find the parts in drawings and in a VAE's reconstructions, blurred, noisy and tinted.
///
/// Drawings have the VAE's size. The network sees them at [`Evaluator::SIDE`], so that the same evaluator judges small
/// and large models.
#[derive(Debug)]
pub struct EvaluatorTask {
    dataset: Dataset,
    vae: Option<Vae>,
    batch: usize,
}

impl EvaluatorTask {
    /// Creates a task whose shards have `batch` drawings. Half of the shards go through `vae` if there is one. The
    /// dataset's pictures are at most [`Evaluator::SIDE`] pixels wide, or a multiple of it.
    pub const fn new(dataset: Dataset, vae: Option<Vae>, batch: usize) -> Self {
        Self { dataset, vae, batch }
    }

    /// Returns the initial weights, scaled for ReLU.
    ///
    /// # Errors
    /// [`Error::Torch`] only.
    pub fn initial(seed: u64) -> Result<Tensors> {
        let mut weights = Parameters::random(seed, Evaluator::new)?;
        for x in weights.values_mut() {
            let _ = x.f_mul_scalar_(std::f64::consts::SQRT_2)?;
        }
        Ok(weights)
    }

    /// Returns pictures [n, 3, s, s] and the classes of every second pixel that the network sees, [n, SIDE/2, SIDE/2].
    fn batch(&self, seeds: &[u64]) -> Result<(Tensor, Tensor)> {
        let (mut pictures, mut labels) = (Vec::new(), Vec::new());
        let pixel = self.pixel()?;
        for &seed in seeds {
            let drawing = self.dataset.draw(seed)?;
            pictures.push(drawing.picture.to_tensor(Device::Cpu)?);
            let (h, w) = drawing.mask.dim();
            let classes: Vec<i64> = drawing.mask.iter().map(|&class| i64::from(class)).collect();
            let classes = Tensor::f_from_slice(&classes)?.f_view([1, h as i64, w as i64])?;
            labels.push(classes.f_slice(1, pixel, None, 2 * pixel)?.f_slice(2, pixel, None, 2 * pixel)?);
        }
        Ok((Tensor::f_cat(&pictures, 0)?, Tensor::f_cat(&labels, 0)?))
    }

    /// Returns the number of a drawing's pixels along one pixel that the network sees.
    fn pixel(&self) -> Result<i64> {
        let side = i64::from(self.dataset.size());
        match (side / Evaluator::SIDE, side % Evaluator::SIDE) {
            (0, _) => Ok(1),
            (pixels, 0) => Ok(pixels),
            _ => Err(Error::parameter(
                "size",
                side,
                "at most 128, or a multiple of 128, because the evaluator sees 128×128 pixels",
            )),
        }
    }

    /// Reduces pictures to the size that the network sees.
    fn seen(&self, x: &Tensor) -> Result<Tensor> {
        let pixel = self.pixel()?;
        Ok(x.f_avg_pool2d([pixel; 2], [pixel; 2], [0, 0], false, true, None)?)
    }

    fn decoded(&self, pictures: &Tensor) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        match &self.vae {
            Some(vae) => Ok(vae.decode(&vae.encode(pictures)?.mean)?.f_clamp(-1.0, 1.0)?),
            None => Ok(pictures.shallow_clone()),
        }
    }
}

impl Task for EvaluatorTask {
    fn loss(&self, parameters: &Parameters, shard: &Shard) -> Result<Loss> {
        let mut rng = shard.rng();
        let seeds: Vec<u64> = (0..self.batch).map(|_| rng.random_range(0..HELD_OUT)).collect();
        let (x, y) = self.batch(&seeds)?;
        let x = if rng.random_bool(0.5) { self.seen(&self.decoded(&x)?)? } else { blurred(&self.seen(&x)?, &mut rng)? };
        let x = tinted(&x, shard, &mut rng)?;
        let mirrored = rng.random_bool(0.5);
        let (x, y) = if mirrored { (x.f_flip([3])?, y.f_flip([2])?) } else { (x, y) };
        let logits = Evaluator::new(&parameters.weights("", Kind::Float))?.forward(&x)?;
        let weights = Tensor::f_from_slice(&Class::ALL.map(weight))?;
        let total = logits.f_cross_entropy_loss(&y, Some(&weights), Reduction::Mean, -100, 0.0)?;
        Ok(Loss { total, parts: Vec::new() })
    }

    fn evaluate(&self, parameters: &Parameters) -> Result<Vec<(&'static str, f64)>> {
        let evaluator = Evaluator::new(&parameters.weights("", Kind::Float))?;
        let mut figures = Vec::new();
        for decoded in [false, true] {
            let mut counts = [(0u64, 0u64); Class::ALL.len()];
            for first in (0..EVALUATED).step_by(8) {
                let (x, y) = self.batch(&(HELD_OUT + first..HELD_OUT + first + 8).collect::<Vec<_>>())?;
                let x = if decoded { self.decoded(&x)? } else { x };
                let found = evaluator.forward(&self.seen(&x)?)?.f_argmax(1, false)?;
                let (found, drawn) = (flat(&found)?, flat(&y)?);
                for (found, drawn) in found.into_iter().zip(drawn) {
                    for (class, (both, either)) in counts.iter_mut().enumerate() {
                        let (found, drawn) = (found == class as i64, drawn == class as i64);
                        *both += u64::from(found && drawn);
                        *either += u64::from(found || drawn);
                    }
                }
            }
            let iou = |class: &Class| {
                let (both, either) = counts.get(usize::from(class.index())).copied().unwrap_or_default();
                both as f64 / either.max(1) as f64
            };
            let mean = |classes: &[Class]| classes.iter().map(iou).sum::<f64>() / classes.len() as f64;
            let names = match decoded {
                false => ["held-out parts", "held-out objects", "held-out eyes"],
                true => ["held-out parts decoded", "held-out objects decoded", "held-out eyes decoded"],
            };
            let values = [mean(&Class::OF_PORTRAITS), mean(&Class::OBJECTS), iou(&Class::Eyes)];
            figures.extend(names.into_iter().zip(values));
        }
        Ok(figures)
    }

    fn sheet(&self, _: &Parameters) -> Result<Option<Raster>> {
        Ok(None)
    }

    fn rule(&self, name: &str, shape: &[i64]) -> Rule {
        if name.starts_with("out") || name.starts_with("e1.") { Rule::AdamW } else { Rule::of_shape(shape) }
    }
}

const fn weight(class: Class) -> f32 {
    match class {
        Class::Mouth => 3.0,
        Class::Eyes | Class::HairBow => 2.0,
        _ => 1.0,
    }
}

fn flat(x: &Tensor) -> Result<Vec<i64>> {
    Ok(Vec::try_from(x.f_flatten(0, -1)?)?)
}

/// Blurs edges like those of decoded pictures, with a Gaussian of up to 2.5 pixels.
fn blurred(x: &Tensor, rng: &mut Pcg64Mcg) -> Result<Tensor> {
    let sigma: f64 = rng.random_range(0.3..2.5);
    let taps: Vec<f32> = (-6..=6).map(|i| (-f64::from(i * i) / (2.0 * sigma * sigma)).exp() as f32).collect();
    let taps = Tensor::f_from_slice(&taps)?;
    let taps = taps.f_div(&taps.f_sum(Kind::Float)?)?.f_view([1, 1, 1, -1])?.f_expand([3, 1, 1, 13], false)?;
    let x = x.f_replication_pad2d([6, 6, 6, 6])?;
    let across = x.f_conv2d(&taps, None::<Tensor>, [1, 1], [0, 0], [1, 1], 3)?;
    Ok(across.f_conv2d(&taps.f_transpose(2, 3)?, None::<Tensor>, [1, 1], [0, 0], [1, 1], 3)?)
}

/// Adds noise to every pixel, and coarse noise at a sixteenth of the resolution.
fn tinted(x: &Tensor, shard: &Shard, rng: &mut Pcg64Mcg) -> Result<Tensor> {
    let (n, _, h, w) = x.size4()?;
    let mut noise = shard.noise();
    let fine = noise.draw(&x.size())?.f_mul_scalar(rng.random_range(0.0..0.06))?;
    let coarse = noise.draw(&[n, 3, h / 16, w / 16])?.f_mul_scalar(rng.random_range(0.0..0.12))?;
    let coarse = coarse.f_upsample_bilinear2d([h, w], false, None::<f64>, None::<f64>)?;
    Ok(x.f_add(&fine)?.f_add(&coarse)?.f_clamp(-1.0, 1.0)?)
}
