//! [`Request`]: the settings of pictures, and their run.

use super::canvas::Canvas;
use super::color_words::ColorWords;
use super::config::RequestConfig;
use super::detail::Detail;
use super::hires::Hires;
use super::mask_where::MaskWhere;
use super::model_view::{LONGEST, ModelView};
use super::stored::Stored;
use super::watch::{Callback, Show};
use super::{Preview, Seamless};
use crate::attention::CrossAttentionHook;
use crate::color::Rgb;
use crate::conditioning::Codec;
use crate::diffusion::Strength;
use crate::diffusion::solver::Solver;
use crate::error::{Error, Result};
use crate::guidance::{Attached, Combine, Guidance, GuidanceRun};
use crate::methods::ColorForce;
use crate::model::Control;
use crate::prompt::{PromptColor, colors, number_in_texts};
use crate::raster::Raster;
use crate::recipe::Recipe;
use crate::sampler::{CancelToken, Progress};
use crate::size::Size;
use crate::wording::Note;
use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::VecDeque;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use tch::Tensor;

/// A request for pictures. Setters cannot fail; [`Request::run`] reports invalid settings. [`tune`](Self::tune) changes
/// the settings that have no setter of their own:
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::diffusion::{NoiseKind, Spacing};
///
/// let pipeline = impasto::Pipeline::builder().build()?;
/// let request = pipeline.request("a red boat").seed(7).steps(8).tune(|config| {
///     config.spacing = Some(Spacing::Karras);
///     config.noise_kind = NoiseKind::Half;
/// });
/// let output = request.run()?;
/// # Ok(()) }
/// ```
///
/// | setter | default |
/// |---|---|
/// | [`solver`](Self::solver) or [`solver_named`](Self::solver_named) | that of `scheduler_config.json` |
/// | [`spacing`](RequestConfig::spacing) | that of `scheduler_config.json` |
/// | [`guidance_scale`](Self::guidance_scale) | that of `impasto.json`, else 7.5 (SDXL: 5) |
/// | [`size`](Self::size) | that of `impasto.json`, else the network's |
/// | [`steps`](Self::steps) | the model's own, 28 for most models |
/// | [`seed`](Self::seed) | random, and reported in [`Output::seed`](super::Output::seed) |
/// | [`images`](Self::images) | 1 |
/// | [`best_of`](Self::best_of) | 1: no search, the picture of the seed itself |
/// | [`negative`](Self::negative) | empty |
/// | [`second_prompt`](Self::second_prompt), [`second_negative`](RequestConfig::second_negative) | same as the first |
/// | [`third_prompt`](Self::third_prompt), [`third_negative`](RequestConfig::third_negative) | same as the first |
/// | [`micro_conditioning`](RequestConfig::micro_conditioning) | the picture's own size |
/// | [`negative_micro_conditioning`](RequestConfig::negative_micro_conditioning) | that of the prompt, score 2.5 |
/// | [`start`](Self::start), [`mask`](Self::mask), [`mask_where`](Self::mask_where) | none: text to image |
/// | [`hires`](Self::hires), [`detail`](Self::detail) | none: one run |
/// | [`until`](Self::until), [`resume`](Self::resume) | the whole run |
/// | [`control`](Self::control) | no ControlNets |
/// | [`variation`](Self::variation), [`guidance_rescale`](RequestConfig::guidance_rescale) | none |
#[must_use]
pub struct Request<'p> {
    pub(super) model: ModelView<'p>,
    pub(super) guidances: Vec<Attached<'p>>,
    pub(super) config: RequestConfig,
    pub(super) solver: Option<Box<dyn Solver>>,
    pub(super) combine: Option<Box<dyn Combine>>,
    pub(super) picture: Option<(Cow<'p, Raster>, Strength)>,
    pub(super) mask: Option<Cow<'p, Raster>>,
    pub(super) resumed: Option<(&'p Tensor, f64)>,
    pub(super) controls: Vec<Control<'p>>,
    /// Hints of the repeated run that still lack their ControlNet.
    pub(super) kept_controls: VecDeque<Recipe>,
    /// The parts of this request as a PNG holds them, once they are known. A change of a part empties the cell.
    pub(super) stored: OnceCell<Stored>,
    pub(super) cancel: CancelToken,
    pub(super) on_step: Option<Callback<'p>>,
    pub(super) on_preview: Option<(usize, Show<'p>)>,
    /// Notes on parts of the repeated run that cannot be repeated.
    pub(super) notes: Vec<Note>,
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("config", &self.config).finish_non_exhaustive()
    }
}

impl<'p> Request<'p> {
    pub(super) fn new(model: ModelView<'p>, attached: &[Arc<dyn Guidance>], prompt: String) -> Self {
        Self {
            model,
            guidances: attached.iter().cloned().map(Attached::method).collect(),
            config: RequestConfig { prompt, ..RequestConfig::default() },
            solver: None,
            combine: None,
            picture: None,
            mask: None,
            resumed: None,
            controls: Vec::new(),
            kept_controls: VecDeque::new(),
            stored: OnceCell::new(),
            cancel: CancelToken::default(),
            on_step: None,
            on_preview: None,
            notes: Vec::new(),
        }
    }
}

/// # Prompts
impl<'p> Request<'p> {
    /// Returns the exact colors in the prompt, as they were understood: `#ffd700 eyes`, `rgb(255, 99, 71) hair`,
    /// `{teal} shirt`. Each color becomes a [`ColorForce::exact`] on the words after it. See
    /// [`prompt::colors`](crate::prompt::colors()).
    ///
    /// ```
    /// # fn main() -> impasto::Result<()> {
    /// let pipeline = impasto::Pipeline::builder().build()?;
    /// let request = pipeline.request("1girl, #ffd700 eyes, {teal} shirt").seed(7).steps(8);
    /// for color in request.colors()? {
    ///     println!("{} shall be {}, and the model reads \"{}\"", color.phrase, color.color, color.word);
    /// }
    /// let output = request.run()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Parameter`] if it is ambiguous which words a color applies to, with the possible readings.
    pub fn colors(&self) -> Result<Vec<PromptColor>> {
        Ok(self.read_colors()?.1)
    }

    /// Sets the negative prompt, a description of what the picture should not show.
    pub fn negative(mut self, negative: impl Into<String>) -> Self {
        self.config.negative = negative.into();
        self
    }

    /// Sets the prompt of the second text encoder (SDXL, SD 3), which otherwise reads the first prompt. Guidance
    /// methods find phrases in both prompts.
    pub fn second_prompt(mut self, prompt: impl Into<String>) -> Self {
        self.config.second_prompt = Some(prompt.into());
        self
    }

    /// Sets the prompt of the third text encoder (SD 3), which otherwise reads the first prompt. Guidance methods find
    /// phrases in all prompts.
    pub fn third_prompt(mut self, prompt: impl Into<String>) -> Self {
        self.config.third_prompt = Some(prompt.into());
        self
    }

    /// Returns the prompt as the text encoder reads it, and the exact colors in it.
    pub(super) fn read_colors(&self) -> Result<(String, Vec<PromptColor>)> {
        let known = match self.config.color_words {
            ColorWords::Nothing => Vec::new(),
            // Most prompts have no exact color and need no color words.
            ColorWords::Nearest if colors(&self.config.prompt, |_| String::new())?.1.is_empty() => Vec::new(),
            ColorWords::Nearest => known_colors(self.model.network)?,
        };
        let (prompt, mut found) = colors(&self.config.prompt, |color| {
            let nearest = known.iter().min_by(|a, b| a.1.delta_e(color).total_cmp(&b.1.delta_e(color)));
            nearest.map(|(name, _)| (*name).to_owned()).unwrap_or_default()
        })?;
        number_in_texts(&self.config.prompt, self.config.syntax, self.step_count(), &mut found)?;
        Ok((prompt, found))
    }
}

/// # Size, seed and number of pictures
impl<'p> Request<'p> {
    /// Sets the picture's width and height in pixels: multiples of 8 in 8..=4096. A picture to [`start`](Self::start)
    /// from and its mask are resized to this size, which may then be any size in 1..=4096. Without a size, the size of
    /// that picture is used. A model with positions for fewer cells has a lower limit: the sides of SD 3 medium and
    /// SD 3.5 large are at most 3072 pixels.
    pub fn size(mut self, size: impl Into<Size>) -> Self {
        self.config.size = Some(size.into());
        self
    }

    /// Sets the seed of the first image; image i has seed + i. Torch's CPU generator draws the noise in f32, on every
    /// device and in every precision. Seeds therefore match those of diffusers in f32 with a CPU generator. For the
    /// seeds of diffusers in f16 or bf16, see [`noise_kind`](RequestConfig::noise_kind).
    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = Some(seed);
        self
    }

    /// Makes a variation of the seed's picture. The first noise lies between the seed's noise and that of `seed`,
    /// `strength` 0..=1 of the way along a circle. A strength of 0.05 to 0.3 is usual.
    pub fn variation(mut self, seed: u64, strength: f64) -> Self {
        self.config.variation = Some((seed, strength));
        self
    }

    /// Sets the number of images in the batch, 1..=1024.
    pub fn images(mut self, images: usize) -> Self {
        self.config.images = images;
        self
    }

    /// Runs the first passes of `seeds` seeds, 1..=1024, from [`seed`](Self::seed) on, and finishes only the best one.
    /// [`GuidanceRun::outlook`] of the attached methods decides. With
    /// [`ColorForce::exact`](crate::methods::ColorForce::exact), the best seed is the one whose objects the model tells
    /// apart best. [`Output::seed`](super::Output::seed) is the chosen seed, and the recipe repeats its picture without
    /// a search.
    ///
    /// The first passes run as one batch. Four seeds take the time of 4 runs without forces, and at most the memory of
    /// a batch of 4 ([`Batching::OneByOne`](crate::sampler::Batching::OneByOne): of one). A search needs a request for
    /// one image and a guidance method that requests a first pass.
    ///
    /// ```
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::{Pipeline, Rgb};
    /// let pipeline = Pipeline::builder().build()?;
    /// let request =
    ///     pipeline.request("1girl, eyes, hair bow, hair").steps(8).color_force("hair bow", Rgb(255, 105, 180));
    /// let output = request.seed(7).best_of(4).run()?;
    /// println!("seed {:?} of 7..=10", output.seed);
    /// # Ok(()) }
    /// ```
    pub fn best_of(mut self, seeds: usize) -> Self {
        self.config.best_of = seeds;
        self
    }
}

