//! The autoencoder between pictures and latents (diffusers' `AutoencoderKL`).

use super::config::{ConfigFile, Fixed, divides, in_file, layers, levels, read, sizes};
use super::layers::{Conv, Conv2d, GroupNorm, Linear, attention, cells, picture};
use super::resnet::{Downsample, Resnet, ResnetConfig, Upsample};
use crate::error::{Error, Result};
use crate::weights::Weights;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

/// Epsilon of the group norms.
const EPS: f64 = 1e-6;
/// Name in errors of a configuration that does not come from a file.
const NAME: &str = "VaeConfig";

/// The configuration of a VAE, `vae/config.json`; the names and the defaults are diffusers'.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct VaeConfig {
    /// Channels of a picture.
    pub in_channels: i64,
    /// Channels of a decoded picture.
    pub out_channels: i64,
    /// Channels of a latent.
    pub latent_channels: i64,
    /// Channels of each level, from the picture's size to the latent's.
    pub block_out_channels: Vec<i64>,
    /// Residual blocks of an encoder block; decoder blocks have one more.
    pub layers_per_block: i64,
    /// Groups of the group norms.
    pub norm_num_groups: i64,
    /// Factor by which latents are multiplied before the diffusion.
    pub scaling_factor: f64,
    /// Shift that is subtracted from latents before the scaling.
    pub shift_factor: Option<f64>,
    /// True if an SDXL model in f16 has to compute the VAE in f32; other models ignore this field.
    pub force_upcast: bool,
    /// True if a 1×1 convolution follows the encoder.
    pub use_quant_conv: bool,
    /// True if a 1×1 convolution precedes the decoder.
    pub use_post_quant_conv: bool,
    /// True if the middle blocks contain attention.
    pub mid_block_add_attention: bool,
}

impl Default for VaeConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            latent_channels: 4,
            block_out_channels: vec![64],
            layers_per_block: 1,
            norm_num_groups: 32,
            scaling_factor: 0.18215,
            shift_factor: None,
            force_upcast: true,
            use_quant_conv: true,
            use_post_quant_conv: true,
            mid_block_add_attention: true,
        }
    }
}

/// Fields that change the result, and the values that are implemented.
const FIXED: &[Fixed] = &[
    ("act_fn", &["\"silu\"", "\"swish\""]),
    ("down_block_types", &["\"DownEncoderBlock2D\""]),
    ("latents_mean", &[]),
    ("latents_std", &[]),
    ("up_block_types", &["\"UpDecoderBlock2D\""]),
];

impl ConfigFile for VaeConfig {
    fn from_json(file: &str, text: &str) -> Result<Self> {
        let config: Self = read(file, text, FIXED)?;
        in_file(config.check(), file)?;
        Ok(config)
    }
}

impl VaeConfig {
    /// Returns the pixels of a picture per latent cell, in each direction: 8 for Stable Diffusion.
    pub(crate) fn factor(&self) -> i64 {
        1 << self.block_out_channels.len().saturating_sub(1).min(62)
    }

    /// Estimates the peak number of values that decoding holds per latent cell.
    pub(crate) fn decoding(&self) -> f64 {
        peak_of_decoding(&self.block_out_channels)
    }

    /// Estimates the peak number of values that encoding holds per latent cell.
    pub(crate) fn encoding(&self) -> f64 {
        peak_of_encoding(&self.block_out_channels)
    }

    fn check(&self) -> Result<()> {
        levels(NAME, "block_out_channels", &self.block_out_channels)?;
        sizes(NAME, "block_out_channels", &self.block_out_channels)?;
        sizes(NAME, "in_channels", &[self.in_channels])?;
        sizes(NAME, "out_channels", &[self.out_channels])?;
        sizes(NAME, "latent_channels", &[self.latent_channels])?;
        layers(NAME, "layers_per_block", &[self.layers_per_block])?;
        let groups = |&channels: &i64| divides(NAME, "norm_num_groups", self.norm_num_groups, channels);
        self.block_out_channels.iter().try_for_each(groups)
    }

