//! The force as users set it up: its constructors and setters.

use super::cutoff::Cutoff;
use super::gold::GoldMode;
use super::measure::ColorStat;
use super::protect::ProtectMode;
use super::protect::Protected;
use super::report::ColorReport;
use super::run::Forcing;
use super::settings::Settings;
use super::settings::{Feedback, ForceTarget, MaskEdge, Overlap, StepVariance};
use super::texture::Texture;
use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::mask::Region;
use crate::saliency::{Competition, Daam, Differential, Occurrence, Recorded, Saliency};
use crate::window::Window;
use std::fmt;
use tch::Tensor;

/// Pulls what a phrase names toward a flat color, in every solver.
///
/// Each step draws the next latent from a Gaussian around `mean`. Where the saliency of the phrase is above the cutoff,
/// that Gaussian is multiplied by another one around the latent of the flat color ("gold") whose variance is
/// [`color_var`](Self::color_var): `mean ← (c·mean + V·gold) / (V + c)`, V = σ² of the step. In a step, cells outside the mask
/// keep their bits; [`trim`](Self::trim) at the end moves up to three cells around it too. Several forces, on whatever phrases, multiply all their Gaussians at once: their order does not
/// matter.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::{Pipeline, Rgb};
/// use impasto::methods::ColorForce;
/// let mut pipeline = Pipeline::builder().build()?;
/// let mut force = ColorForce::published("eyes", Rgb(255, 215, 0)).color_var(15.0);
/// let output = pipeline.request("1girl, eyes, hair, shirt").seed(7).steps(8).guide(&mut force).run()?;
/// let painted = &force.details()?.painted[0];
/// println!("{} painted, {:.1} from what was asked", painted.color, painted.delta_e);
/// # Ok(()) }
/// ```
///
/// Source: Color Forcing (AP-125); `docs/color-forcing.md` has the derivation and what was inferred.
#[must_use]
pub struct ColorForce {
    pub(super) settings: Settings,
    pub(super) saliency: Box<dyn Saliency>,
    /// Is the saliency the one that `published` chose?
    pub(super) chosen: bool,
    /// The choice of words that an exact force's saliency was made with.
    pub(super) look: Option<Look>,
    /// The setter that asked for a choice of words where the saliency has none.
    pub(super) misplaced: Option<&'static str>,
    pub(super) protected: Vec<Protected>,
    pub(super) run: Option<Forcing>,
}

impl fmt::Debug for ColorForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ColorForce")
            .field("phrase", &self.settings.phrase)
            .field("color", &self.settings.color)
            .field("window", &self.settings.window)
            .finish_non_exhaustive()
    }
}

/// Whom the phrase of an exact force is told apart from.
#[derive(Clone, Default)]
pub(super) struct Look {
    occurrence: Occurrence,
    among: Vec<String>,
    /// Protected phrases.
    against: Vec<String>,
    except: Vec<String>,
}

impl Look {
    fn saliency(&self, phrase: &str, color: Rgb) -> Box<dyn Saliency> {
        let look =
            Daam::competing(phrase).occurrence(self.occurrence).stand_in(Differential::of(phrase, color_word(color)));
        Box::new(look.among(&self.among).against(&self.against).except(&self.except))
    }
}

/// The color terms that every model knows.
///
/// Source: Berlin and Kay, "Basic Color Terms" (1969).
const COLOR_WORDS: [(&str, Rgb); 11] = [
    ("black", Rgb(0, 0, 0)),
    ("white", Rgb(255, 255, 255)),
    ("red", Rgb(255, 0, 0)),
    ("green", Rgb(0, 128, 0)),
    ("yellow", Rgb(255, 255, 0)),
    ("blue", Rgb(0, 0, 255)),
    ("brown", Rgb(139, 69, 19)),
    ("purple", Rgb(128, 0, 128)),
    ("pink", Rgb(255, 105, 180)),
    ("orange", Rgb(255, 165, 0)),
    ("gray", Rgb(128, 128, 128)),
];

/// The word for the nearest of eleven basic colors.
fn color_word(color: Rgb) -> &'static str {
    let distance = |(_, named): &(&str, Rgb)| named.delta_e(color);
    COLOR_WORDS.iter().min_by(|a, b| distance(a).total_cmp(&distance(b))).map_or("pink", |(word, _)| *word)
}

