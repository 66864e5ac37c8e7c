//! The UNet of the Stable Diffusion family, which predicts the noise in a latent.

mod added;
pub(super) mod blocks;
pub(super) mod config;
pub(super) mod encoder;
mod free_u;
mod memory;
mod reference;
mod residuals;

pub use added::AddedConditions;

pub use config::{Level, UnetConfig};
pub use residuals::Residuals;

use super::layers::{Conv, Conv2d, GroupNorm};
use super::time::TimeProjections;
use crate::attention::{AttentionSite, Tap};
use crate::error::Result;
use crate::weights::Weights;
use blocks::{BlockBuilder, BlockContext, UpBlock};
use encoder::{Additions, Encoded, UnetEncoder};
use free_u::BlockFactors;
use reference::ReferenceModules;
use tch::Tensor;

/// diffusers' `UNet2DConditionModel`: SD 1.x, 2.x, inpainting, SDXL and its refiner.
#[derive(Debug)]
pub struct UNet {
    contracting: UnetEncoder,
    up_blocks: Vec<UpBlock>,
    times: TimeProjections,
    reference: ReferenceModules,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    sites: Vec<AttentionSite>,
}

/// The result of the deep layers of a UNet in one evaluation.
pub(crate) enum Deep<'d> {
    /// The layers are computed, and their result is dropped.
    Computed,
    /// The layers are computed, and their result is kept here.
    Kept(&'d mut Option<Tensor>),
    /// The result of an earlier evaluation is used, so that only the layers of the first level are computed.
    Reused(&'d Tensor),
}

impl UNet {
    /// Builds a UNet from the weights `w`.
    ///
    /// # Errors
    /// [`Error::Config`](crate::error::Error::Config) if the configuration contradicts itself,
    /// [`Error::Weights`](crate::error::Error::Weights) if the weights do not fit it.
    pub fn new(w: &Weights, config: &UnetConfig) -> Result<Self> {
        let levels = config.levels()?;
        let first = levels.first().map(|level| level.channels).unwrap_or_default();
        let mut make = BlockBuilder::new(config, 4 * first);
        let (contracting, mut skips) = UnetEncoder::new(w, &mut make, &levels)?;
        let mut channels = skips.last().copied().unwrap_or_default();
        let reference = ReferenceModules::new(w, &skips, &levels, make.time)?;
        let mut up_blocks = Vec::new();
        for (i, level) in levels.iter().rev().enumerate() {
            up_blocks.push(UpBlock::new(&w.at("up_blocks").at(i), &mut make, level, channels, &mut skips)?);
            channels = level.channels;
        }
        let unet = Self {
            contracting,
            up_blocks,
            times: make.times()?,
            reference,
            conv_norm_out: w.at("conv_norm_out").group_norm(config.norm_num_groups, first, config.norm_eps)?,
            conv_out: w.at("conv_out").conv2d(first, config.out_channels, Conv::SAME)?,
            sites: make.sites.into_vec(),
        };
        w.finish()?;
        Ok(unet)
    }

    /// Builds the network again from `w`, whose tensors are this network's. Both networks share the sums of weights
    /// that layers keep.
    pub(crate) fn again(&self, w: &Weights) -> Result<Self> {
        let mut unet = Self::new(w, self.config())?;
        for (mine, others) in unet.up_blocks.iter_mut().zip(&self.up_blocks) {
            if let (Some(mine), Some(others)) = (&mut mine.upsamplers, &others.upsamplers) {
                mine.share_sums(others);
            }
        }
        Ok(unet)
    }

    /// Returns true if the networks share the sums of weights of all upsampling layers.
    #[cfg(test)]
    pub(crate) fn shares_sums(&self, other: &Self) -> bool {
        let mut pairs = self.up_blocks.iter().zip(&other.up_blocks);
        pairs.all(|(mine, others)| match (&mine.upsamplers, &others.upsamplers) {
            (Some(mine), Some(others)) => mine.shares_sums(others),
            (mine, others) => mine.is_none() && others.is_none(),
        })
    }

    /// Returns the configuration of the network.
    pub fn config(&self) -> &UnetConfig {
        self.contracting.config()
    }

    /// Returns the attention sites in the order they run.
    pub fn sites(&self) -> &[AttentionSite] {
        &self.sites
    }

    /// Returns true for a site of the first level, whose layers are always computed.
    pub(crate) fn is_shallow(&self, site: &AttentionSite) -> bool {
        let last = format!("up_blocks.{}.", self.up_blocks.len().saturating_sub(1));
        site.name.starts_with("down_blocks.0.") || site.name.starts_with(&last)
    }

    /// Computes the prediction (ε, v or x0, as the checkpoint was trained) for `sample`: [b, out_channels, h, w] in the
    /// kind of `sample`.
    ///
    /// - `sample`: [b, in_channels, h, w] of any size.
    /// - `timestep`: one number or a vector of b, possibly fractional.
    /// - `context`: [b, tokens, cross_attention_dim].
    /// - `added`: conditions of SDXL and LCM, which other models ignore, the residuals of ControlNets and the
    ///   features of T2I adapters.
    ///
    /// `sample` may have n rows with n dividing b, if all rows share one timestep and the added conditions do not
    /// differ between rows. Row i of the contexts then goes with row i mod n of `sample`. The layers before the first
    /// cross-attention then compute only n rows.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::error::Error::Shape) if a tensor has another shape.
    /// [`Error::Parameter`](crate::error::Error::Parameter) if the checkpoint needs `added`, or the number of residuals
    /// is not the number of skip connections.
    pub fn forward(
        &self,
        sample: &Tensor,
        timestep: &Tensor,
        context: &Tensor,
        added: Option<&AddedConditions>,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor> {
        self.forward_by(sample, timestep, context, added, Deep::Computed, tap)
    }

    /// Computes the prediction as [`forward`](Self::forward) does, and keeps or uses again the result of the deep
    /// layers: those of all levels but the first.
    pub(crate) fn forward_by(
        &self,
        sample: &Tensor,
        timestep: &Tensor,
        context: &Tensor,
        added: Option<&AddedConditions>,
        mut deep: Deep<'_>,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor> {
        let _serial = self.contracting.among_kernels(sample)?;
        let additions = Additions {
            hints: added.map_or(&[], |added| &added.features),
            adapter: added.map_or(&[], |added| &added.adapter),
            time: None,
            first_level_alone: matches!(deep, Deep::Reused(_)),
        };
        let mut contracted = self.contracting.forward(sample, timestep, context, added, additions, tap)?;
        if let Some(residuals) = added.and_then(|added| added.residuals.as_ref()) {
            contracted = contracted.whole()?;
            match deep {
                Deep::Reused(_) => contracted.skips = residuals.onto_first(&contracted.skips)?,
                _ => (contracted.x, contracted.skips) = residuals.onto(&contracted.x, &contracted.skips)?,
            }
        }
        let features = added.and_then(|added| added.reference.as_ref());
        if features.is_some() {
            contracted = contracted.whole()?;
        }
        let Encoded { mut x, mut skips, time, context } = contracted;
        let reference = features.map(|features| self.reference.with(features, &time)).transpose()?;
        let told = BlockContext { times: &self.times.forward(&time.f_silu()?)?, context: &context };
        let (mut first, last) = (0, self.up_blocks.len().saturating_sub(1));
        let factors = added.and_then(|added| added.free_u.as_ref());
        if let Deep::Reused(kept) = deep {
            x = kept.shallow_clone();
        }
        for (number, block) in self.up_blocks.iter().enumerate() {
            match &mut deep {
                Deep::Reused(_) if number < last => {
                    first += block.layers();
                    continue;
                }
                Deep::Kept(kept) if number == last => **kept = Some(x.shallow_clone()),
                _ => {}
            }
            let factors = factors.and_then(|factors| BlockFactors::of(factors, number));
            x = block.forward(x, told, &mut skips, (first, reference, factors), tap)?;
            first += block.layers();
        }
        let x = self.conv_out.forward(&self.conv_norm_out.forward_silu(&x)?)?;
        Ok(x.f_to_kind(sample.kind())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::{At, Call, CrossAttentionHook, HookTable, Interest, KvCache};
    use crate::branch::Branch;
    use crate::diffusion::Noise;
    use crate::error::Error;
    use crate::nn::PerLevel;
    use crate::step::{Grid, Step};
    use tch::{Device, Kind};

    const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn tiny() -> UnetConfig {
        UnetConfig {
            block_out_channels: vec![8, 16],
            down_block_types: vec!["CrossAttnDownBlock2D".into(), "DownBlock2D".into()],
            up_block_types: vec!["UpBlock2D".into(), "CrossAttnUpBlock2D".into()],
            norm_num_groups: 4,
            layers_per_block: PerLevel::Same(1),
            attention_head_dim: PerLevel::Same(2),
            cross_attention_dim: PerLevel::Same(12),
            ..UnetConfig::default()
        }
    }

    #[test]
    fn sites_are_listed_in_the_order_they_run() -> Result<()> {
        let unet = UNet::new(&Weights::random(1, Kind::Float, Device::Cpu), &tiny())?;
        let names: Vec<&str> = unet.sites().iter().map(|site| &*site.name).collect();
        assert_eq!(
            names[..2],
            [
                "down_blocks.0.attentions.0.transformer_blocks.0.attn1",
                "down_blocks.0.attentions.0.transformer_blocks.0.attn2"
            ]
        );
        assert_eq!(names[2], "mid_block.attentions.0.transformer_blocks.0.attn1");
        assert_eq!(names[7], "up_blocks.1.attentions.1.transformer_blocks.0.attn2");
        assert_eq!(unet.sites().iter().map(|site| site.halvings).collect::<Vec<_>>(), [0, 0, 1, 1, 0, 0, 0, 0]);
        assert!(unet.sites().iter().enumerate().all(|(i, site)| site.index == i));
        Ok(())
    }

    #[test]
    fn wrong_inputs_are_named() -> Result<()> {
        let unet = UNet::new(&Weights::random(1, Kind::Float, Device::Cpu), &tiny())?;
        let message = |sample: [i64; 4], time: &[i64], context: [i64; 3]| {
            let [sample, context] = [Tensor::zeros(sample, CPU), Tensor::zeros(context, CPU)];
            unet.forward(&sample, &Tensor::zeros(time, CPU), &context, None, &mut Tap::none()).unwrap_err().to_string()
        };
        assert!(
            message([2, 3, 8, 8], &[], [2, 7, 12]).contains("sample has shape [2, 3, 8, 8]; expected [b, 4, h, w]")
        );
        assert!(message([2, 4, 8, 8], &[3], [2, 7, 12]).contains("timestep has shape [3]; expected one number or [2]"));
        assert!(
            message([2, 4, 8, 8], &[], [1, 7, 12])
                .contains("context has shape [1, 7, 12]; expected [2 or a multiple, tokens, 12]")
        );
        Ok(())
    }

    /// Draws numbers that are the same in every run of the tests.
    fn draw(shape: &[i64]) -> Tensor {
        Noise::seeded(2).draw(shape).unwrap()
    }

    /// A hook that notes the number of libtorch's threads.
    struct Threads(Option<i32>);

    impl CrossAttentionHook for Threads {
        fn interest(&self, _: &AttentionSite, _: Branch) -> Interest {
            Interest::OUTPUT
        }
        fn output(&mut self, _: &At<'_>, _: &mut Tensor) -> Result<()> {
            self.0 = Some(tch::get_num_threads());
            Ok(())
        }
    }

    #[test]
    fn libtorch_has_one_thread_among_kernels() -> Result<()> {
        let unet = UNet::new(&Weights::random(1, Kind::Float, Device::Cpu), &tiny())?;
        let (step, branches) = (Step::new(0, 1, 1.0, 0.0, 7.5), [Branch::Cond]);
        let (mut hook, mut cache) = (Threads(None), KvCache::default());
        let table = HookTable::new(&[&mut hook], unet.sites(), &branches)?;
        let call = Call { step: &step, branches: &branches, images: 0..1, grid: Grid::new(8, 8) };
        let before = tch::get_num_threads();
        tch::set_num_threads(2);
        let mut tap = Tap::new(call, vec![&mut hook], &table, &mut cache)?;
        let predicted =
            unet.forward(&draw(&[1, 4, 8, 8]), &Tensor::from(7.5), &draw(&[1, 7, 12]), None, &mut tap).map(drop);
        let after = tch::get_num_threads();
        tch::set_num_threads(before);
        predicted?;
        let is_serial = cfg!(target_os = "linux") && impasto_kernels::arranges(Kind::Float);
        assert_eq!((hook.0, after), (Some(if is_serial { 1 } else { 2 }), 2));
        Ok(())
    }

    #[test]
    fn samples_repeat_for_additional_contexts() -> Result<()> {
        let unet = UNet::new(&Weights::random(1, Kind::Float, Device::Cpu), &tiny())?;
        let contexts = draw(&[6, 7, 12]);
        let predicted =
            |samples: &Tensor, time: &Tensor| unet.forward(samples, time, &contexts, None, &mut Tap::none());
        let time = Tensor::from(7.5);
        for rows in [1, 2, 3] {
            let samples = draw(&[rows, 4, 9, 7]);
            let (few, all) = (predicted(&samples, &time)?, predicted(&samples.repeat([6 / rows, 1, 1, 1]), &time)?);
            let apart = (&few - &all).abs().max().double_value(&[]);
            assert!(few.size() == [6, 4, 9, 7] && apart < 1e-5, "{rows} rows: {apart}");
        }
        // Residuals of ControlNets have all rows.
        let samples = draw(&[2, 4, 8, 8]);
        let residuals = |rows: i64| {
            let cells = |(channels, side): (i64, i64)| draw(&[rows, channels, side, side]);
            Residuals { skips: [(8, 8), (8, 8), (8, 4), (16, 4)].map(cells).into(), mid: cells((16, 4)) }
        };
        let added = AddedConditions { residuals: Some(residuals(6)), ..AddedConditions::default() };
        let controlled = |samples: &Tensor| unet.forward(samples, &time, &contexts, Some(&added), &mut Tap::none());
        let apart = (controlled(&samples)? - controlled(&samples.repeat([3, 1, 1, 1]))?).abs().max().double_value(&[]);
        assert!(apart < 1e-5, "with residuals: {apart}");
        let samples = draw(&[2, 4, 9, 7]);
        let error = predicted(&samples, &Tensor::from_slice(&[7.5f32, 8.0])).unwrap_err().to_string();
        assert!(error.contains("sample has shape [2, 4, 9, 7]; expected 6 rows"), "{error}");
        Ok(())
    }

    #[test]
    fn weights_that_do_not_fit_are_one_error() {
        let error =
            UNet::new(&Weights::new("empty", Default::default(), Kind::Float, Device::Cpu), &tiny()).unwrap_err();
        let Error::Weights(report) = error else { panic!("{error}") };
        assert!(report.missing.iter().any(|missing| missing.name == "conv_in.weight" && missing.shape == [8, 4, 3, 3]));
    }

    #[test]
    fn bf16_unet_returns_the_samples_kind() -> Result<()> {
        let unet = UNet::new(&Weights::random(1, Kind::BFloat16, Device::Cpu), &tiny())?;
        let eps = unet.forward(
            &Tensor::ones([1, 4, 5, 7], CPU),
            &Tensor::from(3.5),
            &Tensor::ones([1, 2, 12], CPU),
            None,
            &mut Tap::none(),
        )?;
        assert_eq!((eps.kind(), eps.size()), (Kind::Float, vec![1, 4, 5, 7]));
        Ok(())
    }
}