    fn resnet(&self, w: &Weights, inputs: i64, outputs: i64) -> Result<Resnet> {
        Resnet::new(w, ResnetConfig { inputs, outputs, time: None, groups: self.norm_num_groups, eps: EPS })
    }
}

/// Estimates the peak number of values that decoding holds per latent cell: three times the largest tensor. `channels`
/// are those of each level, from the picture's size to the latent's.
pub(super) fn peak_of_decoding(channels: &[i64]) -> f64 {
    // An upsampled tensor still has the channels of the smaller grid.
    largest(channels, |level| channels.get(level..level + 2).unwrap_or_default())
}

/// Estimates the peak number of values that encoding holds per latent cell: three times the largest tensor, although
/// measurements show about four times. `channels` are those of each level, from the picture's size to the latent's.
pub(super) fn peak_of_encoding(channels: &[i64]) -> f64 {
    largest(channels, |_| &[])
}

/// Returns three times the largest number of values per latent cell that a tensor of any level has. A tensor has the
/// level's channels, or more if `others` returns a larger number of channels for the level.
fn largest<'a>(each: &[i64], others: impl Fn(usize) -> &'a [i64]) -> f64 {
    let numbers = each.iter().rev().enumerate().map(|(from_latent, channels)| {
        let level = each.len() - 1 - from_latent;
        let channels = others(level).iter().fold(*channels, |most, channels| most.max(*channels));
        channels as f64 * 4f64.powi(from_latent as i32)
    });
    3.0 * numbers.fold(0.0, f64::max)
}

/// The Gaussian that a picture is encoded to, [b, latent_channels, h/8, w/8], in the picture's kind and not scaled yet.
#[derive(Debug)]
#[non_exhaustive]
pub struct Posterior {
    /// Mean of the Gaussian, which is also the most likely latent.
    pub mean: Tensor,
    /// Logarithm of the variance, in −30..=20.
    pub logvar: Tensor,
}

impl Posterior {
    /// Returns the standard deviation.
    pub fn std(&self) -> Result<Tensor> {
        Ok(self.logvar.f_mul_scalar(0.5)?.f_exp()?)
    }

    /// Draws the latent for standard normal `noise` of the mean's shape: mean + std·noise.
    pub fn sample(&self, noise: &Tensor) -> Result<Tensor> {
        Ok(self.mean.f_add(&self.std()?.f_mul(noise)?)?)
    }
}

/// The autoencoder of a Stable Diffusion model.
#[derive(Debug)]
pub struct Vae {
    encoder: Encoder,
    quant_conv: Option<Conv2d>,
    post_quant_conv: Option<Conv2d>,
    decoder: Decoder,
    config: VaeConfig,
    options: (Kind, Device),
}

impl Vae {
    /// Builds a VAE from the weights `w`. The attention's weights may have their present names or the names in
    /// diffusers' first releases.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration contradicts itself,
    /// [`Error::Weights`] if the weights do not fit it.
    pub fn new(w: &Weights, config: &VaeConfig) -> Result<Self> {
        config.check()?;
        let w = &w.channels_last();
        let latent = config.latent_channels;
        let cellwise = |name, n| w.at(name).conv2d(n, n, Conv::CELL);
        let vae = Self {
            encoder: Encoder::new(&w.at("encoder"), config)?,
            quant_conv: config.use_quant_conv.then(|| cellwise("quant_conv", 2 * latent)).transpose()?,
            post_quant_conv: config.use_post_quant_conv.then(|| cellwise("post_quant_conv", latent)).transpose()?,
            decoder: Decoder::new(&w.at("decoder"), config)?,
            config: config.clone(),
            options: (w.kind(), w.device()),
        };
        w.finish()?;
        Ok(vae)
    }

