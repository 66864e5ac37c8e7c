//! The contracting half of a UNet, from a sample to the smallest grid. ControlNets have the same half.

use super::added::AddedConditions;
use super::blocks::{BlockBuilder, BlockContext, DownBlock, MidBlock};
use super::config::{Level, UnetConfig};
use crate::attention::{Tap, repeated};
use crate::error::{Error, Result};
use crate::nn::layers::{Conv, Conv2d};
use crate::nn::time::{Sinusoids, TimeProjections, TimestepEmbedding};
use crate::weights::Weights;
use impasto_kernels::SerialLibtorch;
use tch::{Device, Kind, Tensor};

/// Name in errors of an adapter's feature.
const FEATURE: &str = "the T2I adapter's feature";

/// The contracting half, from `conv_in` to `mid_block`.
#[derive(Debug)]
pub(in crate::nn) struct UnetEncoder {
    conv_in: Conv2d,
    time_proj: Sinusoids,
    time_embedding: TimestepEmbedding,
    add_time_proj: Option<Sinusoids>,
    add_embedding: Option<TimestepEmbedding>,
    down_blocks: Vec<DownBlock>,
    mid_block: Option<MidBlock>,
    times: TimeProjections,
    config: UnetConfig,
    options: (Kind, Device),
}

/// Tensors that other networks add inside the contracting half, none by default, and the levels to run.
#[derive(Clone, Copy, Default)]
pub(in crate::nn) struct Additions<'a> {
    /// Hints, [1 or b, channels, h, w] each, added to the output of the first layer and then of each level. Later
    /// levels may lack a hint: a ControlNet has one hint.
    pub hints: &'a [Tensor],
    /// Features of T2I adapters; see [`AddedConditions::adapter`].
    pub adapter: &'a [Tensor],
    /// A summand of the time embedding, [1, width].
    pub time: Option<&'a Tensor>,
    /// True to run the first level alone, without its downsampling.
    pub first_level_alone: bool,
}

/// Result of the contracting half for a sample, with time embedding and context, in the network's kind.
pub(in crate::nn) struct Encoded {
    /// Hidden state at the smallest grid.
    pub x: Tensor,
    /// Skip connections: the output of every layer. Outputs before the first cross-attention have as many rows as the
    /// sample.
    pub skips: Vec<Tensor>,
    /// The time embedding, before its SiLU.
    pub time: Tensor,
    /// The context.
    pub context: Tensor,
}

impl Encoded {
    /// Repeats the rows of the skip connections up to the context's number of rows.
    pub(crate) fn whole(mut self) -> Result<Self> {
        let rows = self.context.size3()?.0;
        self.skips = self.skips.iter().map(|skip| repeated(skip, rows)).collect::<Result<_>>()?;
        Ok(self)
    }
}

impl UnetEncoder {
    /// Builds the contracting half from the weights `w`. Also returns the channels of all skip connections.
    pub(crate) fn new(w: &Weights, make: &mut BlockBuilder<'_>, levels: &[Level]) -> Result<(Self, Vec<i64>)> {
        let config = make.config;
        let first = levels.first().map(|level| level.channels).unwrap_or_default();
        let mut skips = vec![first];
        let mut down_blocks = Vec::new();
        for (i, level) in levels.iter().enumerate() {
            let halve = i + 1 < levels.len();
            down_blocks.push(DownBlock::new(&w.at("down_blocks").at(i), make, level, halve, &mut skips)?);
        }
        let mid_block = match (&config.mid_block_type, levels.last()) {
            (Some(_), Some(level)) => Some(MidBlock::new(&w.at("mid_block"), make, level)?),
            _ => None,
        };
        let added = || {
            let inputs = config.projection_class_embeddings_input_dim.unwrap_or_default();
            TimestepEmbedding::new(&w.at("add_embedding"), inputs, make.time, None)
        };
        let waves = |width| Sinusoids::new(width, !config.flip_sin_to_cos, config.freq_shift, w.device());
        let half = Self {
            conv_in: w.at("conv_in").conv2d(config.in_channels, first, Conv::SAME)?,
            time_proj: waves(first)?,
            add_time_proj: config.addition_time_embed_dim.map(waves).transpose()?,
            time_embedding: {
                let w = w.at("time_embedding");
                TimestepEmbedding::new(&w, first, make.time, config.time_cond_proj_dim)?
            },
            add_embedding: config.addition_embed_type.is_some().then(added).transpose()?,
            down_blocks,
            mid_block,
            times: make.times()?,
            config: config.clone(),
            options: (w.kind(), w.device()),
        };
        Ok((half, skips))
    }

