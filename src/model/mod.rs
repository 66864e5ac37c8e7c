//! [`Model`]: a loaded checkpoint, as used by samplers and guidance methods. [`Controlled`]: a model with ControlNets.

mod adapt;
mod autoencoder;
mod colorizer;
mod configured;
mod controlled;
mod identity;
mod load_options;
mod precision;
mod text_encoders;
mod unet_input;
mod vision;

pub use crate::nn::guess::Guess;
pub use controlled::{Control, Controlled};
pub use identity::Identity;
pub(crate) use identity::hex;
pub use load_options::LoadOptions;
pub use precision::Precision;

use crate::attention::{AttentionSite, Tap};
use crate::color::Rgb;
use crate::conditioning::{self, Codec, Conditioning};
use crate::diffusion::{Denoiser, Input, Prediction, Predictions, SchedulerConfig, TrainingSchedule};
use crate::error::{Error, Result};
use crate::latent_colors::LatentColors;
use crate::nn::{ConfigFile, ReferenceEncoder, Taesd, TaesdConfig, Tiling, UNet, UnetConfig};
use crate::prompt::Prompt;
use crate::raster::Raster;
use crate::reference::{Feature, Part};
use crate::step::{Grid, Step};
use crate::text::TextOptions;
use crate::vision::{View, Vision};
use crate::weights::{Checkpoint, ModelFamily, Parts, Reading, Source, Tensors, Weights, dense};
use crate::wording::{Note, QUOTED, Remedy, excerpt};
use autoencoder::{Autoencoder, AutoencoderConfig};
use colorizer::Colorizer;
use configured::configured;
use serde::Deserialize;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use tch::{Device, Kind, Tensor};
use text_encoders::TextEncoders;
use vision::VisionTower;

/// Default request settings of a checkpoint.
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

/// The contents of `impasto.json`, a file beside `model_index.json`; every field is optional.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OwnDefaults {
    width: Option<u32>,
    height: Option<u32>,
    guidance_scale: Option<f64>,
    /// True if the vision tower's patch tokens are aligned with the text encoder's state of a text's last word. False
    /// if they are aligned with the end token, as in OpenCLIP.
    patches_are_words: bool,
}

/// The fields of `model_index.json` that are used.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ModelIndex {
    force_zeros_for_empty_prompt: Option<bool>,
    /// Class of the pipeline in diffusers.
    #[serde(rename = "_class_name")]
    class: Option<String>,
}

impl ModelIndex {
    /// Names the class of the pipeline in the error of a UNet that cannot be made, if the class is of another family.
    fn blame(&self, checkpoint: &Checkpoint, error: Error) -> Error {
        let is_own = |class: &&String| class.starts_with("StableDiffusion") && !class.starts_with("StableDiffusion3");
        let Some(class) = self.class.as_ref().filter(|class| !is_own(class)) else { return error };
        let contents = match error {
            Error::MissingFile { .. } => format!("of {class}, which has no UNet and is not supported"),
            Error::Config { .. } => format!("of {class}, which may be another family ({error})"),
            _ => return error,
        };
        Error::OtherKind { file: checkpoint.name("model_index.json"), contents, remedy: Remedy::Model }
    }
}

