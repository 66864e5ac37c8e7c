//! [`Model::load_with`]: the stages in which a checkpoint becomes a model.

use super::anima_texts::AnimaTexts;
use super::autoencoder::{Autoencoder, AutoencoderConfig};
use super::backbone::{Backbone, BackboneConfig};
use super::colorizer::Colorizer;
use super::few_steps::FewSteps;
use super::info::Defaults;
use super::load_options::LoadOptions;
use super::precision;
use super::read_config::read_config;
use super::sd3_texts::{self, Sd3Texts, T5_PART};
use super::text_encoders::TextEncoders;
use super::text_stack::TextStack;
use super::vision::{Place, VisionTower};
use super::z_image_texts::{QWEN, ZImageTexts};
use crate::diffusion::{Prediction, SchedulerConfig};
use crate::error::{Error, Result};
use crate::nn::Tiling;
use crate::weights::{Checkpoint, ModelFamily, Parts, Reading, Source, Weights};
use crate::wording::{Note, Remedy};
use serde::Deserialize;
use tch::{Device, Kind};

const SCHEDULER: &str = "scheduler/scheduler_config.json";

/// The contents of `impasto.json`, a file beside `model_index.json`; every field is optional.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OwnDefaults {
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub guidance_scale: Option<f64>,
    pub steps: Option<usize>,
    /// True if the vision tower's patch tokens are aligned with the text encoder's state of a text's last word. False
    /// if they are aligned with the end token, as in OpenCLIP.
    pub patches_are_words: bool,
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

/// The field of a text encoder's configuration that tells CLIP from other encoders.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TextEncoderConfig {
    model_type: Option<String>,
}

impl ModelIndex {
    /// Names the class of the pipeline in the error of a UNet that cannot be made, if the class is of another family.
    fn blame(&self, checkpoint: &Checkpoint, error: Error) -> Error {
        let is_own = |class: &&String| class.starts_with("StableDiffusion");
        let Some(class) = self.class.as_ref().filter(|class| !is_own(class)) else { return error };
        let contents = match error {
            Error::MissingFile { .. } => format!("of {class}, whose network is not supported"),
            Error::Config { .. } => format!("of {class}, which may be another family ({error})"),
            _ => return error,
        };
        Error::OtherKind { file: checkpoint.name("model_index.json"), contents, remedy: Remedy::Model }
    }
}

/// A checkpoint that is being loaded.
pub(super) struct Loading {
    pub options: LoadOptions,
    pub main: Checkpoint,
    index: ModelIndex,
    pub config: BackboneConfig,
    family: ModelFamily,
    /// Settings of a network that was distilled to few steps.
    few_steps: Option<FewSteps>,
    pub device: Device,
    pub kind: Kind,
    /// Source of the whole checkpoint.
    home: Place,
    /// Sources of single parts, opened.
    others: Others,
    pub parts: Parts,
    pub notes: Vec<Note>,
}

/// Parts that come from a source of their own.
struct Others {
    vae: Option<Checkpoint>,
    text_encoder: Option<Checkpoint>,
    text_encoder_2: Option<Checkpoint>,
    text_encoder_3: Option<Checkpoint>,
}

/// The autoencoder of a checkpoint.
pub(super) struct LoadedVae {
    pub vae: Autoencoder,
    pub config: AutoencoderConfig,
    pub kind: Kind,
}

/// Finds the family of a checkpoint in diffusers' layout, by its parts and its network.
fn family_of(main: &Checkpoint, config: &BackboneConfig, has_text_encoder: bool) -> Result<ModelFamily> {
    let unet = match config {
        BackboneConfig::Unet(unet) => unet,
        BackboneConfig::Cosmos(_) => {
            let encoder: TextEncoderConfig = main.json("text_encoder/config.json")?.unwrap_or_default();
            let reads_clip = encoder.model_type.as_deref() == Some("clip_text_model");
            return Ok(if reads_clip { ModelFamily::TinyFlow } else { ModelFamily::Anima });
        }
        BackboneConfig::Sd3(_) => return Ok(ModelFamily::Sd3),
        BackboneConfig::ZImage(_) => return Ok(ModelFamily::ZImage),
    };
    if Colorizer::is_in(main)? {
        return Ok(ModelFamily::Colorizer);
    }
    let is_xl = unet.addition_embed_type.is_some();
    let by_width = unet.cross_attention_dim.level(0).and_then(ModelFamily::of_context);
    Ok(match by_width.filter(|family| family.is_xl() == is_xl) {
        Some(family) => family,
        None if !is_xl => ModelFamily::Sd1,
        None if has_text_encoder || main.has("text_encoder/config.json")? => ModelFamily::Sdxl,
        None => ModelFamily::SdxlRefiner,
    })
}