/// # Sampling
impl<'p> Request<'p> {
    /// Sets the number of steps, 1..=1000.
    pub fn steps(mut self, steps: usize) -> Self {
        self.config.steps = Some(steps);
        self
    }

    /// Sets the solver (sampling method) to a value, in place of the checkpoint's.
    pub fn solver(mut self, solver: impl Solver + 'static) -> Self {
        self.solver = Some(Box::new(solver));
        self.config.solver_named = None;
        self.stored = OnceCell::new();
        self
    }

    /// Sets the solver (sampling method) by a name of A1111, ComfyUI or diffusers, such as "DPM++ 2M Karras": see
    /// [`solver::by_name`](crate::diffusion::solver::by_name). A spacing in the name is used, too, unless
    /// [`spacing`](RequestConfig::spacing) is set.
    pub fn solver_named(mut self, name: impl Into<String>) -> Self {
        (self.solver, self.config.solver_named) = (None, Some(name.into()));
        self.stored = OnceCell::new();
        self
    }

    /// Sets the classifier-free guidance scale, 0 or more; 1 or less means no guidance. A network that embeds the scale
    /// (LCM) reads the scale as an input instead, and has no negative prompt. With another combination
    /// ([`combine`](Self::combine)) the scale has no effect, and a note says so.
    pub fn guidance_scale(mut self, scale: f64) -> Self {
        self.config.guidance_scale = Some(scale);
        self
    }