/// A loaded checkpoint: text encoder, UNet and VAE. A model is immutable; runs borrow it.
///
/// This example writes the sampling loop by hand:
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::{Branch, Codec, Conditioning, Model, Source, attention::Tap};
/// use impasto::diffusion::{Denoiser, Input, Noise, Schedule, Spacing};
///
/// let model = Model::load(&Source::embedded())?;
/// let cat = model.text("a red boat")?;
/// let schedule = Schedule::new(model.training_schedule(), 4, Spacing::Leading)?;
/// let mut x = Noise::seeded(7).draw(&[1, 4, 32, 32])? * schedule.initial_scale();
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
    /// Name of the model's source.
    name: String,
    text_encoders: TextEncoders,
    vision: VisionTower,
    unet: UNet,
    unet_config: UnetConfig,
    /// Encoders of sketches and references, in a model that colors sketches in the colors of a reference. The UNet of
    /// such a model reads no words.
    colorizer: Option<Colorizer>,
    /// Value of [`OwnDefaults::patches_are_words`].
    patches_are_words: bool,
    vae: Autoencoder,
    /// Tensors of the networks, by part. LoRAs and learned words change some of them; the others are shared.
    parts: Parts,
    scheduler: SchedulerConfig,
    table: TrainingSchedule,
    defaults: Defaults,
    device: Device,
    kind: Kind,
    vae_kind: Kind,
    /// True if the networks' matrices and kernels stay in their files; see [`LoadOptions::offload`].
    offload: bool,
    notes: Vec<Note>,
    /// Settings for reading prompts and pictures and for decoding, as text. The fingerprint includes them, because
    /// pictures depend on these settings, too.
    reading: String,
    /// [`Identity::fingerprint`], cached at the first call.
    fingerprint: OnceCell<String>,
    /// Decoder of previews during a run.
    preview: Option<Taesd>,
    /// Colors of the model's latents, cached at the first call.
    latent_colors: OnceCell<LatentColors>,
    /// Cached latents of flat pictures; a color force needs the same latent in every run.
    flats: RefCell<HashMap<(Rgb, Grid), Tensor>>,
}

/// Largest number of cached flat latents. A run needs fewer; the limit bounds the memory of a service that is asked for
/// many colors and sizes.
const FLATS: usize = 64;
/// Name of the part that holds the decoder of previews.
const PREVIEW: &str = "preview";
const SCHEDULER: &str = "scheduler/scheduler_config.json";

impl Model {
    /// Loads a checkpoint on the CPU.
    ///
    /// # Errors
    /// [`Error::MissingFile`], [`Error::Malformed`], [`Error::Config`] for an unsupported configuration,
    /// [`Error::Weights`] with every tensor that is missing or has the wrong shape.
    pub fn load(source: &Source) -> Result<Self> {
        Self::load_with(source, LoadOptions::default())
    }

