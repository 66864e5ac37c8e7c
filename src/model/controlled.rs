//! [`Controlled`]: a model with ControlNets and T2I adapters.

use super::adapted::{Adapting, adapter_fits};
use super::backbone::NetworkInput;
use super::control::Control;
use super::control_network::ControlNetwork;
use super::embedded_hint::embed;
use super::info::{ModelInfo, Work};
use super::read_config::{check_report, read_config};
use super::reuse::{Kept, Reuse, check_reuse};
use super::rows::rows_of;
use super::{Model, adapted};
use crate::attention::{AttentionSite, Tap};
use crate::branch::Branch;
use crate::color::Rgb;
use crate::conditioning::{Codec, Conditioning, Offer, Texts};
use crate::diffusion::{Denoiser, Input, Network, Predictions};
use crate::error::{Error, Result};
use crate::nn::guess::Guess;
use crate::nn::seamless::Seamless;
use crate::nn::token_merging::{self, TokenMerging, check_merge_tokens};
use crate::nn::unet::Deep;
use crate::nn::union::ControlType;
use crate::nn::{AddedConditions, ConfigFile, ControlNet, ControlNetConfig, Residuals, loras};
use crate::prompt::Prompt;
use crate::size::Size;
use crate::step::{Grid, Step};
use crate::weights::{Checkpoint, Source};
use crate::window::Window;
use std::cell::Cell;
use std::fmt;
use std::ops::Range;
use tch::{Device, Tensor};

/// A model with ControlNets and T2I adapters, which is a [`Denoiser`] and [`Codec`] like the plain model. Without such
/// networks, and in steps in which none acts, the result equals that of the plain model bit for bit.
///
/// A net is evaluated before the UNet for every branch, with the branch's own prompt and the same hint. The residuals
/// of several nets are added up. A net's attention sites follow the UNet's in the list of sites
/// ([`AttentionSite::control`]). A hook is also called at these sites if
/// [`CrossAttentionHook::controls`](crate::attention::CrossAttentionHook::controls) returns true.
///
/// A T2I adapter is evaluated once, before the first step. All branches get the same features, and the features of
/// several adapters are added up. An adapter has no attention sites.
///
/// Sources: `ControlNetModel`, `MultiControlNetModel` and the ControlNet pipelines of diffusers; `cldm/cldm.py`.
#[must_use]
pub struct Controlled<'m> {
    model: &'m dyn Network,
    /// The model that the nets belong to; `None` for a network that takes no nets: a transformer, or one from outside
    /// this crate.
    unet: Option<&'m Model>,
    acting: Vec<Acting<'m>>,
    adapting: Vec<Adapting>,
    /// Edges at which pictures continue.
    seamless: Seamless,
    /// Largest number of pictures that the VAE processes at once.
    most_pictures: i64,
    /// Deep layers that are not computed at every evaluation.
    reuse: Reuse,
    /// Cells that self-attention computes as one; `None`: it computes each cell.
    merging: Option<TokenMerging>,
    /// Number of attention calls that merged cells.
    merged: Cell<usize>,
    /// Sites of the UNet, then those of each net.
    sites: Vec<AttentionSite>,
}

impl fmt::Debug for Controlled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acting, adapting, seamless, .. } = self;
        f.debug_struct("Controlled")
            .field("acting", acting)
            .field("adapting", adapting)
            .field("seamless", seamless)
            .finish_non_exhaustive()
    }
}

/// A [`Control`] with its hint embedded.
#[derive(Debug)]
struct Acting<'m> {
    net: &'m ControlNet,
    /// Embedded hint, [1 or n, channels, h, w].
    embedded: Tensor,
    /// Types of the hints, for a union.
    types: Vec<ControlType>,
    /// True if a hint has a scale other than 0.
    acts: bool,
    /// Factor of the residuals.
    scale: f64,
    window: Window,
    guess: Option<Guess>,
    /// Range of the net's sites among those of the run.
    sites: Range<usize>,
}

