//! Norms, residual blocks and attention of the Qwen-Image VAE on single pictures.

use crate::error::Result;
use crate::nn::layers::{Conv, Conv2d, Linear, attention, cells, picture};
use crate::weights::Weights;
use tch::{Kind, Tensor};

/// Smallest length by which a cell is divided.
const SHORTEST: f64 = 1e-12;

/// A norm of each cell by the length of its channels, γ·√channels·x/‖x‖.
#[derive(Debug)]
pub(super) struct ChannelNorm {
    /// The factor γ, [channels, 1, 1].
    gamma: Tensor,
    /// Kind of the weights.
    kind: Kind,
}

impl ChannelNorm {
    /// Builds a norm whose factor is stored as [channels, 1, 1], or as [channels, 1, 1, 1] for videos.
    pub(super) fn new(w: &Weights, shape: &[i64]) -> Result<Self> {
        Ok(Self { gamma: w.tensor("gamma", shape)?.f_reshape([-1, 1, 1])?, kind: w.kind() })
    }

    /// Normalises [b, channels, h, w] in f32; the shape stays. The result has the kind of the weights. `x` is taken by
    /// value to free it early, because these tensors take most of the memory.
    pub(super) fn forward(&self, x: Tensor) -> Result<Tensor> {
        let is_converted = x.f_kind()? != Kind::Float;
        let mut y = x.f_to_kind(Kind::Float)?;
        drop(x);
        let length = y.f_norm_scalaropt_dim(2, [1i64].as_slice(), true)?.f_clamp_min(SHORTEST)?;
        let length = length.f_div_scalar((self.gamma.numel() as f64).sqrt())?;
        y = if is_converted && !y.requires_grad() { y.f_div_(&length)? } else { y.f_div(&length)? };
        Ok(y.f_mul_(&self.gamma)?.f_to_kind(self.kind)?)
    }

    /// Applies the norm, then SiLU.
    pub(super) fn forward_silu(&self, x: Tensor) -> Result<Tensor> {
        Ok(self.forward(x)?.f_silu_()?)
    }
}

/// A residual block: two convolutions beside a shortcut.
#[derive(Debug)]
pub(super) struct Resnet {
    norm1: ChannelNorm,
    conv1: Conv2d,
    norm2: ChannelNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
}

impl Resnet {
    pub(super) fn new(w: &Weights, inputs: i64, outputs: i64) -> Result<Self> {
        let shortcut = || w.at("conv_shortcut").conv2d_of_last_frame(inputs, outputs, Conv::CELL);
        Ok(Self {
            norm1: ChannelNorm::new(&w.at("norm1"), &[inputs, 1, 1, 1])?,
            conv1: w.at("conv1").conv2d_of_last_frame(inputs, outputs, Conv::SAME)?,
            norm2: ChannelNorm::new(&w.at("norm2"), &[outputs, 1, 1, 1])?,
            conv2: w.at("conv2").conv2d_of_last_frame(outputs, outputs, Conv::SAME)?,
            conv_shortcut: (inputs != outputs).then(shortcut).transpose()?,
        })
    }

    /// Applies the block: [b, inputs, h, w] → [b, outputs, h, w].
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let h = self.conv1.forward(&self.norm1.forward_silu(x.shallow_clone())?)?;
        let h = self.norm2.forward_silu(h)?;
        match &self.conv_shortcut {
            Some(shortcut) => shortcut.forward_onto(self.conv2.forward(&h)?, x),
            None => self.conv2.forward_sum(&h, x),
        }
    }
}

/// The block between encoder or decoder and latent: residual blocks around attention.
#[derive(Debug)]
pub(super) struct MidBlock {
    resnets: [Resnet; 2],
    attention: Attention,
}

impl MidBlock {
    pub(super) fn new(w: &Weights, channels: i64) -> Result<Self> {
        let resnet = |name| Resnet::new(&w.at(name), channels, channels);
        Ok(Self {
            resnets: [resnet("resnets.0")?, resnet("resnets.1")?],
            attention: Attention::new(&w.at("attentions.0"), channels)?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [before, after] = &self.resnets;
        after.forward(&self.attention.forward(&before.forward(x)?)?)
    }
}

/// Attention with one head over all cells. Hooks do not see this attention, because it is not part of the diffusion.
#[derive(Debug)]
struct Attention {
    norm: ChannelNorm,
    /// Queries, keys and values in one layer.
    to_qkv: Linear,
    proj: Linear,
}

impl Attention {
    fn new(w: &Weights, channels: i64) -> Result<Self> {
        Ok(Self {
            norm: ChannelNorm::new(&w.at("norm"), &[channels, 1, 1])?,
            to_qkv: w.at("to_qkv").cellwise(channels, 3 * channels)?,
            proj: w.at("proj").cellwise(channels, channels)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let channels = x.size4()?.1;
        let all = self.to_qkv.forward(&cells(&self.norm.forward(x.shallow_clone())?)?)?; // [b, h·w, 3·channels]
        let part = |i: i64| all.f_narrow(2, i * channels, channels);
        let y = attention(&part(0)?, &part(1)?, &part(2)?, 1, false)?;
        Ok(picture(&self.proj.forward(&y)?, x)?.f_add_(x)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn norm_divides_cells_by_their_length() -> Result<()> {
        let gamma = Tensor::ones([2, 1, 1, 1], (Kind::Float, Device::Cpu));
        let w = Weights::new("a file", [("gamma".to_owned(), gamma)].into(), Kind::Float, Device::Cpu);
        let norm = ChannelNorm::new(&w, &[2, 1, 1, 1])?;
        let y = norm.forward(Tensor::from_slice(&[3f32, 0.0, 4.0, 0.0]).reshape([1, 2, 1, 2]))?;
        let want = Tensor::from_slice(&[0.6f32, 0.0, 0.8, 0.0]).reshape([1, 2, 1, 2]) * 2f64.sqrt();
        assert!(y.allclose(&want, 1e-6, 1e-6, false), "{y}");
        Ok(())
    }
}