impl ColorForce {
    /// The method with the settings it was published with, to be tuned by hand: one pass, saliency by [`Daam`], color variance 40, cutoff
    /// .15, timesteps 0..=700.
    ///
    /// Source: Color Forcing (AP-125), the first example.
    pub fn published(phrase: impl Into<String>, color: Rgb) -> Self {
        let phrase = phrase.into();
        Self {
            saliency: Box::new(Daam::of(&phrase)),
            chosen: true,
            look: None,
            misplaced: None,
            protected: Vec::new(),
            settings: Settings {
                phrase,
                color,
                mask: None,
                color_var: 40.0,
                cutoff: Cutoff::At(0.15),
                edge: MaskEdge::default(),
                overlap: Overlap::default(),
                window: Window::timesteps(0..=700),
                last_step: false,
                step_variance: StepVariance::default(),
                target: ForceTarget::default(),
                texture: Texture::default(),
                feedback: None,
                gold: GoldMode::default(),
                reference_steps: None,
                first_pass: None,
                outlines: false,
                trim: 0,
                flatten: false,
                stat: ColorStat::default(),
                protect_mode: ProtectMode::default(),
                protect_grow: 1,
            },
            run: None,
        }
    }

    /// Forces `phrase` to exactly `color`, without settings to find: two passes; the mask by competition among what the prompt
    /// names ([`Refine::Contrast`]), brought to the outlines of the picture; forced late, at timesteps up to 250, so that the rest of the picture stays what it was; the
    /// texture kept; the result measured and trimmed. It costs two runs and a few decodings.
    ///
    /// [`ColorReport::converged`] says whether the color was met to CIEDE2000 2, and by most of the region; where it was not, the best is
    /// there, and a note.
    ///
    /// ```
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::{Pipeline, Rgb};
    /// use impasto::methods::ColorForce;
    /// let mut pipeline = Pipeline::builder().build()?;
    /// let mut force = ColorForce::exact("hair", Rgb(255, 99, 71));
    /// let output = pipeline.request("1girl, eyes, hair, shirt").seed(7).steps(8).guide(&mut force).run()?;
    /// let report = force.details()?;
    /// println!("{} painted, converged: {}", report.painted[0].color, report.converged);
    /// # Ok(()) }
    /// ```
    pub fn exact(phrase: impl Into<String>, color: Rgb) -> Self {
        Self::exact_at(phrase, color, Occurrence::All)
    }

    /// The same at some of the phrase's places in the prompt: of two hats, `Occurrence::Nth(1)` is the second.
    pub fn exact_at(phrase: impl Into<String>, color: Rgb, occurrence: Occurrence) -> Self {
        let phrase = phrase.into();
        let look = Look { occurrence, ..Look::default() };
        let saliency = look.saliency(&phrase, color);
        let force = Self::published(phrase, color).saliency(saliency);
        Self { look: Some(look), ..force }
            .saliency_cutoff(0.5)
            .two_pass(0.0)
            .outlines(true)
            .color_var(0.3)
            .window(Window::timesteps(0..=250))
            .last_step(true)
            .target(ForceTarget::SignalOnly)
            .texture(Texture::Local(1.0 / 16.0))
            .overlap(Overlap::Winner)
            .reference_steps(28)
            .stat(ColorStat::Median)
            .trim(3)
            .flatten(true)
    }

    /// c, the variance of the color's Gaussian in squared latent units: small is strong. Above 0; 15 to 70 is useful,
    /// below that regions turn into solid blocks.
    pub fn color_var(mut self, color_var: f64) -> Self {
        self.settings.color_var = color_var;
        self
    }

    /// Saliency from which on a cell is forced, 0..=`range()` of the saliency: .1 to .3 is useful, lower for large
    /// things; or [`Cutoff::Auto`].
    pub fn saliency_cutoff(mut self, cutoff: impl Into<Cutoff>) -> Self {
        self.settings.cutoff = cutoff.into();
        self
    }

    /// Another way to find what is to be forced.
    pub fn saliency(mut self, saliency: impl Saliency + 'static) -> Self {
        self.saliency = Box::new(saliency);
        self.chosen = false;
        self.look = None;
        self
    }

    /// The saliency of the method as it was published, with its second prompt: attention to the phrase plus where the prediction changes
    /// if `word` ("pink") stands before the phrase; maps are in 0..=2. One more evaluation of the model per step.
    pub fn alternative_saliency(self, word: impl Into<String>) -> Self {
        let phrase = self.settings.phrase.clone();
        self.saliency((Daam::of(&phrase), Differential::of(phrase, word)))
    }