impl<'m> Controlled<'m> {
    /// Adds `controls` to a model. Hints are embedded once, in this call.
    ///
    /// # Errors
    /// - [`Error::Parameter`] for a scale that is not finite, a window outside its range or a hint outside 0..=1.
    /// - [`Error::Shape`] for a hint with other channels, or with sides that are no multiples of 8.
    /// - [`Error::Config`] for a ControlNet or T2I adapter of another model.
    /// - [`Error::Parameter`] for guess mode with a T2I adapter.
    /// - [`Error::Parameter`] for a control and a network that does not offer a [`Model`]
    ///   ([`Codec::offer`]).
    pub fn new<M: Denoiser + Codec>(model: &'m M, controls: &[Control<'m>]) -> Result<Self> {
        Self::sized(model, controls, None)
    }

    /// Adds `controls` as [`Controlled::new`] does, with pictures resized to `size`.
    pub(crate) fn sized(model: &'m dyn Network, controls: &[Control<'m>], size: Option<Size>) -> Result<Self> {
        let codec: &'m dyn Codec = model;
        let unet = codec.capability::<Model>().filter(|model| model.backbone.unet().is_some());
        let mut sites = model.sites().to_vec();
        let (mut acting, mut adapting) = (Vec::new(), Vec::new());
        for (number, control) in controls.iter().enumerate() {
            let &Control { net, scale, window, guess, .. } = control;
            if let Some(scale) = control.each().map(|control| control.scale).find(|scale| !scale.is_finite()) {
                let expected = "a finite number; 1 is the scale of the network's training";
                return Err(Error::parameter("scale", scale, expected));
            }
            window.check()?;
            let Some(unet) = unet else {
                let expected = "none for this network, which is no UNet of this crate; leave the controls out";
                return Err(Error::parameter("control", format!("a {}", net.name()), expected));
            };
            let net = match net {
                ControlNetwork::ControlNet(net) => net,
                ControlNetwork::T2iAdapter(adapter) => {
                    adapter_fits(adapter.config(), unet, "the T2I adapter")?;
                    adapting.push(Adapting::new(adapter, control, size)?);
                    continue;
                }
            };
            fits(net.config(), unet, "the ControlNet")?;
            let (embedded, types) = embed(net, control, size)?;
            // Several hints of a union are scaled before they are added up, a single hint's residuals afterwards.
            let acts = control.each().any(|control| control.scale != 0.0);
            let scale = if control.others.is_empty() { scale } else { 1.0 };
            let begin = sites.len();
            let listed = net.sites().iter().map(|site| AttentionSite {
                index: begin + site.index,
                control: Some(number),
                ..site.clone()
            });
            sites.extend(listed);
            acting.push(Acting { net, embedded, types, acts, scale, window, guess, sites: begin..sites.len() });
        }
        Ok(Self {
            model,
            unet,
            acting,
            adapting,
            seamless: Seamless::No,
            most_pictures: i64::MAX,
            reuse: Reuse::new(1),
            merging: None,
            merged: Cell::new(0),
            sites,
        })
    }

    /// Sets the edges at which pictures continue on the opposite side; none by default.
    ///
    /// # Errors
    /// [`Error::Parameter`] for edges of a network from outside this crate, whose convolutions know nothing of them.
    pub(crate) fn seamless(mut self, seamless: Seamless) -> Result<Self> {
        if seamless != Seamless::No && self.unet.is_none() {
            let expected = "no edges for this network, which is no UNet of this crate";
            return Err(Error::parameter("seamless", format!("{seamless:?}"), expected));
        }
        self.seamless = seamless;
        Ok(self)
    }

    /// Computes the deep layers of the UNet, and the ControlNets, only at every `every`-th evaluation of a run, and
    /// uses their results again in between. An evaluation in which a hook takes part at a deep site is computed whole.
    ///
    /// # Errors
    /// [`Error::Parameter`] for 0, for more than 10, and for a network from outside this crate.
    ///
    /// Source: Ma et al., "DeepCache" (arXiv 2312.00858).
    pub fn reuse(mut self, every: usize) -> Result<Self> {
        check_reuse(every)?;
        if every > 1 && self.unet.is_none() {
            return Err(Error::parameter("reuse", every, "1 for this network, which is no UNet of this crate"));
        }
        self.reuse = Reuse::new(every);
        Ok(self)
    }

    /// Returns the number of evaluations that used deep layers again.
    pub(crate) fn count_reused(&self) -> usize {
        self.reuse.count_reused()
    }

    /// Merges a share of the cells, 0 to .75, in self-attention at the largest grid on which the UNet attends: similar
    /// cells are computed as one. A site in which a hook takes part computes each cell, and so do all sites of an
    /// evaluation in which a LoRA acts in a place. ControlNets merge nothing.
    ///
    /// One cell of each block of 2×2 is drawn to receive others. In a run, a draw depends on the image's seed, the step
    /// and the site. Outside a run, this cell is the upper left one.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a share outside 0 to .75, and for one above 0 with a network from outside this crate.
    ///
    /// Source: Bolya and Hoffman, "Token Merging for Fast Stable Diffusion" (arXiv 2303.17604).
    pub fn merge_tokens(mut self, share: f64) -> Result<Self> {
        check_merge_tokens(share)?;
        if share > 0.0 && self.unet.is_none() {
            return Err(Error::parameter("merge_tokens", share, "0 for this network, which is no UNet of this crate"));
        }
        self.merging = self.unet.and_then(|unet| TokenMerging::new(share, unet.sites()));
        Ok(self)
    }

    /// Returns the number of attention calls that merged cells.
    pub(crate) fn count_merged(&self) -> usize {
        self.merged.get()
    }

    /// Sets the largest number of pictures that the VAE processes at once.
    pub(crate) fn most_pictures(mut self, pictures: usize) -> Self {
        self.most_pictures = i64::try_from(pictures).unwrap_or(i64::MAX).max(1);
        self
    }

    /// Estimates the memory in bytes of work on the latents of `images` images, with the residuals of the ControlNets.
    /// `None` if the model's memory is unknown.
    pub(crate) fn memory(&self, work: Work, grid: Grid, images: usize) -> Option<u64> {
        let codec: &dyn Codec = self.model;
        let info = codec.capability::<dyn ModelInfo>()?;
        match (work, self.unet.zip(self.acting.first())) {
            (Work::Step { branches }, Some((unet, acting))) => {
                // The residuals differ between branches, so the branches share nothing.
                let rows = branches * images;
                let bytes = rows * unet.kind.elt_size_in_bytes();
                let residuals = acting.net.config().unet.residuals(grid) * bytes as f64;
                Some(info.memory(Work::Step { branches: 1 }, grid, rows)? + residuals as u64)
            }
            (Work::Step { .. }, None) => info.memory(work, grid, images),
            _ => info.memory(work, self.seamless.reach(grid), images),
        }
    }

    /// Returns the pictures or latents that the VAE processes at once, one part of `x` after the other.
    fn parts(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let (rows, most) = (x.size4()?.0, self.most_pictures);
        (0..rows.max(1)).step_by(most as usize).map(|first| Ok(x.f_narrow(0, first, most.min(rows - first))?)).collect()
    }

    /// Returns the sum of the residuals of all nets that act at this step; `None` if none acts.
    fn residuals(
        &self,
        step: &Step,
        inputs: &[Input<'_>],
        given: &NetworkInput,
        tap: &mut Tap<'_>,
    ) -> Result<Option<Residuals>> {
        let mut sum: Option<Residuals> = None;
        for acting in self.acting.iter().filter(|acting| acting.active(step)) {
            let Some(residuals) = acting.residuals(inputs, given, &self.sites, tap)? else { continue };
            sum = Some(match sum {
                Some(sum) => sum.plus(&residuals)?,
                None => residuals,
            });
        }
        Ok(sum)
    }
}

