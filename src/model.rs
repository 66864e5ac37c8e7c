//! [`Model`]: a loaded checkpoint, as a sampler and a guidance see it.

use crate::attention::{AttentionSite, Tap};
use crate::color::Rgb;
use crate::conditioning::{self, Codec, Conditioning};
use crate::diffusion::{Denoiser, Input, Prediction, Predictions, SchedulerConfig, Table};
use crate::error::{Error, Result};
use crate::nn::{ClipText, ClipTextConfig, UNet, UnetConfig, Vae, VaeConfig};
use crate::prompt::Prompt;
use crate::step::{Grid, Step};
use crate::text::Tokenizer;
use crate::weights::{Source, Weights};
use serde::Deserialize;
use std::cell::RefCell;
use std::collections::HashMap;
use tch::{Device, Kind, Tensor};

/// How a checkpoint is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// Where it runs. Default: the CPU.
    pub device: Device,
    /// What the network computes in, whatever the files hold; `None`: f16 on CUDA, else f32.
    pub kind: Option<Kind>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { device: Device::Cpu, kind: None }
    }
}

/// What a checkpoint wants unless the user says otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Defaults {
    /// Width of pictures in pixels.
    pub width: u32,
    /// Height of pictures in pixels.
    pub height: u32,
    /// Classifier-free guidance scale.
    pub guidance_scale: f64,
}

/// `impasto.json` beside `model_index.json`; every field is optional.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OwnDefaults {
    width: Option<u32>,
    height: Option<u32>,
    guidance_scale: Option<f64>,
}

/// A loaded checkpoint: text encoder, UNet and VAE. Immutable; runs borrow it.
///
/// It is what the loop is made of, by hand:
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::{Branch, Codec, Conditioning, Model, Source, attention::Tap};
/// use impasto::diffusion::{Denoiser, Input, Noise, Schedule, Spacing};
///
/// let model = Model::load(&Source::embedded())?;
/// let cat = model.text("a red boat")?;
/// let schedule = Schedule::new(model.table(), 4, Spacing::Leading)?;
/// let mut x = Noise::seeded(7).draw(&[1, 4, 16, 16])? * schedule.initial_scale();
/// for step in schedule.steps() {
///     let predictions = model.denoise(&step, &[Input::new(Branch::Cond, &x, &cat)], &mut Tap::none())?;
///     let x0 = predictions.x0(Branch::Cond)?;
///     x = x0 + (&x - x0) * (step.to / step.from); // Euler
/// }
/// let picture = model.decode(&x)?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Model {
    tokenizer: Tokenizer,
    text_encoder: ClipText,
    unet: UNet,
    vae: Vae,
    scheduler: SchedulerConfig,
    table: Table,
    defaults: Defaults,
    device: Device,
    kind: Kind,
    vae_kind: Kind,
    notes: Vec<String>,
    /// Latents of flat pictures that were asked for; a color force asks for the same one at every run.
    flats: RefCell<HashMap<(Rgb, Grid), Tensor>>,
}

const SCHEDULER: &str = "scheduler/scheduler_config.json";

impl Model {
    /// Loads a checkpoint on the CPU.
    ///
    /// # Errors
    /// [`Error::MissingFile`], [`Error::Malformed`], [`Error::Config`] for what is not supported, [`Error::Weights`]
    /// with every tensor that is missing or misshapen.
    pub fn load(source: &Source) -> Result<Self> {
        Self::load_with(source, LoadOptions::default())
    }

    /// Loads a checkpoint to a device, in a kind.
    ///
    /// # Errors
    /// As [`Model::load`]; [`Error::Parameter`] for a kind that cannot compute there.
    pub fn load_with(source: &Source, options: LoadOptions) -> Result<Self> {
        let LoadOptions { device, kind } = options;
        let kind = kind.unwrap_or(if device.is_cuda() { Kind::Half } else { Kind::Float });
        let computes = match kind {
            Kind::Float | Kind::BFloat16 => true,
            Kind::Half => device.is_cuda(),
            _ => false,
        };
        if !computes {
            let value = format!("{kind:?} on {device:?}");
            return Err(Error::parameter(
                "kind",
                value,
                "Float or BFloat16; Half on CUDA only (CPUs compute it slowly)",
            ));
        }
        source.check()?;
        let _no_grad = tch::no_grad_guard();
        let mut notes = Vec::new();

        let weights = |part: &str, kind| -> Result<Weights> { source.weights(part, kind, device) };

        let config = configured(source, "text_encoder/config.json", ClipTextConfig::from_json)?;
        let w = weights("text_encoder", kind)?;
        let text_encoder = ClipText::new(&w, &config)?;
        notes.extend(unused(&w));
        let config = configured(source, "unet/config.json", UnetConfig::from_json)?;
        let w = weights("unet", kind)?;
        let unet = UNet::new(&w, &config)?;
        notes.extend(unused(&w));
        let unet_config = config;
        let config = configured(source, "vae/config.json", VaeConfig::from_json)?;
        // Published VAEs overflow in half precision, and say so.
        let vae_kind = if config.force_upcast { Kind::Float } else { kind };
        let w = weights("vae", vae_kind)?;
        let vae = Vae::new(&w, &config)?;
        notes.extend(unused(&w));
        fits(&unet_config, &config, text_encoder.config()).map_err(|problem| problem.of(source))?;

        let scheduler = match source.text(SCHEDULER)? {
            Some(text) => SchedulerConfig::from_json(&text)?,
            None => SchedulerConfig::stable_diffusion("PNDMScheduler", Prediction::Epsilon),
        };
        let table = scheduler.table()?;
        let own: OwnDefaults = source.json("impasto.json")?.unwrap_or_default();
        let side = |index| {
            let cells = unet_config.sample_size.as_ref().and_then(|size| size.level(index)).unwrap_or(64);
            u32::try_from(cells * vae.config().factor()).unwrap_or(u32::MAX) // refused when a picture is asked for
        };
        let defaults = Defaults {
            width: own.width.unwrap_or_else(|| side(1)),
            height: own.height.unwrap_or_else(|| side(0)),
            guidance_scale: own.guidance_scale.unwrap_or(7.5),
        };
        let tokenizer = tokenizer(source)?;
        let flats = RefCell::default();
        Ok(Self {
            tokenizer,
            text_encoder,
            unet,
            vae,
            scheduler,
            table,
            defaults,
            device,
            kind,
            vae_kind,
            notes,
            flats,
        })
    }

