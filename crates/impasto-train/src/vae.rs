//! Training of the autoencoder.

use super::dataset::{Class, Dataset, Drawing};
use super::{Loss, Parameters, Rule, Shard, Task};
use impasto::Raster;
use impasto::Result;
use impasto::Rgb;
use impasto::nn::{Posterior, Vae, VaeConfig};
use impasto::weights::Tensors;
use impasto_report::Sheet;
use rand::Rng;
use tch::{Device, Kind, Tensor};

/// First seed of the held-out drawings, which no training run sees.
pub const HELD_OUT: u64 = 1 << 48;
/// Number of held-out drawings of an evaluation.
const EVALUATED: u64 = 24;
/// Side of the crops at the beginning of a training run, in pixels.
const CROP: i64 = 64;

/// Learns to encode drawings and to decode them. The loss has these parts:
///
/// * the reconstruction, with higher weights for small parts,
/// * edges and mean colors,
/// * a weak pull of latents to a standard normal distribution.
///
/// Batches of crops and half of the other batches also have a flat picture.
///
/// The first three latent channels are pulled to the picture's mean color, at first strongly. Latents of flat colors
/// therefore are nearly affine in the color. Crops come before whole pictures: the network is convolutional, and small
/// batches of whole pictures teach less.
#[derive(Debug)]
pub struct VaeTask {
    config: VaeConfig,
    dataset: Dataset,
    /// Number type of the arithmetic.
    kind: Kind,
    /// True if the encoder stays unchanged.
    frozen_encoder: bool,
}

impl VaeTask {
    /// Creates a task over `dataset`.
    pub const fn new(config: VaeConfig, dataset: Dataset, kind: Kind) -> Self {
        Self { config, dataset, kind, frozen_encoder: false }
    }

    /// Makes the task train the decoder alone, on whole pictures. Latents stay unchanged, so a UNet that was trained on
    /// them still fits.
    pub fn frozen_encoder(self) -> Self {
        Self { frozen_encoder: true, ..self }
    }

    /// Returns the initial weights. Residual branches have an output of zero, and latents have nearly no noise.
    ///
    /// # Errors
    /// The errors of [`Vae::new`].
    pub fn initial(config: &VaeConfig, seed: u64) -> Result<Tensors> {
        let mut weights = Parameters::random(seed, |w| Vae::new(w, config))?;
        for (name, x) in &mut weights {
            if name.ends_with("conv2.weight") || name.ends_with("to_out.0.weight") {
                let _ = x.f_zero_()?;
            }
        }
        if let Some(bias) = weights.get("quant_conv.bias") {
            let _ = bias.f_narrow(0, config.latent_channels, config.latent_channels)?.f_fill_(-6.0)?;
        }
        Ok(weights)
    }

    /// Returns the factor on latents that gives them a standard deviation of 1 over drawings.
    ///
    /// # Errors
    /// The errors of [`Vae::encode`].
    pub fn scaling_factor(&self, weights: &Tensors) -> Result<f64> {
        let _no_grad = tch::no_grad_guard();
        let vae = Vae::new(&Parameters::new(weights, Device::Cpu)?.weights("", Kind::Float), &self.config)?;
        let encode = |drawing: Result<Drawing>| Ok(vae.encode(&drawing?.picture.to_tensor(Device::Cpu)?)?.mean);
        let latents = self.held_out(4 * EVALUATED).map(encode).collect::<Result<Vec<_>>>()?;
        Ok(1.0 / Tensor::f_cat(&latents, 0)?.f_std(true)?.f_double_value(&[])?)
    }