impl Acting<'_> {
    /// Returns true if the net acts at this step.
    fn active(&self, step: &Step) -> bool {
        self.acts && self.window.contains(step)
    }

    /// Returns the net's residuals, with rows in the order of the stacked inputs; `None` if the net acts on none of
    /// them.
    fn residuals(
        &self,
        inputs: &[Input<'_>],
        given: &NetworkInput,
        sites: &[AttentionSite],
        tap: &mut Tap<'_>,
    ) -> Result<Option<Residuals>> {
        let pools = self.net.config().global_pool_conditions;
        let n = given.x.size4()?.0 / inputs.len().max(1) as i64;
        let embedded = rows_of(&self.embedded, n, tap.images(), "the ControlNet's hint")?;
        let goes_without = |input: &Input<'_>| (self.guess.is_some() || pools) && input.is_negative();
        let with: Vec<i64> = (0..).zip(inputs).filter(|(_, input)| !goes_without(input)).map(|(i, _)| i).collect();
        if with.is_empty() {
            return Ok(None);
        }
        let rows: Vec<i64> = with.iter().flat_map(|i| i * n..(i + 1) * n).collect();
        let index = Tensor::f_from_slice(&rows)?.f_to_device(given.x.device())?;
        let cut = |x: &Tensor| x.f_index_select(0, &index);
        let optional = |x: &Option<Tensor>| x.as_ref().map(cut).transpose();
        let added = given.added.as_ref().map(|added| -> Result<AddedConditions> {
            let AddedConditions { text_embeds, time_ids, timestep_cond, .. } = added;
            let (text_embeds, time_ids) = (optional(text_embeds)?, optional(time_ids)?);
            let timestep_cond = optional(timestep_cond)?;
            Ok(AddedConditions { text_embeds, time_ids, timestep_cond, ..AddedConditions::default() })
        });
        // An inpainting model's input has channels beside the latent, which a ControlNet does not read.
        let sample = cut(&given.sample)?.f_narrow(1, 0, self.net.config().unet.in_channels)?;
        let hints = embedded.f_repeat([with.len() as i64, 1, 1, 1])?;
        let own = sites.get(self.sites.clone()).unwrap_or_default();
        let branches: Vec<Branch> =
            inputs.iter().filter(|input| !goes_without(input)).map(|input| input.branch).collect();
        let (context, mut added) = (cut(&given.context)?, added.transpose()?);
        if !self.types.is_empty() {
            added.get_or_insert_default().control_types = self.types.clone();
        }
        let mut tap = tap.within(own, &branches);
        let put_out = self.net.forward(&sample, &given.timestep, &context, added.as_ref(), &hints, &mut tap)?;
        let count = put_out.skips.len();
        let all = given.x.size4()?.0;
        let weighed = put_out.map(|i, residual| {
            let weight = self.guess.filter(|_| !pools).map_or(1.0, |guess| guess.weight(i, count));
            let residual = residual.f_mul_scalar(self.scale * weight)?;
            if with.len() == inputs.len() {
                return Ok(residual);
            }
            let mut shape = residual.size();
            if let Some(rows) = shape.first_mut() {
                *rows = all;
            }
            let none = Tensor::f_zeros(shape, (residual.f_kind()?, residual.device()))?;
            Ok(none.f_index_copy(0, &index, &residual)?)
        });
        weighed.map(Some)
    }
}

