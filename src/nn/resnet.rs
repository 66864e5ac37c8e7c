//! Residual blocks, downsampling and upsampling.

use super::layers::{Conv, Conv2d, GroupNorm};
use crate::attention::{add_repeated, repeated};
use crate::error::{Error, Result};
use crate::weights::Weights;
use tch::Tensor;

/// The sizes of a [`Resnet`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ResnetConfig {
    /// Input channels.
    pub inputs: i64,
    /// Output channels.
    pub outputs: i64,
    /// Index of the block's vector among the time projections of a network; `None` for a block without a time input.
    pub time: Option<usize>,
    /// Groups of the norms; divides both channel counts.
    pub groups: i64,
    /// Epsilon of the norms.
    pub eps: f64,
}

/// A residual block: two convolutions beside a shortcut, with the time projection added between them.
#[derive(Debug)]
pub(super) struct Resnet {
    norm1: GroupNorm,
    conv1: Conv2d,
    time: Option<usize>,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
}

impl Resnet {
    /// Builds the block from the weights `w`.
    pub(super) fn new(w: &Weights, config: ResnetConfig) -> Result<Self> {
        let ResnetConfig { inputs, outputs, time, groups, eps } = config;
        let shortcut = || w.at("conv_shortcut").conv2d(inputs, outputs, Conv::CELL);
        Ok(Self {
            norm1: w.at("norm1").group_norm(groups, inputs, eps)?,
            conv1: w.at("conv1").conv2d(inputs, outputs, Conv::SAME)?,
            time,
            norm2: w.at("norm2").group_norm(groups, outputs, eps)?,
            conv2: w.at("conv2").conv2d(outputs, outputs, Conv::SAME)?,
            conv_shortcut: (inputs != outputs).then(shortcut).transpose()?,
        })
    }

    /// Applies the block: [b, inputs, h, w] → [b, outputs, h, w]. `times` are the time projections of a network's
    /// residual blocks, [1 or b, outputs] each.
    ///
    /// # Errors
    /// [`Error::Parameter`] if `times` lacks the block's own projection.
    pub(super) fn forward(&self, x: &Tensor, times: &[Tensor]) -> Result<Tensor> {
        let h = self.first(&self.conv1, &self.norm1, x, times)?;
        match &self.conv_shortcut {
            Some(shortcut) => shortcut.forward_onto(self.second(h, None)?, x),
            None => self.second(h, Some(x)),
        }
    }

    /// Applies the block to the channels of `x`, [b, .., h, w], followed by the channels of the skip connection `skip`,
    /// [n, .., h, w].
    ///
    /// If n is less than b, row i of `x` goes with row i mod n of `skip`. A block with a shortcut convolution then
    /// convolves `skip` only once for all rows, unless a group of the norm contains channels of both tensors.
    pub(super) fn forward_beside(&self, x: &Tensor, skip: &Tensor, times: &[Tensor]) -> Result<Tensor> {
        let (rows, channels, ..) = x.size4()?;
        let parts = match &self.conv_shortcut {
            Some(shortcut) if skip.size4()?.0 < rows => self.norm1.split(channels)?.zip(Some(shortcut)),
            _ => None,
        };
        let Some(([norm_x, norm_skip], shortcut)) = parts else {
            return self.forward(&Tensor::f_cat(&[x, &repeated(skip, rows)?], 1)?, times);
        };
        let [conv_x, conv_skip] = self.conv1.split(channels)?;
        let [shortcut_x, shortcut_skip] = shortcut.split(channels)?;
        let h = self.first(&conv_x, &norm_x, x, times)?;
        let h = self.second(add_repeated(h, &conv_skip.forward(&norm_skip.forward_silu(skip)?)?)?, None)?;
        add_repeated(shortcut_x.forward_onto(h, x)?, &shortcut_skip.forward(skip)?)
    }