/// Checks that models of a family read the text encoders that come from sources of their own.
fn check_text_encoders(family: ModelFamily, options: &LoadOptions) -> Result<()> {
    let read = family.spec().text_encoders;
    let given = [
        ("text_encoder", &options.text_encoder),
        ("text_encoder_2", &options.text_encoder_2),
        ("text_encoder_3", &options.text_encoder_3),
    ];
    for (part, source) in given {
        if let Some(source) = source.as_ref().filter(|_| !read.contains(&part)) {
            let expected = format!("none for {family}, which reads {}", read.join(" and "));
            return Err(Error::parameter(part, source.name(), expected));
        }
    }
    Ok(())
}

/// Checks that the VAE in `place` is of the kind that the family's network was trained with. Latents of Qwen-Image's
/// VAE have the shape of FLUX's and SD 3's latents, and mean other pictures. A tiny autoencoder does not show its kind.
fn check_vae(family: ModelFamily, place: &Checkpoint, config: &AutoencoderConfig) -> Result<()> {
    let (class, is_qwen) = match config {
        AutoencoderConfig::Vae(_) => ("AutoencoderKL", false),
        AutoencoderConfig::Qwen(_) => ("AutoencoderKLQwenImage", true),
        AutoencoderConfig::Tiny(_) => return Ok(()),
    };
    if is_qwen == family.spec().qwen_vae {
        return Ok(());
    }
    let kind = if is_qwen { "AutoencoderKL" } else { "AutoencoderKLQwenImage, the VAE of Qwen-Image," };
    let expected = Remedy::Vae.after(format!("expected {kind} or a tiny autoencoder, as {family} needs"));
    let (file, field) = (place.name("vae/config.json"), "_class_name".into());
    Err(Error::Config { file, field, value: class.into(), expected })
}

/// Returns a note if the VAE in `place` scales latents in another way than the family's network was trained with.
fn misfit_of(family: ModelFamily, place: &Checkpoint, config: &AutoencoderConfig) -> Option<Note> {
    /// Channels of the latents of flow models, whose families' VAEs have scales and shifts of their own.
    const OF_FLOW: i64 = 16;
    let (scale, shift) = config.scale_and_shift()?;
    let (own_scale, own_shift) = (family.spec().scaling_factor, family.spec().latent_shift);
    if config.latent_channels() == OF_FLOW {
        let is_near = |one: f64, other: f64| (one - other).abs() < 1e-4;
        let fits = is_near(scale, own_scale) && is_near(shift, own_shift);
        return (!fits).then(|| {
            Note::from(format!(
                "the VAE {place} shifts latents by {shift} and scales them by {scale}, which does not fit {family} \
                 ({own_shift} and {own_scale}); use a VAE of that family"
            ))
        });
    }
    let is_small = |scale: f64| scale < 0.15;
    (is_small(scale) != is_small(own_scale)).then(|| {
        let problem = format!("the VAE {place} scales latents by {scale}, which does not fit {family}");
        Note::from(format!("{problem}; use a VAE of that family"))
    })
}