impl Model {
    /// Loads a ControlNet for this model, in the model's kind and on its device. The source is a diffusers folder, or a
    /// file in diffusers' or the original layout (`control_model.…`, alone or beside a model).
    ///
    /// # Errors
    /// The errors of [`Model::load`]; [`Error::Config`] if the net belongs to another model; [`Error::Malformed`] for a
    /// file of something else that is not supported; [`Error::OtherKind`] for a file such as a T2I adapter.
    pub fn controlnet(&self, source: &Source) -> Result<ControlNet> {
        const PART: &str = "controlnet";
        let _no_grad = tch::no_grad_guard();
        let checkpoint = Checkpoint::open_controlnet(source)?;
        let config = read_config(&checkpoint, PART, ControlNetConfig::from_json)?;
        fits(&config, self, &checkpoint.name("controlnet/config.json"))?;
        let w = checkpoint.weights(PART, self.kind, self.device)?.offload(self.offload);
        let net = ControlNet::new(&w, &config)?;
        check_report(w.report(), "a ControlNet")?;
        Ok(net)
    }
}

/// Joins parts of a batch.
fn join(mut parts: Vec<Tensor>) -> Result<Tensor> {
    match (parts.len(), parts.pop()) {
        (1, Some(whole)) => Ok(whole),
        (_, last) => Ok(Tensor::f_cat(&parts.iter().chain(&last).collect::<Vec<_>>(), 0)?),
    }
}