    /// Names the phrases that an exact force tells its own apart from, if not from every other word of the prompt.
    ///
    /// ```
    /// use impasto::Rgb;
    /// use impasto::methods::ColorForce;
    /// let hair = ColorForce::exact("hair", Rgb(72, 61, 139)).among(["skin", "background"]);
    /// ```
    ///
    /// `examples/competition.rs` shows the pictures.
    pub fn among<P: Into<String>>(self, phrases: impl IntoIterator<Item = P>) -> Self {
        let among = phrases.into_iter().map(Into::into).collect();
        self.looking_otherwise("among", |look| look.among = among)
    }

    /// Phrases of the prompt that an exact force does not tell its phrase apart from, such as the "ponytail" that "hair" is to be forced
    /// with.
    ///
    /// ```
    /// use impasto::Rgb;
    /// use impasto::methods::ColorForce;
    /// let hair = ColorForce::exact("hair", Rgb(72, 61, 139)).except(["hair bow"]); // the bow too
    /// ```
    pub fn except<P: Into<String>>(self, phrases: impl IntoIterator<Item = P>) -> Self {
        let except = phrases.into_iter().map(Into::into).collect();
        self.looking_otherwise("except", |look| look.except = except)
    }

    fn looking_otherwise(mut self, setter: &'static str, change: impl FnOnce(&mut Look)) -> Self {
        match &mut self.look {
            Some(look) => {
                change(look);
                self.saliency = look.saliency(&self.settings.phrase, self.settings.color);
            }
            None => self.misplaced = Some(setter),
        }
        self
    }

    /// Forces only inside a region: the mask that saliency makes is multiplied by it.
    pub fn mask(mut self, region: Region) -> Self {
        self.settings.mask = Some(region);
        self
    }

    /// How saliency becomes a mask.
    pub fn edge(mut self, edge: MaskEdge) -> Self {
        self.settings.edge = edge;
        self
    }

