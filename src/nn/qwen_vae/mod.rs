//! The autoencoder of Qwen-Image on single pictures. Anima uses it; Wan 2.1's has the same layout.

mod blocks;
mod config;

pub use config::QwenVaeConfig;

use super::layers::{Conv, Conv2d};
use super::vae::{Posterior, check};
use crate::error::Result;
use crate::weights::Weights;
use blocks::{ChannelNorm, MidBlock, Resnet};
use tch::{Device, Kind, Tensor};

/// diffusers' `AutoencoderKLQwenImage` on single pictures.
///
/// The network was made for videos, whose frames see earlier frames only. A single picture is a first frame, so the
/// network is computed without an axis of frames.
///
/// ```
/// use impasto::nn::ConfigFile;
/// use impasto::nn::qwen_vae::{QwenVae, QwenVaeConfig};
/// use impasto::weights::Weights;
/// use tch::{Device, Kind, Tensor};
///
/// let json = r#"{ "base_dim": 4, "dim_mult": [1, 2], "num_res_blocks": 1 }"#;
/// let config = QwenVaeConfig::from_json("config.json", json)?;
/// let vae = QwenVae::new(&Weights::random(7, Kind::Float, Device::Cpu), &config)?;
/// let picture = Tensor::f_zeros([1, 3, 16, 24], (Kind::Float, Device::Cpu))?;
/// let latent = vae.scale(&vae.encode(&picture)?.mean)?;
/// assert_eq!(latent.size(), [1, 16, 8, 12]);
/// assert_eq!(vae.decode(&vae.unscale(&latent)?)?.size(), picture.size());
/// # Ok::<(), impasto::Error>(())
/// ```
#[derive(Debug)]
pub struct QwenVae {
    encoder: Encoder,
    quant_conv: Conv2d,
    post_quant_conv: Conv2d,
    decoder: Decoder,
    config: QwenVaeConfig,
    options: (Kind, Device),
}

impl QwenVae {
    /// Builds a VAE from the weights `w`. Tensors for several frames, `time_conv`, stay unused.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if the configuration contradicts itself,
    /// [`Error::Weights`](crate::Error::Weights) if the weights do not fit it.
    pub fn new(w: &Weights, config: &QwenVaeConfig) -> Result<Self> {
        config.check()?;
        let w = &w.channels_last();
        let cellwise = |name, n| w.at(name).conv2d_of_last_frame(n, n, Conv::CELL);
        let vae = Self {
            encoder: Encoder::new(&w.at("encoder"), config)?,
            quant_conv: cellwise("quant_conv", 2 * config.z_dim)?,
            post_quant_conv: cellwise("post_quant_conv", config.z_dim)?,
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
                mine.sums = others.sums.clone();
            }
        }
        Ok(vae)
    }

    /// Encodes pictures, [b, 3, h, w] in −1..=1 with sides that are multiples of 2ⁿ⁻¹ for n levels: 8 for Qwen-Image.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the pictures have other channels.
    pub fn encode(&self, image: &Tensor) -> Result<Posterior> {
        check("image", image, self.config.input_channels)?;
        let x = self.cast(image)?;
        let _serial = self.encoder.conv_in.among_kernels(&x)?;
        let moments = self.quant_conv.forward(&self.encoder.forward(&x)?)?.f_to_kind(image.kind())?;
        let n = self.config.z_dim;
        Ok(Posterior { mean: moments.f_narrow(1, 0, n)?, logvar: moments.f_narrow(1, n, n)?.f_clamp(-30.0, 20.0)? })
    }

    /// Decodes unscaled latents (see [`QwenVae::unscale`]), [b, z_dim, h, w] → [b, 3, 8h, 8w] in −1..=1.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the latents have other channels.
    pub fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        Ok(self.decode_unclamped(latent)?.f_clamp(-1.0, 1.0)?)
    }

    /// Decodes as [`decode`](Self::decode) does, without the clamp. The values are not bounded.
    ///
    /// # Errors
    /// The errors of [`decode`](Self::decode).
    pub fn decode_unclamped(&self, latent: &Tensor) -> Result<Tensor> {
        check("latent", latent, self.config.z_dim)?;
        let x = self.cast(latent)?;
        let _serial = self.decoder.conv_in.among_kernels(&x)?;
        Ok(self.decoder.forward(&self.post_quant_conv.forward(&x)?)?.f_to_kind(latent.kind())?)
    }

    /// Converts an encoded latent to the diffusion's units, channel by channel: (latent − mean)/std.
    pub fn scale(&self, latent: &Tensor) -> Result<Tensor> {
        let [mean, std] = self.statistics(latent)?;
        Ok(latent.f_sub(&mean)?.f_div(&std)?)
    }

    /// Converts the diffusion's latent to the decoder's units, channel by channel: latent·std + mean.
    pub fn unscale(&self, latent: &Tensor) -> Result<Tensor> {
        let [mean, std] = self.statistics(latent)?;
        Ok(latent.f_mul(&std)?.f_add(&mean)?)
    }

    /// Returns mean and standard deviation of each channel, [z_dim, 1, 1] each, in the kind and on the device of
    /// `like`.
    fn statistics(&self, like: &Tensor) -> Result<[Tensor; 2]> {
        let column = |values: &[f64]| -> Result<Tensor> {
            let values = Tensor::f_from_slice(values)?.f_to_kind(like.f_kind()?)?;
            Ok(values.f_to_device(like.device())?.f_reshape([-1, 1, 1])?)
        };
        Ok([column(&self.config.latents_mean)?, column(&self.config.latents_std)?])
    }

    /// Converts a tensor to this network's kind and device.
    fn cast(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_to_device(self.options.1)?.f_to_kind(self.options.0)?)
    }
}

