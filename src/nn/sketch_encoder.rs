//! [`SketchEncoder`]: features of a sketch for the contracting half of a UNet.

use super::config::{ConfigFile, Fixed, in_file, levels, read, sizes};
use super::layers::{Conv, Conv2d};
use crate::error::{Error, Result};
use crate::weights::Weights;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::{Device, Kind, Tensor};

/// Name in errors of a configuration that does not come from a file.
const NAME: &str = "SketchEncoderConfig";
/// Number of halvings between a picture and its latent.
const HALVINGS: usize = 3;

/// The configuration of a sketch encoder, `sketch_encoder/config.json`. The defaults are those of the published models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SketchEncoderConfig {
    /// Channels of the sketch picture.
    pub in_channels: i64,
    /// Channels of the convolutions from the picture's size to the latent's: one entry for the first, and one for each
    /// of the three halvings.
    pub widths: Vec<i64>,
    /// Channels of the UNet's levels.
    pub block_out_channels: Vec<i64>,
}

impl Default for SketchEncoderConfig {
    fn default() -> Self {
        Self { in_channels: 3, widths: vec![16, 32, 96, 256], block_out_channels: vec![320, 640, 1280, 1280] }
    }
}

const FIXED: &[Fixed] = &[("_class_name", &["\"SketchEncoder\""])];

impl ConfigFile for SketchEncoderConfig {
    fn from_json(file: &str, text: &str) -> Result<Self> {
        let config: Self = read(file, text, FIXED)?;
        in_file(config.check(), file)?;
        Ok(config)
    }
}

impl SketchEncoderConfig {
    /// Returns the text of a `config.json` that [`from_json`](Self::from_json) reads.
    pub fn to_json(&self) -> String {
        let &Self { in_channels, ref widths, ref block_out_channels } = self;
        let class = "SketchEncoder";
        let fields = json!({
            "_class_name": class, "in_channels": in_channels, "widths": widths, "block_out_channels": block_out_channels,
        });
        format!("{fields:#}\n")
    }

    fn check(&self) -> Result<()> {
        sizes(NAME, "in_channels", &[self.in_channels])?;
        sizes(NAME, "widths", &self.widths)?;
        if self.widths.len() != HALVINGS + 1 {
            let expected = "expected four widths: one for the first layer, and one for each halving of the size".into();
            let (file, field) = (NAME.into(), "widths".into());
            return Err(Error::Config { file, field, value: format!("{:?}", self.widths), expected });
        }
        sizes(NAME, "block_out_channels", &self.block_out_channels)?;
        levels(NAME, "block_out_channels", &self.block_out_channels)
    }
}

/// A pyramid of convolutions over a sketch. The outputs are added to the hidden states of a UNet's contracting half:
/// after the first layer, and after each level ([`AddedConditions::features`](super::AddedConditions::features)).
///
/// Source: `MultiEncoder` of ColorizeDiffusion (arXiv 2401.01456).
#[derive(Debug)]
pub struct SketchEncoder {
    /// Convolutions from the picture's size to the latent's.
    model: Vec<Conv2d>,
    zero_layer: Conv2d,
    /// Two convolutions for each level. The first one halves the grid, except at the smallest level.
    stages: Vec<[Conv2d; 2]>,
    zero_blocks: Vec<Conv2d>,
    config: SketchEncoderConfig,
    options: (Kind, Device),
}

