//! Constructors and setters of [`ColorForce`].

use super::cutoff::Cutoff;
use super::finder::{Competition, Finder};
use super::options::ForceOptions;
use super::protect::Protected;
use super::run::ForceRun;
use super::settings::Settings;
use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::guidance::{Guidance, GuidanceRun, Setup};
use crate::hint::Strokes;
use crate::mask::Region;
use crate::recipe::Recipe;
use crate::saliency::{Daam, Differential, Occurrence, Recorded, Reference, Saliency, Seen, Spread, object};
use crate::window::Window;
use std::any::Any;
use std::sync::Arc;

/// Smallest saliency of a spread stroke at which a cell belongs to the object under the stroke.
const STROKE_CUTOFF: f64 = 0.35;

/// Color of a force whose color is not known before the first pass.
const UNKNOWN: Rgb = Rgb(128, 128, 128);

/// Pulls the object that a phrase names toward a flat color, with every solver.
///
/// Each step draws the next latent from a Gaussian around `mean`. Where the saliency of the phrase reaches the cutoff,
/// this Gaussian is multiplied by a second Gaussian around the latent of the flat color ("gold"). The variance of the
/// second Gaussian is c, [`color_var`](Self::color_var). The product has `mean ← (c·mean + V·gold) / (V + c)`, where V
/// is the variance of the step, σ².
///
/// In a step, cells outside the mask keep their bits; [trimming](ForceOptions::trim) at the end also moves up to three
/// cells around the mask. Several forces, on any phrases, multiply all their Gaussians at once, so their order does not
/// matter.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::{Pipeline, Rgb};
/// use impasto::methods::ColorForce;
/// use impasto::methods::color_force::ColorReport;
/// let pipeline = Pipeline::builder().build()?;
/// let force = ColorForce::published("eyes", Rgb(255, 215, 0)).color_var(15.0);
/// let output = pipeline.request("1girl, eyes, hair, shirt").seed(7).steps(8).guide(force).run()?;
/// let painted = &output.details::<ColorReport>("eyes")?.painted[0];
/// println!("{} painted, {:.1} from what was asked", painted.color, painted.delta_e);
/// # Ok(()) }
/// ```
///
/// Source: the document "Color Forcing"; `docs/color-forcing.md` has the derivation and what was inferred.
#[derive(Clone, Debug)]
#[must_use]
pub struct ColorForce {
    pub(super) settings: Settings,
    pub(super) saliency: Finder,
    pub(super) protected: Vec<Protected>,
    /// The content that the run of replayed maps held.
    pub(super) replayed: Option<Seen>,
}

impl ColorForce {
    /// Makes the method with its published settings, to be tuned by hand: one pass, saliency by [`Daam`], color
    /// variance 40, cutoff .15, timesteps 0..=700.
    ///
    /// Source: the document "Color Forcing", the first example.
    pub fn published(phrase: impl Into<String>, color: Rgb) -> Self {
        let phrase = phrase.into();
        Self {
            saliency: Finder::Attention(Daam::of(&phrase)),
            protected: Vec::new(),
            replayed: None,
            settings: Settings {
                phrase,
                color,
                same_as: None,
                mask: None,
                color_var: 40.0,
                cutoff: Cutoff::At(0.15),
                window: Window::timesteps(0..=700),
                options: ForceOptions::default(),
            },
        }
    }

    /// Forces `phrase` to exactly `color`, without settings to tune. The force costs two runs and a few decodings.
    ///
    /// - The first of two passes finds the mask, by competition among the phrases of the prompt
    ///   ([`Refine::Contrast`](crate::saliency::Refine::Contrast)). The mask then follows the outlines of the picture.
    /// - The second pass forces late, at timesteps up to 250, so that the rest of the picture stays as it was. The
    ///   texture is kept. Only an object whose material is not clear, such as near-black eyes, is redrawn from timestep
    ///   700 on ([`ForceOptions::redraw`](super::ForceOptions::redraw)).
    /// - The result is measured and trimmed.
    ///
    /// [`ColorReport::converged`] is true if the region's color is within CIEDE2000 2 of `color`, and most of the
    /// region has that color. Otherwise the best result is kept, and a note says so.
    ///
    /// ```
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::{Pipeline, Rgb};
    /// use impasto::methods::ColorForce;
    /// use impasto::methods::color_force::ColorReport;
    /// let pipeline = Pipeline::builder().build()?;
    /// let force = ColorForce::exact("hair", Rgb(255, 99, 71));
    /// let output = pipeline.request("1girl, eyes, hair, shirt").seed(7).steps(8).guide(force).run()?;
    /// let report = output.details::<ColorReport>("hair")?;
    /// println!("{} painted, converged: {}", report.painted[0].color, report.converged);
    /// # Ok(()) }
    /// ```
    pub fn exact(phrase: impl Into<String>, color: Rgb) -> Self {
        Self::exact_at(phrase, color, Occurrence::All)
    }