#[derive(Debug)]
struct Encoder {
    conv_in: Conv2d,
    /// Residual blocks of each level, and the convolution that halves the grid.
    down_blocks: Vec<(Vec<Resnet>, Option<Conv2d>)>,
    mid_block: MidBlock,
    norm_out: ChannelNorm,
    conv_out: Conv2d,
}

impl Encoder {
    fn new(w: &Weights, config: &QwenVaeConfig) -> Result<Self> {
        let levels = config.channels();
        let mut channels = config.base_dim;
        let conv_in = w.at("conv_in").conv2d_of_last_frame(config.input_channels, channels, Conv::SAME)?;
        // Files number the blocks of all levels in one order.
        let mut blocks = (0..).map(|i: i64| w.at("down_blocks").at(i));
        let mut down_blocks = Vec::new();
        for (level, &outputs) in levels.iter().enumerate() {
            let mut resnets = Vec::new();
            for w in blocks.by_ref().take(config.num_res_blocks as usize) {
                resnets.push(Resnet::new(&w, channels, outputs)?);
                channels = outputs;
            }
            let halve = |w: Weights| w.at("resample.1").conv2d(outputs, outputs, Conv { padding: 0, ..Conv::HALVE });
            let next = if level + 1 < levels.len() { blocks.next() } else { None };
            down_blocks.push((resnets, next.map(halve).transpose()?));
        }
        Ok(Self {
            conv_in,
            down_blocks,
            mid_block: MidBlock::new(&w.at("mid_block"), channels)?,
            norm_out: ChannelNorm::new(&w.at("norm_out"), &[channels, 1, 1, 1])?,
            conv_out: w.at("conv_out").conv2d_of_last_frame(channels, 2 * config.z_dim, Conv::SAME)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.conv_in.forward(x)?;
        for (resnets, halve) in &self.down_blocks {
            for resnet in resnets {
                x = resnet.forward(&x)?;
            }
            if let Some(halve) = halve {
                x = halve.forward(&x.f_constant_pad_nd([0, 1, 0, 1])?)?; // zeros at the right and lower edges
            }
        }
        x = self.mid_block.forward(&x)?;
        self.conv_out.forward(&self.norm_out.forward_silu(x)?)
    }
}

#[derive(Debug)]
struct Decoder {
    conv_in: Conv2d,
    mid_block: MidBlock,
    /// Residual blocks of each level, and the convolution after upsampling, which halves the channels.
    up_blocks: Vec<(Vec<Resnet>, Option<Conv2d>)>,
    norm_out: ChannelNorm,
    conv_out: Conv2d,
}

impl Decoder {
    fn new(w: &Weights, config: &QwenVaeConfig) -> Result<Self> {
        let levels = config.channels();
        let mut channels = levels.last().copied().unwrap_or_default();
        let conv_in = w.at("conv_in").conv2d_of_last_frame(config.z_dim, channels, Conv::SAME)?;
        let mid_block = MidBlock::new(&w.at("mid_block"), channels)?;
        let mut up_blocks = Vec::new();
        for (i, &outputs) in levels.iter().rev().enumerate() {
            let w = w.at("up_blocks").at(i);
            let mut resnets = Vec::new();
            for j in 0..=config.num_res_blocks {
                resnets.push(Resnet::new(&w.at("resnets").at(j), channels, outputs)?);
                channels = outputs;
            }
            let double = || w.at("upsamplers.0.resample.1").conv2d(outputs, outputs / 2, Conv::SAME);
            let double = (i + 1 < levels.len()).then(double).transpose()?;
            if double.is_some() {
                channels = outputs / 2;
            }
            up_blocks.push((resnets, double));
        }
        Ok(Self {
            conv_in,
            mid_block,
            up_blocks,
            norm_out: ChannelNorm::new(&w.at("norm_out"), &[channels, 1, 1, 1])?,
            conv_out: w.at("conv_out").conv2d_of_last_frame(channels, config.input_channels, Conv::SAME)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.mid_block.forward(&self.conv_in.forward(x)?)?;
        for (resnets, double) in &self.up_blocks {
            for resnet in resnets {
                x = resnet.forward(&x)?;
            }
            if let Some(double) = double {
                x = double.forward_doubled(&x)?;
            }
        }
        self.conv_out.forward(&self.norm_out.forward_silu(x)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Tensors;

    fn tiny() -> QwenVaeConfig {
        QwenVaeConfig { base_dim: 4, dim_mult: vec![1, 2], num_res_blocks: 1, ..QwenVaeConfig::default() }
    }

    #[test]
    fn kernels_of_videos_are_read_by_their_last_frame() -> Result<()> {
        let drawn = Weights::random(5, Kind::Float, Device::Cpu);
        let plain = QwenVae::new(&drawn, &tiny())?;
        // Kernels of frames have a fifth axis, in which the last of three frames is the picture's.
        let video = |(name, x): (String, Tensor)| match x.size().as_slice() {
            [_, _, 3, 3] if !name.contains("resample") => {
                (name, Tensor::cat(&[x.randn_like().unsqueeze(2), x.randn_like().unsqueeze(2), x.unsqueeze(2)], 2))
            }
            _ => (name, x),
        };
        let tensors: Tensors = drawn.drawn()?.into_iter().map(video).collect();
        let w = Weights::new("a file", tensors, Kind::Float, Device::Cpu);
        let (vae, again) = (QwenVae::new(&w, &tiny())?, plain.again(&w)?);
        let image = Tensor::randn([1, 3, 8, 12], (Kind::Float, Device::Cpu));
        let latent = plain.encode(&image)?.mean;
        assert_eq!((vae.encode(&image)?.mean, again.encode(&image)?.mean), (latent.copy(), latent.copy()));
        assert_eq!(vae.decode(&latent)?, plain.decode(&latent)?);
        Ok(())
    }

    #[test]
    fn scaled_latents_are_unscaled_by_channel() -> Result<()> {
        let vae = QwenVae::new(&Weights::random(5, Kind::Float, Device::Cpu), &tiny())?;
        let latent = Tensor::zeros([1, 16, 1, 2], (Kind::Float, Device::Cpu));
        let scaled = vae.scale(&latent)?;
        assert!((scaled.double_value(&[0, 5, 0, 1]) + 0.9653 / 1.7708).abs() < 1e-6);
        assert!(vae.unscale(&scaled)?.abs().max().double_value(&[]) < 1e-6);
        let far = vae.decode(&(vae.unscale(&latent)? * 1e3))?.abs().max().double_value(&[]);
        assert!(far <= 1.0, "{far}");
        let message = vae.decode(&Tensor::zeros([1, 4, 2, 2], (Kind::Float, Device::Cpu))).unwrap_err().to_string();
        assert!(message.contains("latent has shape [1, 4, 2, 2]; expected [b, 16, h, w]"), "{message}");
        Ok(())
    }
}