    /// Sets another combination of the branches, in place of classifier-free guidance with a scale.
    pub fn combine(mut self, combine: impl Combine + 'static) -> Self {
        self.combine = Some(Box::new(combine));
        self.stored = OnceCell::new();
        self
    }
}

/// # Starting from a picture or from another run
impl<'p> Request<'p> {
    /// Starts image to image from `picture`, noised to a level inside the noise schedule. `strength` is the share of
    /// the schedule that is run, 0..=1; 0.5 to 0.8 is usual. A number is a [`Strength::Portion`].
    ///
    /// ```
    /// # fn main() -> impasto::Result<()> {
    /// # let pipeline = impasto::Pipeline::builder().build()?;
    /// let boat = pipeline.request("a red boat, sky, ground").seed(7).steps(8).run()?;
    /// let again = pipeline.request("a blue boat, sky, ground").start(boat.image(0)?, 0.75).steps(8).run()?;
    /// assert_eq!(again.timing.steps.len(), 6);
    /// # Ok(()) }
    /// ```
    pub fn start(mut self, picture: impl Into<Cow<'p, Raster>>, strength: impl Into<Strength>) -> Self {
        self.picture = Some((picture.into(), strength.into()));
        self.stored = OnceCell::new();
        self
    }

    /// Sets the mask for inpainting: how much of each place of the picture given to [`start`](Self::start) is
    /// repainted.
    ///
    /// - Where the mask is black, the result has the given picture's own pixels, bit for bit.
    /// - White is repainted by all steps of the run. At strength 1 nothing of the old picture is left there.
    /// - Gray is repainted by as large a share of the last steps (differential diffusion), so a soft edge changes less
    ///   and less.
    ///
    /// New and kept pixels are blended within a band of [`feather`](Self::feather) pixels inside the mask. The tone of
    /// the new pixels is matched to the kept ones ([`match_tone`](RequestConfig::match_tone)). A report with the name
    /// `repaint` has the difference in color across the mask's border. [`Output::latents`](super::Output::latents) is
    /// not changed by this.
    ///
    /// A checkpoint made for inpainting (nine input channels) sees the mask and the picture. With other checkpoints,
    /// the kept cells are restored after every step. [`Layer::mask`](crate::raster::Layer::mask) reads masks whose
    /// shape is in their transparency.
    pub fn mask(mut self, mask: impl Into<Cow<'p, Raster>>) -> Self {
        self.mask = Some(mask.into());
        self.stored = OnceCell::new();
        self
    }