impl Loading {
    /// Opens the checkpoint and the parts that have a source of their own, and finds out the family.
    pub(super) fn open(source: &Source, options: LoadOptions) -> Result<Self> {
        let device = options.device;
        precision::check_device(device)?;
        let kind = options.precision.on(device, "precision")?;
        if let Some(limit) = options.text.limit.filter(|limit| !(1..=4096).contains(limit)) {
            return Err(Error::parameter("TextOptions::limit", limit, "1 to 4096 tokens; 512 is usual"));
        }
        let LoadOptions { family, averages, in_memory, offload, .. } = options;
        let reading = Reading { family, variant: options.variant.clone(), averages, in_memory, offload };
        let home = (source.clone(), reading.clone());
        let main = Checkpoint::open(source, reading)?;
        let index: ModelIndex = main.json("model_index.json")?.unwrap_or_default();
        let config = BackboneConfig::read(&main).map_err(|error| index.blame(&main, error))?;
        let family = match options.family.or(main.family()) {
            Some(family) => family,
            None => family_of(&main, &config, options.text_encoder.is_some())?,
        };
        check_text_encoders(family, &options)?;
        // A part from another source is read as a part of the same model family.
        let reading = Reading { family: Some(family), in_memory, offload, ..Reading::default() };
        let other = |source: &Option<Source>| {
            source.as_ref().map(|source| Checkpoint::open(source, reading.clone())).transpose()
        };
        let others = Others {
            vae: other(&options.vae)?,
            text_encoder: other(&options.text_encoder)?,
            text_encoder_2: other(&options.text_encoder_2)?,
            text_encoder_3: other(&options.text_encoder_3)?,
        };
        let mut notes = Vec::new();
        if kind == Kind::BFloat16 && device == Device::Cpu && !precision::cpu_is_faster_in_bf16() {
            notes.push(Remedy::Precision.after("this CPU is not faster in bf16 than in f32"));
        }
        if let Some(set) = impasto_kernels::missed().filter(|_| device == Device::Cpu) {
            notes.push(Note::from(format!(
                "this build leaves the kernels for {} unused, because impasto-kernels is compiled without optimization; \
                 build with --release, or give that crate opt-level = 3 in your Cargo.toml (README, Set-up)",
                set.name()
            )));
        }
        let name = source.name();
        let by_name = match family {
            ModelFamily::ZImage => FewSteps::of_z_image(&name),
            ModelFamily::Sd3 => FewSteps::of_sd3(&name),
            ModelFamily::Anima => FewSteps::of_anima(&name),
            ModelFamily::TinyFlow => None,
            _ => FewSteps::of_checkpoint(&name, family.is_xl()),
        };
        let few_steps = match by_name {
            _ if config.unet().is_some_and(|unet| unet.time_cond_proj_dim.is_some()) => {
                Some(FewSteps::with_embedded_guidance())
            }
            named => named.inspect(|few| notes.push(few.note(&name))),
        };
        let parts = Parts::new();
        Ok(Self { options, main, index, config, family, few_steps, device, kind, home, others, parts, notes })
    }

    /// Returns the vision tower, which is loaded when it is first used.
    pub(super) fn vision(&self) -> VisionTower {
        let LoadOptions { in_memory, offload, .. } = self.options;
        let located = |other: &Option<Source>, reading: Reading| {
            other.as_ref().map_or_else(|| self.home.clone(), |source| (source.clone(), reading))
        };
        let part = Reading { family: Some(self.family), in_memory, offload, ..Reading::default() };
        let texts =
            [&self.options.text_encoder, &self.options.text_encoder_2].map(|other| located(other, part.clone()));
        let tower = located(&self.options.image_encoder, Reading { in_memory, offload, ..Reading::default() });
        VisionTower::new(tower, texts, self.kind, self.device)
    }

    /// Loads the encoders of sketches and references, if the checkpoint has them.
    pub(super) fn colorizer(&mut self) -> Result<Option<Colorizer>> {
        let Some(unet) = self.config.unet() else { return Ok(None) };
        Colorizer::load(&self.main, unet, (self.kind, self.device), &mut self.parts, &mut self.notes)
    }

    /// Loads the text networks of the family.
    pub(super) fn texts(&mut self) -> Result<TextStack> {
        match self.family {
            ModelFamily::Anima => self.anima_texts(),
            ModelFamily::Sd3 => self.sd3_texts(),
            ModelFamily::ZImage => self.z_image_texts(),
            _ => Ok(TextStack::Clip(self.text_encoders()?)),
        }
    }

    /// Loads Anima's text networks.
    fn anima_texts(&mut self) -> Result<TextStack> {
        let place = self.others.text_encoder.as_ref().unwrap_or(&self.main);
        let (texts, weights) = AnimaTexts::load(place, &self.main, self.options.text, (self.kind, self.device))?;
        for (part, weights) in weights {
            self.take(part, &weights);
        }
        Ok(TextStack::Anima(Box::new(texts)))
    }

    /// Loads Z-Image's text encoder.
    fn z_image_texts(&mut self) -> Result<TextStack> {
        let place = self.others.text_encoder.as_ref().unwrap_or(&self.main);
        let (texts, weights) = ZImageTexts::load(place, &self.main, self.options.text, (self.kind, self.device))?;
        self.take(QWEN, &weights);
        Ok(TextStack::ZImage(Box::new(texts)))
    }

