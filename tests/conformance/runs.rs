//! Whole runs: kinds `pipeline`, `pipeline_ip_adapter`, `pipeline_t2i_adapter`, `daam` and `color_force`.

use super::ip_adapter::{self, Adapter};
use super::package_daam::{KeyFilter, PackageDaam, PackageKey};
use super::{Case, Outputs, Result, device, schedulers};
use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest, Probs, Tap};
use impasto::conditioning::Offer;
use impasto::diffusion::solver::{Euler, EulerAncestral, Solver};
use impasto::diffusion::{Denoiser, Input, Noise, Predictions, Schedule, Strength};
use impasto::guidance::{Cfg, GuidanceRun, RescaledCfg};
use impasto::methods::color_force::ForceRun;
use impasto::methods::{ColorForce, FreeU, PerturbedAttention, SkipLayers, SmoothedEnergy};
use impasto::model::{Controlled, Guess};
use impasto::nn::ControlNet;
use impasto::saliency::{Daam, Differential, HeatMap};
use impasto::sampler::{Origin, Sampler, Start};
use impasto::text::TextOptions;
use impasto::{
    Branch, Codec, Conditioning, Control, Grid, LoadOptions, MicroConditioning, Model, Prompt, Rgb, Size, Source, Step,
    Texts, Window,
};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// One value, or one value per prompt.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Several<T> {
    One(T),
    Each(Vec<T>),
}

impl<T: Clone> Several<T> {
    /// Returns the `i`th value, or the only value.
    fn at(&self, i: usize) -> T {
        match self {
            Self::One(value) => value.clone(),
            Self::Each(values) => values[i].clone(),
        }
    }
}

/// A model that skips the text encoder's last layers for the prompt, but not for the negative prompt, as diffusers
/// does. This crate skips them for both prompts, as the web UIs do.
struct SkipsForThePrompt<'m, M> {
    model: &'m M,
    /// The model without skipped layers.
    whole: Model,
    negative: String,
}

impl<M: Denoiser + Codec> Denoiser for SkipsForThePrompt<'_, M> {
    fn sites(&self) -> &[AttentionSite] {
        self.model.sites()
    }
    fn inpaints(&self) -> bool {
        self.model.inpaints()
    }
    fn device(&self) -> Device {
        self.model.device()
    }
    fn channels(&self) -> i64 {
        self.model.channels()
    }
    fn patch(&self) -> i64 {
        self.model.patch()
    }
    fn longest_side(&self) -> Option<i64> {
        self.model.longest_side()
    }
    fn denoise(&self, step: &Step, inputs: &[Input<'_>], tap: &mut Tap<'_>) -> impasto::Result<Predictions> {
        self.model.denoise(step, inputs, tap)
    }
}

impl<M: Denoiser + Codec> Codec for SkipsForThePrompt<'_, M> {
    fn prompt(&self, texts: Texts<'_>) -> impasto::Result<Prompt> {
        self.model.prompt(texts)
    }
    fn text(&self, texts: Texts<'_>) -> impasto::Result<Conditioning> {
        if texts.first == self.negative { self.whole.text(texts) } else { self.model.text(texts) }
    }
    fn empty_chunk(&self) -> impasto::Result<Tensor> {
        self.model.empty_chunk()
    }
    fn encode(&self, picture: &Tensor) -> impasto::Result<Tensor> {
        self.model.encode(picture)
    }
    fn posterior(&self, picture: &Tensor) -> impasto::Result<(Tensor, Tensor)> {
        self.model.posterior(picture)
    }
    fn draws(&self) -> bool {
        self.model.draws()
    }
    fn decode(&self, latent: &Tensor) -> impasto::Result<Tensor> {
        self.model.decode(latent)
    }
    fn cell(&self) -> i64 {
        self.model.cell()
    }
    fn offer<'a>(&'a self, offer: &mut Offer<'a>) {
        self.model.offer(offer);
    }
}