    /// Forces the object under each stroke to exactly the stroke's color, without a phrase for the object.
    ///
    /// There is one force for each color of the strokes, the largest first; attach all of them to a request. Each force
    /// works like [`exact`](Self::exact), except for its saliency. A stroke is spread over the object that it lies on,
    /// and strokes compete for cells ([`Spread`]). A stroke much thinner than a cell of 8 pixels may find nothing, and
    /// a note says so.
    ///
    /// ```
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::hint::Strokes;
    /// use impasto::methods::ColorForce;
    /// use impasto::methods::color_force::ColorReport;
    /// use impasto::{Pipeline, Rgb};
    /// let strokes = Strokes::new((256, 256))
    ///     .line([(100.0, 70.0), (156.0, 70.0)], 5.0, Rgb(255, 99, 71))
    ///     .line([(110.0, 240.0), (150.0, 240.0)], 5.0, Rgb(72, 61, 139));
    /// let forces = ColorForce::painted(&strokes)?;
    /// let pipeline = Pipeline::builder().build()?;
    /// let request = pipeline.request("1girl, hair, shirt, background").seed(7).steps(8);
    /// let output = forces.into_iter().fold(request, |request, force| request.guide(force)).run()?;
    /// println!("{} painted", output.details::<ColorReport>("stroke #ff6347")?.painted[0].color);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The errors of [`Strokes::colors`].
    pub fn painted(strokes: &Strokes) -> Result<Vec<Self>> {
        let force = |(color, region): (Rgb, Region)| {
            let under = Spread::of(region).among_drawing();
            let force = Self::exact(format!("stroke {color}"), color).saliency(under).saliency_cutoff(STROKE_CUTOFF);
            force.tune(|options| options.alike = true)
        };
        Ok(strokes.colors()?.into_iter().map(force).collect())
    }

    /// Forces `phrase` to the color that it has in a reference, and keeps the texture. The force is
    /// [`exact`](Self::exact) with the median color of the phrase's region in the reference. A recipe stores the force
    /// with this color, not with the reference.
    ///
    /// # Errors
    /// The errors of [`Reference::color`].
    pub fn like(reference: &Reference, phrase: impl Into<String>) -> Result<Self> {
        let phrase = phrase.into();
        let color = reference.color(&phrase)?;
        Ok(Self::exact(phrase, color))
    }

    /// Forces `phrase` to the color that the thing `other` of the same picture has. The force is [`exact`](Self::exact)
    /// and [protects](Self::protect) `other`, whose median color is measured in the first pass's picture. A run has one
    /// picture, because each picture has a color of its own.
    ///
    /// ```
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::Pipeline;
    /// use impasto::methods::ColorForce;
    /// use impasto::methods::color_force::ColorReport;
    /// let pipeline = Pipeline::builder().build()?;
    /// let hair = ColorForce::same_as("hair", "shirt");
    /// let output = pipeline.request("1girl, eyes, hair, red shirt").seed(7).steps(8).guide(hair).run()?;
    /// println!("the hair is {}, as the shirt", output.details::<ColorReport>("hair")?.asked);
    /// # Ok(()) }
    /// ```
    ///
    /// The run fails with [`Error::Parameter`] for several pictures, and if the first pass's picture does not show
    /// `other`.
    pub fn same_as(phrase: impl Into<String>, other: impl Into<String>) -> Self {
        let other = other.into();
        let mut force = Self::exact(phrase, UNKNOWN).protect(&other);
        force.settings.same_as = Some(other);
        force
    }