    /// Loads the text encoders of Stable Diffusion 3. T5 may be missing.
    fn sd3_texts(&mut self) -> Result<TextStack> {
        let clip = self.text_encoders()?;
        let own = self.others.text_encoder_3.as_ref();
        let place = own.unwrap_or(&self.main);
        let t5 = match place.has(&format!("{T5_PART}/config.json"))? {
            true => Some(sd3_texts::load_t5(place, &self.main, (self.kind, self.device))?),
            false if own.is_some() => return Err(place.lacks(T5_PART)),
            false => None,
        };
        let t5 = t5.map(|(t5, weights)| {
            self.take(T5_PART, &weights);
            t5
        });
        if t5.is_none() {
            let without = "the checkpoint has no T5, so the model reads prompts by CLIP alone, less exactly";
            self.notes.push(Remedy::ThirdTextEncoder.after(without));
        }
        let width = self.config.context_widths().first().copied().unwrap_or(self.family.spec().context);
        Ok(TextStack::Sd3(Box::new(Sd3Texts::new(clip, t5, width))))
    }

    /// Loads CLIP's text encoders.
    fn text_encoders(&mut self) -> Result<TextEncoders> {
        let family = self.family.spec();
        let zeros = self.index.force_zeros_for_empty_prompt.unwrap_or(family.empty_is_zeros);
        let mut encoders = TextEncoders::new(family, zeros, self.options.text);
        let Self { main, others, .. } = self;
        let mut loaded = Vec::new();
        for (part, other) in [("text_encoder", &others.text_encoder), ("text_encoder_2", &others.text_encoder_2)] {
            let place = other.as_ref().unwrap_or(main);
            let is_read = family.text_encoders.contains(&part);
            if is_read && (!family.text_is_optional || place.has(&format!("{part}/config.json"))?) {
                loaded.push((part, encoders.load(part, place, main, self.kind, self.device)?));
            }
        }
        for (part, weights) in loaded {
            self.take(part, &weights);
        }
        Ok(encoders)
    }

    /// Loads the denoising network.
    pub(super) fn backbone(&mut self) -> Result<Backbone> {
        let part = self.config.part();
        let weights = self.main.weights(part, self.kind, self.device)?;
        let backbone = Backbone::new(&weights, &self.config)?;
        self.take(part, &weights);
        Ok(backbone)
    }

    /// Loads the autoencoder.
    pub(super) fn vae(&mut self) -> Result<LoadedVae> {
        let own = self.others.vae.as_ref();
        let place = own.unwrap_or(&self.main);
        let config = read_config(place, "vae", AutoencoderConfig::from_json)?;
        check_vae(self.family, place, &config)?;
        // SDXL's VAE exceeds the range of f16, but not that of bf16. Every folder sets `force_upcast` by default;
        // diffusers applies it to SDXL only.
        let kind = match self.options.vae_precision {
            Some(precision) => precision.on(self.device, "vae_precision")?,
            None if self.kind == Kind::Half && self.family.spec().vae_overflows && config.overflows() => Kind::Float,
            None => self.kind,
        };
        let weights = place.weights("vae", kind, self.device)?;
        let vae = Autoencoder::new(&weights, &config, self.options.tiling)?;
        let misfit = own.and_then(|place| misfit_of(self.family, place, &config));
        let told = own.map(Checkpoint::notes).unwrap_or_default();
        self.notes.extend(told.into_iter().map(Note::from));
        self.take("vae", &weights);
        self.notes.extend(misfit);
        Ok(LoadedVae { vae, config, kind })
    }

