//! The tiny autoencoder (diffusers' `AutoencoderTiny`): only convolutions, at a fraction of a VAE's cost.

use super::config::{ConfigFile, Fixed, in_file, layers, levels, read, refuse, sizes};
use super::layers::{Conv, Conv2d};
use crate::error::{Error, Result};
use crate::weights::Weights;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

/// Name in errors of a configuration that does not come from a file.
const NAME: &str = "TaesdConfig";

/// The configuration of a tiny autoencoder, `config.json`; the names and the defaults are diffusers'.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct TaesdConfig {
    /// Channels of a picture.
    pub in_channels: i64,
    /// Channels of a decoded picture.
    pub out_channels: i64,
    /// Channels of a latent.
    pub latent_channels: i64,
    /// Channels at each size, from the picture's to the latent's; all entries are equal.
    pub encoder_block_out_channels: Vec<i64>,
    /// Channels at each size, from the latent's to the picture's; all entries are equal.
    pub decoder_block_out_channels: Vec<i64>,
    /// Blocks of the encoder at each size.
    pub num_encoder_blocks: Vec<i64>,
    /// Blocks of the decoder at each size.
    pub num_decoder_blocks: Vec<i64>,
    /// Bound on the magnitude of most latent values; [`Taesd::compressed`] maps ± this bound to 0..=1.
    pub latent_magnitude: f64,
    /// Value that [`Taesd::compressed`] gives a latent of 0.
    pub latent_shift: f64,
    /// Factor by which latents are multiplied before the diffusion: 1, because these latents are already in the
    /// diffusion's units.
    pub scaling_factor: f64,
    /// True if the autoencoder overflows in half precision.
    pub force_upcast: bool,
}

impl Default for TaesdConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            latent_channels: 4,
            encoder_block_out_channels: vec![64; 4],
            decoder_block_out_channels: vec![64; 4],
            num_encoder_blocks: vec![1, 3, 3, 3],
            num_decoder_blocks: vec![3, 3, 3, 1],
            latent_magnitude: 3.0,
            latent_shift: 0.5,
            scaling_factor: 1.0,
            force_upcast: false,
        }
    }
}

/// Fields that change the result, and the values that are implemented.
const FIXED: &[Fixed] = &[
    ("act_fn", &["\"relu\""]),
    ("shift_factor", &["0", "0.0"]),
    ("upsample_fn", &["\"nearest\""]),
    ("upsampling_scaling_factor", &["2"]),
];

impl ConfigFile for TaesdConfig {
    fn from_json(file: &str, text: &str) -> Result<Self> {
        let config: Self = read(file, text, FIXED)?;
        in_file(config.check(), file)?;
        Ok(config)
    }
}

impl TaesdConfig {
    /// Returns the pixels of a picture per latent cell, in each direction: 8 by default.
    pub(crate) fn factor(&self) -> i64 {
        1 << self.num_encoder_blocks.len().saturating_sub(1).min(62)
    }

    /// Returns the peak number of values that encoding or decoding holds per latent cell: three tensors of the
    /// picture's size.
    pub(crate) fn working(&self) -> f64 {
        let channels = self.decoder_block_out_channels.iter().chain(&self.encoder_block_out_channels).max();
        let factor = self.factor() as f64;
        3.0 * channels.copied().unwrap_or_default() as f64 * factor * factor
    }

    fn check(&self) -> Result<()> {
        sizes(NAME, "in_channels", &[self.in_channels])?;
        sizes(NAME, "out_channels", &[self.out_channels])?;
        sizes(NAME, "latent_channels", &[self.latent_channels])?;
        let count = self.num_encoder_blocks.len();
        for (field, values) in [
            ("encoder_block_out_channels", &self.encoder_block_out_channels),
            ("decoder_block_out_channels", &self.decoder_block_out_channels),
            ("num_encoder_blocks", &self.num_encoder_blocks),
            ("num_decoder_blocks", &self.num_decoder_blocks),
        ] {
            levels(NAME, field, values)?;
            if values.len() != count {
                return Err(refuse(NAME, field, values, format!("expected {count} entries, one for each resolution")));
            }
            if field.ends_with("blocks") {
                layers(NAME, field, values)?;
                continue;
            }
            sizes(NAME, field, values)?;
            if values.windows(2).any(|pair| pair.first() != pair.last()) {
                return Err(refuse(NAME, field, values, "expected the same number at each resolution"));
            }
        }
        Ok(())
    }
}

