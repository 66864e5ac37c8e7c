//! Residual blocks, and the changes of size between them.

use super::layers::{Conv, Conv2d, GroupNorm, Linear};
use crate::error::Result;
use crate::weights::Weights;
use tch::Tensor;

/// The sizes of a [`Resnet`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResnetConfig {
    /// Channels in.
    pub inputs: i64,
    /// Channels out.
    pub outputs: i64,
    /// Width of the time embedding, if it is told the time.
    pub time: Option<i64>,
    /// Groups of the norms; divides both channels.
    pub groups: i64,
    /// Epsilon of the norms.
    pub eps: f64,
}

/// Two convolutions beside a shortcut; the time is added between them.
#[derive(Debug)]
pub struct Resnet {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
}

impl Resnet {
    /// Pulls a block from `w`.
    pub fn new(w: &Weights, config: ResnetConfig) -> Result<Self> {
        let ResnetConfig { inputs, outputs, time, groups, eps } = config;
        let shortcut = || w.at("conv_shortcut").conv2d(inputs, outputs, Conv::CELL);
        Ok(Self {
            norm1: w.at("norm1").group_norm(groups, inputs, eps)?,
            conv1: w.at("conv1").conv2d(inputs, outputs, Conv::SAME)?,
            time_emb_proj: time.map(|width| w.at("time_emb_proj").linear(width, outputs)).transpose()?,
            norm2: w.at("norm2").group_norm(groups, outputs, eps)?,
            conv2: w.at("conv2").conv2d(outputs, outputs, Conv::SAME)?,
            conv_shortcut: (inputs != outputs).then(shortcut).transpose()?,
        })
    }

    /// [b, inputs, h, w] → [b, outputs, h, w]. `time` is the time embedding after its SiLU, [1 or b, width].
    pub fn forward(&self, x: &Tensor, time: Option<&Tensor>) -> Result<Tensor> {
        // Whatever is not read again goes before the next is made: of a large picture each of these is what memory is full of.
        let mut h = self.norm1.forward_silu(x)?;
        h = match (&self.time_emb_proj, time) {
            (Some(project), Some(time)) => self.conv1.forward_plus(&h, &project.forward(time)?)?,
            _ => self.conv1.forward(&h)?,
        };
        h = self.norm2.forward_silu(&h)?;
        h = self.conv2.forward(&h)?;
        match &self.conv_shortcut {
            Some(shortcut) => Ok(h.f_add_(&shortcut.forward(x)?)?),
            None => Ok(h.f_add_(x)?),
        }
    }
}

/// Halves the grid by a convolution.
#[derive(Debug)]
pub(super) struct Downsample {
    conv: Conv2d,
    /// Zeros right and below only, as the VAE does.
    lopsided: bool,
}

impl Downsample {
    pub(super) fn new(w: &Weights, channels: i64) -> Result<Self> {
        Ok(Self { conv: w.at("conv").conv2d(channels, channels, Conv::HALVE)?, lopsided: false })
    }

    pub(super) fn lopsided(w: &Weights, channels: i64) -> Result<Self> {
        let conv = Conv { padding: 0, ..Conv::HALVE };
        Ok(Self { conv: w.at("conv").conv2d(channels, channels, conv)?, lopsided: true })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if self.lopsided { self.conv.forward(&x.f_constant_pad_nd([0, 1, 0, 1])?) } else { self.conv.forward(x) }
    }
}

/// Repeats cells, then convolves.
#[derive(Debug)]
pub(super) struct Upsample {
    conv: Conv2d,
}

impl Upsample {
    pub(super) fn new(w: &Weights, channels: i64) -> Result<Self> {
        Ok(Self { conv: w.at("conv").conv2d(channels, channels, Conv::SAME)? })
    }

    /// To `size`, (rows, columns).
    pub(super) fn forward(&self, x: &Tensor, size: (i64, i64)) -> Result<Tensor> {
        let (_, _, h, w) = x.size4()?;
        if size == (2 * h, 2 * w) {
            return self.conv.forward_doubled(x);
        }
        self.conv.forward(&x.f_upsample_nearest2d([size.0, size.1], None::<f64>, None::<f64>)?)
    }
}