    /// Reads the noise levels and the sampler.
    pub(super) fn scheduler(&mut self) -> Result<SchedulerConfig> {
        let text = self.main.text(SCHEDULER)?;
        let has_own = text.is_some() && !self.main.is_single_file();
        let mut scheduler = match text {
            Some(text) => SchedulerConfig::from_json(&text)?,
            None => match self.family.spec().shift {
                Some(shift) => SchedulerConfig::flow(shift),
                None => SchedulerConfig::stable_diffusion("PNDMScheduler", Prediction::Epsilon),
            },
        };
        if scheduler.is_flow() {
            let given = self.options.prediction.filter(|prediction| *prediction != Prediction::Flow);
            if let Some(prediction) = given {
                let expected = "none for a flow, which predicts a velocity";
                return Err(Error::parameter("prediction", format!("{prediction:?}"), expected));
            }
            if self.options.zero_snr == Some(true) {
                return Err(Error::parameter("zero_snr", true, "none for a flow, which begins with pure noise"));
            }
            if let Some(shift) = self.options.shift {
                if !(0.01..=100.0).contains(&shift) {
                    return Err(Error::parameter("shift", shift, "0.01 to 100; 3 is usual, and 1 shifts nothing"));
                }
                (scheduler.shift, scheduler.flow_shift) = (shift, shift);
                scheduler.use_dynamic_shifting = false;
            }
            let spacing = scheduler.timestep_spacing.take();
            scheduler.timestep_spacing = spacing.or_else(|| self.family.spec().spacing.map(str::to_owned));
            return Ok(scheduler);
        }
        if self.config.unet().is_none() {
            let (file, field) = (self.main.name(SCHEDULER), "_class_name".into());
            let expected = "a class with flow matching, such as FlowMatchEulerDiscreteScheduler, because the network \
                            predicts the velocity of a flow";
            return Err(Error::Config { file, field, value: scheduler.class_name, expected: expected.into() });
        }
        if let Some(shift) = self.options.shift {
            let expected = "none for this model, because only models with flow matching have a shift";
            return Err(Error::parameter("shift", shift, expected));
        }
        if self.options.prediction.is_none() {
            self.notes.extend(self.main.prediction()?.map(|because| Note::from(format!("prediction type: {because}"))));
        }
        if let Some(few) = self.few_steps.filter(|_| !has_own) {
            few.apply(&mut scheduler);
        }
        scheduler.prediction_type = self.options.prediction.unwrap_or(scheduler.prediction_type);
        if let Some(zero_snr) = self.options.zero_snr {
            scheduler.rescale_betas_zero_snr = zero_snr;
            if zero_snr {
                scheduler.timestep_spacing = Some("trailing".into()); // other spacings never reach pure noise
            }
        }
        Ok(scheduler)
    }

    /// Returns the default settings of requests: those of `impasto.json`, or else those of a distilled network, or else
    /// the network's size and the family's guidance scale. `factor` is the side of a latent cell in pixels.
    pub(super) fn defaults(&self, own: &OwnDefaults, factor: i64) -> Defaults {
        let sample_size = self.config.sample_size();
        let side = |index: usize| {
            let cells = sample_size.get(index).copied().flatten().unwrap_or(self.family.spec().side);
            u32::try_from(cells * factor).unwrap_or(u32::MAX) // requests refuse such a size
        };
        let few = self.few_steps;
        let (its_side, its_scale) = (few.and_then(|few| few.side), few.map(|few| few.guidance_scale));
        let [width, height] = [1, 0].map(|index| its_side.unwrap_or_else(|| side(index)));
        let scale = its_scale.unwrap_or(self.family.spec().guidance_scale);
        let usual = Defaults::new(width, height, scale);
        Defaults {
            width: own.width.unwrap_or(usual.width),
            height: own.height.unwrap_or(usual.height),
            guidance_scale: own.guidance_scale.unwrap_or(usual.guidance_scale),
            steps: own.steps.or(few.map(|few| few.steps)).or(self.config.usual_steps()).unwrap_or(usual.steps),
        }
    }

    /// Returns the settings for reading prompts and pictures and for decoding, as text.
    pub(super) fn reading(&self) -> String {
        let tiling = (self.options.tiling != Tiling::default()).then_some(self.options.tiling);
        let mut reading = format!("{:?} {tiling:?}", self.options.text);
        if let Some(tower) = &self.options.image_encoder {
            reading += &format!(" {}", tower.name()); // the tower's weights may never be loaded
        }
        reading
    }

    /// Adds the notes of the checkpoint's files.
    pub(super) fn note_files(&mut self) {
        let Others { text_encoder, text_encoder_2, text_encoder_3, .. } = &self.others;
        let places = [Some(&self.main), text_encoder.as_ref(), text_encoder_2.as_ref(), text_encoder_3.as_ref()];
        self.notes.extend(places.into_iter().flatten().flat_map(Checkpoint::notes).map(Note::from));
    }

    /// Keeps the tensors of a part that was loaded, and the notes on them.
    fn take(&mut self, part: &str, weights: &Weights) {
        self.notes.extend(weights.report().notes().into_iter().map(Note::from));
        self.parts.insert(part.into(), weights.hand_out());
    }
}
