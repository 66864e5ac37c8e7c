//! T2I adapters: small networks that compute features for a UNet's contracting half from a picture.

use super::config::{ConfigFile, Fixed, in_file, layers, levels, read, refuse, sizes};
use super::layers::{Conv, Conv2d};
use crate::error::{Error, Result};
use crate::weights::Weights;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// Name in errors of a configuration that does not come from a file.
const NAME: &str = "T2iAdapterConfig";

/// Architecture of a T2I adapter, by diffusers' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum AdapterType {
    /// The adapter for SD 1.x: each level halves the grid.
    #[serde(rename = "full_adapter")]
    Full,
    /// The adapter for SDXL: only the third level halves the grid.
    #[serde(rename = "full_adapter_xl")]
    FullXl,
    /// The narrow adapter for SD 1.x, such as the published adapter for colors.
    #[serde(rename = "light_adapter")]
    Light,
}

/// The configuration of a T2I adapter, `config.json`; the names and the defaults are diffusers'.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct T2iAdapterConfig {
    /// Channels of the hint: 3 for a picture, 1 for a sketch or edges.
    pub in_channels: i64,
    /// Channels of the levels. A light adapter has one level more, with the channels of the last one.
    pub channels: Vec<i64>,
    /// Number of residual blocks in a level.
    pub num_res_blocks: i64,
    /// Pixels of the hint per cell of the first level, in each direction.
    pub downscale_factor: i64,
    /// Architecture of the adapter.
    pub adapter_type: AdapterType,
}

impl Default for T2iAdapterConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            channels: vec![320, 640, 1280, 1280],
            num_res_blocks: 2,
            downscale_factor: 8,
            adapter_type: AdapterType::Full,
        }
    }
}

const FIXED: &[Fixed] = &[
    ("_class_name", &["\"T2IAdapter\""]),
    ("adapter_type", &["\"full_adapter\"", "\"full_adapter_xl\"", "\"light_adapter\""]),
];

impl ConfigFile for T2iAdapterConfig {
    fn from_json(file: &str, text: &str) -> Result<Self> {
        let config: Self = read(file, text, FIXED)?;
        in_file(config.check(), file)?;
        Ok(config)
    }
}

/// Sizes of one level of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Level {
    inputs: i64,
    outputs: i64,
    /// True if the level halves the grid first.
    halves: bool,
}

impl T2iAdapterConfig {
    /// Returns the levels in the order they run.
    fn levels(&self) -> Vec<Level> {
        let at = |i: usize| self.channels.get(i).copied().unwrap_or_default();
        let count = self.channels.len();
        let first = at(0);
        let level = |i: usize| {
            let inputs = at(i.saturating_sub(1));
            match self.adapter_type {
                AdapterType::Full => Level { inputs, outputs: at(i), halves: i > 0 },
                AdapterType::FullXl if i == 1 || i == 2 => Level { inputs, outputs: at(i), halves: i == 2 },
                AdapterType::FullXl => Level { inputs: at(i), outputs: at(i), halves: false },
                AdapterType::Light if i == 0 => {
                    Level { inputs: self.unshuffle_channels(), outputs: first, halves: false }
                }
                AdapterType::Light => Level { inputs, outputs: at(i.min(count.saturating_sub(1))), halves: true },
            }
        };
        let light = usize::from(self.adapter_type == AdapterType::Light);
        (0..count + light).map(level).collect()
    }

    /// Returns the channels of each feature, and the pixels of the hint per cell of the feature, in each direction.
    pub(crate) fn features(&self) -> Vec<(i64, i64)> {
        let mut pixels = self.downscale_factor;
        let feature = |level: Level| {
            pixels *= 1 + i64::from(level.halves);
            (level.outputs, pixels)
        };
        self.levels().into_iter().map(feature).collect()
    }

    /// Returns the channels of the hint whose pixels are moved into channels.
    fn unshuffle_channels(&self) -> i64 {
        self.in_channels * self.downscale_factor * self.downscale_factor
    }