/// Returns SDXL's micro-conditioning from diffusers' arguments, in which sizes are (height, width) and the crop is
/// (top, left). Arguments of the negative prompt begin with `negative_`.
fn micro(case: &Case, of: &str) -> Result<Option<MicroConditioning>> {
    let pair = |name: &str| case.param::<Option<(u32, u32)>>(&format!("{of}{name}"));
    let (original, crop, target) = (pair("original_size")?, pair("crops_coords_top_left")?, pair("target_size")?);
    let score = case.param::<Option<f64>>(&format!("{of}aesthetic_score"))?;
    if (original, crop, target, score) == (None, None, None, None) {
        return Ok(None);
    }
    Ok(Some(MicroConditioning {
        original_size: original.map(|(height, width)| Size { width, height }),
        crop: crop.map(|(top, left)| (left, top)),
        target_size: target.map(|(height, width)| Size { width, height }),
        aesthetic_score: score,
    }))
}

/// Assembles parts from several folders, and the case's own scheduler, as one diffusers folder, and loads its model.
pub fn assembled(case: &Case) -> Result<(tempfile::TempDir, Model)> {
    let folder = tempfile::tempdir()?;
    let texts = ["text_encoder", "text_encoder_2", "text_encoder_3", "text_conditioner"];
    let tokenizers = ["tokenizer", "tokenizer_2", "tokenizer_3", "t5_tokenizer"];
    let parts = ["unet", "transformer", "vae"].into_iter().chain(texts);
    for part in parts.chain(tokenizers).filter(|part| case.models.contains_key(*part)) {
        std::os::unix::fs::symlink(std::fs::canonicalize(case.model(part)?)?, folder.path().join(part))?;
    }
    let scheduler: Value = case.param("scheduler")?;
    let mut config = scheduler["config"].clone();
    config["_class_name"] = scheduler["class"].clone();
    std::fs::create_dir(folder.path().join("scheduler"))?;
    std::fs::write(folder.path().join("scheduler/scheduler_config.json"), config.to_string())?;
    let skip: Option<usize> = case.param("clip_skip")?;
    // diffusers counts from the layer that a family reads: the last one of one encoder, the last but one of several.
    let several = usize::from(case.models.contains_key("text_encoder_2"));
    let clip_skip = skip.map(|skip| skip + 1 + several);
    let text = TextOptions { clip_skip, limit: case.param("max_sequence_length")?, ..TextOptions::PLAIN };
    let model = load(folder.path(), text)?;
    Ok((folder, model))
}

/// Loads a folder's model in f32, on the device of the cases.
fn load(folder: &Path, text: TextOptions) -> Result<Model> {
    let mut options = LoadOptions::default();
    options.device = device();
    options.precision = Kind::Float.into();
    options.text = text;
    Ok(Model::load_with(&Source::dir(folder), options)?)
}