    /// Works like [`exact`](Self::exact), but forces only the given occurrences of the phrase in the prompt. With two
    /// hats in the prompt, `Occurrence::Nth(1)` is the second hat.
    pub fn exact_at(phrase: impl Into<String>, color: Rgb, occurrence: Occurrence) -> Self {
        let phrase = phrase.into();
        let competition = Competition::new(&phrase, occurrence);
        let published = Self::published(phrase, color).color_var(0.3).saliency_cutoff(0.5);
        let force = Self { saliency: Finder::Competition(competition), ..published };
        force.window(Window::timesteps(0..=250)).tune(|options| *options = ForceOptions::exact())
    }
}

/// # Where it acts
impl ColorForce {
    /// Sets another saliency to find the region to force.
    pub fn saliency(mut self, saliency: impl Saliency + 'static) -> Self {
        self.saliency = Finder::Given(Arc::new(saliency));
        self
    }

    /// Returns the saliency of the force and those of the protected objects.
    fn saliencies(&self) -> impl Iterator<Item = &dyn Saliency> {
        let protected = self.protected.iter().map(|protected| &*protected.saliency);
        std::iter::once(self.saliency.saliency()).chain(protected)
    }

    /// Returns this force with `place` as its region, if it finds all of `phrase` by itself.
    pub(crate) fn placed(&self, phrase: &str, place: &Region) -> Option<Self> {
        let finds = match &self.saliency {
            Finder::Competition(competition) => competition.is_plain(),
            _ => false,
        };
        let is_named = finds && self.settings.phrase.trim().eq_ignore_ascii_case(phrase);
        is_named.then(|| self.clone().saliency(place.clone()))
    }

    /// Sets the published saliency with a second prompt: attention to the phrase plus the change of the prediction if
    /// `word` ("pink") stands before the phrase. Maps are in 0..=2. The second prompt costs one more evaluation of the
    /// model per step.
    pub fn alternative_saliency(self, word: impl Into<String>) -> Self {
        let phrase = self.settings.phrase.clone();
        self.saliency((Daam::of(&phrase), Differential::of(phrase, word)))
    }

    /// Sets the smallest saliency at which a cell is forced, 0..=`range()` of the saliency, or [`Cutoff::Auto`]. Useful
    /// values are .1 to .3; large objects need lower values.
    pub fn saliency_cutoff(mut self, cutoff: impl Into<Cutoff>) -> Self {
        self.settings.cutoff = cutoff.into();
        self
    }

    /// Finds the region by competition of the phrase with `phrases`. By default, the phrase of an exact force competes
    /// with every other word of the prompt. The competition takes the place of any other saliency, and with it the
    /// cutoff is .5.
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
        self.compete(|competition| competition.among = among)
    }

    /// Finds the region by competition as [`among`](Self::among) does, but without these phrases. An example is a
    /// "ponytail" that is to be forced with the "hair".
    ///
    /// ```
    /// use impasto::Rgb;
    /// use impasto::methods::ColorForce;
    /// let hair = ColorForce::exact("hair", Rgb(72, 61, 139)).except(["hair bow"]); // forces the bow too
    /// ```
    pub fn except<P: Into<String>>(self, phrases: impl IntoIterator<Item = P>) -> Self {
        let except = phrases.into_iter().map(Into::into).collect();
        self.compete(|competition| competition.except = except)
    }

    /// Changes the competition of the phrase. If the force has another saliency, a competition takes its place.
    fn compete(mut self, change: impl FnOnce(&mut Competition)) -> Self {
        let mut competition = match self.saliency {
            Finder::Competition(competition) => competition,
            _ => {
                self.settings.cutoff = Cutoff::At(0.5);
                Competition::new(&self.settings.phrase, Occurrence::All)
            }
        };
        change(&mut competition);
        competition.renew(&self.settings.phrase);
        self.saliency = Finder::Competition(competition);
        self
    }

    /// Forces only inside a region: the mask of the saliency is multiplied by the region.
    pub fn mask(mut self, region: Region) -> Self {
        self.settings.mask = Some(region);
        self
    }

    /// Forces under the maps of an earlier run, in one pass. Steps without a recorded map are not forced.
    pub fn replay(mut self, mut maps: Recorded) -> Self {
        self.settings.options.first_pass = None;
        self.replayed = maps.seen.take();
        self.saliency(maps)
    }
}