    fn check(&self) -> Result<()> {
        sizes(NAME, "channels", &self.channels)?;
        levels(NAME, "channels", &self.channels)?;
        layers(NAME, "num_res_blocks", &[self.num_res_blocks])?;
        if !(1..=64).contains(&self.downscale_factor) {
            return Err(refuse(NAME, "downscale_factor", self.downscale_factor, "expected 1 to 64 pixels"));
        }
        if !(1..=256).contains(&self.in_channels) {
            return Err(refuse(NAME, "in_channels", self.in_channels, "expected 1 to 256 channels"));
        }
        let narrow = self.adapter_type == AdapterType::Light && self.channels.iter().any(|channels| *channels < NARROW);
        match narrow {
            true => Err(refuse(NAME, "channels", &self.channels, "expected 4 or more channels for a light adapter")),
            false => Ok(()),
        }
    }
}

/// Factor by which a light adapter's residual blocks are narrower than its features.
const NARROW: i64 = 4;

/// diffusers' `T2IAdapter`, full or light, for SD 1.x and SDXL.
///
/// The adapter runs once for each picture, before the first step. Its features go into
/// [`AddedConditions::adapter`](super::AddedConditions::adapter).
///
/// Source: "T2I-Adapter: Learning Adapters to Dig out More Controllable Ability" (arXiv 2302.08453).
#[derive(Debug)]
pub struct T2iAdapter {
    /// The first convolution; `None` in a light adapter.
    conv_in: Option<Conv2d>,
    body: Vec<AdapterBlock>,
    config: T2iAdapterConfig,
    options: (Kind, Device),
}

impl T2iAdapter {
    /// Builds an adapter from the weights `w`.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration contradicts itself, [`Error::Weights`] if the weights do not fit it.
    pub fn new(w: &Weights, config: &T2iAdapterConfig) -> Result<Self> {
        config.check()?;
        let root = w.at("adapter");
        let first = config.channels.first().copied().unwrap_or_default();
        let conv_in = || root.at("conv_in").conv2d(config.unshuffle_channels(), first, Conv::SAME);
        let conv_in = (config.adapter_type != AdapterType::Light).then(conv_in).transpose()?;
        let block = |(i, level): (usize, Level)| AdapterBlock::new(&root.at("body").at(i), config, level);
        let adapter = Self {
            conv_in,
            body: config.levels().into_iter().enumerate().map(block).collect::<Result<_>>()?,
            config: config.clone(),
            options: (w.kind(), w.device()),
        };
        w.finish()?;
        Ok(adapter)
    }

    /// Returns the configuration of the network.
    pub const fn config(&self) -> &T2iAdapterConfig {
        &self.config
    }

    /// Computes the features of a hint, which are the same at every step: [b, in_channels, H, W] in 0..=1 → one tensor
    /// for each level, [b, channels, h, w] in this network's kind.
    ///
    /// # Errors
    /// [`Error::Shape`] if the hint has other channels, or sides that are not multiples of
    /// [`downscale_factor`](T2iAdapterConfig::downscale_factor).
    pub fn features(&self, hint: &Tensor) -> Result<Vec<Tensor>> {
        let &T2iAdapterConfig { in_channels: channels, downscale_factor: factor, .. } = &self.config;
        match hint.size().as_slice() {
            &[_, c, h, w] if c == channels && h > 0 && w > 0 && h % factor == 0 && w % factor == 0 => {}
            got => {
                let expected = format!("[b, {channels}, h, w] with sides that are multiples of {factor}");
                return Err(Error::Shape { what: "the T2I adapter's hint", got: got.to_vec(), expected });
            }
        }
        let mut x = hint.f_to_device(self.options.1)?.f_to_kind(self.options.0)?.f_pixel_unshuffle(factor)?;
        if let Some(conv_in) = &self.conv_in {
            x = conv_in.forward(&x)?;
        }
        let mut features = Vec::with_capacity(self.body.len());
        for block in &self.body {
            x = block.forward(&x)?;
            features.push(x.shallow_clone());
        }
        Ok(features)
    }
}

/// A level of an adapter: pooling, a change of channels, residual blocks, and in light adapters a second change.
#[derive(Debug)]
struct AdapterBlock {
    halves: bool,
    in_conv: Option<Conv2d>,
    resnets: Vec<[Conv2d; 2]>,
    out_conv: Option<Conv2d>,
}

