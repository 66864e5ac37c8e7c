//! [`Model`]: a loaded checkpoint, as used by samplers and guidance methods. [`Controlled`]: a model with
//! ControlNets and T2I adapters.

mod adapt;
mod adapted;
mod anima_texts;
mod autoencoder;
mod backbone;
mod colorizer;
mod control;
mod control_network;
mod controlled;
mod embedded_hint;
mod few_steps;
mod groups;
mod identity;
mod info;
mod ip_adapter;
mod load_options;
mod loading;
mod loras;
mod network_input;
mod precision;
mod read_config;
mod reuse;
mod rows;
mod sd3_texts;
mod sdxl;
mod sequence_tokenizer;
mod text_encoders;
mod text_stack;
mod vision;
mod z_image_texts;

pub use crate::nn::guess::Guess;
pub use crate::nn::kernels::kernels_in_use;
pub use crate::nn::union::ControlType;
pub use control::Control;
pub use control_network::ControlNetwork;
pub use controlled::Controlled;
pub(crate) use identity::hex;
pub(crate) use info::NoInfo;
pub use info::{Defaults, Identity, ModelInfo, Work};
pub use load_options::LoadOptions;
pub use precision::Precision;
pub(crate) use reuse::check_reuse;

use crate::attention::{AttentionSite, Tap};
use crate::color::Rgb;
use crate::conditioning::{
    self, Codec, Conditioning, NO_WORDS, Offer, SkippedBlocks, SkipsBlocks, Texts, UnmergedLoras,
};
use crate::diffusion::{Denoiser, Input, Prediction, Predictions, SchedulerConfig, TrainingSchedule};
use crate::error::{Error, Result};
use crate::family;
use crate::nn::unet::Deep;
use crate::nn::{ConfigFile, Taesd, TaesdConfig, UNet, UnetConfig};
use crate::prompt::Prompt;
use crate::raster::Raster;
use crate::reference::SketchColorizer;
use crate::step::{Grid, Step};
use crate::vision::{View, Vision, VisionEncoder};
use crate::weights::{Checkpoint, ModelFamily, Parts, Reading, Source, Tensors, Unmerged, Weights, share};
use crate::wording::{Note, QUOTED, Remedy, excerpt};
use autoencoder::Autoencoder;
use backbone::{Backbone, BackboneConfig};
use colorizer::Colorizer;
use loading::{LoadedVae, Loading, OwnDefaults};
use read_config::read_config;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use tch::{Device, Kind, Tensor};
use text_stack::TextStack;
use vision::VisionTower;

/// A loaded checkpoint: text encoder, denoising network and VAE. A model is immutable; runs borrow it.
///
/// This example writes the sampling loop by hand:
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::{Branch, Codec, Conditioning, Model, Source, attention::Tap};
/// use impasto::diffusion::{Denoiser, Input, Noise, Schedule, Spacing};
///
/// let model = Model::load(&Source::embedded())?;
/// let cat = model.text("a red boat".into())?;
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
    texts: TextStack,
    vision: VisionTower,
    backbone: Backbone,
    /// Encoders of sketches and references, in a model that colors sketches in the colors of a reference. The UNet of
    /// such a model reads no words.
    colorizer: Option<Colorizer>,
    /// Value of [`OwnDefaults::patches_are_words`].
    patches_are_words: bool,
    vae: Autoencoder,
    /// Tensors of the networks, by part. LoRAs and learned words change some of them; the others are shared.
    parts: Parts,
    /// LoRAs that the network computes beside its weights.
    unmerged: Vec<Unmerged>,
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
    /// Cached latents of flat pictures; a color force needs the same latent in every run.
    flats: RefCell<HashMap<(Rgb, Grid), Tensor>>,
}

