//! The three kinds of blocks of a UNet.

use super::free_u::BlockFactors;
use super::reference::Reference;
use super::{Level, UnetConfig};
use crate::attention::{Place, Tap};
use crate::error::Result;
use crate::nn::layers::Linear;
use crate::nn::resnet::{Downsample, Resnet, ResnetConfig, Upsample};
use crate::nn::time::TimeProjections;
use crate::nn::transformer::{Sites, Transformer, TransformerConfig};
use crate::weights::Weights;
use tch::Tensor;

/// Inputs that all blocks share in one evaluation: the time projections of this half's residual blocks, and the
/// context.
#[derive(Clone, Copy)]
pub(super) struct BlockContext<'a> {
    pub times: &'a [Tensor],
    pub context: &'a Tensor,
}

/// Builds residual blocks and transformers of one network.
pub(in crate::nn) struct BlockBuilder<'a> {
    pub config: &'a UnetConfig,
    /// Width of the time embedding.
    pub time: i64,
    /// Time projection layers of the residual blocks built so far in one half of the network.
    pub times: Vec<Linear>,
    pub sites: Sites,
}

impl<'a> BlockBuilder<'a> {
    /// Creates a builder for a network whose time embedding is `time` wide.
    pub(crate) fn new(config: &'a UnetConfig, time: i64) -> Self {
        Self { config, time, times: Vec::new(), sites: Sites::default() }
    }

    /// Returns the time projections of the residual blocks built since the last call.
    pub(crate) fn times(&mut self) -> Result<TimeProjections> {
        TimeProjections::new(std::mem::take(&mut self.times))
    }

    fn resnet(&mut self, w: &Weights, inputs: i64, outputs: i64) -> Result<Resnet> {
        let UnetConfig { norm_num_groups: groups, norm_eps: eps, .. } = *self.config;
        let time = Some(self.times.len());
        self.times.push(w.at("time_emb_proj").linear(self.time, outputs)?);
        Resnet::new(w, ResnetConfig { inputs, outputs, time, groups, eps })
    }

    fn transformer(&mut self, w: &Weights, level: &Level, place: Place) -> Result<Transformer> {
        let &Level { channels, heads, depth, context, halvings, .. } = level;
        let UnetConfig { norm_num_groups: groups, use_linear_projection: linear, .. } = *self.config;
        let config = TransformerConfig { channels, heads, depth, context, groups, linear, place, halvings };
        Transformer::new(w, &config, &mut self.sites)
    }
}

/// A block of the contracting half: residual blocks with or without transformers, then downsampling. Every result
/// becomes a skip connection.
#[derive(Debug)]
pub(super) struct DownBlock {
    resnets: Vec<Resnet>,
    attentions: Vec<Transformer>,
    downsamplers: Option<Downsample>,
}

impl DownBlock {
    /// Builds the block. `skips` are the channels of all skip connections so far; the block appends the channels of its
    /// own.
    pub(super) fn new(
        w: &Weights,
        make: &mut BlockBuilder<'_>,
        level: &Level,
        halve: bool,
        skips: &mut Vec<i64>,
    ) -> Result<Self> {
        let (mut resnets, mut attentions) = (Vec::new(), Vec::new());
        for i in 0..level.layers {
            let inputs = skips.last().copied().unwrap_or_default();
            resnets.push(make.resnet(&w.at("resnets").at(i), inputs, level.channels)?);
            if level.down_attends {
                attentions.push(make.transformer(&w.at("attentions").at(i), level, Place::Down)?);
            }
            skips.push(level.channels);
        }
        let downsamplers = halve.then(|| Downsample::new(&w.at("downsamplers.0"), level.channels)).transpose()?;
        if halve {
            skips.push(level.channels);
        }
        Ok(Self { resnets, attentions, downsamplers })
    }

    /// Returns true if the block has transformers.
    pub(super) const fn attends(&self) -> bool {
        !self.attentions.is_empty()
    }

    /// Runs the block, without its downsampling unless `halve` is true. `change`, if given, replaces the state after
    /// the last residual block and transformer, which is also a skip connection.
    pub(super) fn forward(
        &self,
        mut x: Tensor,
        told: BlockContext<'_>,
        (skips, halve): (&mut Vec<Tensor>, bool),
        change: Option<impl Fn(&Tensor) -> Result<Tensor>>,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor> {
        for (i, resnet) in self.resnets.iter().enumerate() {
            x = resnet.forward(&x, told.times)?;
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(&x, told.context, tap)?;
            }
            if let Some(change) = change.as_ref().filter(|_| i + 1 == self.resnets.len()) {
                x = change(&x)?;
            }
            skips.push(x.shallow_clone());
        }
        if let Some(downsample) = self.downsamplers.as_ref().filter(|_| halve) {
            x = downsample.forward(&x)?;
            skips.push(x.shallow_clone());
        }
        Ok(x)
    }
}