    pub(crate) fn config(&self) -> &UnetConfig {
        &self.config
    }

    /// Returns a value for the time in which the network computes with `sample`; see `nn::kernels::among_kernels`.
    pub(crate) fn among_kernels(&self, sample: &Tensor) -> Result<Option<SerialLibtorch>> {
        self.conv_in.among_kernels(&self.cast(sample)?)
    }

    /// Runs the contracting half with the arguments of `UNet::forward`, and adds `additions`.
    pub(crate) fn forward(
        &self,
        sample: &Tensor,
        timestep: &Tensor,
        context: &Tensor,
        added: Option<&AddedConditions>,
        additions: Additions<'_>,
        tap: &mut Tap<'_>,
    ) -> Result<Encoded> {
        self.check(sample, timestep, context)?;
        let time = self.time(timestep, added, additions.time)?; // [1 or b, 4·channels]
        let (rows, all) = (sample.size4()?.0, context.size3()?.0);
        if rows < all && time.size2()?.0 > 1 {
            let expected = format!("{all} rows, because timesteps or added conditions differ from row to row");
            return Err(Error::Shape { what: "sample", got: sample.size(), expected });
        }
        let context = self.cast(context)?;
        let told = BlockContext { times: &self.times.forward(&time.f_silu()?)?, context: &context };

        let mut x = self.cast(sample)?;
        if self.config.center_input_sample {
            x = x.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?;
        }
        x = self.conv_in.forward(&x)?;
        let Additions { hints, adapter, first_level_alone, .. } = additions;
        let levels = if first_level_alone { 1 } else { self.down_blocks.len() };
        let (first, of_levels) = hints.split_first().unzip();
        let of_levels: &[Tensor] = of_levels.unwrap_or_default();
        if of_levels.len() > self.down_blocks.len() {
            let expected = format!(
                "at most {} hints: one for the first layer, and one for each level",
                1 + self.down_blocks.len()
            );
            return Err(Error::parameter("hints", hints.len(), expected));
        }
        if let Some(hint) = first {
            x = self.add("the embedded hint", &x, hint)?;
        }
        let mut skips = vec![x.shallow_clone()];
        for (i, block) in self.down_blocks.iter().enumerate().take(levels) {
            let feature = adapter.get(i).filter(|_| block.attends());
            let feature = feature.map(|feature| move |x: &Tensor| self.add(FEATURE, x, feature));
            let halve = !first_level_alone;
            x = block.forward(x, told, (&mut skips, halve), feature, tap)?;
            if let (Some(feature), false, Some(last)) = (adapter.get(i), block.attends(), skips.last_mut()) {
                x = self.add(FEATURE, &x, feature)?;
                *last = x.shallow_clone();
            }
            if let (Some(hint), Some(last)) = (of_levels.get(i), skips.last_mut()) {
                x = self.add("the embedded hint", &x, hint)?;
                *last = x.shallow_clone();
            }
        }
        if first_level_alone {
            return Ok(Encoded { x, skips, time, context });
        }
        if let Some(block) = &self.mid_block {
            x = block.forward(&x, told, tap)?;
        }
        // An adapter for a network with more levels has a feature left over, which counts only if it fits.
        let left = adapter.get(self.down_blocks.len()).filter(|feature| feature.size().get(1..) == x.size().get(1..));
        if let Some(feature) = left {
            x = self.add(FEATURE, &x, feature)?;
        }
        Ok(Encoded { x: repeated(&x, context.size3()?.0)?, skips, time, context })
    }