impl AdapterBlock {
    fn new(w: &Weights, config: &T2iAdapterConfig, level: Level) -> Result<Self> {
        let Level { inputs, outputs, halves } = level;
        let light = config.adapter_type == AdapterType::Light;
        let (width, second) = if light { (outputs / NARROW, Conv::SAME) } else { (outputs, Conv::CELL) };
        let resnet = |i: i64| -> Result<[Conv2d; 2]> {
            let w = w.at("resnets").at(i);
            Ok([w.at("block1").conv2d(width, width, Conv::SAME)?, w.at("block2").conv2d(width, width, second)?])
        };
        let in_conv = || w.at("in_conv").conv2d(inputs, width, Conv::CELL);
        Ok(Self {
            halves,
            in_conv: (light || inputs != outputs).then(in_conv).transpose()?,
            resnets: (0..config.num_res_blocks).map(resnet).collect::<Result<_>>()?,
            out_conv: light.then(|| w.at("out_conv").conv2d(width, outputs, Conv::CELL)).transpose()?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = match self.halves {
            // The UNet's levels round odd sides up, and so does this pooling.
            true => x.f_avg_pool2d([2, 2], [2, 2], [0, 0], true, true, None)?,
            false => x.shallow_clone(),
        };
        if let Some(in_conv) = &self.in_conv {
            x = in_conv.forward(&x)?;
        }
        for [block1, block2] in &self.resnets {
            // x + block2(relu(block1(x)))
            x = block2.forward(&block1.forward(&x)?.f_relu_()?)?.f_add_(&x)?;
        }
        match &self.out_conv {
            Some(out_conv) => out_conv.forward(&x),
            None => Ok(x),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny(adapter_type: AdapterType, channels: &[i64]) -> T2iAdapterConfig {
        let downscale_factor = if adapter_type == AdapterType::FullXl { 16 } else { 8 };
        T2iAdapterConfig { adapter_type, channels: channels.into(), downscale_factor, ..T2iAdapterConfig::default() }
    }

    #[test]
    fn each_level_has_a_feature_of_its_size() -> Result<()> {
        for (adapter_type, channels, want) in [
            (AdapterType::Full, &[4, 6, 6][..], vec![[2, 4, 10, 6], [2, 6, 5, 3], [2, 6, 3, 2]]),
            (AdapterType::Light, &[4, 8], vec![[2, 4, 10, 6], [2, 8, 5, 3], [2, 8, 3, 2]]),
            (AdapterType::FullXl, &[4, 6, 8, 8], vec![[2, 4, 5, 3], [2, 6, 5, 3], [2, 8, 3, 2], [2, 8, 3, 2]]),
        ] {
            let config = tiny(adapter_type, channels);
            let adapter = T2iAdapter::new(&Weights::random(1, Kind::Float, Device::Cpu), &config)?;
            let features = adapter.features(&Tensor::ones([2, 3, 80, 48], (Kind::Float, Device::Cpu)))?;
            assert_eq!(features.iter().map(Tensor::size).collect::<Vec<_>>(), want, "{adapter_type:?}");
            let pixels: Vec<i64> = config.features().into_iter().map(|(_, pixels)| pixels).collect();
            let got = features.iter().zip(pixels).all(|(x, pixels)| x.size()[2] == (80 + pixels - 1) / pixels);
            assert!(got, "{adapter_type:?}");
        }
        Ok(())
    }

    #[test]
    fn wrong_hints_and_settings_are_errors() -> Result<()> {
        let w = Weights::random(1, Kind::Float, Device::Cpu);
        let adapter = T2iAdapter::new(&w, &tiny(AdapterType::FullXl, &[4, 6, 8, 8]))?;
        let message = |shape: [i64; 4]| {
            adapter.features(&Tensor::ones(shape, (Kind::Float, Device::Cpu))).unwrap_err().to_string()
        };
        assert!(
            message([1, 1, 16, 16]).contains("the T2I adapter's hint has shape [1, 1, 16, 16]; expected [b, 3, h, w]")
        );
        assert!(message([1, 3, 16, 24]).contains("multiples of 16"));
        let message = |text: &str| T2iAdapterConfig::from_json("config.json", text).unwrap_err().to_string();
        assert!(message(r#"{"adapter_type": "style_adapter"}"#).contains("adapter_type is \"style_adapter\""));
        assert!(message(r#"{"_class_name": "ControlNetModel"}"#).contains("_class_name is \"ControlNetModel\""));
        assert!(message(r#"{"downscale_factor": 0}"#).contains("downscale_factor is 0"));
        assert!(message(r#"{"channels": [3], "adapter_type": "light_adapter"}"#).contains("4 or more"));
        assert!(message(r#"{"num_res_blocks": 100000}"#).contains("layers"));
        Ok(())
    }
}