/// The middle block: residual block, transformer and residual block at the smallest grid.
#[derive(Debug)]
pub(super) struct MidBlock {
    resnets: [Resnet; 2],
    attentions: Transformer,
}

impl MidBlock {
    pub(super) fn new(w: &Weights, make: &mut BlockBuilder<'_>, level: &Level) -> Result<Self> {
        let mut resnet = |i: i64| make.resnet(&w.at("resnets").at(i), level.channels, level.channels);
        Ok(Self {
            resnets: [resnet(0)?, resnet(1)?],
            attentions: make.transformer(&w.at("attentions.0"), level, Place::Mid)?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor, told: BlockContext<'_>, tap: &mut Tap<'_>) -> Result<Tensor> {
        let [before, after] = &self.resnets;
        let x = before.forward(x, told.times)?;
        after.forward(&self.attentions.forward(&x, told.context, tap)?, told.times)
    }
}

/// A block of the expanding half: residual blocks that read skip connections, with or without transformers, then
/// upsampling.
#[derive(Debug)]
pub(super) struct UpBlock {
    resnets: Vec<Resnet>,
    attentions: Vec<Transformer>,
    pub(super) upsamplers: Option<Upsample>,
}

impl UpBlock {
    /// Builds the block. `inputs` are the channels of the block below; `skips` are those of the unused skip
    /// connections.
    pub(super) fn new(
        w: &Weights,
        make: &mut BlockBuilder<'_>,
        level: &Level,
        inputs: i64,
        skips: &mut Vec<i64>,
    ) -> Result<Self> {
        let (mut resnets, mut attentions) = (Vec::new(), Vec::new());
        let mut inputs = inputs;
        for i in 0..=level.layers {
            let skip = skips.pop().unwrap_or_default();
            resnets.push(make.resnet(&w.at("resnets").at(i), inputs + skip, level.channels)?);
            if level.up_attends {
                attentions.push(make.transformer(&w.at("attentions").at(i), level, Place::Up)?);
            }
            inputs = level.channels;
        }
        let double = level.halvings > 0;
        let upsamplers = double.then(|| Upsample::new(&w.at("upsamplers.0"), level.channels)).transpose()?;
        Ok(Self { resnets, attentions, upsamplers })
    }

    /// Applies the block. `first` is the index of the block's first layer in the expanding half, `reference` has the
    /// reference features to add, and `factors` are those of FreeU.
    pub(super) fn forward(
        &self,
        mut x: Tensor,
        told: BlockContext<'_>,
        skips: &mut Vec<Tensor>,
        (first, reference, factors): (usize, Option<Reference<'_>>, Option<BlockFactors>),
        tap: &mut Tap<'_>,
    ) -> Result<Tensor> {
        let mine = skips.split_off(skips.len().saturating_sub(self.resnets.len()));
        for (i, (resnet, skip)) in self.resnets.iter().zip(mine.iter().rev()).enumerate() {
            let warped = reference.map(|reference| reference.skip(first + i, skip)).transpose()?;
            let skip = warped.as_ref().unwrap_or(skip);
            x = match factors {
                Some(factors) => resnet.forward_beside(&factors.scale(&x)?, &factors.filter(skip)?, told.times)?,
                None => resnet.forward_beside(&x, skip, told.times)?,
            };
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(&x, told.context, tap)?;
            }
            // Halving rounds up, so the larger grid is not always twice as large. The next skip connection has its
            // size.
            let last = i + 1 == self.resnets.len();
            if let (true, Some(upsample), Some(above)) = (last, &self.upsamplers, skips.last()) {
                let (_, _, h, w) = above.size4()?;
                x = upsample.forward(&x, (h, w))?;
            }
            if let Some(reference) = reference {
                x = reference.styled(first + i, x)?;
            }
        }
        Ok(x)
    }

    /// Returns the number of layers, each of which reads a skip connection.
    pub(super) const fn layers(&self) -> usize {
        self.resnets.len()
    }
}