/// The tiny autoencoder. Its latents are in the diffusion's units, and its encoder is deterministic.
///
/// Source: Ollin Boer Bohan, "TAESD" (github.com/madebyollin/taesd).
#[derive(Debug)]
pub struct Taesd {
    encoder: Vec<Layer>,
    decoder: Vec<Layer>,
    config: TaesdConfig,
    options: (Kind, Device),
}

#[derive(Debug)]
enum Layer {
    Conv(Conv2d),
    Relu,
    Block([Conv2d; 3]),
    /// Upsampling by two, which repeats cells.
    Double,
}

impl Layer {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Conv(conv) => conv.forward(x)?,
            Self::Relu => x.f_relu()?,
            Self::Block([first, second, third]) => {
                let h = second.forward(&first.forward(x)?.f_relu_()?)?.f_relu_()?;
                third.forward(&h)?.f_add_(x)?.f_relu_()?
            }
            Self::Double => {
                let (_, _, h, w) = x.size4()?;
                x.f_upsample_nearest2d([2 * h, 2 * w], None::<f64>, None::<f64>)?
            }
        })
    }

    fn block(w: &Weights, channels: i64) -> Result<Self> {
        let conv = |i: i64| w.at("conv").at(i).conv2d(channels, channels, Conv::SAME);
        Ok(Self::Block([conv(0)?, conv(2)?, conv(4)?]))
    }
}

impl Taesd {
    /// Builds a tiny autoencoder from the weights `w`.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration contradicts itself, [`Error::Weights`] if the weights do not fit it.
    pub fn new(w: &Weights, config: &TaesdConfig) -> Result<Self> {
        config.check()?;
        let w = &w.channels_last();
        let autoencoder = Self {
            encoder: encoder(&w.at("encoder.layers"), config)?,
            decoder: decoder(&w.at("decoder.layers"), config)?,
            config: config.clone(),
            options: (w.kind(), w.device()),
        };
        w.finish()?;
        Ok(autoencoder)
    }

    /// Returns the configuration of the network.
    pub(crate) const fn config(&self) -> &TaesdConfig {
        &self.config
    }

    /// Encodes pictures: [b, 3, 8h, 8w] in −1..=1 → [b, 4, h, w] in the pictures' kind and the diffusion's units.
    ///
    /// # Errors
    /// [`Error::Shape`] if the pictures have other channels.
    pub fn encode(&self, image: &Tensor) -> Result<Tensor> {
        check("image", image, self.config.in_channels)?;
        let x = self.cast(image)?.f_add_scalar(1.0)?.f_div_scalar(2.0)?;
        Ok(run(&self.encoder, x)?.f_mul_scalar(self.config.scaling_factor)?.f_to_kind(image.kind())?)
    }

    /// Decodes latents in the diffusion's units: [b, 4, h, w] → [b, 3, 8h, 8w], about −1..=1, not clamped.
    ///
    /// For a preview, decode the prediction of a step, `Run::x0`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the latents have other channels.
    pub fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        check("latent", latent, self.config.latent_channels)?;
        let x = self.cast(latent)?.f_div_scalar(self.config.scaling_factor)?;
        let x = x.f_div_scalar(3.0)?.f_tanh()?.f_mul_scalar(3.0)?; // softly limits outliers to ±3
        Ok(run(&self.decoder, x)?.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?.f_to_kind(latent.kind())?)
    }

    /// Maps a latent to 0..=1 for storage as bytes: latent/(2·magnitude) + shift, clamped.
    pub fn compressed(&self, latent: &Tensor) -> Result<Tensor> {
        let TaesdConfig { latent_magnitude, latent_shift, .. } = self.config;
        Ok(latent.f_div_scalar(2.0 * latent_magnitude)?.f_add_scalar(latent_shift)?.f_clamp(0.0, 1.0)?)
    }

    /// Restores the latent from the result of [`Taesd::compressed`], except for values that were clamped.
    pub fn expanded(&self, compressed: &Tensor) -> Result<Tensor> {
        let TaesdConfig { latent_magnitude, latent_shift, .. } = self.config;
        Ok(compressed.f_sub_scalar(latent_shift)?.f_mul_scalar(2.0 * latent_magnitude)?)
    }

    /// Converts a tensor to this network's kind and device.
    fn cast(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_to_device(self.options.1)?.f_to_kind(self.options.0)?)
    }
}