impl SketchEncoder {
    /// Builds a sketch encoder from the weights `w`.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration contradicts itself, [`Error::Weights`] if the weights do not fit it.
    pub fn new(w: &Weights, config: &SketchEncoderConfig) -> Result<Self> {
        config.check()?;
        let &SketchEncoderConfig { in_channels, ref widths, ref block_out_channels } = config;
        let first = block_out_channels.first().copied().unwrap_or_default();
        // Activations between the convolutions count as layers, so every other index is a convolution.
        let (mut model, mut inputs) = (Vec::new(), in_channels);
        for (i, &width) in widths.iter().enumerate() {
            let step = if i == 0 { Conv::SAME } else { Conv::HALVE };
            // The last convolution has the UNet's channels.
            let next = if i == HALVINGS { first } else { width };
            for (outputs, conv) in [(width, step), (next, Conv::SAME)] {
                model.push(w.at("model").at(2 * model.len()).conv2d(inputs, outputs, conv)?);
                inputs = outputs;
            }
        }
        let (mut stages, mut zero_blocks) = (Vec::new(), Vec::new());
        for (i, &channels) in block_out_channels.iter().enumerate() {
            let smallest = i + 1 == block_out_channels.len();
            let step = if smallest { Conv::SAME } else { Conv::HALVE };
            let w = w.at("output_blocks").at(i);
            stages.push([w.at(1).conv2d(inputs, channels, step)?, w.at(3).conv2d(channels, channels, Conv::SAME)?]);
            inputs = channels;
        }
        for (i, &channels) in block_out_channels.iter().enumerate() {
            zero_blocks.push(w.at("zero_blocks").at(i).at(0).conv2d(channels, channels, Conv::CELL)?);
        }
        let encoder = Self {
            model,
            zero_layer: w.at("zero_layer.0").conv2d(first, first, Conv::CELL)?,
            stages,
            zero_blocks,
            config: config.clone(),
            options: (w.kind(), w.device()),
        };
        w.finish()?;
        Ok(encoder)
    }

    /// Returns the configuration of the network.
    pub(crate) const fn config(&self) -> &SketchEncoderConfig {
        &self.config
    }

    /// Computes the features that a sketch adds to the UNet, which are the same at every step.
    ///
    /// The sketch is [b, 3, 8h, 8w] in -1..=1, with lines at 1 on a background of -1. The result has a tensor for the
    /// UNet's first layer, [b, channels, h, w], and one for each of its levels, in this network's kind.
    ///
    /// # Errors
    /// [`Error::Shape`] if the sketch has other channels, or sides that are not multiples of 8.
    pub fn forward(&self, sketch: &Tensor) -> Result<Vec<Tensor>> {
        let channels = self.config.in_channels;
        match sketch.size().as_slice() {
            &[_, c, h, w] if c == channels && h > 0 && w > 0 && h % 8 == 0 && w % 8 == 0 => {}
            got => {
                let expected = format!("[b, {channels}, h, w] with sides that are multiples of 8");
                return Err(Error::Shape { what: "sketch", got: got.to_vec(), expected });
            }
        }
        let mut x = sketch.f_to_device(self.options.1)?.f_to_kind(self.options.0)?;
        for (i, conv) in self.model.iter().enumerate() {
            x = conv.forward(&x)?;
            if i + 1 < self.model.len() {
                x = x.f_silu()?;
            }
        }
        let mut features = vec![self.zero_layer.forward(&x)?];
        for ([first, second], zero) in self.stages.iter().zip(&self.zero_blocks) {
            x = second.forward(&first.forward(&x.f_silu()?)?.f_silu()?)?;
            features.push(zero.forward(&x)?);
        }
        Ok(features)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> SketchEncoderConfig {
        SketchEncoderConfig {
            widths: vec![2, 3, 4, 5],
            block_out_channels: vec![6, 8],
            ..SketchEncoderConfig::default()
        }
    }

    #[test]
    fn each_level_has_a_tensor_of_its_size() -> Result<()> {
        let encoder = SketchEncoder::new(&Weights::random(1, Kind::Float, Device::Cpu), &tiny())?;
        let features = encoder.forward(&Tensor::ones([2, 3, 48, 32], (Kind::Float, Device::Cpu)))?;
        let sizes: Vec<Vec<i64>> = features.iter().map(Tensor::size).collect();
        assert_eq!(sizes, [[2, 6, 6, 4], [2, 6, 3, 2], [2, 8, 3, 2]]);
        Ok(())
    }

    #[test]
    fn wrong_sketches_and_widths_are_errors() -> Result<()> {
        let encoder = SketchEncoder::new(&Weights::random(1, Kind::Float, Device::Cpu), &tiny())?;
        let message = |shape: [i64; 4]| {
            encoder.forward(&Tensor::ones(shape, (Kind::Float, Device::Cpu))).unwrap_err().to_string()
        };
        assert!(message([1, 4, 8, 8]).contains("sketch has shape [1, 4, 8, 8]; expected [b, 3, h, w]"));
        assert!(message([1, 3, 8, 12]).contains("multiples of 8"));
        let error = SketchEncoderConfig::from_json("config.json", r#"{"widths": [4, 4]}"#).unwrap_err().to_string();
        assert!(error.contains("config.json: widths is [4, 4]; expected four"), "{error}");
        Ok(())
    }
}