    /// Repaints the thing that a phrase names, in the picture given to [`start`](Self::start). The run finds the thing
    /// before its first step; [`MaskWhere`] has the settings, and an example. If the prompt gives the phrase an exact
    /// color (`#ffd700 eyes`) and the strength is below 1, the color is painted where the thing was found.
    pub fn mask_where(mut self, thing: impl Into<MaskWhere>) -> Self {
        self.config.mask_where = Some(thing.into());
        self
    }

    /// Gives the mask a soft edge of a width in pixels, 0..=4096, around its lighter half. The edge is gray, so it is
    /// repainted less and less. The default is 8 for things that are found, and 0 for drawn masks.
    pub fn soften(mut self, pixels: f64) -> Self {
        self.config.soften = Some(pixels);
        self
    }

    /// Sets the width in pixels, 0..=4096, of the band inside the mask's border in which new and kept pixels are
    /// blended. The default is 8. 0 gives a hard border.
    pub fn feather(mut self, pixels: f64) -> Self {
        self.config.feather = Some(pixels);
        self
    }

    /// Enlarges the finished picture by the factor `scale`, above 1 and up to 8, and repaints it at that size by a
    /// second run with the share `strength` of its steps. [`Hires`] has further settings, and says when this helps.
    pub fn hires(mut self, scale: f64, strength: f64) -> Self {
        self.config.hires = Some(Hires::new(scale, strength));
        self
    }

    /// Repaints a part of the finished picture at full size, such as a small face: the thing that a phrase names, or a
    /// [`Detail`] with further settings. Several details are repainted one after the other. After
    /// [`start`](Self::start) at strength 0, the details are all that changes.
    /// [`Output::latents`](super::Output::latents) is not changed by details.
    pub fn detail(mut self, detail: impl Into<Detail>) -> Self {
        self.config.details.push(detail.into());
        self.stored = OnceCell::new();
        self
    }

    /// Makes a picture that continues at its opposite edges, so that copies of it side by side make a pattern without
    /// seams.
    ///
    /// ```
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::pipeline::Seamless;
    /// let pipeline = impasto::Pipeline::builder().build()?;
    /// let output = pipeline.request("a blue flower, green ground").seed(7).steps(8).seamless(Seamless::Both).run()?;
    /// # Ok(()) }
    /// ```
    pub fn seamless(mut self, edges: Seamless) -> Self {
        self.config.seamless = edges;
        self
    }