/// # How strongly and when it acts
impl ColorForce {
    /// Sets c, the variance of the color's Gaussian in squared latent units; a smaller c forces more strongly. c is
    /// above 0. Useful values are 15 to 70; smaller values turn regions into solid blocks unless
    /// [`ForceOptions::texture`] keeps the texture.
    pub fn color_var(mut self, color_var: f64) -> Self {
        self.settings.color_var = color_var;
        self
    }

    /// Forces only the steps in this window. Above timestep 700, saliency maps hardly locate the object. Default:
    /// timesteps 0..=700; with [`exact`](Self::exact) 0..=250.
    pub fn window(mut self, window: Window) -> Self {
        self.settings.window = window;
        self
    }

    /// Changes the options that few runs change; [`ForceOptions`] describes them.
    ///
    /// ```
    /// use impasto::Rgb;
    /// use impasto::methods::ColorForce;
    /// let untrimmed = ColorForce::exact("hair", Rgb(72, 61, 139)).tune(|options| options.trim = 0);
    /// ```
    pub fn tune(mut self, change: impl FnOnce(&mut ForceOptions)) -> Self {
        change(&mut self.settings.options);
        self
    }
}

/// # What it leaves alone
impl ColorForce {
    /// Protects the object that `phrase` names; may be called several times.
    ///
    /// The object is found by competition among the phrases of the prompt
    /// ([`Refine::Contrast`](crate::saliency::Refine::Contrast)) at timesteps up to 850. Cells where the force's own
    /// saliency is larger are forced all the same, unless [`ForceOptions::protect_mode`] is `Always`.
    pub fn protect(mut self, phrase: impl Into<String>) -> Self {
        let phrase = phrase.into();
        let look = object(&phrase);
        let look = look.tune(|options| options.against = vec![self.settings.phrase.clone()]);
        let (saliency, cutoff) = (Arc::new(look), Cutoff::At(0.5));
        self.protected.push(Protected { phrase: phrase.clone(), saliency, cutoff });
        if let Finder::Competition(competition) = &mut self.saliency {
            competition.against.push(phrase);
            competition.renew(&self.settings.phrase);
        }
        self
    }

    /// Protects the cells where `saliency` is `cutoff` or more and at least the force's own saliency. If
    /// [`ForceOptions::protect_mode`] is `Always`, the force's own saliency does not count. Messages use `name` for
    /// these cells.
    pub fn protect_where(
        mut self,
        name: impl Into<String>,
        saliency: impl Saliency + 'static,
        cutoff: impl Into<Cutoff>,
    ) -> Self {
        let (phrase, saliency, cutoff) = (name.into(), Arc::new(saliency), cutoff.into());
        self.protected.push(Protected { phrase, saliency, cutoff });
        self
    }
}

impl Guidance for ColorForce {
    fn check(&self) -> Result<()> {
        self.settings.check()?;
        for protected in &self.protected {
            protected.cutoff.check()?;
            protected.saliency.check()?;
            if protected.phrase.eq_ignore_ascii_case(&self.settings.phrase) {
                let expected = "a phrase other than the forced phrase";
                return Err(Error::parameter("protect", format!("{:?}", protected.phrase), expected));
            }
        }
        self.saliency.saliency().check()
    }

    fn first_pass(&self) -> Option<f64> {
        let others = self.saliencies().filter_map(|saliency| saliency.first_pass());
        self.settings.options.first_pass.into_iter().chain(others).reduce(f64::min)
    }

    fn replaces_context(&self) -> bool {
        self.saliencies().any(|saliency| saliency.replaces_context())
    }

    fn begin(&self, setup: &mut Setup<'_>, first_pass: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        let first_pass = first_pass.and_then(|run| (run as Box<dyn Any>).downcast::<ForceRun>().ok());
        Ok(Box::new(ForceRun::new(self, setup, first_pass)?))
    }

    fn recipe(&self) -> Result<Recipe> {
        self.to_recipe()
    }

    fn name(&self) -> &'static str {
        "ColorForce"
    }

    fn label(&self) -> String {
        self.settings.phrase.clone()
    }
}
