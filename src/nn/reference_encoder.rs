//! [`ReferenceEncoder`]: features of a reference picture for the expanding half of a UNet.

use super::layers::{Conv, Conv2d, Linear, cells};
use super::time::Sinusoids;
use super::unet::AddedConditions;
use super::unet::blocks::BlockBuilder;
use super::unet::config::UnetConfig;
use super::unet::encoder::{Additions, UnetEncoder};
use crate::attention::Tap;
use crate::error::{Error, Result};
use crate::weights::Weights;
use tch::{Device, Kind, Tensor};

/// Width of the label that tells the encoder the size of its picture.
const LABEL: i64 = 512;

/// A UNet's contracting half with its own weights, run once over the latent of a picture without noise. The outputs of
/// its layers go into the expanding half of a colorizing UNet: as tokens of the background, or as one vector of the
/// style for each layer.
///
/// Source: the background and style encoders of ColorizeDiffusion v2.
#[derive(Debug)]
pub(crate) struct ReferenceEncoder {
    half: UnetEncoder,
    zero_layers: Vec<Output>,
}

/// Conversion of a layer's output to features.
#[derive(Debug)]
enum Output {
    /// A token for each cell.
    Cells(Conv2d),
    /// One vector, from the mean over the cells.
    Mean(Linear),
}

impl ReferenceEncoder {
    /// Builds the encoder for a UNet of this configuration from the weights `w`. The shapes of the weights tell whether
    /// the encoder reads background or style.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration contradicts itself, [`Error::Weights`] if the weights do not fit it.
    pub(crate) fn new(w: &Weights, unet: &UnetConfig) -> Result<Self> {
        let config = UnetConfig {
            mid_block_type: None,
            time_cond_proj_dim: None,
            addition_embed_type: Some("label".into()),
            addition_time_embed_dim: None,
            projection_class_embeddings_input_dim: Some(LABEL),
            ..unet.clone()
        };
        let levels = config.levels()?;
        let first = levels.first().map(|level| level.channels).unwrap_or_default();
        let mut make = BlockBuilder::new(&config, 4 * first);
        let (half, skips) = UnetEncoder::new(w, &mut make, &levels)?;
        let zero_layers = w.at("zero_layers");
        let output = |(i, channels): (usize, &i64)| -> Result<Output> {
            let w = zero_layers.at(i);
            Ok(match w.shape("weight").as_deref() {
                Some(&[outputs, _]) => Output::Mean(w.linear(*channels, outputs)?),
                _ => Output::Cells(w.conv2d(*channels, *channels, Conv::CELL)?),
            })
        };
        let zero_layers = skips.iter().enumerate().map(output).collect::<Result<_>>()?;
        w.finish()?;
        Ok(Self { half, zero_layers })
    }

    /// Embeds the size of a picture as a label, [1, 512]. `ratios` are the picture's height and width, divided by the
    /// height and width of the run's pictures.
    ///
    /// # Errors
    /// [`Error::Torch`] only.
    pub(crate) fn label(ratios: [f64; 2]) -> Result<Tensor> {
        let waves = Sinusoids::new(LABEL / 2, false, 0.0, Device::Cpu)?;
        Ok(waves.of(&Tensor::f_from_slice(&ratios.map(|ratio| ratio as f32))?)?.f_reshape([1, LABEL])?)
    }

    /// Computes the features of a picture.
    ///
    /// The inputs are the picture's latent, [1, 4, h, w]; its size as [`label`](Self::label) embeds it, [1, 512]; and
    /// the tokens of the reference, [1, tokens, width]. The result has a tensor for each layer of the UNet's expanding
    /// half, the smallest grid first, f32: [1, cells, channels] for a background, [1, 2 · channels] for a style.
    ///
    /// # Errors
    /// [`Error::Shape`] if an input has another shape.
    pub(crate) fn forward(&self, latent: &Tensor, label: &Tensor, tokens: &Tensor) -> Result<Vec<Tensor>> {
        if label.size() != [1, LABEL] {
            return Err(Error::Shape {
                what: "the embedded size of the picture",
                got: label.size(),
                expected: format!("[1, {LABEL}]"),
            });
        }
        let added = AddedConditions { text_embeds: Some(label.shallow_clone()), ..AddedConditions::default() };
        let encoded = self
            .half
            .forward(latent, &Tensor::from(0f32), tokens, Some(&added), Additions::default(), &mut Tap::none())?
            .whole()?;
        let outputs = self.zero_layers.iter().zip(&encoded.skips).rev();
        let put_out = |(layer, x): (&Output, &Tensor)| -> Result<Tensor> {
            let features = match layer {
                Output::Cells(conv) => cells(&conv.forward(x)?)?,
                Output::Mean(linear) => linear.forward(&x.f_mean_dim([2i64, 3].as_slice(), false, x.kind())?)?,
            };
            Ok(features.f_to_kind(Kind::Float)?)
        };
        outputs.map(put_out).collect()
    }
}