/// Returns the sampler that diffusers' parameters describe.
fn sampler<'g>(case: &Case, model: &Model) -> Result<Sampler<'g>> {
    let steps: usize = case.param("num_inference_steps")?;
    let scale: Option<f64> = case.param("guidance_scale")?;
    let eta: Option<f64> = case.param("eta")?;
    let rescale: Option<f64> = case.param("guidance_rescale")?;
    let scheduler = model.scheduler().on(grid(case)?)?;
    let mut schedule = scheduler.schedule(steps)?;
    if let Some(strength) = case.param::<Option<f64>>("strength")? {
        let strength = Strength::Portion(strength);
        let flows = scheduler.is_flow();
        schedule = schedule.last(if flows { strength.flow_steps(steps)?.1 } else { strength.steps(steps)?.1 })?;
    }
    let solver: Box<dyn Solver> = match eta {
        Some(eta) => Box::new(EulerAncestral { eta, ..EulerAncestral::default() }),
        None => scheduler.solver()?,
    };
    let sampler = Sampler::new(schedule, solver).combine(RescaledCfg {
        scale: scale.unwrap_or(model.defaults().guidance_scale),
        rescale: rescale.unwrap_or(0.0),
    });
    let perturbed = case.param::<Option<f64>>("pag_scale")?.map(PerturbedAttention::new);
    let mut sampler = perturbed.into_iter().fold(sampler, Sampler::guide);
    if let Some(scale) = case.param::<Option<f64>>("seg_scale")? {
        sampler = sampler.guide(SmoothedEnergy::new(scale).blur(case.param("seg_blur")?));
    }
    if let Some(blocks) = case.param::<Option<Vec<usize>>>("skip_guidance_layers")? {
        let share = |name| case.param::<Option<f64>>(name);
        let (scale, start) = (share("skip_layer_guidance_scale")?, share("skip_layer_guidance_start")?);
        let mut method = SkipLayers::new(scale.unwrap_or(2.8)).blocks(blocks);
        if let Some(stop) = share("skip_layer_guidance_stop")? {
            method = method.window(Window::progress(start.unwrap_or(0.01)..=stop));
        }
        sampler = sampler.guide(method);
    }
    if let Some(FreeUParams { b1, b2, s1, s2 }) = case.param("free_u")? {
        sampler = sampler.guide(FreeU::new([b1, b2], [s1, s2]));
    }
    for (k, Adapter { file, scale }) in
        case.param::<Option<Vec<Adapter>>>("adapters")?.into_iter().flatten().enumerate()
    {
        let net = model.ip_adapter(case.dir.join(file), &Source::dir(case.model("image_encoder")?))?;
        let masked = case.inputs.contains_key(&format!("mask.{k}"));
        sampler = sampler.guide(ip_adapter::method(case, k, &net, &scale, masked)?);
    }
    Ok(sampler)
}

/// Factors of FreeU, as diffusers names them.
#[derive(Deserialize)]
struct FreeUParams {
    b1: f64,
    b2: f64,
    s1: f64,
    s2: f64,
}

pub fn grid(case: &Case) -> Result<Grid> {
    if let Some(image) = case.inputs.get("image") {
        let (.., height, width) = image.size4()?;
        return Ok(Grid::new(height / 8, width / 8));
    }
    Ok(Grid::new(case.param::<i64>("height")? / 8, case.param::<i64>("width")? / 8))
}

/// Loads the ControlNet of a case; `None` if the case has none.
fn controlnet(case: &Case, model: &Model) -> Result<Option<ControlNet>> {
    let Ok(folder) = case.model("controlnet") else { return Ok(None) };
    Ok(Some(model.controlnet(&Source::dir(folder))?))
}

/// Returns the model with the ControlNet of a case, or without control if the case has none.
fn controlled<'m>(case: &'m Case, model: &'m Model, net: Option<&'m ControlNet>) -> Result<Controlled<'m>> {
    let Some(net) = net else { return Ok(Controlled::new(model, &[])?) };
    let share = |name, usual| Ok::<_, Box<dyn std::error::Error>>(case.param::<Option<f64>>(name)?.unwrap_or(usual));
    let window = Window::progress(share("control_guidance_start", 0.0)?..=share("control_guidance_end", 1.0)?);
    let control = Control::new(net, case.input("image")?);
    let control = control.scale(share("controlnet_conditioning_scale", 1.0)?).window(window);
    let guesses = case.param::<Option<bool>>("guess_mode")?.unwrap_or(false);
    Ok(Controlled::new(model, &[control.guess(guesses.then_some(Guess::Diffusers))])?)
}