/// Largest number of cached flat latents. A run needs fewer; the limit bounds the memory of a service that is asked for
/// many colors and sizes.
const FLATS: usize = 64;
/// Name of the part that holds the decoder of previews.
const PREVIEW: &str = "preview";

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
        let _no_grad = tch::no_grad_guard();
        let mut loading = Loading::open(source, options)?;
        let vision = loading.vision();
        let colorizer = loading.colorizer()?;
        let texts = loading.texts()?;
        let backbone = loading.backbone()?;
        let LoadedVae { vae, config: vae_config, kind: vae_kind } = loading.vae()?;
        let channels = vae_config.latent_channels();
        texts.check_clip_skip(texts.options().clip_skip)?;
        fits(&loading.config, channels, &texts, colorizer.as_ref())
            .map_err(|problem| problem.of(&loading.main, loading.config.part()))?;
        let scheduler = loading.scheduler()?;
        let table = scheduler.training_schedule()?;
        let own: OwnDefaults = loading.main.json("impasto.json")?.unwrap_or_default();
        let (defaults, reading) = (loading.defaults(&own, vae.config().factor()), loading.reading());
        loading.note_files();
        let Loading { options, device, kind, mut parts, notes, .. } = loading;
        let preview = options.preview.as_ref().map(|source| {
            let (tiny, weights) = open_taesd(source, channels, kind, device, options.in_memory)?;
            parts.insert(PREVIEW.into(), weights.hand_out());
            Ok::<_, Error>(tiny)
        });
        Ok(Self {
            name: source.name(),
            texts,
            vision,
            backbone,
            colorizer,
            patches_are_words: own.patches_are_words,
            vae,
            parts,
            unmerged: Vec::new(),
            scheduler,
            table,
            defaults,
            device,
            kind,
            vae_kind,
            offload: options.offload,
            notes,
            reading,
            fingerprint: OnceCell::new(),
            preview: preview.transpose()?,
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

    /// Returns the UNet for direct evaluation, for example with a separate timestep for each row, or with gradients.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a model whose network is a transformer.
    pub fn unet(&self) -> Result<&UNet> {
        self.backbone.unet_for("model")
    }

    /// Returns the default request settings of the checkpoint.
    pub const fn defaults(&self) -> Defaults {
        self.defaults
    }

    /// Returns true if the model colors sketches in the colors of reference pictures, with
    /// [`Colorize`](crate::methods::Colorize). The UNet of such a model reads no words.
    pub const fn colorizes(&self) -> bool {
        self.colorizer.is_some()
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

    /// Returns the tensors of a network under diffusers' names, in the kind that the network computes in: `unet` or
    /// `transformer`, `vae`, `text_encoder`, `text_encoder_2`. `None` if the model has no such network. The tensors
    /// share their memory with the model. Tensors that [`LoadOptions::offload`] leaves in their file have the file's
    /// kind.
    pub fn tensors(&self, part: &str) -> Option<Tensors> {
        self.parts.get(part).map(share)
    }

    /// Returns a warning with the words of a prompt that the embedded model does not know; `None` if there are none,
    /// and for other models.
    fn doubts_of(&self, prompt: &str) -> Result<Option<Note>> {
        const SHOWN: usize = 8;
        let embedded = [Source::Embedded, Source::EmbeddedFast, Source::EmbeddedFlow];
        if !embedded.iter().any(|source| self.name == source.name()) {
            return Ok(None);
        }
        let spelled = self.texts.find_spelled(prompt)?;
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
    let config = read_config(&checkpoint, "vae", TaesdConfig::from_json)?;
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
    config: &BackboneConfig,
    channels: i64,
    text: &TextStack,
    colorizer: Option<&Colorizer>,
) -> std::result::Result<(), Misfit> {
    let misfit = |field, value: i64, expected: String| Err(Misfit { field, value: value.to_string(), expected });
    let (reads, predicts) = config.channels();
    if reads != channels && (config.unet().is_none() || reads != 2 * channels + 1) {
        let inpainting = format!(", or {} for inpainting", 2 * channels + 1);
        let inpainting = if config.unet().is_some() { inpainting.as_str() } else { "" };
        return misfit("in_channels", reads, format!("expected {channels}, the VAE's latent_channels{inpainting}"));
    }
    if predicts != channels {
        let expected = format!("expected {channels}, the VAE's latent_channels");
        return misfit("out_channels", predicts, expected);
    }
    if let Some((own, unet)) = colorizer.map(|own| &own.sketch.config().block_out_channels).zip(config.unet()) {
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
    if let Some(width) = config.context_widths().into_iter().find(|width| *width != text.width()) {
        let expected = format!("expected {}, the width of the text encoders' states", text.width());
        return misfit(config.context_field(), width, expected);
    }
    if let Some(width) = config.width_of_pooled().filter(|width| text.width_of_pooled() != Some(*width)) {
        let expected = match text.width_of_pooled() {
            Some(pooled) => format!("expected {pooled}, the width of the text encoders' projected states"),
            None => {
                "expected two text encoders of CLIP, and text_projection.weight in the file of the second; use the \
                     text encoders of another file"
                    .into()
            }
        };
        return misfit("pooled_projection_dim", width, expected);
    }
    let Some(unet) = config.unet() else { return Ok(()) };
    if unet.addition_embed_type.is_some() && size_numbers(unet, text).is_none() {
        let width = unet.projection_class_embeddings_input_dim.unwrap_or_default();
        let expected = "expected the pooled text's width plus 5 or 6 times addition_time_embed_dim".into();
        return misfit("projection_class_embeddings_input_dim", width, expected);
    }
    Ok(())
}

/// Returns the count of numbers (sizes, crop, score) that a UNet reads beside the pooled text; `None` for a UNet that
/// reads none.
fn size_numbers(unet: &UnetConfig, text: &TextStack) -> Option<i64> {
    let inputs = unet.projection_class_embeddings_input_dim?;
    family::size_numbers(inputs, text.width_of_pooled()?, unet.addition_time_embed_dim?)
}

/// A field of the network's configuration that does not fit the other parts.
struct Misfit {
    field: &'static str,
    value: String,
    expected: String,
}

impl Misfit {
    fn of(self, checkpoint: &Checkpoint, part: &str) -> Error {
        let Self { field, value, expected } = self;
        let (file, expected) = (checkpoint.name(&format!("{part}/config.json")), expected.into());
        Error::Config { file, field: field.into(), value, expected }
    }
}

impl Denoiser for Model {
    fn sites(&self) -> &[AttentionSite] {
        self.backbone.sites()
    }

    fn device(&self) -> Device {
        self.device
    }

    fn channels(&self) -> i64 {
        self.vae.config().latent_channels()
    }

    fn inpaints(&self) -> bool {
        self.backbone.in_channels() > self.vae.config().latent_channels()
    }

    fn patch(&self) -> i64 {
        self.backbone.patch()
    }

    fn longest_side(&self) -> Option<i64> {
        self.backbone.longest_side()
    }

    fn denoise(&self, step: &Step, inputs: &[Input<'_>], tap: &mut Tap<'_>) -> Result<Predictions> {
        self.by_loras(inputs, tap, |inputs, tap| {
            let skipped =
                |input: &Input<'_>| input.conditioning.extras.get::<SkippedBlocks>().cloned().unwrap_or_default();
            groups::by_key(inputs, tap, skipped, SkippedBlocks::eq, |_, inputs, tap| {
                self.predictions(step, inputs, &self.given(step, inputs)?, Deep::Computed, tap)
            })
        })
    }
}

impl Codec for Model {
    fn prompt(&self, texts: Texts<'_>) -> Result<Prompt> {
        match &self.colorizer {
            Some(_) => Ok(Colorizer::prompt(texts)),
            None => self.texts.prompt(texts),
        }
    }

    fn text(&self, texts: Texts<'_>) -> Result<Conditioning> {
        let _no_grad = tch::no_grad_guard();
        match &self.colorizer {
            Some(_) => Colorizer::text(self.backbone.unet_for("sketch")?.config(), self.device),
            None => self.texts.encode(texts, self.device),
        }
    }

    fn empty_chunk(&self) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        match &self.colorizer {
            Some(_) => Ok(self.text(NO_WORDS.into())?.context),
            None => self.texts.empty_chunk(NO_WORDS.into(), self.device),
        }
    }

    fn encode(&self, picture: &Tensor) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        Ok(self.vae.encode(picture)?.0)
    }

    fn posterior(&self, picture: &Tensor) -> Result<(Tensor, Tensor)> {
        let _no_grad = tch::no_grad_guard();
        self.vae.encode(picture)
    }

    fn draws(&self) -> bool {
        self.vae.draws()
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

    fn cell(&self) -> i64 {
        self.vae.config().factor()
    }

    fn offer<'a>(&'a self, offer: &mut Offer<'a>) {
        offer.give::<_, Self>(self, |model| model);
        offer.give::<_, dyn ModelInfo>(self, |model| model);
        offer.give::<_, dyn VisionEncoder>(self, |model| model);
        offer.give::<_, dyn UnmergedLoras>(self, |model| model);
        if self.backbone.blocks().is_some() {
            offer.give::<_, dyn SkipsBlocks>(self, |model| model);
        }
        if let Some(colorizer) = &self.colorizer {
            offer.give::<_, dyn SketchColorizer>(colorizer, |colorizer| colorizer);
        }
    }
}

impl SkipsBlocks for Model {
    fn blocks(&self) -> usize {
        self.backbone.blocks().unwrap_or_default()
    }
}

impl VisionEncoder for Model {
    fn vision(&self, picture: &Raster, view: View) -> Result<Vision> {
        let _no_grad = tch::no_grad_guard();
        self.texts.check_vision()?;
        // The context of a colorizer consists of the vision tower's tokens.
        let config = self.backbone.unet().map(UNet::config).filter(|_| self.colorizer.is_some());
        let context = config.and_then(|config| config.cross_attention_dim.level(0));
        self.vision.see(picture, view, &context.map_or_else(|| self.texts.widths(), |width| vec![width]))
    }

    fn text_vector(&self, text: &str) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        if let Some(encoders) = self.texts.clip().filter(|_| self.patches_are_words) {
            return encoders.last_word(text, self.device);
        }
        let missing = |file: &str| {
            let hint = Remedy::TextEncoder.after("a vision tower works with the text encoder of its training");
            Error::MissingFile { file: file.into(), place: self.name.clone(), hint }
        };
        let Some(pooled) = self.texts.end_state(text, self.device)? else {
            return Err(missing("the text encoder"));
        };
        let Some(projection) = self.vision.text_projection()? else {
            return Err(missing("text_projection.weight of the text encoder"));
        };
        let vector = projection.f_to_device(self.device)?.f_matmul(&pooled)?;
        Ok(vector.f_div(&vector.f_norm()?)?)
    }
}