    /// The noise levels the model was trained on.
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// `scheduler_config.json`, or what Stable Diffusion uses without one.
    pub const fn scheduler(&self) -> &SchedulerConfig {
        &self.scheduler
    }

    /// What the network's output means.
    pub const fn prediction(&self) -> Prediction {
        self.scheduler.prediction_type
    }

    /// What the checkpoint wants unless the user says otherwise.
    pub const fn defaults(&self) -> Defaults {
        self.defaults
    }

    /// What was noticed while loading, in sentences.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// Do the parts belong together, and is what they make a text-to-image model of one text encoder?
fn fits(unet: &UnetConfig, vae: &VaeConfig, text: &ClipTextConfig) -> std::result::Result<(), Misfit> {
    let misfit = |field, value: i64, expected: String| Err(Misfit { field, value: value.to_string(), expected });
    if let Some(added) = &unet.addition_embed_type {
        let expected = "models with a second text encoder (SDXL) are not supported yet; use SD 1.x or 2.x".into();
        return Err(Misfit { field: "addition_embed_type", value: added.clone(), expected });
    }
    let channels = vae.latent_channels;
    if ![channels, 2 * channels + 1].contains(&unet.in_channels) {
        let expected = format!(
            "expected {channels}, the VAE's latent_channels, or {} for a network that repaints",
            2 * channels + 1
        );
        return misfit("in_channels", unet.in_channels, expected);
    }
    if unet.out_channels != vae.latent_channels {
        let expected = format!("expected {}, the VAE's latent_channels", vae.latent_channels);
        return misfit("out_channels", unet.out_channels, expected);
    }
    let widths = (0..unet.block_out_channels.len()).filter_map(|level| unet.cross_attention_dim.level(level));
    if let Some(width) = widths.into_iter().find(|width| *width != text.hidden_size) {
        let expected = format!("expected {}, the text encoder's hidden_size", text.hidden_size);
        return misfit("cross_attention_dim", width, expected);
    }
    Ok(())
}

/// A field of the UNet's configuration that does not fit the other parts.
struct Misfit {
    field: &'static str,
    value: String,
    expected: String,
}

impl Misfit {
    fn of(self, source: &Source) -> Error {
        let Self { field, value, expected } = self;
        Error::Config { file: source.name("unet/config.json"), field: field.into(), value, expected }
    }
}

/// A part's configuration, which must be there.
fn configured<T>(source: &Source, file: &str, parse: fn(&str, &str) -> Result<T>) -> Result<T> {
    let text = source.text(file)?.ok_or_else(|| source.missing(file, "a diffusers folder has it"))?;
    parse(&source.name(file), &text)
}

/// What of a file a part did not ask for, in a sentence.
fn unused(weights: &Weights) -> Option<String> {
    let report = weights.report();
    // Text encoders of pipelines that never project carry their projection all the same.
    let mut names = report.unused.iter().map(|unused| &unused.name).filter(|name| *name != "text_projection.weight");
    let first = names.next()?;
    Some(format!("{}: {} tensors are not used, {first} among them", report.file, 1 + names.count()))
}

/// The tokenizer of a source: `tokenizer.json`, else vocabulary and merges.
pub(crate) fn tokenizer(source: &Source) -> Result<Tokenizer> {
    if let Some(json) = source.read("tokenizer/tokenizer.json")? {
        return Tokenizer::from_json(&json);
    }
    let file = |name: &str| source.read(&format!("tokenizer/{name}"));
    match (file("vocab.json")?, file("merges.txt")?) {
        (Some(vocab), Some(merges)) => {
            let (special, config) = (file("special_tokens_map.json")?, file("tokenizer_config.json")?);
            Tokenizer::from_vocab(&vocab, &merges, special.as_deref(), config.as_deref())
        }
        _ => Err(Error::MissingFile {
            file: "tokenizer/tokenizer.json, or vocab.json and merges.txt,".into(),
            place: source.to_string(),
            hint: "a diffusers folder has them",
        }),
    }
}

impl Denoiser for Model {
    fn sites(&self) -> &[AttentionSite] {
        self.unet.sites()
    }