    /// Ends the run after the steps that begin in the first `share` of the training timesteps, 0..=1. Another model
    /// with the same latents can run the rest: its [`resume`](Self::resume) takes
    /// [`Output::latents`](super::Output::latents). A run that ends early makes no pictures. The same setting of
    /// diffusers is `denoising_end`.
    ///
    /// ```no_run
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::{Pipeline, Source};
    ///
    /// let base = Pipeline::builder().source(Source::file("sd_xl_base.safetensors")).build()?;
    /// let refiner = Pipeline::builder().source(Source::file("sd_xl_refiner.safetensors")).build()?;
    /// let prompt = "a fox in a garden";
    /// let rough = base.request(prompt).seed(7).steps(40).until(0.8).run()?;
    /// let output = refiner.request(prompt).steps(40).resume(&rough.latents, 0.8).run()?;
    /// # Ok(()) }
    /// ```
    pub fn until(mut self, share: f64) -> Self {
        self.config.until = Some(share);
        self
    }

    /// Continues from the latents of another request, [n, c, h, w], which ran [`until`](Self::until) the same share.
    /// `steps` is the number of steps of the whole run, as in the first request. Size and number of images are those of
    /// the latents. The same setting of diffusers is `denoising_start`.
    pub fn resume(mut self, latents: &'p Tensor, share: f64) -> Self {
        self.resumed = Some((latents, share));
        self
    }
}

/// # Guidance methods, hooks and ControlNets
impl<'p> Request<'p> {
    /// Attaches a guidance method to this request. [`Output::details`](super::Output::details) has what it found.
    pub fn guide(self, guidance: impl Guidance + 'static) -> Self {
        self.attached(Attached::method(Arc::new(guidance)))
    }

    /// Attaches a value of your own that guides this request alone, to read it after the run.
    pub fn attach(self, guidance: &'p mut impl GuidanceRun) -> Self {
        self.attached(Attached::Lent(guidance))
    }
    pub(super) fn attached(mut self, attached: Attached<'p>) -> Self {
        self.guidances.push(attached);
        self.stored = OnceCell::new();
        self
    }

    /// Forces the object that `phrase` names to exactly `color`. Short for `.guide(ColorForce::exact(phrase, color))`,
    /// which costs two passes and a few decodings.
    pub fn color_force(self, phrase: impl Into<String>, color: Rgb) -> Self {
        self.guide(ColorForce::exact(phrase, color))
    }

    /// Attaches an attention hook to this request: a value, or `&mut value` to read it after the run.
    pub fn hook(self, hook: impl CrossAttentionHook + 'p) -> Self {
        self.attached(Attached::hook(hook))
    }

    /// Attaches a ControlNet ([`Model::controlnet`](crate::Model::controlnet)) or a T2I adapter
    /// ([`Model::t2i_adapter`](crate::Model::t2i_adapter)). The effects of several add up. Pictures shown to them are
    /// resized to the size of the request's pictures. See [`Control`] for an example.
    pub fn control(mut self, control: Control<'p>) -> Self {
        self.controls.push(control);
        self.stored = OnceCell::new();
        self
    }
}

/// # Watching and ending a run
impl<'p> Request<'p> {
    /// Calls `callback` after every step, also of the first pass that some guidance methods request
    /// ([`Progress::pass`]). `Break` ends the run with [`Error::Cancelled`].
    pub fn on_step(mut self, callback: impl FnMut(&Progress) -> ControlFlow<()> + 'p) -> Self {
        self.on_step = Some(Box::new(callback));
        self
    }