    /// Loads a checkpoint with `options`. Files are mapped and converted tensor by tensor. On a CPU, tensors that
    /// already have the right kind stay in their file, which must not change while the model is used
    /// ([`LoadOptions::in_memory`] copies the tensors).
    ///
    /// # Errors
    /// The errors of [`Model::load`]; [`Error::Parameter`] for a kind that the device does not support.
    pub fn load_with(source: &Source, options: LoadOptions) -> Result<Self> {
        let device = options.device;
        precision::check_device(device)?;
        let kind = options.precision.on(device, "precision")?;
        let _no_grad = tch::no_grad_guard();
        let LoadOptions { family, averages, in_memory, offload, .. } = options;
        let reading = Reading { family, variant: options.variant.clone(), averages, in_memory, offload };
        let home = (source.clone(), reading.clone());
        let main = Checkpoint::open(source, reading)?;
        let index: ModelIndex = main.json("model_index.json")?.unwrap_or_default();
        let unet_config =
            configured(&main, "unet", UnetConfig::from_json).map_err(|error| index.blame(&main, error))?;
        let xl = unet_config.addition_embed_type.is_some();
        // A part from another source is read as a part of the same model family.
        let usual = if xl { ModelFamily::Sdxl } else { ModelFamily::Sd1 };
        let width = unet_config.cross_attention_dim.level(0).and_then(ModelFamily::of_context);
        let family = options.family.or(main.family()).or(width.filter(|family| family.is_xl() == xl)).unwrap_or(usual);
        let reading = Reading { family: Some(family), in_memory, offload, ..Reading::default() };
        let other = |source: &Option<Source>| {
            source.as_ref().map(|source| Checkpoint::open(source, reading.clone())).transpose()
        };
        let [vae, text_encoder, text_encoder_2] =
            [other(&options.vae)?, other(&options.text_encoder)?, other(&options.text_encoder_2)?];
        let located = |other: &Option<Source>, reading: &Reading| {
            other.as_ref().map_or_else(|| home.clone(), |source| (source.clone(), reading.clone()))
        };
        let texts = [&options.text_encoder, &options.text_encoder_2].map(|other| located(other, &reading));
        let vision = VisionTower::new(
            located(&options.image_encoder, &Reading { in_memory, offload, ..Reading::default() }),
            texts,
            kind,
            device,
        );
        let mut notes = Vec::new();
        if kind == Kind::BFloat16 && device == Device::Cpu && !precision::cpu_is_faster_in_bf16() {
            notes.push(Remedy::Precision.after("this CPU is not faster in bf16 than in f32"));
        }
        let mut parts = Parts::new();
        let base = match main.family() {
            Some(family) => family == ModelFamily::Sdxl,
            None => xl && (text_encoder.is_some() || main.has("text_encoder/config.json")?), // not the refiner
        };
        let colorizer = Colorizer::load(&main, &unet_config, (kind, device), &mut parts, &mut notes)?;
        let mut text_encoders = TextEncoders::new(xl, index.force_zeros_for_empty_prompt.unwrap_or(base), options.text);
        for (part, other) in [("text_encoder", &text_encoder), ("text_encoder_2", &text_encoder_2)] {
            let place = other.as_ref().unwrap_or(&main);
            // SDXL has both encoders, its refiner only the second, other models only the first.
            let wanted = if part == "text_encoder" { base || !xl } else { xl };
            // Colorizers may come without a text encoder.
            let wanted = wanted && (colorizer.is_none() || place.has(&format!("{part}/config.json"))?);
            if wanted {
                let w = text_encoders.load(part, place, &main, kind, device)?;
                notes.extend(w.report().notes().into_iter().map(Note::from));
                parts.insert(part.into(), w.handed_out());
            }
        }
        let w = main.weights("unet", kind, device)?;
        let unet = UNet::new(&w, &unet_config)?;
        notes.extend(w.report().notes().into_iter().map(Note::from));
        parts.insert("unet".into(), w.handed_out());
        let place = vae.as_ref().unwrap_or(&main);
        let vae_config = configured(place, "vae", AutoencoderConfig::from_json)?;
        // SDXL's VAE exceeds the range of f16, but not that of bf16. Every folder sets `force_upcast` by default;
        // diffusers applies it to SDXL only.
        let vae_kind = match options.vae_precision {
            Some(precision) => precision.on(device, "vae_precision")?,
            None if kind == Kind::Half && xl && vae_config.overflows() => Kind::Float,
            None => kind,
        };
        let w = place.weights("vae", vae_kind, device)?;
        notes.extend(place.notes().into_iter().filter(|_| options.vae.is_some()).map(Note::from));
        let vae = Autoencoder::new(&w, &vae_config, options.tiling)?;
        notes.extend(w.report().notes().into_iter().map(Note::from));
        parts.insert("vae".into(), w.handed_out());
        let scale = vae_config.scale().filter(|scale| options.vae.is_some() && xl != (*scale < 0.15));
        if let Some(scale) = scale {
            let problem = format!("the VAE {place} scales latents by {scale}, which does not fit {family}");
            notes.push(Note::from(format!("{problem}; use a VAE of that family")));
        }
        text_encoders.check()?;
        fits(&unet_config, vae_config.latent_channels(), &text_encoders, colorizer.as_ref())
            .map_err(|problem| problem.of(&main))?;

        let mut scheduler = match main.text(SCHEDULER)? {
            Some(text) => SchedulerConfig::from_json(&text)?,
            None => SchedulerConfig::stable_diffusion("PNDMScheduler", Prediction::Epsilon),
        };
        if options.prediction.is_none() {
            notes.extend(main.prediction()?.map(|because| Note::from(format!("prediction type: {because}"))));
        }
        scheduler.prediction_type = options.prediction.unwrap_or(scheduler.prediction_type);
        if let Some(zero_snr) = options.zero_snr {
            scheduler.rescale_betas_zero_snr = zero_snr;
            if zero_snr {
                scheduler.timestep_spacing = Some("trailing".into()); // other spacings never reach pure noise
            }
        }
        let table = scheduler.training_schedule()?;
        let own: OwnDefaults = main.json("impasto.json")?.unwrap_or_default();
        let side = |index| {
            let cells = unet_config.sample_size.as_ref().and_then(|size| size.level(index)).unwrap_or(64);
            u32::try_from(cells * vae.config().factor()).unwrap_or(u32::MAX) // requests refuse such a size
        };
        let defaults = Defaults {
            width: own.width.unwrap_or_else(|| side(1)),
            height: own.height.unwrap_or_else(|| side(0)),
            guidance_scale: own.guidance_scale.unwrap_or(family.spec().guidance_scale),
        };
        let tiling = (options.tiling != Tiling::default()).then_some(options.tiling);
        let mut reading = format!("{:?} {tiling:?}", options.text);
        if let Some(tower) = &options.image_encoder {
            reading += &format!(" {}", tower.name()); // the tower's weights may never be loaded
        }
        let preview = options.preview.as_ref().map(|source| {
            let w = open_taesd(source, vae_config.latent_channels(), kind, device, in_memory)?;
            parts.insert(PREVIEW.into(), w.1.handed_out());
            Ok::<_, Error>(w.0)
        });
        let preview = preview.transpose()?;
        let places = [Some(&main), text_encoder.as_ref(), text_encoder_2.as_ref()];
        notes.extend(places.into_iter().flatten().flat_map(Checkpoint::notes).map(Note::from));
        Ok(Self {
            name: source.name(),
            text_encoders,
            vision,
            unet,
            unet_config,
            colorizer,
            patches_are_words: own.patches_are_words,
            vae,
            parts,
            scheduler,
            table,
            defaults,
            device,
            kind,
            vae_kind,
            offload,
            notes,
            reading,
            fingerprint: OnceCell::new(),
            preview,
            latent_colors: OnceCell::new(),
            flats: RefCell::default(),
        })
    }