/// Computes text to image, image to image and inpainting. diffusers stacks several prompts in one batch. Here each
/// prompt is a run of its own, which must give the same result.
pub fn pipeline(case: &Case) -> Result<Outputs> {
    let (folder, model) = assembled(case)?;
    let net = controlnet(case, &model)?;
    let merged = case.param::<Option<f64>>("merge_tokens")?.unwrap_or_default();
    let controlled = controlled(case, &model, net.as_ref())?.merge_tokens(merged)?;
    let limit = case.param("max_sequence_length")?;
    let whole = load(folder.path(), TextOptions { limit, ..TextOptions::PLAIN })?;
    let mut codec = SkipsForThePrompt { model: &controlled, whole, negative: String::new() };
    let prompts: Several<String> = case.param("prompt")?;
    let [seconds, negatives, second_negatives] =
        ["prompt_2", "negative_prompt", "negative_prompt_2"].map(|name| case.param::<Option<Several<String>>>(name));
    let (seconds, negatives, second_negatives) = (seconds?, negatives?, second_negatives?);
    let [thirds, third_negatives] =
        ["prompt_3", "negative_prompt_3"].map(|name| case.param::<Option<Several<String>>>(name));
    let (thirds, third_negatives) = (thirds?, third_negatives?);
    let (told, told_against) = (micro(case, "")?, micro(case, "negative_")?);
    let seeds: Several<u64> = case.param("seed")?;
    let images = case.param::<Option<usize>>("num_images_per_prompt")?.unwrap_or(1);
    let count = if let Several::Each(prompts) = &prompts { prompts.len() } else { 1 };
    let class: String = case.param("pipeline")?;
    // In other classes the image is a ControlNet's hint.
    let task: Option<String> = case.param("task")?;
    let starts = ["Img2Img", "Inpaint"].iter().any(|task| class.contains(task)) || task.is_some();
    let image = case.inputs.get("image").filter(|_| starts);
    let (picture, mask) = (image.map(|image| image * 2.0 - 1.0), case.inputs.get("mask_image"));
    let (mut latents, mut pictures, mut steps, mut maps) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut embeds, mut pooled) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for i in 0..count {
        let negative = negatives.as_ref().map(|negatives| negatives.at(i)).unwrap_or_default();
        let prompt = prompts.at(i);
        let [second, second_negative, third, third_negative] = [&seconds, &second_negatives, &thirds, &third_negatives]
            .map(|texts| texts.as_ref().map(|texts| texts.at(i)));
        codec.negative.clone_from(&negative);
        let mut start = Start::new(&prompt, grid(case)?, Noise::shared(seeds.at(i)));
        start.second_prompt = second.as_deref();
        start.negative = &negative;
        start.second_negative = second_negative.as_deref();
        (start.third_prompt, start.third_negative) = (third.as_deref(), third_negative.as_deref());
        start.micro_conditioning = told.unwrap_or_default();
        start.negative_micro_conditioning = told_against;
        start.images = images;
        start.origin = picture.as_ref().map_or(Origin::Noise, Origin::Picture);
        start.mask = mask;
        let (mut inner, mut seen_maps) = (Inner::default(), Maps::default());
        let mut sampler = sampler(case, &model)?.attach(&mut inner);
        if case.wanted.contains_key("maps") {
            sampler = sampler.attach(&mut seen_maps);
        }
        let mut run = sampler.start(&codec, start)?;
        let mut ends = Vec::new();
        while let Some(progress) = run.step()? {
            ends.push((progress.step, run.latent().shallow_clone()));
        }
        latents.push(run.finish()?.shallow_clone());
        if case.wanted.contains_key("image") {
            pictures.push(((run.decode()? + 1.0) / 2.0).clamp(0.0, 1.0));
        }
        drop(run);
        maps.extend(seen_maps.mean(case)?);
        let mut seen = Vec::new();
        for (step, latent) in ends {
            let calls = inner.0.iter().filter(|(call, _)| call.index == step.index);
            for (call, x) in calls {
                seen.push(observed(case, x, call.sigma)?);
            }
            seen.push(observed(case, &latent, step.to)?);
        }
        steps.push(Tensor::stack(&seen, 0));
        let texts = [(&prompt, &second, &third), (&negative, &second_negative, &third_negative)];
        for ((first, second, third), (embeds, pooled)) in texts.into_iter().zip(embeds.iter_mut().zip(&mut pooled)) {
            let text = codec.text(Texts::new(first, second.as_deref()).with_third(third.as_deref()))?;
            embeds.push(text.context.expand([images as i64, -1, -1], false));
            pooled.extend(text.pooled.map(|pooled| pooled.expand([images as i64, -1], false)));
        }
    }
    let mut outputs =
        vec![("latents".to_owned(), Tensor::cat(&latents, 0)), ("step_latents".to_owned(), Tensor::cat(&steps, 1))];
    for (name, embeds) in ["prompt_embeds", "negative_prompt_embeds"].into_iter().zip(&embeds) {
        let (embeds, wanted) = (Tensor::cat(embeds, 0), case.wanted.get(name));
        // Anima's references end with the longest text; only rows of zeros follow.
        let rows = wanted.map_or(embeds.size()[1], |wanted| wanted.tensor.size()[1]);
        let rest = embeds.narrow(1, rows, embeds.size()[1] - rows);
        assert!(rest.numel() == 0 || rest.abs().max().double_value(&[]) == 0.0, "{name} has {rows} rows of text");
        outputs.push((name.to_owned(), embeds.narrow(1, 0, rows)));
    }
    for (name, pooled) in ["pooled_prompt_embeds", "negative_pooled_prompt_embeds"].into_iter().zip(&pooled) {
        if !pooled.is_empty() {
            outputs.push((name.to_owned(), Tensor::cat(pooled, 0)));
        }
    }
    if !pictures.is_empty() {
        outputs.push(("image".to_owned(), Tensor::cat(&pictures, 0)));
    }
    if !maps.is_empty() {
        outputs.push(("maps".to_owned(), Tensor::cat(&maps, 0)));
    }
    Ok(outputs)
}