    /// Calls `show` with a preview each time that `every` more steps are done, and after the last step of each pass.
    /// `every` is 1 or more. An error of `show` ends the run. To end the run on purpose, return [`Error::Cancelled`].
    ///
    /// ```
    /// # fn main() -> impasto::Result<()> {
    /// # let folder = std::env::temp_dir();
    /// let pipeline = impasto::Pipeline::builder().build()?;
    /// let request = pipeline.request("1girl, red hair").seed(7).steps(8).on_preview(4, |preview| {
    ///     let picture = preview.pictures()?.remove(0);
    ///     picture.save(folder.join(format!("step_{}.png", preview.progress.done)))
    /// });
    /// let output = request.run()?;
    /// # Ok(()) }
    /// ```
    pub fn on_preview(mut self, every: usize, show: impl FnMut(&Preview<'_>) -> Result<()> + 'p) -> Self {
        self.on_preview = Some((every, Box::new(show)));
        self
    }

    /// Sets a token that ends the run before its next call of the network.
    pub fn cancel(mut self, token: &CancelToken) -> Self {
        self.cancel = token.clone();
        self
    }
}

/// # All plain settings
impl<'p> Request<'p> {
    /// Changes the plain settings, which a file can hold. Many of them have no setter of their own.
    /// `tune(|config| *config = other)` replaces all of them, including the prompt.
    ///
    /// ```
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::sampler::Batching;
    ///
    /// let pipeline = impasto::Pipeline::builder().build()?;
    /// let request = pipeline.request("a red boat").images(4).tune(|config| config.batching = Batching::OneByOne);
    /// # Ok(()) }
    /// ```
    pub fn tune(mut self, change: impl FnOnce(&mut RequestConfig)) -> Self {
        change(&mut self.config);
        self.stored = OnceCell::new();
        self
    }
}

impl Request<'_> {
    /// Returns the number of steps.
    pub(super) fn step_count(&self) -> usize {
        self.config.steps.unwrap_or(self.model.defaults().steps)
    }

    /// Returns true if the request repaints details of its picture and nothing else. The network then never reads the
    /// whole picture.
    pub(super) fn stays(&self) -> bool {
        let keeps_all = self.picture.as_ref().is_some_and(|(_, strength)| strength.share() == 0.0);
        keeps_all && !self.config.details.is_empty()
    }

    /// Returns the size of the pictures, and the latent cells that cover them.
    pub(super) fn canvas(&self) -> Result<Canvas> {
        let (defaults, cell, patch) = (self.model.defaults(), self.model.cell(), self.model.network.patch());
        let usual = Size::new(defaults.width, defaults.height);
        let most = if self.stays() { LONGEST } else { self.model.longest_side() };
        let why = if most < LONGEST { ", because the model reads no longer sides" } else { "" };
        let size = match (self.config.size, &self.picture, self.resumed) {
            (Some(size), ..) => size,
            (None, Some((picture, _)), _) => picture.size(),
            (None, None, Some((latents, _))) => match *latents.size() {
                [_, _, h, w] => {
                    let size = Size::new((w * cell) as u32, (h * cell) as u32);
                    if self.model.network.longest_side().is_some_and(|longest| h.max(w) > longest) {
                        let given = format!("latents of {size} pixels");
                        return Err(Error::parameter("resume", given, format!("sides of at most {most} pixels{why}")));
                    }
                    return Ok(Canvas::covering(size, cell, patch));
                }
                _ => usual,
            },
            (None, None, None) => usual,
        };
        // A picture to start from may have any size, because the cells at its edges may reach beyond it.
        let is_free = self.picture.is_some();
        for (name, side) in [("width", size.width), ("height", size.height)] {
            if side == 0 || side > most || !is_free && (side % 8 != 0 || side % cell as u32 != 0) {
                let range = if is_free { "1 to " } else { "a multiple of 8 in 8..=" };
                return Err(Error::parameter(name, side, format!("{range}{most}{why}")));
            }
        }
        Ok(Canvas::covering(size, cell, patch))
    }
}

/// Color words that may replace exact colors. A word that names a material is left out: "chocolate hair" would be made
/// of chocolate.
const COLOR_WORDS: [&str; 19] = [
    "black",
    "white",
    "gray",
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "brown",
    "beige",
    "cyan",
    "lavender",
    "magenta",
    "maroon",
    "navy",
    "teal",
    "turquoise",
];

/// Returns the [`COLOR_WORDS`] that are one token of the model, with their colors.
fn known_colors(codec: &dyn Codec) -> Result<Vec<(&'static str, Rgb)>> {
    let mut known = Vec::new();
    for name in COLOR_WORDS {
        if let [token] = codec.prompt(name.into())?.tokens()
            && token.len() == name.len()
        {
            known.push((name, name.parse()?));
        }
    }
    Ok(known)
}