    /// Returns the noise levels that the model was trained on.
    pub const fn training_schedule(&self) -> &TrainingSchedule {
        &self.table
    }

    /// Returns the contents of `scheduler_config.json`, or Stable Diffusion's usual values without that file.
    pub const fn scheduler(&self) -> &SchedulerConfig {
        &self.scheduler
    }

    /// Returns the prediction type of the network.
    pub const fn prediction(&self) -> Prediction {
        self.scheduler.prediction_type
    }

    /// Returns the network for direct evaluation, for example with a separate timestep for each row, or with gradients.
    pub const fn unet(&self) -> &UNet {
        &self.unet
    }

    /// Returns the options for reading prompts.
    pub(crate) const fn text_options(&self) -> TextOptions {
        self.text_encoders.options()
    }

    /// Returns the default request settings of the checkpoint.
    pub const fn defaults(&self) -> Defaults {
        self.defaults
    }

    /// Returns true if the network embeds its guidance scale (LCM), and so needs no negative branch.
    pub(crate) const fn embeds_guidance(&self) -> bool {
        self.unet_config.time_cond_proj_dim.is_some()
    }

    /// Returns true if the model colors sketches in the colors of reference pictures, with
    /// [`Colorize`](crate::methods::Colorize). The UNet of such a model reads no words.
    pub const fn colorizes(&self) -> bool {
        self.colorizer.is_some()
    }

    /// Returns true for an inpainting model, which reads mask and picture beside the latent ([`Conditioning::concat`]).
    pub fn inpaints(&self) -> bool {
        self.unet_config.in_channels > self.vae.config().latent_channels()
    }

    /// Returns true if the network reads sizes and quality (`MicroConditioning`), as SDXL and its refiner do.
    pub(crate) const fn reads_micro_conditioning(&self) -> bool {
        self.unet_config.addition_embed_type.is_some()
    }

    /// Loads a tiny autoencoder for previews of this model's latents, in its kind and on its device. The source is a
    /// diffusers folder, or a file with both halves in either layout. To decode with a tiny autoencoder instead of the
    /// VAE, set [`LoadOptions::vae`]. The tiny autoencoder of SD 1.x and 2.x and that of SDXL have tensors of the same
    /// shapes, so the wrong one is not refused, but gives odd colors.
    ///
    /// ```no_run
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::diffusion::{Noise, Schedule, Spacing, solver::Euler};
    /// use impasto::sampler::{Sampler, Start};
    /// use impasto::{Grid, Model, Raster, Source};
    ///
    /// let model = Model::load(&Source::file("sd15.safetensors"))?;
    /// let taesd = model.taesd(&Source::dir("taesd"))?;
    /// let schedule = Schedule::new(model.training_schedule(), 20, Spacing::Leading)?;
    /// let start = Start::new("a fox in a garden", Grid::new(64, 64), Noise::seeded(7));
    /// let mut run = Sampler::new(schedule, Euler).start(&model, start)?;
    /// while let Some(progress) = run.step()? {
    ///     if let Some(x0) = run.x0() {
    ///         Raster::from_tensor(&taesd.decode(x0)?)?.save(format!("step_{}.png", progress.step.index))?;
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The errors of [`Model::load`]; [`Error::Config`] if the number of latent channels differs from the model's.
    pub fn taesd(&self, source: &Source) -> Result<Taesd> {
        let _no_grad = tch::no_grad_guard();
        Ok(open_taesd(source, self.vae.config().latent_channels(), self.kind, self.device, false)?.0)
    }