/// Probabilities of the positive branch, [n, rows, columns] each, averaged over heads.
#[derive(Default)]
struct Maps(Vec<(Tensor, Grid)>);

impl Maps {
    /// Returns the mean over all sites and steps, [n, columns, h, w] with the columns that the case has; `None` if
    /// nothing was recorded.
    fn mean(&self, case: &Case) -> Result<Option<Tensor>> {
        let Some((_, grid)) = self.0.first() else { return Ok(None) };
        let columns = case.wanted.get("maps").ok_or("the case has no maps")?.tensor.size()[1];
        let all: Vec<&Tensor> = self.0.iter().map(|(probs, _)| probs).collect();
        let mean = Tensor::stack(&all, 0).mean_dim(0, false, Kind::Float).narrow(2, 0, columns);
        Ok(Some(mean.transpose(1, 2).reshape([-1, columns, grid.h, grid.w])))
    }
}

impl GuidanceRun for Maps {
    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        vec![self]
    }
}

impl CrossAttentionHook for Maps {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        if site.is_cross() && branch == Branch::Cond { Interest::PROBS } else { Interest::NONE }
    }
    fn probs(&mut self, at: &At<'_>, probs: &Probs<'_>) -> impasto::Result<()> {
        self.0.push((probs.over_heads()? / at.site.heads, at.grid));
        Ok(())
    }
}

/// Computes text to image with a T2I adapter.
pub fn pipeline_t2i_adapter(case: &Case) -> Result<Outputs> {
    let (_folder, model) = assembled(case)?;
    let adapter = model.t2i_adapter(&Source::dir(case.model("adapter")?))?;
    let steps: f64 = case.param("num_inference_steps")?;
    let end = match case.param::<Option<f64>>("adapter_factor")? {
        // diffusers' adapter acts in the first ⌊steps · factor⌋ steps.
        Some(factor) => (steps * factor).floor() / steps,
        None => 1.0,
    };
    let mut control = Control::new(&adapter, case.input("adapter_image")?);
    control = control.scale(case.param("adapter_scale")?).window(Window::progress(0.0..=end));
    let controlled = Controlled::new(&model, &[control])?;
    let (prompt, negative): (String, Option<String>) = (case.param("prompt")?, case.param("negative_prompt")?);
    let mut start = Start::new(&prompt, grid(case)?, Noise::shared(case.param("seed")?));
    start.negative = negative.as_deref().unwrap_or_default();
    start.micro_conditioning = micro(case, "")?.unwrap_or_default();
    start.negative_micro_conditioning = micro(case, "negative_")?;
    start.images = case.param::<Option<usize>>("num_images_per_prompt")?.unwrap_or(1);
    let mut run = sampler(case, &model)?.start(&controlled, start)?;
    let mut seen = Vec::new();
    while let Some(progress) = run.step()? {
        seen.push(observed(case, run.latent(), progress.step.to)?);
    }
    let latents = run.finish()?.shallow_clone();
    let mut outputs = vec![("latents".to_owned(), latents), ("step_latents".to_owned(), Tensor::stack(&seen, 0))];
    if case.wanted.contains_key("image") {
        outputs.push(("image".to_owned(), ((run.decode()? + 1.0) / 2.0).clamp(0.0, 1.0)));
    }
    Ok(outputs)
}