    /// Builds the network again from `w`, whose tensors are this network's. Both networks share the sums of weights
    /// that layers keep.
    pub(crate) fn again(&self, w: &Weights) -> Result<Self> {
        let mut vae = Self::new(w, &self.config)?;
        for ((_, mine), (_, others)) in vae.decoder.up_blocks.iter_mut().zip(&self.decoder.up_blocks) {
            if let (Some(mine), Some(others)) = (mine, others) {
                mine.share_sums(others);
            }
        }
        Ok(vae)
    }

    /// Returns the configuration of the network.
    pub(crate) fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Encodes pictures, [b, 3, h, w] in −1..=1 with sides that are multiples of 2ⁿ⁻¹ for n `block_out_channels`: 8 for
    /// Stable Diffusion.
    ///
    /// # Errors
    /// [`Error::Shape`] if the pictures have other channels.
    pub fn encode(&self, image: &Tensor) -> Result<Posterior> {
        check("image", image, self.config.in_channels)?;
        let x = self.cast(image)?;
        let _serial = self.encoder.conv_in.among_kernels(&x)?;
        let mut moments = self.encoder.forward(&x)?;
        if let Some(quant_conv) = &self.quant_conv {
            moments = quant_conv.forward(&moments)?;
        }
        let moments = moments.f_to_kind(image.kind())?;
        let n = self.config.latent_channels;
        Ok(Posterior { mean: moments.f_narrow(1, 0, n)?, logvar: moments.f_narrow(1, n, n)?.f_clamp(-30.0, 20.0)? })
    }

    /// Decodes unscaled latents (see [`Vae::unscaled`]), [b, latent_channels, h, w] → [b, 3, 8h, 8w], about −1..=1, not
    /// clamped.
    ///
    /// # Errors
    /// [`Error::Shape`] if the latents have other channels.
    pub fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        check("latent", latent, self.config.latent_channels)?;
        let mut x = self.cast(latent)?;
        let _serial = self.decoder.conv_in.among_kernels(&x)?;
        if let Some(post_quant_conv) = &self.post_quant_conv {
            x = post_quant_conv.forward(&x)?;
        }
        Ok(self.decoder.forward(&x)?.f_to_kind(latent.kind())?)
    }

    /// Converts an encoded latent to the diffusion's units: (latent − shift)·scale.
    pub fn scaled(&self, latent: &Tensor) -> Result<Tensor> {
        let VaeConfig { scaling_factor, shift_factor, .. } = self.config;
        Ok(latent.f_sub_scalar(shift_factor.unwrap_or(0.0))?.f_mul_scalar(scaling_factor)?)
    }

    /// Converts the diffusion's latent to the decoder's units: latent/scale + shift.
    pub fn unscaled(&self, latent: &Tensor) -> Result<Tensor> {
        let VaeConfig { scaling_factor, shift_factor, .. } = self.config;
        Ok(latent.f_div_scalar(scaling_factor)?.f_add_scalar(shift_factor.unwrap_or(0.0))?)
    }

    /// Converts a tensor to this network's kind and device.
    fn cast(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_to_device(self.options.1)?.f_to_kind(self.options.0)?)
    }
}

/// Checks that pictures or latents have a number of channels.
pub(super) fn check(what: &'static str, x: &Tensor, channels: i64) -> Result<()> {
    match x.size().as_slice() {
        &[_, c, _, _] if c == channels => Ok(()),
        got => Err(Error::Shape { what, got: got.to_vec(), expected: format!("[b, {channels}, h, w]") }),
    }
}