    /// Returns pictures [n, 3, s, s] in −1..=1 and the weight of each pixel, [n, 1, s, s].
    fn batch(&self, shard: &Shard) -> Result<(Tensor, Tensor)> {
        let mut rng = shard.rng();
        let side = i64::from(self.dataset.size());
        let (crop, count) = match shard.progress {
            _ if self.frozen_encoder => (side, 1),
            p if p < 0.35 => (CROP, 8),
            p if p < 0.65 => (2 * CROP, 3),
            _ => (side, 1),
        };
        let crop = crop.min(side);
        let (mut pictures, mut weights) = (Vec::new(), Vec::new());
        while pictures.len() < count {
            let drawing = self.dataset.draw(rng.random_range(0..HELD_OUT))?;
            let (picture, counts) = (drawing.picture.to_tensor(Device::Cpu)?, counts(&drawing)?);
            // Each drawing gives up to two crops, because drawing takes time too.
            for _ in 0..2.min(count - pictures.len()) {
                let (row, column) = (rng.random_range(0..=side - crop), rng.random_range(0..=side - crop));
                let window = |x: &Tensor| x.f_narrow(2, row, crop)?.f_narrow(3, column, crop);
                pictures.push(window(&picture)?);
                weights.push(window(&counts)?);
            }
        }
        if crop < side || rng.random_bool(0.5) {
            let flat: [f32; 3] = std::array::from_fn(|_| rng.random_range(-1.0..=1.0));
            pictures.push(Tensor::f_from_slice(&flat)?.f_view([1, 3, 1, 1])?.f_expand([1, 3, crop, crop], false)?);
            weights.push(Tensor::f_full([1, 1, crop, crop], 1.5, (Kind::Float, Device::Cpu))?);
        }
        Ok((Tensor::f_cat(&pictures, 0)?, Tensor::f_cat(&weights, 0)?))
    }

    fn held_out(&self, count: u64) -> impl Iterator<Item = Result<Drawing>> {
        (0..count).map(|i| self.dataset.draw(HELD_OUT + i))
    }
}

impl Task for VaeTask {
    fn loss(&self, parameters: &Parameters, shard: &Shard) -> Result<Loss> {
        let (x, weights) = self.batch(shard)?;
        let vae = Vae::new(&parameters.weights("", self.kind), &self.config)?;
        let latent = vae.encode(&x)?;
        let noise = shard.noise().draw(&latent.mean.size())?;
        let y = vae.decode(&latent.sample(&noise)?)?;
        let off = y.f_sub(&x)?;
        let mean = |x: Tensor| x.f_mean(Kind::Float);
        let close = mean(off.f_abs()?.f_add(&off.f_square()?.f_mul_scalar(0.5)?)?.f_mul(&weights)?)?;
        let edges = mean(slope(&off, 2)?.f_abs()?)?.f_add(&mean(slope(&off, 3)?.f_abs()?)?)?;
        let color = mean(pooled(&off, 4)?.f_abs()?)?;
        let spread = latent.mean.f_square()?.f_add(&latent.logvar.f_exp()?)?.f_sub(&latent.logvar)?;
        let kl = mean(spread)?.f_sub_scalar(1.0)?.f_mul_scalar(0.5)?;
        let lean = mean(latent.mean.f_narrow(1, 0, 3)?.f_sub(&pooled(&x, 8)?.f_mul_scalar(2.0)?)?.f_abs()?)?;
        let leaning = (1.0 - 2.5 * shard.progress).max(0.05);
        let total = close
            .f_add(&edges.f_mul_scalar(0.25)?)?
            .f_add(&color.f_mul_scalar(0.5)?)?
            .f_add(&kl.f_mul_scalar(2e-4)?)?
            .f_add(&lean.f_mul_scalar(leaning)?)?;
        let figure = |x: &Tensor| x.f_double_value(&[]);
        let parts = vec![("close", figure(&close)?), ("edges", figure(&edges)?), ("color", figure(&color)?)];
        Ok(Loss { total, parts: [parts, vec![("kl", figure(&kl)?), ("lean", figure(&lean)?)]].concat() })
    }