    /// Returns the tiny autoencoder that the model was loaded with for previews.
    pub(crate) const fn preview_decoder(&self) -> Option<&Taesd> {
        self.preview.as_ref()
    }

    /// Returns the colors of the model's latents, which are fitted once.
    pub(crate) fn latent_colors(&self) -> Result<&LatentColors> {
        if self.latent_colors.get().is_none() {
            let _no_grad = tch::no_grad_guard();
            let _ = self.latent_colors.set(LatentColors::fit(self, 3, 32)?); // the cell was empty
        }
        let missing = || {
            Error::parameter("the fit of latent colors", "missing", "a fit; this is a bug in impasto, please report it")
        };
        self.latent_colors.get().ok_or_else(missing)
    }

    /// Returns the tensors of a network under diffusers' names, in the kind that the network computes in: `unet`,
    /// `vae`, `text_encoder`, `text_encoder_2`. `None` if the model has no such network. Most tensors share their
    /// memory with the model. Large kernels that the network holds in another layout are copied. Tensors that
    /// [`LoadOptions::offload`] leaves in their file have the file's kind.
    ///
    /// # Errors
    /// [`Error::Torch`] only, such as out of memory.
    pub fn tensors(&self, part: &str) -> Result<Option<Tensors>> {
        let Some(tensors) = self.parts.get(part) else { return Ok(None) };
        tensors.iter().map(|(name, tensor)| Ok((name.clone(), dense(tensor)?))).collect::<Result<_>>().map(Some)
    }

    /// Returns a note if a picture of `grid`'s size is decoded in tiles; `None` if the picture is decoded whole.
    pub(crate) fn tiles_told(&self, grid: Grid) -> Option<Note> {
        self.vae.tiles_told(grid.h, grid.w)
    }

    /// Returns a warning with the words of a prompt that the embedded model does not know; `None` if there are none,
    /// and for other models.
    pub(crate) fn doubts_of(&self, prompt: &str) -> Result<Option<Note>> {
        const SHOWN: usize = 8;
        if self.name != Source::Embedded.name() {
            return Ok(None);
        }
        let spelled = self.text_encoders.spelled(prompt)?;
        if spelled.is_empty() {
            return Ok(None);
        }
        let quoted = |word: &String| format!("\"{}\"", excerpt(word, QUOTED));
        let mut shown: Vec<String> = spelled.iter().take(SHOWN).map(quoted).collect();
        if spelled.len() > SHOWN {
            shown.push(format!("{} more", spelled.len() - SHOWN));
        }
        Ok(Some(Remedy::Model.after(format!(
            "the embedded model does not know {}; its vocabulary has about fifty words (docs/tiny-model.md)",
            shown.join(", ")
        ))))
    }

    /// Returns remarks from loading, in sentences.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }
}

/// Opens a tiny autoencoder for latents of `channels` channels; also returns its weights.
fn open_taesd(source: &Source, channels: i64, kind: Kind, device: Device, in_memory: bool) -> Result<(Taesd, Weights)> {
    let reading = Reading { family: Some(ModelFamily::Sd1), in_memory, ..Reading::default() };
    let checkpoint = Checkpoint::open(source, reading)?;
    let config = configured(&checkpoint, "vae", TaesdConfig::from_json)?;
    if config.latent_channels != channels {
        return Err(Error::Config {
            file: checkpoint.name("vae/config.json"),
            field: "latent_channels".into(),
            value: config.latent_channels.to_string(),
            expected: format!("expected {channels}, as in the model; use a tiny autoencoder for this model's family")
                .into(),
        });
    }
    let w = checkpoint.weights("vae", kind, device)?;
    Ok((Taesd::new(&w, &config)?, w))
}