fn run(layers: &[Layer], x: Tensor) -> Result<Tensor> {
    let conv = layers.iter().find_map(|layer| match layer {
        Layer::Conv(conv) => Some(conv),
        _ => None,
    });
    let _serial = conv.map(|conv| conv.among_kernels(&x)).transpose()?;
    layers.iter().try_fold(x, |x, layer| layer.forward(&x))
}

/// Builds the encoder's layers. Layer indices count every layer, including those without weights.
fn encoder(w: &Weights, config: &TaesdConfig) -> Result<Vec<Layer>> {
    let mut layers = Vec::new();
    let sizes = config.encoder_block_out_channels.iter().zip(&config.num_encoder_blocks);
    for (i, (&channels, &blocks)) in sizes.enumerate() {
        let at = w.at(layers.len());
        layers.push(Layer::Conv(match i {
            0 => at.conv2d(config.in_channels, channels, Conv::SAME)?,
            _ => at.conv2d_without_bias(channels, channels, Conv::HALVE)?,
        }));
        for _ in 0..blocks {
            layers.push(Layer::block(&w.at(layers.len()), channels)?);
        }
    }
    let channels = config.encoder_block_out_channels.last().copied().unwrap_or_default();
    layers.push(Layer::Conv(w.at(layers.len()).conv2d(channels, config.latent_channels, Conv::SAME)?));
    Ok(layers)
}

fn decoder(w: &Weights, config: &TaesdConfig) -> Result<Vec<Layer>> {
    let first = config.decoder_block_out_channels.first().copied().unwrap_or_default();
    let mut layers = vec![Layer::Conv(w.at(0).conv2d(config.latent_channels, first, Conv::SAME)?), Layer::Relu];
    let count = config.num_decoder_blocks.len();
    let sizes = config.decoder_block_out_channels.iter().zip(&config.num_decoder_blocks);
    for (i, (&channels, &blocks)) in sizes.enumerate() {
        for _ in 0..blocks {
            layers.push(Layer::block(&w.at(layers.len()), channels)?);
        }
        if i + 1 < count {
            layers.push(Layer::Double);
            layers.push(Layer::Conv(w.at(layers.len()).conv2d_without_bias(channels, channels, Conv::SAME)?));
        } else {
            layers.push(Layer::Conv(w.at(layers.len()).conv2d(channels, config.out_channels, Conv::SAME)?));
        }
    }
    Ok(layers)
}

fn check(what: &'static str, x: &Tensor, channels: i64) -> Result<()> {
    match x.size().as_slice() {
        &[_, c, _, _] if c == channels => Ok(()),
        got => Err(Error::Shape { what, got: got.to_vec(), expected: format!("[b, {channels}, h, w]") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_settings_and_channels_are_errors() -> Result<()> {
        let message = |json| TaesdConfig::from_json("config.json", json).unwrap_err().to_string();
        assert!(message(r#"{"upsample_fn": "bilinear"}"#).contains("only \"nearest\" is implemented"));
        assert!(
            message(r#"{"num_decoder_blocks": [3, 1]}"#).contains("num_decoder_blocks is [3, 1]; expected 4 entries")
        );
        assert!(
            message(r#"{"encoder_block_out_channels": [64, 32, 64, 64]}"#)
                .contains("the same number at each resolution")
        );
        let taesd = Taesd::new(&Weights::random(1, Kind::Float, Device::Cpu), &TaesdConfig::default())?;
        let message = taesd.decode(&Tensor::zeros([1, 3, 2, 2], (Kind::Float, Device::Cpu))).unwrap_err().to_string();
        assert!(message.contains("latent has shape [1, 3, 2, 2]; expected [b, 4, h, w]"), "{message}");
        Ok(())
    }
}