    /// Who gets a cell that several forces claim.
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.settings.overlap = overlap;
        self
    }

    /// Forces the steps of this window only. Above timestep 700 maps say little yet. Default: timesteps 0..=700; with
    /// [`exact`](Self::exact) 0..=250.
    pub fn window(mut self, window: Window) -> Self {
        self.settings.window = window;
        self
    }

    /// Forces the last step of a run whatever its timestep, so that schedules of a few steps, which may have none in the window, are forced
    /// too.
    pub fn last_step(mut self, last_step: bool) -> Self {
        self.settings.last_step = last_step;
        self
    }

    /// σ² of a step.
    pub fn step_variance(mut self, variance: StepVariance) -> Self {
        self.settings.step_variance = variance;
        self
    }

    /// What is shifted.
    pub fn target(mut self, target: ForceTarget) -> Self {
        self.settings.target = target;
        self
    }

    /// Leaves alone what `phrase` names, found by competition among what the prompt names
    /// ([`Refine::Contrast`]) at timesteps up to 850; may be said several times. Where the force's own map is ahead, the force has the
    /// cell, unless [`protect_mode`](Self::protect_mode) says `Always`.
    pub fn protect(mut self, phrase: impl Into<String>) -> Self {
        let phrase = phrase.into();
        let look = Daam::competing(&phrase).against([&self.settings.phrase]);
        self.protected.push(Protected::new(phrase.clone(), Box::new(look), Cutoff::At(0.5)));
        if let Some(look) = &mut self.look {
            look.against.push(phrase);
            self.saliency = look.saliency(&self.settings.phrase, self.settings.color);
        }
        self
    }

    /// Leaves alone where `saliency` is `cutoff` or more and, unless [`protect_mode`](Self::protect_mode) says `Always`, at least
    /// the force's own; `name` is how messages call it.
    pub fn protect_where(
        mut self,
        name: impl Into<String>,
        saliency: impl Saliency + 'static,
        cutoff: impl Into<Cutoff>,
    ) -> Self {
        self.protected.push(Protected::new(name.into(), Box::new(saliency), cutoff.into()));
        self
    }

    /// Who has a cell that is both forced and protected.
    pub fn protect_mode(mut self, mode: ProtectMode) -> Self {
        self.settings.protect_mode = mode;
        self
    }

    /// Cells by which what is protected is grown, 0..=16; 1 by default.
    pub fn protect_grow(mut self, cells: i64) -> Self {
        self.settings.protect_grow = cells;
        self
    }

    /// Which part of the way to the color is gone; all but `Off` keep what is drawn on the region.
    pub fn texture(mut self, texture: Texture) -> Self {
        self.settings.texture = texture;
        self
    }

    /// Finds the color variance while the picture is made, beginning with [`color_var`](Self::color_var).
    pub fn feedback(mut self, feedback: Feedback) -> Self {
        self.settings.feedback = Some(feedback);
        self
    }

    /// Runs twice over the same noise. The first pass forces nothing and looks, down to training timestep `until` (0..=999; 0
    /// is all of it); the second forces under the last map of the first. So the mask does not flicker, does not follow what
    /// the force does, and is known from the first step on.
    pub fn two_pass(mut self, until: f64) -> Self {
        self.settings.first_pass = Some(until);
        self
    }

    /// Forces under the maps of an earlier run, in one pass; where those have none, nothing is forced.
    pub fn replay(mut self, maps: Recorded) -> Self {
        self.settings.first_pass = None;
        self.saliency(maps)
    }

    /// Brings masks, which are as coarse as attention and cells, to the outlines of the picture: the first pass's map to those of
    /// the first pass's picture (with [`two_pass`](Self::two_pass); forced is then what covers half of a cell or more), and the
    /// region that is measured and trimmed to those of the picture that is measured. A decoding more, and no time per step.
    pub fn outlines(mut self, outlines: bool) -> Self {
        self.settings.outlines = outlines;
        self
    }

    /// After the last step, decodes the picture, measures the region and moves its latent by what is missing, at most this
    /// many times (0..=10): what the decoder and the texture add to a color is not known before.
    pub fn trim(mut self, rounds: usize) -> Self {
        self.settings.trim = rounds;
        self
    }

    /// Lets trimming also lessen the texture, by a quarter at a time, where the color is not met otherwise: shaded gold has no pixels beyond
    /// gold to make up for its dark ones. Where the color is met but fewer than .8 of the pixels are within CIEDE2000 10 of it, trimming
    /// lessens the texture by one quarter.
    pub fn flatten(mut self, flatten: bool) -> Self {
        self.settings.flatten = flatten;
        self
    }

    /// Which color stands for the region when it is measured.
    pub fn stat(mut self, stat: ColorStat) -> Self {
        self.settings.stat = stat;
        self
    }

    /// How the color's latent is made.
    pub fn gold(mut self, gold: GoldMode) -> Self {
        self.settings.gold = gold;
        self
    }

    /// Makes the force as strong at any number of steps as it is at `steps`, 1..=1000. Without it, more steps force
    /// more.
    pub fn reference_steps(mut self, steps: usize) -> Self {
        self.settings.reference_steps = Some(steps);
        self
    }

    /// What the last run did: the color that was painted, the masks and strengths of every forced step, warnings.
    ///
    /// # Errors
    /// [`Error::NoMaps`] before the first run.
    pub fn details(&self) -> Result<ColorReport> {
        let run = self.run.as_ref().ok_or(Error::NoMaps("ColorForce"))?;
        run.trace.report(&self.settings.phrase, self.settings.color, &run.gold, self.contests()?)
    }

    /// Whom the phrase competed with in each image of the last run, and who was left out; empty for a saliency that tells no words apart.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn competitions(&self) -> Result<Vec<Competition>> {
        self.contests()
    }

    /// Masks of the forced steps, [steps, n, h, w] f32.
    ///
    /// # Errors
    /// [`Error::NoMaps`] if no step was forced.
    pub fn masks(&self) -> Result<Tensor> {
        self.run.as_ref().ok_or(Error::NoMaps("ColorForce"))?.trace.masks()
    }

    /// Saliency at the forced steps, [steps, n, h, w] f32.
    ///
    /// # Errors
    /// [`Error::NoMaps`] if no step was forced.
    pub fn saliency_maps(&self) -> Result<Tensor> {
        self.run.as_ref().ok_or(Error::NoMaps("ColorForce"))?.trace.saliency()
    }

    /// The saliency of the last run, to save or to [`replay`](Self::replay).
    ///
    /// # Errors
    /// [`Error::NoMaps`] if no step was forced.
    pub fn recorded(&self) -> Result<Recorded> {
        let trace = &self.run.as_ref().ok_or(Error::NoMaps("ColorForce"))?.trace;
        Recorded::new(trace.timesteps(), trace.saliency()?, self.saliency.range())
    }

    /// The latent of the color in the last run, [1, 4, h, w] f32.
    ///
    /// # Errors
    /// [`Error::NoMaps`] before the first run.
    pub fn gold_latent(&self) -> Result<&Tensor> {
        Ok(&self.run.as_ref().ok_or(Error::NoMaps("ColorForce"))?.gold.latent)
    }
}