/// Checks that a ControlNet belongs to a model. Errors name `file`.
fn fits(config: &ControlNetConfig, model: &Model, file: &str) -> Result<()> {
    let (net, unet) = (&config.unet, model.backbone.unet_for("controlnet")?.config());
    let misfit = |field: &str, value: String, expected: String| {
        let expected = format!("expected {expected}, as in the model; this ControlNet is for another model");
        Err(Error::Config { file: file.into(), field: field.into(), value, expected: expected.into() })
    };
    let per_level = |of: fn(&crate::nn::unet::Level) -> i64| -> Result<[Vec<i64>; 2]> {
        Ok([net.levels()?.iter().map(of).collect(), unet.levels()?.iter().map(of).collect()])
    };
    let latent = model.vae.config().latent_channels();
    if net.in_channels != latent {
        return misfit("in_channels", net.in_channels.to_string(), latent.to_string());
    }
    for (field, [own, wanted]) in [
        ("block_out_channels", per_level(|level| level.channels)?),
        ("layers_per_block", per_level(|level| level.layers)?),
        ("cross_attention_dim", per_level(|level| level.context)?),
    ] {
        if own != wanted {
            return misfit(field, format!("{own:?}"), format!("{wanted:?}"));
        }
    }
    if net.projection_class_embeddings_input_dim != unet.projection_class_embeddings_input_dim {
        let [own, wanted] = [net, unet].map(|config| format!("{:?}", config.projection_class_embeddings_input_dim));
        return misfit("projection_class_embeddings_input_dim", own, wanted);
    }
    let factor = model.vae.config().factor();
    if config.factor() != factor {
        let own = format!("for {} pixels along a latent cell", config.factor());
        return misfit("conditioning_embedding_out_channels", own, format!("{factor} pixels"));
    }
    Ok(())
}