#[derive(Debug)]
struct Encoder {
    conv_in: Conv2d,
    down_blocks: Vec<(Vec<Resnet>, Option<Downsample>)>,
    mid_block: MidBlock,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Encoder {
    fn new(w: &Weights, config: &VaeConfig) -> Result<Self> {
        let levels = &config.block_out_channels;
        let mut channels = levels.first().copied().unwrap_or_default();
        let conv_in = w.at("conv_in").conv2d(config.in_channels, channels, Conv::SAME)?;
        let mut down_blocks = Vec::new();
        for (i, &outputs) in levels.iter().enumerate() {
            let w = w.at("down_blocks").at(i);
            let mut resnets = Vec::new();
            for j in 0..config.layers_per_block {
                resnets.push(config.resnet(&w.at("resnets").at(j), channels, outputs)?);
                channels = outputs;
            }
            let halve = i + 1 < levels.len();
            let downsample = halve.then(|| Downsample::lopsided(&w.at("downsamplers.0"), outputs)).transpose()?;
            down_blocks.push((resnets, downsample));
        }
        Ok(Self {
            conv_in,
            down_blocks,
            mid_block: MidBlock::new(&w.at("mid_block"), config, channels)?,
            conv_norm_out: w.at("conv_norm_out").group_norm(config.norm_num_groups, channels, EPS)?,
            conv_out: w.at("conv_out").conv2d(channels, 2 * config.latent_channels, Conv::SAME)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.conv_in.forward(x)?;
        for (resnets, downsample) in &self.down_blocks {
            for resnet in resnets {
                x = resnet.forward(&x, &[])?;
            }
            if let Some(downsample) = downsample {
                x = downsample.forward(&x)?;
            }
        }
        x = self.mid_block.forward(&x)?;
        self.conv_out.forward(&self.conv_norm_out.forward_silu(&x)?)
    }
}

#[derive(Debug)]
struct Decoder {
    conv_in: Conv2d,
    mid_block: MidBlock,
    up_blocks: Vec<(Vec<Resnet>, Option<Upsample>)>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Decoder {
    fn new(w: &Weights, config: &VaeConfig) -> Result<Self> {
        let levels = &config.block_out_channels;
        let mut channels = levels.last().copied().unwrap_or_default();
        let conv_in = w.at("conv_in").conv2d(config.latent_channels, channels, Conv::SAME)?;
        let mid_block = MidBlock::new(&w.at("mid_block"), config, channels)?;
        let mut up_blocks = Vec::new();
        for (i, &outputs) in levels.iter().rev().enumerate() {
            let w = w.at("up_blocks").at(i);
            let mut resnets = Vec::new();
            for j in 0..=config.layers_per_block {
                resnets.push(config.resnet(&w.at("resnets").at(j), channels, outputs)?);
                channels = outputs;
            }
            let double = i + 1 < levels.len();
            up_blocks.push((resnets, double.then(|| Upsample::new(&w.at("upsamplers.0"), outputs)).transpose()?));
        }
        Ok(Self {
            conv_in,
            mid_block,
            up_blocks,
            conv_norm_out: w.at("conv_norm_out").group_norm(config.norm_num_groups, channels, EPS)?,
            conv_out: w.at("conv_out").conv2d(channels, config.out_channels, Conv::SAME)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.mid_block.forward(&self.conv_in.forward(x)?)?;
        for (resnets, upsample) in &self.up_blocks {
            for resnet in resnets {
                x = resnet.forward(&x, &[])?;
            }
            if let Some(upsample) = upsample {
                let (_, _, h, w) = x.size4()?;
                x = upsample.forward(&x, (2 * h, 2 * w))?;
            }
        }
        self.conv_out.forward(&self.conv_norm_out.forward_silu(&x)?)
    }
}

#[derive(Debug)]
struct MidBlock {
    resnets: [Resnet; 2],
    attentions: Option<Attention>,
}

impl MidBlock {
    fn new(w: &Weights, config: &VaeConfig, channels: i64) -> Result<Self> {
        let attention = || Attention::new(&w.at("attentions.0"), config.norm_num_groups, channels);
        Ok(Self {
            resnets: [
                config.resnet(&w.at("resnets.0"), channels, channels)?,
                config.resnet(&w.at("resnets.1"), channels, channels)?,
            ],
            attentions: config.mid_block_add_attention.then(attention).transpose()?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [before, after] = &self.resnets;
        let x = before.forward(x, &[])?;
        match &self.attentions {
            Some(attention) => after.forward(&attention.forward(&x)?, &[]),
            None => after.forward(&x, &[]),
        }
    }
}

/// Attention with one head over all cells. Hooks do not see this attention, because it is not part of the diffusion.
#[derive(Debug)]
struct Attention {
    group_norm: GroupNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
}

impl Attention {
    fn new(w: &Weights, groups: i64, channels: i64) -> Result<Self> {
        // diffusers' first releases had other names.
        let [q, k, v, out] = match w.has("query.weight") {
            true => ["query", "key", "value", "proj_attn"],
            false => ["to_q", "to_k", "to_v", "to_out.0"],
        };
        Ok(Self {
            group_norm: w.at("group_norm").group_norm(groups, channels, EPS)?,
            to_q: w.at(q).linear(channels, channels)?,
            to_k: w.at(k).linear(channels, channels)?,
            to_v: w.at(v).linear(channels, channels)?,
            to_out: w.at(out).linear(channels, channels)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let h = cells(&self.group_norm.forward(x)?)?; // [b, h·w, channels]
        let (q, k, v) = (self.to_q.forward(&h)?, self.to_k.forward(&h)?, self.to_v.forward(&h)?);
        Ok(picture(&self.to_out.forward(&attention(&q, &k, &v, 1, false)?)?, x)?.f_add_(x)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> VaeConfig {
        VaeConfig { block_out_channels: vec![8, 16], norm_num_groups: 4, ..VaeConfig::default() }
    }

    #[test]
    fn a_vae_built_again_shares_sums_of_weights() -> Result<()> {
        let w = Weights::random(5, Kind::Float, Device::Cpu);
        let vae = Vae::new(&w, &tiny())?;
        let again = vae.again(&w)?;
        let [Some(mine), Some(others)] = [&again, &vae].map(|vae| vae.decoder.up_blocks[0].1.as_ref()) else {
            panic!("the first block has an upsampling layer")
        };
        assert!(mine.shares_sums(others));
        Ok(())
    }

    #[test]
    fn shift_and_scale_are_undone() -> Result<()> {
        let config = VaeConfig { shift_factor: Some(0.25), use_quant_conv: false, ..tiny() };
        let vae = Vae::new(&Weights::random(5, Kind::Float, Device::Cpu), &config)?;
        let latent = Tensor::from_slice(&[-2.0, 0.0, 1.5]);
        assert!((vae.unscaled(&vae.scaled(&latent)?)? - &latent).abs().max().double_value(&[]) < 1e-12);
        assert!((vae.scaled(&latent)?.double_value(&[1]) + 0.25 * 0.18215).abs() < 1e-12);
        Ok(())
    }

    #[test]
    fn sizes_fit_together_and_wrong_channels_are_named() -> Result<()> {
        let vae = Vae::new(&Weights::random(5, Kind::Float, Device::Cpu), &tiny())?;
        let image = Tensor::zeros([1, 3, 8, 12], (Kind::Float, Device::Cpu));
        let posterior = vae.encode(&image)?;
        assert_eq!((posterior.mean.size(), vae.config().factor()), (vec![1, 4, 4, 6], 2));
        assert_eq!(vae.decode(&posterior.mean)?.size(), image.size());
        let message = vae.decode(&image).unwrap_err().to_string();
        assert!(message.contains("latent has shape [1, 3, 8, 12]; expected [b, 4, h, w]"), "{message}");
        Ok(())
    }

    #[test]
    fn unimplemented_settings_are_refused_by_name() {
        let message = |json| VaeConfig::from_json("vae/config.json", json).unwrap_err().to_string();
        assert!(message(r#"{"latents_mean": [0.1, 0.2]}"#).contains("vae/config.json: latents_mean is [0.1,0.2]"));
        assert!(message(r#"{"block_out_channels": []}"#).contains("expected 1 to 16 levels"));
        assert!(message(r#"{"block_out_channels": [30]}"#).contains("norm_num_groups is 32; it must divide 30"));
    }
}