    /// Computes the first half of the block: norm, SiLU, convolution and time projection.
    fn first(&self, conv: &Conv2d, norm: &GroupNorm, x: &Tensor, times: &[Tensor]) -> Result<Tensor> {
        let x = norm.forward_silu(x)?;
        let Some(mine) = self.time else { return conv.forward(&x) };
        let wanted = || {
            Error::parameter(
                "number of time projections",
                times.len(),
                format!("{} or more, because the block uses projection {mine}", mine + 1),
            )
        };
        conv.forward_plus(&x, times.get(mine).ok_or_else(wanted)?)
    }

    /// Computes the second half of the block, and adds the shortcut `x` if there is one. `h` is taken by value to free
    /// it before the next tensor is made: for a large picture, these tensors take most of the memory.
    fn second(&self, mut h: Tensor, x: Option<&Tensor>) -> Result<Tensor> {
        h = self.norm2.forward_silu(&h)?;
        match x {
            Some(x) => self.conv2.forward_sum(&h, x),
            None => self.conv2.forward(&h),
        }
    }
}

/// Downsampling: a convolution that halves the grid.
#[derive(Debug)]
pub(super) struct Downsample {
    conv: Conv2d,
    /// True if zeros pad only the right and the lower edge, as in the VAE.
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

/// Upsampling: nearest-neighbor interpolation, then a convolution.
#[derive(Debug)]
pub(super) struct Upsample {
    conv: Conv2d,
}

impl Upsample {
    pub(super) fn new(w: &Weights, channels: i64) -> Result<Self> {
        Ok(Self { conv: w.at("conv").conv2d(channels, channels, Conv::SAME)? })
    }

    /// Keeps sums of weights together with `other`, whose weights are equal.
    pub(super) fn share_sums(&mut self, other: &Self) {
        self.conv.sums = other.conv.sums.clone();
    }

    #[cfg(test)]
    pub(super) fn shares_sums(&self, other: &Self) -> bool {
        self.conv.sums.are_shared_with(&other.conv.sums)
    }

    /// Upsamples to `size`, (rows, columns).
    pub(super) fn forward(&self, x: &Tensor, size: (i64, i64)) -> Result<Tensor> {
        let (_, _, h, w) = x.size4()?;
        if size == (2 * h, 2 * w) {
            return self.conv.forward_doubled(x);
        }
        self.conv.forward(&x.f_upsample_nearest2d([size.0, size.1], None::<f64>, None::<f64>)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn forward_beside_equals_forward_of_joined_channels() -> Result<()> {
        let w = Weights::random(1, Kind::Float, Device::Cpu);
        let randn = |shape: [i64; 4]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        // Groups of 4 channels: first 8 + 12 channels, which share no group, then 6 + 14, which share one, then no
        // shortcut.
        for (groups, channels, skips, outputs) in [(5, 8, 12, 10), (5, 6, 14, 10), (5, 8, 12, 20)] {
            let config = ResnetConfig { inputs: 20, outputs, time: Some(1), groups, eps: 1e-5 };
            let resnet = Resnet::new(&w.at(format!("{channels}.{outputs}")), config)?;
            let times = [1, 6].map(|rows| [Tensor::new(), Tensor::randn([rows, outputs], (Kind::Float, Device::Cpu))]);
            for (rows, times) in [1, 2, 6].into_iter().flat_map(|rows| times.iter().map(move |times| (rows, times))) {
                let (x, skip) = (randn([6, channels, 5, 7]), randn([rows, skips, 5, 7]));
                let all = Tensor::cat(&[&x, &skip.repeat([6 / rows, 1, 1, 1])], 1);
                let (beside, one) = (resnet.forward_beside(&x, &skip, times)?, resnet.forward(&all, times)?);
                let apart = (&beside - &one).abs().max().double_value(&[]);
                assert!(beside.size() == [6, outputs, 5, 7] && apart < 1e-5, "{channels} + {skips}, {rows}: {apart}");
            }
            let error = resnet.forward(&randn([1, 20, 5, 7]), &[]).unwrap_err().to_string();
            assert!(error.contains("number of time projections is 0; expected 2 or more"), "{error}");
        }
        Ok(())
    }
}