/// Checks that the parts fit together and form a text-to-image model, or a colorizer.
fn fits(
    unet: &UnetConfig,
    channels: i64,
    text: &TextEncoders,
    colorizer: Option<&Colorizer>,
) -> std::result::Result<(), Misfit> {
    let misfit = |field, value: i64, expected: String| Err(Misfit { field, value: value.to_string(), expected });
    if unet.in_channels != channels && unet.in_channels != 2 * channels + 1 {
        let expected =
            format!("expected {channels}, the VAE's latent_channels, or {} for inpainting", 2 * channels + 1);
        return misfit("in_channels", unet.in_channels, expected);
    }
    if unet.out_channels != channels {
        let expected = format!("expected {channels}, the VAE's latent_channels");
        return misfit("out_channels", unet.out_channels, expected);
    }
    if let Some(own) = colorizer.map(|colorizer| &colorizer.sketch.config().block_out_channels) {
        if *own != unet.block_out_channels {
            let value = format!("{:?}", unet.block_out_channels);
            return Err(Misfit {
                field: "block_out_channels",
                value,
                expected: format!("expected {own:?}, as in the sketch encoder"),
            });
        }
        return Ok(());
    }
    let widths = (0..unet.block_out_channels.len()).filter_map(|level| unet.cross_attention_dim.level(level));
    if let Some(width) = widths.into_iter().find(|width| *width != text.width()) {
        let expected = format!("expected {}, the width of the text encoders' states", text.width());
        return misfit("cross_attention_dim", width, expected);
    }
    if unet.addition_embed_type.is_some() && size_numbers(unet, text).is_none() {
        let width = unet.projection_class_embeddings_input_dim.unwrap_or_default();
        let expected = "expected the pooled text's width plus 5 or 6 times addition_time_embed_dim".into();
        return misfit("projection_class_embeddings_input_dim", width, expected);
    }
    Ok(())
}

/// Returns the count of numbers (sizes, crop, score) that a UNet reads beside the pooled text: 6, or 5 for the refiner.
fn size_numbers(unet: &UnetConfig, text: &TextEncoders) -> Option<i64> {
    let sinusoids = unet.projection_class_embeddings_input_dim? - text.pooled_width()?;
    let each = unet.addition_time_embed_dim?;
    [5, 6].into_iter().find(|count| count * each == sinusoids)
}

/// A field of the UNet's configuration that does not fit the other parts.
struct Misfit {
    field: &'static str,
    value: String,
    expected: String,
}

impl Misfit {
    fn of(self, checkpoint: &Checkpoint) -> Error {
        let Self { field, value, expected } = self;
        let (file, expected) = (checkpoint.name("unet/config.json"), expected.into());
        Error::Config { file, field: field.into(), value, expected }
    }
}

impl Denoiser for Model {
    fn sites(&self) -> &[AttentionSite] {
        self.unet.sites()
    }

    fn device(&self) -> Device {
        self.device
    }

    fn channels(&self) -> i64 {
        self.vae.config().latent_channels()
    }

    fn inpaints(&self) -> bool {
        Self::inpaints(self)
    }

    fn denoise(&self, step: &Step, inputs: &[Input<'_>], tap: &mut Tap<'_>) -> Result<Predictions> {
        self.predictions(step, inputs, &self.given(step, inputs)?, tap)
    }
}

impl Codec for Model {
    fn prompt(&self, text: &str) -> Result<Prompt> {
        self.prompt_pair(text, text)
    }

    fn text(&self, text: &str) -> Result<Conditioning> {
        self.text_pair(text, text)
    }

    fn prompt_pair(&self, first: &str, second: &str) -> Result<Prompt> {
        if self.colorizer.is_some() {
            return Ok(Prompt::new(first, Vec::new(), 0)); // words name parts of a reference, which is unknown here
        }
        self.text_encoders.prompt([first, second])
    }