/// The latents of calls within a step; diffusers counts each call as a step.
#[derive(Default)]
struct Inner(Vec<(Step, Tensor)>);

impl GuidanceRun for Inner {
    fn predicted(&mut self, step: &Step, predictions: &mut Predictions) -> impasto::Result<()> {
        if step.eval > 0 {
            let (x0, eps) = (predictions.x0(Branch::Cond)?, predictions.eps(Branch::Cond)?);
            self.0.push((*step, x0 + eps * step.sigma));
        }
        Ok(())
    }
}

/// Returns the latent after a step, as diffusers' scheduler keeps it: in the flow's scale for flow-matching classes,
/// in sigma space for the k-diffusion classes (Euler, Heun, LMS, KDPM2), otherwise in variance-preserving form.
pub fn observed(case: &Case, latent: &Tensor, level: f64) -> Result<Tensor> {
    let class: String = serde_json::from_value(case.params["scheduler"]["class"].clone())?;
    Ok(if class.starts_with("FlowMatch") {
        latent / (1.0 + level)
    } else if schedulers::preserves_variance(&class) {
        latent / (1.0 + level * level).sqrt()
    } else {
        latent.shallow_clone()
    })
}

/// Computes the heat maps of the DAAM package on a run without decoding.
pub fn daam(case: &Case) -> Result<Outputs> {
    let (_folder, model) = assembled(case)?;
    let (prompt, seed): (String, u64) = (case.param("prompt")?, case.param("seed")?);
    let mut maps = PackageDaam::new(case.param("latent_hw")?);
    let negative: Option<String> = case.param("negative_prompt")?;
    let mut start = Start::new(&prompt, grid(case)?, Noise::shared(seed));
    start.negative = negative.as_deref().unwrap_or_default();
    sampler(case, &model)?.attach(&mut maps).start(&model, start)?.finish()?;

    let all = maps.heat_maps(&KeyFilter::default())?;
    let keys: Vec<i64> = maps.keys().flat_map(|(key, _)| [key.factor, key.layer, key.head]).collect();
    let mut outputs = vec![
        ("keys".to_owned(), Tensor::from_slice(&keys).reshape([-1, 3])),
        ("heat_maps".to_owned(), all),
        ("normalized".to_owned(), maps.normalized()?),
    ];
    let tokens: Option<i64> = case.param("raw_tokens")?;
    for (PackageKey { factor, layer, head }, sum) in maps.keys() {
        let kept = tokens.unwrap_or(sum.size()[0]).min(sum.size()[0]);
        outputs.push((format!("raw.{factor}.{layer}.{head}"), sum.narrow(0, 0, kept)));
    }
    let words: Vec<String> = case.param("words")?;
    let words: Vec<HeatMap> = words.iter().map(|word| maps.word(word, &model)).collect::<impasto::Result<_>>()?;
    for (i, word) in words.iter().enumerate() {
        outputs.push((format!("word.{i}"), word.values.shallow_clone()));
    }
    if let (Some(side), Some(word)) = (case.param::<Option<u32>>("expand")?, words.first()) {
        outputs.push(("expanded".to_owned(), word.expand((side, side))?));
    }
    for restrict in case.param::<Option<Vec<Restrict>>>("restrict")?.unwrap_or_default() {
        let filter = KeyFilter { factors: restrict.factors, head: restrict.head_idx, layer: restrict.layer_idx };
        outputs.push((format!("restrict.{}", restrict.id), maps.heat_maps(&filter)?));
    }
    Ok(outputs)
}