    fn device(&self) -> Device {
        self.device
    }

    fn inpaints(&self) -> bool {
        self.unet.config().in_channels > self.vae.config().latent_channels
    }

    fn denoise(&self, step: &Step, inputs: &[Input<'_>], tap: &mut Tap<'_>) -> Result<Predictions> {
        let latents: Vec<&Tensor> = inputs.iter().map(|input| input.x).collect();
        if let Some([first, other]) = latents.windows(2).find_map(|pair| match pair {
            [a, b] if a.size() != b.size() => Some([a, b]),
            _ => None,
        }) {
            let expected = format!("{:?}, as the other inputs", first.size());
            return Err(Error::Shape { what: "Input::x", got: other.size(), expected });
        }
        let x = Tensor::f_cat(&latents, 0)?;
        let contexts: Vec<Tensor> = inputs
            .iter()
            .map(|input| {
                let (images, context) = (input.x.size4()?.0, &input.conditioning.context);
                Ok(if context.size3()?.0 == images {
                    context.shallow_clone()
                } else {
                    context.f_expand([images, -1, -1], false)?
                })
            })
            .collect::<Result<_>>()?;
        let context = Tensor::f_cat(&contexts, 0)?.f_to_kind(self.kind)?;
        // The network sees the variance-preserving latent; casts are here and nowhere else.
        let mut sample = x.f_mul_scalar(Prediction::input_scale(step.sigma))?.f_to_kind(self.kind)?;
        let beside = inputs.iter().filter_map(|input| Some((input.x, input.conditioning.concat.as_ref()?)));
        let beside = beside.map(|(x, concat)| Ok(concat.f_expand([x.size4()?.0, -1, -1, -1], false)?));
        let beside: Vec<Tensor> = beside.collect::<Result<_>>()?;
        if !beside.is_empty() {
            sample = Tensor::f_cat(&[sample, Tensor::f_cat(&beside, 0)?.f_to_kind(self.kind)?], 1)?;
        }
        let timestep = Tensor::f_from_slice(&[step.timestep as f32])?.f_to_device(self.device)?;
        let out = self.unet.forward(&sample, &timestep, &context, None, tap)?.f_to_kind(Kind::Float)?;
        let x0 = self.prediction().x0(&out, &x, step.sigma)?;
        let each = x0.f_chunk(inputs.len() as i64, 0)?;
        Ok(Predictions::new(step, inputs, each).of(self.prediction()))
    }
}

impl Codec for Model {
    fn prompt(&self, text: &str) -> Result<Prompt> {
        self.tokenizer.prompt(text)
    }

    fn text(&self, text: &str) -> Result<Conditioning> {
        let _no_grad = tch::no_grad_guard();
        let ids = Tensor::f_from_slice(&self.tokenizer.padded(text)?)?.f_unsqueeze(0)?;
        let states = self.text_encoder.forward(&ids.f_to_device(self.device)?)?;
        Ok(Conditioning::new(states.last_hidden_state.f_to_kind(Kind::Float)?))
    }

    fn encode(&self, picture: &Tensor) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        let posterior = self.vae.encode(&picture.f_to_device(self.device)?.f_to_kind(self.vae_kind)?)?;
        self.vae.scaled(&posterior.mean.f_to_kind(Kind::Float)?)
    }

    fn posterior(&self, picture: &Tensor) -> Result<(Tensor, Tensor)> {
        let _no_grad = tch::no_grad_guard();
        let posterior = self.vae.encode(&picture.f_to_device(self.device)?.f_to_kind(self.vae_kind)?)?;
        let std = posterior.std()?.f_to_kind(Kind::Float)?.f_mul_scalar(self.vae.config().scaling_factor)?;
        Ok((self.vae.scaled(&posterior.mean.f_to_kind(Kind::Float)?)?, std))
    }

    fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        let latent = self.vae.unscaled(&latent.f_to_device(self.device)?.f_to_kind(Kind::Float)?)?;
        Ok(self.vae.decode(&latent.f_to_kind(self.vae_kind)?)?.f_to_kind(Kind::Float)?)
    }

    fn flat(&self, color: Rgb, grid: Grid) -> Result<Tensor> {
        if let Some(latent) = self.flats.borrow().get(&(color, grid)) {
            return Ok(latent.shallow_clone());
        }
        let latent = conditioning::flat(self, color, grid)?;
        self.flats.borrow_mut().insert((color, grid), latent.shallow_clone());
        Ok(latent)
    }

    fn cell(&self) -> i64 {
        self.vae.config().factor()
    }
}