    fn evaluate(&self, parameters: &Parameters) -> Result<Vec<(&'static str, f64)>> {
        let vae = Vae::new(&parameters.weights("", Kind::Float), &self.config)?;
        let mut noise = 0.0;
        for drawing in self.held_out(EVALUATED) {
            let x = drawing?.picture.to_tensor(Device::Cpu)?;
            let off = round_trip(&vae, &x)?.f_sub(&x)?.f_square()?.f_mean(Kind::Float)?.f_double_value(&[])?;
            noise += 10.0 * (4.0 / off).log10();
        }
        let mut rng = Shard { seed: 0, step: 0, part: 0, parts: 1, progress: 0.0 }.rng();
        let (mut sum, mut worst, flats) = (0.0, 0f64, 64);
        for _ in 0..flats {
            let color = Rgb(rng.random(), rng.random(), rng.random());
            let x = Raster::flat(color, (64, 64)).to_tensor(Device::Cpu)?;
            let got = Raster::from_tensor(&round_trip(&vae, &x)?)?.pixel(32, 32).unwrap_or(color);
            let off = color.delta_e(got);
            (sum, worst) = (sum + off, worst.max(off));
        }
        Ok(vec![
            ("held-out psnr", noise / EVALUATED as f64),
            ("held-out flat", sum / f64::from(flats)),
            ("held-out flat worst", worst),
        ])
    }

    fn sheet(&self, parameters: &Parameters) -> Result<Option<Raster>> {
        let vae = Vae::new(&parameters.weights("", Kind::Float), &self.config)?;
        let mut pictures = Vec::new();
        for drawing in self.held_out(8) {
            let picture = drawing?.picture;
            let decoded = Raster::from_tensor(&round_trip(&vae, &picture.to_tensor(Device::Cpu)?)?)?;
            pictures.extend([("drawn", picture), ("decoded", decoded)]);
        }
        let sheet = pictures.iter().fold(Sheet::new(4), |sheet, (name, picture)| sheet.add(*name, picture));
        sheet.draw().map(Some)
    }

    fn rule(&self, name: &str, shape: &[i64]) -> Rule {
        let encodes = name.starts_with("encoder.") || name.starts_with("quant_conv");
        let ends = ["conv_in", "conv_out", "quant_conv"];
        if self.frozen_encoder && encodes {
            return Rule::Frozen;
        }
        if ends.iter().any(|end| name.contains(end)) { Rule::AdamW } else { Rule::of_shape(shape) }
    }
}

/// Decodes the most likely latent of `x`.
fn round_trip(vae: &Vae, x: &Tensor) -> Result<Tensor> {
    let Posterior { mean, .. } = vae.encode(x)?;
    vae.decode(&mean)
}

/// Returns the weight of each pixel, [1, 1, h, w]. Small parts weigh more, because large parts would drown them.
fn counts(drawing: &Drawing) -> Result<Tensor> {
    let weights: Vec<f32> = drawing.mask.iter().map(|&class| weight(Class::from_index(class))).collect();
    let (h, w) = drawing.mask.dim();
    Ok(Tensor::f_from_slice(&weights)?.f_view([1, 1, h as i64, w as i64])?)
}

const fn weight(class: Option<Class>) -> f32 {
    match class {
        Some(Class::Eyes | Class::Mouth) => 3.0,
        Some(Class::Detail) => 2.5,
        Some(Class::HairBow) => 1.5,
        _ => 1.0,
    }
}

/// Returns the differences of neighbors along an axis.
fn slope(x: &Tensor, axis: i64) -> Result<Tensor> {
    let count = x.size().get(axis as usize).copied().unwrap_or(1) - 1;
    Ok(x.f_narrow(axis, 1, count)?.f_sub(&x.f_narrow(axis, 0, count)?)?)
}

/// Returns the means over squares of `side`×`side` pixels.
fn pooled(x: &Tensor, side: i64) -> Result<Tensor> {
    Ok(x.f_avg_pool2d([side, side], [side, side], [0, 0], false, true, None)?)
}