    /// Adds a hint to `x`; `what` names it. After the first cross-attention, `x` may have more rows than the hint; the
    /// hint's rows then repeat.
    fn add(&self, what: &'static str, x: &Tensor, hint: &Tensor) -> Result<Tensor> {
        let (b, channels, h, w) = x.size4()?;
        match hint.size().as_slice() {
            &[n, c, rows, columns] if n > 0 && b % n == 0 && (c, rows, columns) == (channels, h, w) => {
                let hint = self.cast(hint)?;
                Ok(x.f_add(&if n == 1 { hint } else { repeated(&hint, b)? })?)
            }
            got => {
                let expected = format!("[1 or {b}, {channels}, {h}, {w}]");
                Err(Error::Shape { what, got: got.to_vec(), expected })
            }
        }
    }

    /// Returns the time embedding of the timestep and the added conditions, plus `with`, [1 or b, width].
    fn time(&self, timestep: &Tensor, added: Option<&AddedConditions>, with: Option<&Tensor>) -> Result<Tensor> {
        let waves = |of: &Sinusoids, values: &Tensor| -> Result<Tensor> {
            self.cast(&of.of(&values.f_to_device(self.options.1)?.f_reshape([-1])?)?)
        };
        let condition = added.and_then(|added| added.timestep_cond.as_ref());
        let condition = condition.map(|condition| self.cast(condition)).transpose()?;
        let mut time = self.time_embedding.forward(&waves(&self.time_proj, timestep)?, condition.as_ref())?;
        if let Some(with) = with {
            time = time.f_add(with)?;
        }

        let Some(add_embedding) = &self.add_embedding else { return Ok(time) };
        let Some(sizes) = &self.add_time_proj else {
            let label = added.and_then(|added| added.text_embeds.as_ref());
            let label = label.map(|label| add_embedding.forward(&self.cast(label)?, None)).transpose()?;
            return Ok(label.map_or(Ok(time.shallow_clone()), |label| time.f_add(&label))?);
        };
        let Some(AddedConditions { text_embeds: Some(text), time_ids: Some(ids), .. }) = added else {
            return Err(Error::parameter(
                "added",
                "incomplete",
                "text_embeds and time_ids; this checkpoint needs both",
            ));
        };
        let sizes = waves(sizes, ids)?; // [b·6, width]
        let both = Tensor::f_cat(&[self.cast(text)?, sizes.f_reshape([text.size2()?.0, -1])?], 1)?;
        Ok(time.f_add(&add_embedding.forward(&both, None)?)?)
    }

    /// Converts a tensor to this network's kind and device.
    fn cast(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_to_device(self.options.1)?.f_to_kind(self.options.0)?)
    }

    fn check(&self, sample: &Tensor, timestep: &Tensor, context: &Tensor) -> Result<()> {
        let (channels, got) = (self.config.in_channels, sample.size());
        let shape = |what, got, expected| Err(Error::Shape { what, got, expected });
        let b = match got.as_slice() {
            &[b, c, _, _] if c == channels => b,
            _ => return shape("sample", got, format!("[b, {channels}, h, w]")),
        };
        if timestep.numel() != 1 && timestep.size() != [b] {
            return shape("timestep", timestep.size(), format!("one number or [{b}]"));
        }
        let width = self.config.cross_attention_dim.level(0).unwrap_or_default();
        match context.size().as_slice() {
            &[rows, _, w] if w == width && (rows == b || (b > 0 && rows > b && rows % b == 0)) => Ok(()),
            got => shape("context", got.to_vec(), format!("[{b} or a multiple, tokens, {width}]")),
        }
    }
}