    fn text_pair(&self, first: &str, second: &str) -> Result<Conditioning> {
        let _no_grad = tch::no_grad_guard();
        if self.colorizer.is_some() {
            // The UNet reads no words, and there is no reference yet. Attention to tokens of zeros gives the same
            // result for any number of such tokens.
            let width = self.unet_config.cross_attention_dim.level(0).unwrap_or_default();
            return Ok(Conditioning::new(Tensor::f_zeros([1, 1, width], (Kind::Float, self.device))?));
        }
        self.text_encoders.encode([first, second], self.device)
    }

    fn encode(&self, picture: &Tensor) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        Ok(self.vae.encode(picture)?.0)
    }

    fn posterior(&self, picture: &Tensor) -> Result<(Tensor, Tensor)> {
        let _no_grad = tch::no_grad_guard();
        self.vae.encode(picture)
    }

    fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        self.vae.decode(latent)
    }

    fn flat(&self, color: Rgb, grid: Grid) -> Result<Tensor> {
        if let Some(latent) = self.flats.borrow().get(&(color, grid)) {
            return Ok(latent.shallow_clone());
        }
        let latent = conditioning::flat(self, color, grid)?;
        let mut flats = self.flats.borrow_mut();
        if flats.len() >= FLATS {
            flats.clear();
        }
        flats.insert((color, grid), latent.shallow_clone());
        Ok(latent)
    }

    fn vision(&self, picture: &Raster, view: View) -> Result<Vision> {
        let _no_grad = tch::no_grad_guard();
        // The context of a colorizer consists of the vision tower's tokens.
        let context = self.unet_config.cross_attention_dim.level(0).filter(|_| self.colorizer.is_some());
        self.vision.see(picture, view, &context.map_or_else(|| self.text_encoders.widths(), |width| vec![width]))
    }

    fn text_vector(&self, text: &str) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        if self.patches_are_words {
            return self.text_encoders.last_word(text, self.device);
        }
        let missing = |file: &str| {
            let hint = Remedy::TextEncoder.after("a vision tower works with the text encoder of its training");
            Error::MissingFile { file: file.into(), place: self.name.clone(), hint }
        };
        let Some(pooled) = self.text_encoders.pooled(text, self.device)? else {
            return Err(missing("the text encoder"));
        };
        let Some(projection) = self.vision.text_projection()? else {
            return Err(missing("text_projection.weight of the text encoder"));
        };
        let vector = projection.f_to_device(self.device)?.f_matmul(&pooled)?;
        Ok(vector.f_div(&vector.f_norm()?)?)
    }

    fn sketch(&self, sketch: &Tensor) -> Result<Vec<Tensor>> {
        let _no_grad = tch::no_grad_guard();
        let Some(colorizer) = &self.colorizer else {
            let (file, place) = ("the sketch encoder".into(), self.name.clone());
            let hint = "only models such as ColorizeDiffusion read sketches; use a ControlNet with this model";
            return Err(Error::MissingFile { file, place, hint: hint.into() });
        };
        let features = colorizer.sketch.forward(sketch)?;
        features.iter().map(|x| Ok(x.f_to_kind(Kind::Float)?)).collect()
    }

    fn part_tokens(&self, tokens: &Tensor, part: Part, threshold: f64) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        let Some(parts) = self.colorizer.as_ref().and_then(|colorizer| colorizer.tokens.as_ref()) else {
            return Ok(tokens.shallow_clone());
        };
        let marked = parts.marked(tokens, threshold)?;
        if part == Part::Background { parts.background(&marked) } else { Ok(marked) }
    }

    fn reference_features(
        &self,
        of: Feature,
        latent: &Tensor,
        tokens: &Tensor,
        ratios: [f64; 2],
    ) -> Result<Vec<Tensor>> {
        let _no_grad = tch::no_grad_guard();
        let encoder = self.colorizer.as_ref().and_then(|colorizer| match of {
            Feature::Background => colorizer.background.as_ref(),
            Feature::Style => colorizer.style.as_ref(),
        });
        let Some(encoder) = encoder else { return Ok(Vec::new()) };
        encoder.forward(latent, &ReferenceEncoder::label(ratios)?, tokens)
    }

    fn cell(&self) -> i64 {
        self.vae.config().factor()
    }
}