#[derive(Deserialize)]
struct Restrict {
    id: String,
    factors: Option<Vec<i64>>,
    head_idx: Option<i64>,
    layer_idx: Option<i64>,
}

#[derive(Deserialize)]
struct Force {
    phrase: String,
    rgb: [u8; 3],
    color_var: f64,
    cutoff: f64,
    /// Word before the phrase in the extra branch.
    differential: Option<String>,
}

/// Computes color forcing on the trained tiny model.
pub fn color_force(case: &Case) -> Result<Outputs> {
    let model = load(case.model("model")?, TextOptions::default())?;
    let (prompt, negative): (String, String) = (case.param("prompt")?, case.param("negative")?);
    let window: [f64; 2] = case.param("window")?;
    let solver: Box<dyn Solver> = match case.param::<String>("solver")?.as_str() {
        "euler" => Box::new(Euler),
        "euler_ancestral" => Box::new(EulerAncestral::default()),
        other => return Err(format!("params.solver is {other:?}; expected euler or euler_ancestral").into()),
    };
    let forces: Vec<Force> = case.param("forces")?;
    let force = |Force { phrase, rgb: [r, g, b], color_var, cutoff, differential }: &Force| {
        let force = ColorForce::published(phrase, Rgb(*r, *g, *b)).color_var(*color_var).saliency_cutoff(*cutoff);
        let force = match differential {
            Some(word) => force.saliency((Daam::of(phrase), Differential::of(phrase, word))),
            None => force,
        };
        force.window(Window::timesteps(window[0]..=window[1]))
    };
    let schedule = model.scheduler().schedule(case.param("steps")?)?;
    let sigmas = sigmas(&schedule);
    let sampler = Sampler::new(schedule, solver).combine(Cfg(case.param("guidance_scale")?));
    let sampler = forces.iter().map(force).fold(sampler, Sampler::guide);
    let mut start = Start::new(&prompt, Grid::new(16, 16), Noise::shared(case.param("seed")?));
    start.negative = &negative;
    let mut run = sampler.start(&model, start)?;
    let latents = run.finish()?.shallow_clone();
    let image = run.decode()?;

    let details = run.into_details()?;
    let forces = forces.iter().map(|force| details.get(&force.phrase));
    let forces: Vec<&ForceRun> = forces.collect::<impasto::Result<_>>()?;
    let of = |read: fn(&ForceRun) -> impasto::Result<Tensor>| -> Result<Tensor> {
        // [steps, 1, h, w] each → [steps, forces, h, w]
        let maps: Vec<Tensor> = forces.iter().copied().map(read).collect::<impasto::Result<_>>()?;
        Ok(Tensor::cat(&maps, 1))
    };
    let mut outputs = vec![
        ("sigmas".to_owned(), sigmas),
        ("latents".to_owned(), latents),
        ("image".to_owned(), image),
        ("saliency".to_owned(), of(ForceRun::saliency_maps)?),
        ("mask".to_owned(), of(ForceRun::masks)?),
    ];
    for (i, force) in forces.iter().enumerate() {
        outputs.push((format!("gold.{i}"), force.gold_latent().shallow_clone()));
    }
    Ok(outputs)
}

/// Returns the noise levels of a schedule, including the last one.
fn sigmas(schedule: &Schedule) -> Tensor {
    let mut levels: Vec<f32> = schedule.steps().map(|step| step.from as f32).collect();
    levels.extend(schedule.steps().last().map(|step| step.to as f32));
    Tensor::from_slice(&levels).to_kind(Kind::Float)
}