impl Denoiser for Controlled<'_> {
    fn sites(&self) -> &[AttentionSite] {
        &self.sites
    }

    fn device(&self) -> Device {
        self.model.device()
    }

    fn channels(&self) -> i64 {
        self.model.channels()
    }

    fn inpaints(&self) -> bool {
        self.model.inpaints()
    }

    fn patch(&self) -> i64 {
        self.model.patch()
    }

    fn longest_side(&self) -> Option<i64> {
        self.model.longest_side()
    }

    fn denoise(&self, step: &Step, inputs: &[Input<'_>], tap: &mut Tap<'_>) -> Result<Predictions> {
        let changes = self.reuse.acts() || self.merging.is_some();
        let acts = !self.acting.is_empty() || !self.adapting.is_empty() || changes;
        let Some(unet) = self.unet.filter(|_| acts) else {
            return self.seamless.within(|| self.model.denoise(step, inputs, tap));
        };
        let predict = |inputs: &[Input<'_>], given: &NetworkInput, deep: Deep<'_>, tap: &mut Tap<'_>| {
            // The place of a LoRA has a share for each cell, and none for merged ones.
            let merging = self.merging.filter(|_| !loras::act_in_places());
            let (predictions, calls) =
                token_merging::within(merging, || unet.predictions(step, inputs, given, deep, tap));
            self.merged.set(self.merged.get() + calls);
            predictions
        };
        let evaluate = |inputs: &[Input<'_>], tap: &mut Tap<'_>| {
            let mut given = unet.given(step, inputs)?;
            let images = given.x.size4()?.0 / inputs.len().max(1) as i64;
            let features = adapted::features(&self.adapting, step, images, tap.images())?;
            if !features.is_empty() {
                given.added.get_or_insert_default().adapter = features;
            }
            let branches = inputs.iter().map(|input| input.branch).collect();
            let stack = (branches, tap.images().unwrap_or(0..images));
            let is_shallow = |site: &AttentionSite| unet.backbone.unet().is_some_and(|unet| unet.is_shallow(site));
            let is_read = || tap.reads(unet.sites().iter().filter(|site| !is_shallow(site)));
            let again = if self.reuse.acts() && !is_read() { self.reuse.again(step, &stack)? } else { None };
            if let Some(Kept { deep, residuals, .. }) = again {
                if let Some(residuals) = residuals {
                    given.added.get_or_insert_default().residuals = Some(residuals);
                }
                return predict(inputs, &given, Deep::Reused(&deep), tap);
            }
            let residuals = self.residuals(step, inputs, &given, tap)?;
            let kept = residuals.as_ref().map(Residuals::share).transpose()?;
            if let Some(residuals) = residuals {
                given.added.get_or_insert_default().residuals = Some(residuals);
            }
            if !self.reuse.acts() {
                return predict(inputs, &given, Deep::Computed, tap);
            }
            let mut deep = None;
            let predictions = predict(inputs, &given, Deep::Kept(&mut deep), tap)?;
            if let Some(deep) = deep {
                self.reuse.keep(stack, deep, kept);
            }
            Ok(predictions)
        };
        self.seamless.within(|| unet.by_loras(inputs, tap, evaluate))
    }
}

impl Codec for Controlled<'_> {
    fn prompt(&self, texts: Texts<'_>) -> Result<Prompt> {
        self.model.prompt(texts)
    }

    fn text(&self, texts: Texts<'_>) -> Result<Conditioning> {
        self.model.text(texts)
    }

    fn empty_chunk(&self) -> Result<Tensor> {
        self.model.empty_chunk()
    }

    fn encode(&self, picture: &Tensor) -> Result<Tensor> {
        let encode = |picture: &Tensor| Ok([self.model.encode(picture)?]);
        let of_part = |part: &Tensor| self.seamless.beyond(part, self.model.cell(), encode).map(|[latent]| latent);
        join(self.parts(picture)?.iter().map(of_part).collect::<Result<_>>()?)
    }

    fn posterior(&self, picture: &Tensor) -> Result<(Tensor, Tensor)> {
        let posterior = |picture: &Tensor| self.model.posterior(picture).map(<[Tensor; 2]>::from);
        let of_part =
            |part: &Tensor| self.seamless.beyond(part, self.model.cell(), posterior).map(<(Tensor, Tensor)>::from);
        let (mean, std) = self.parts(picture)?.iter().map(of_part).collect::<Result<(Vec<_>, Vec<_>)>>()?;
        Ok((join(mean)?, join(std)?))
    }

    fn draws(&self) -> bool {
        self.model.draws()
    }

    fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        let decode = |latent: &Tensor| Ok([self.model.decode(latent)?]);
        let of_part = |part: &Tensor| self.seamless.beyond(part, 1, decode).map(|[picture]| picture);
        join(self.parts(latent)?.iter().map(of_part).collect::<Result<_>>()?)
    }

    fn flat(&self, color: Rgb, grid: Grid) -> Result<Tensor> {
        self.model.flat(color, grid)
    }

    fn cell(&self) -> i64 {
        self.model.cell()
    }

    fn offer<'a>(&'a self, offer: &mut Offer<'a>) {
        self.model.offer(offer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guess_weights_equal_both_references() {
        let weights = |guess: Guess, n| (0..=n).map(|i| guess.weight(i, n)).collect::<Vec<_>>();
        let near = |got: &[f64], want: &[f64]| got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-12);
        // tests/golden/specs/controlnet.json: guess_scales, original_guess_scales_strength_1
        let four = [0.1, 0.1778279410038923, 0.31622776601683794, 0.5623413251903491, 1.0];
        assert!(near(&weights(Guess::Diffusers, 4), &four));
        let original = weights(Guess::Original, 12);
        assert!(near(&original[..2], &[0.09941396206337118, 0.12050177219802567]) && original[12] == 1.0);
    }
}
