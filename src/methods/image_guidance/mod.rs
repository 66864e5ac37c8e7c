//! Image guidance: moves a prompt's tokens towards those of a picture or of a second text.

mod concepts;
mod guide;
mod pairing;
pub(crate) mod params;
mod report;
mod tween;
mod weights;

pub use params::{GuidanceParams, Mapping, Space};
pub use report::{ConceptHit, GuidedPrompt, GuidedToken, ImageGuidanceReport};
pub use tween::tween;

use crate::branch::{Branch, BranchInfo};
use crate::conditioning::{Codec, Conditioning};
use crate::error::{Error, Result};
use crate::guidance::{Guidance, GuidanceRun, Picture, Report, Setup};
use crate::prompt::TokenSpan;
use crate::raster::Raster;
use crate::recipe::Recipe;
use crate::vision::View;
use crate::window::Window;
use crate::wording::{LONG_QUOTE, Note, Remedy, excerpt};
use concepts::Concepts;
use guide::{Encoded, Guide};
pub(super) use params::inside;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::ops::Range;
use std::sync::Arc;
use tch::Tensor;
use tween::{Tween, batch, count_rows, directly};

/// Share of the way from the picture's first token to the prompt's first token, the header, for
/// [`ImageGuidance::direct`].
const PULL: f64 = 0.85;

/// Guides a prompt by a picture, or by a second text. Before the run, every token of the prompt is moved towards the
/// guide's token that resembles it most.
///
/// The picture goes through the model's CLIP vision tower ([`VisionEncoder`](crate::vision::VisionEncoder)), which the
/// embedded model has. The weight by which a token moves combines three weights:
/// - [`threshold`](GuidanceParams::threshold) moves tokens that resemble the guide.
/// - [`clustered`](GuidanceParams::clustered) moves tokens that resemble the guide more than their neighbors do.
/// - [`linear`](GuidanceParams::linear) moves the front or the back of the prompt.
///
/// The method needs no training and no additional UNet calls, and costs nothing per step. Variations of the prompt that
/// other guidance methods add are guided in the same way. The negative prompt is guided only with
/// [`on_negative`](Self::on_negative). Separate prompts, such as the prompts of regions, are not guided.
///
/// Several image guidance methods are chained: each method reads the prompt as the previous method left it.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::methods::ImageGuidance;
/// use impasto::methods::image_guidance::{GuidanceParams, ImageGuidanceReport};
/// use impasto::{Pipeline, Raster, Rgb};
///
/// let teal = Raster::flat(Rgb(0, 128, 128), (160, 96));
/// let guide = ImageGuidance::new(&teal).tune(|params| {
///     *params = GuidanceParams::off();
///     params.linear = (0.4, 0.4);
/// });
/// let pipeline = Pipeline::builder().build()?;
/// let output = pipeline.request("a red boat, sky, ground").seed(7).steps(4).guide(guide).run()?;
/// let prompt = &output.details::<ImageGuidanceReport>("ImageGuidance")?.prompts[0];
/// assert!(prompt.tokens[2].share == 0.4 && prompt.tokens[2].alternate.is_some());
/// # Ok(()) }
/// ```
///
/// Source: FlexDiffuse; `docs/image-guidance.md` lists the differences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct ImageGuidance {
    guide: Guide,
    params: GuidanceParams,
    view: View,
    patches: bool,
    alone: bool,
    concepts: Option<(String, f64)>,
    concept_padding: bool,
    on_negative: bool,
    pooled: f64,
    window: Window,
}

/// The state of one run.
#[derive(Debug)]
pub(super) struct Guiding {
    settings: Arc<ImageGuidance>,
    encoded: Encoded,
    /// The guide's pooled text or picture vector, [1 or n, width], if the pooled text is moved.
    pooled: Option<Tensor>,
    /// Number of tokens that a text encoder reads at once.
    chunk: i64,
    concepts: Option<Concepts>,
    steps: Range<usize>,
    pub(super) report: Option<ImageGuidanceReport>,
    /// Words of the prompt whose tokens the guide replaced.
    replaced: Vec<String>,
    /// True if a context consisted of zeros and was skipped.
    zeros: bool,
}

impl ImageGuidance {
    /// Creates image guidance by a picture of any size. The model needs a vision tower.
    pub fn new(picture: &Raster) -> Self {
        Self::of(Guide::Picture(picture.clone()))
    }

    /// Creates image guidance by a second text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::of(Guide::Text(text.into()))
    }

    /// Creates image guidance by guide tokens of any origin, [tokens, width], or [n, tokens, width] with one row for
    /// each of n images. `width` must be the width of the model's context.
    pub fn tokens(tokens: &Tensor) -> Self {
        Self::of(Guide::Tokens(tokens.shallow_clone().into()))
    }

    /// Uses a picture instead of a prompt: the picture's first tokens replace the prompt's tokens, and the
    /// [`GuidanceParams`] have no effect. Results are often odd.
    pub fn direct(picture: &Raster) -> Self {
        Self { alone: true, ..Self::new(picture) }
    }

    fn of(guide: Guide) -> Self {
        Self {
            guide,
            params: GuidanceParams::default(),
            view: View::default(),
            patches: true,
            alone: false,
            concepts: None,
            concept_padding: false,
            on_negative: false,
            pooled: 0.0,
            window: Window::WHOLE,
        }
    }
}

/// # How tokens are moved
impl ImageGuidance {
    /// Changes the parameters by which tokens are weighted and moved, in place.
    ///
    /// ```
    /// use impasto::methods::ImageGuidance;
    /// use impasto::methods::image_guidance::{GuidanceParams, ImageGuidanceReport};
    /// let guide = ImageGuidance::text("a dog").tune(|params| *params = GuidanceParams::ui());
    /// ```
    pub fn tune(mut self, change: impl FnOnce(&mut GuidanceParams)) -> Self {
        change(&mut self.params);
        self
    }

    /// Enables patch tokens in addition to the class token of the whole picture. CLIP was trained to align only the
    /// class token with text. Default: enabled, as in FlexDiffuse.
    pub fn patches(mut self, patches: bool) -> Self {
        self.patches = patches;
        self
    }

    /// Sets words whose features come from the picture. Prompt tokens that resemble a token of `text` with a
    /// similarity above `accept`, 0..=1 (.9 is usual), are replaced by the picture's features for that token,
    /// regardless of the weights. The guide must be a picture or tokens.
    pub fn concepts(mut self, text: impl Into<String>, accept: f64) -> Self {
        self.concepts = Some((text.into(), accept));
        self
    }

    /// Includes start, end and padding tokens in [`concepts`](Self::concepts), as in FlexDiffuse. Default: false.
    pub fn concept_padding(mut self, padding: bool) -> Self {
        self.concept_padding = padding;
        self
    }

    /// Sets the share, 0..=1, by which the prompt's pooled text vector is moved towards the guide's pooled vector. SDXL
    /// reads the pooled text beside the tokens. A picture needs the vision tower that belongs to the second text
    /// encoder. Guide tokens have a pooled vector, their first row, only if the context is as wide as the pooled text,
    /// as in SDXL's refiner. Default 0.
    pub fn pooled(mut self, share: f64) -> Self {
        self.pooled = share;
        self
    }
}

/// # How a picture is shown to the vision tower
impl ImageGuidance {
    /// Sets how the picture is cropped to the tower's square, and how its bytes are converted. Default: the center, as
    /// the tower was trained.
    pub fn view(mut self, view: View) -> Self {
        self.view = view;
        self
    }
}

/// # Where and when it acts
impl ImageGuidance {
    /// Guides the negative prompt too. An empty negative prompt stays unchanged if the model reads it as zeros (SDXL).
    /// Default: false.
    pub fn on_negative(mut self, negative: bool) -> Self {
        self.on_negative = negative;
        self
    }

    /// Guides only steps in this window; other steps use the plain prompt. The prompt's keys and values are recomputed
    /// where the window begins and ends. Default: the whole run.
    pub fn window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }
}

impl ImageGuidance {
    /// Checks that the prompt has words, unless the picture replaces the prompt.
    fn needs_prompt(&self, prompt: &str) -> Result<()> {
        if self.alone || !prompt.trim().is_empty() {
            return Ok(());
        }
        let expected = match self.guide {
            Guide::Text(_) => "at least one word; to use the guide's text alone, make the text the prompt",
            _ => "at least one word; to use a picture alone, call ImageGuidance::direct",
        };
        Err(Error::parameter("prompt", format!("{prompt:?}"), expected))
    }
}

impl Guiding {
    /// Moves the tokens of `part`, one part of a branch's conditioning. `words` are the words of the branch's prompt,
    /// each with its tokens.
    fn edit(&mut self, of: &Asked<'_>, words: &[(String, Vec<TokenSpan>)], part: &mut Conditioning) -> Result<()> {
        let context = batch("context", &part.context)?;
        let width = context.size3()?.2;
        if !of.alone && context.f_any()?.f_int64_value(&[])? == 0 {
            // SDXL reads an empty negative prompt as zeros, which have no direction to compare.
            self.zeros = true;
            return Ok(());
        }
        let columns = self.encoded.columns.clone().unwrap_or(0..width);
        if columns.start < 0 || columns.end > width || columns.is_empty() {
            let expected =
                format!("columns {columns:?}, to match the vision tower's tokens; use the model's own tower");
            return Err(Error::Shape { what: "context", got: context.size(), expected });
        }
        // Rows of zeros at the end pad the context of some models, and have no direction to compare.
        let read = count_rows(&context)?;
        let own = context.f_narrow(1, 0, read)?.f_narrow(2, columns.start, columns.end - columns.start)?;
        // A text encoder without chunks reads all rows at once.
        let chunk = if read.checked_rem(self.chunk) == Some(0) { self.chunk } else { read };
        let moved = if of.alone {
            directly(&own, &self.encoded.tokens, chunk, PULL)?
        } else {
            let tween = Tween {
                params: of.params,
                chunk: Some(chunk),
                projection: self.encoded.projection.as_ref(),
                concepts: self.concepts.as_ref(),
                header: of.header,
            };
            let (moved, mut report) = tween.rows(&own, &self.encoded.tokens)?;
            report.steps = Some((self.steps.start, self.steps.end));
            if of.told && self.report.is_none() {
                self.replaced = list_replaced(&report, words);
                self.report = Some(report);
            }
            moved
        };
        if moved.size() != own.size() || moved != own {
            let context = context.f_expand([moved.size3()?.0, -1, -1], false)?;
            let beside = |from: i64, to: i64| context.f_narrow(1, 0, read)?.f_narrow(2, from, to - from);
            let moved = Tensor::f_cat(&[beside(0, columns.start)?, moved, beside(columns.end, width)?], 2)?;
            let padding = context.f_narrow(1, read, context.size3()?.1 - read)?;
            part.context = Tensor::f_cat(&[moved, padding], 1)?;
        }
        if let (Some(pooled), Some(guide)) = (&part.pooled, &self.pooled) {
            part.pooled = Some(lerp_rows(pooled, guide, of.pooled)?);
        }
        Ok(())
    }
}

/// The settings of a run that apply to one branch.
struct Asked<'a> {
    params: &'a GuidanceParams,
    alone: bool,
    pooled: f64,
    /// True for the prompt's own branch, which the report describes.
    told: bool,
    /// True if the context begins with a token that stands for no word.
    header: bool,
}

/// Moves `a`, [1 or n, width], by `share` of the way to `b`, [1 or n, width].
fn lerp_rows(a: &Tensor, b: &Tensor, share: f64) -> Result<Tensor> {
    match (a.size().as_slice(), b.size().as_slice()) {
        (&[n, width], &[m, other]) if width == other && (n == m || n == 1 || m == 1) => {
            let rows = n.max(m);
            let b = b.f_to_kind(a.kind())?.f_to_device(a.device())?;
            Ok(a.f_expand([rows, width], false)?.f_lerp(&b.f_expand([rows, width], false)?, share)?)
        }
        (own, got) => {
            let expected =
                format!("{own:?}, as for the prompt; for a picture, use the vision tower of the second text encoder");
            Err(Error::Shape { what: "the guide's pooled vector", got: got.to_vec(), expected })
        }
    }
}

/// Returns the words of a prompt that have at least one token replaced by the guide.
fn list_replaced(report: &ImageGuidanceReport, words: &[(String, Vec<TokenSpan>)]) -> Vec<String> {
    let hit = |at: i64| report.prompts.iter().any(|prompt| prompt.replaced.contains(&at));
    let lost = words.iter().filter(|(_, spans)| spans.iter().any(|span| (span.start..span.end).any(hit)));
    lost.map(|(word, _)| format!("\"{word}\"")).collect()
}

impl Guidance for ImageGuidance {
    fn check(&self) -> Result<()> {
        self.guide.check()?;
        self.params.check()?;
        inside("pooled", self.pooled, &(0.0..=1.0))?;
        self.window.check()?;
        let Some((text, accept)) = &self.concepts else { return Ok(()) };
        inside("accept", *accept, &(0.0..=1.0))?;
        if text.trim().is_empty() {
            return Err(Error::parameter(
                "concepts",
                format!("{text:?}"),
                "words of the prompt that are to get the picture's features",
            ));
        }
        if matches!(self.guide, Guide::Text(_)) || self.alone {
            let expected = "no concepts with this guide; for concepts, use ImageGuidance::new and a prompt";
            return Err(Error::parameter("concepts", format!("{text:?}"), expected));
        }
        Ok(())
    }

    fn begin(&self, setup: &mut Setup<'_>, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        Ok(Box::new(self.guiding(setup)?))
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("ImageGuidance", self)
    }

    fn name(&self) -> &'static str {
        "ImageGuidance"
    }
}

impl ImageGuidance {
    /// Makes the state of a run.
    pub(super) fn guiding(&self, setup: &Setup<'_>) -> Result<Guiding> {
        self.needs_prompt(setup.prompt.text())?;
        let mut encoded = self.guide.encode(setup, self.view)?;
        if !self.patches && matches!(self.guide, Guide::Picture(_)) {
            encoded.tokens = encoded.tokens.f_narrow(1, 0, 1)?;
        }
        let empty = setup.codec.text("".into())?;
        let inside: Vec<usize> =
            setup.schedule.steps().filter(|step| self.window.contains(step)).map(|step| step.index).collect();
        let steps = inside.first().zip(inside.last()).map_or(0..0, |(&first, &last)| first..last + 1);
        let pooled = match &self.guide {
            _ if self.pooled == 0.0 => None,
            Guide::Text(text) => setup.text(text)?.pooled,
            Guide::Picture(_) => Some(encoded.tokens.f_select(1, 0)?),
            Guide::Tokens(_) => {
                let first = encoded.tokens.f_select(1, 0)?;
                let (width, own) = (first.size2()?.1, empty.pooled.as_ref().map(Tensor::size2).transpose()?);
                if let Some((_, own)) = own.filter(|(_, own)| *own != width) {
                    let expected = format!(
                        "0 for tokens of width {width}, because this model's text vector has width {own}; for other \
                         values, use a picture or a text as the guide"
                    );
                    return Err(Error::parameter("pooled", self.pooled, expected));
                }
                Some(first)
            }
        };
        let concepts = match &self.concepts {
            None => None,
            Some((text, accept)) => {
                // Both text encoders read the concept, even if the second prompt differs.
                let context = setup.codec.text(text.into())?.context;
                let context = context.f_narrow(1, 0, count_rows(&context)?)?.f_select(0, 0)?;
                let tokens = match &encoded.columns {
                    Some(columns) => context.f_narrow(1, columns.start, columns.end - columns.start)?,
                    None => context,
                };
                let spans = |text: &str| Ok::<_, Error>(setup.codec.prompt(text.into())?.content());
                let words = if self.concept_padding { None } else { Some(spans(text)?) };
                Some(Concepts { tokens, words, prompt: None, accept: *accept })
            }
        };
        Ok(Guiding {
            settings: Arc::new(self.clone()),
            encoded,
            pooled,
            chunk: empty.context.size3()?.1,
            concepts,
            steps,
            report: None,
            replaced: Vec::new(),
            zeros: false,
        })
    }
}

impl GuidanceRun for Guiding {
    fn condition(&mut self, branch: &BranchInfo, conditioning: &mut Conditioning, codec: &dyn Codec) -> Result<()> {
        // A branch that derives from neither prompt has a prompt of its own, which another guidance method set.
        let settings = Arc::clone(&self.settings);
        let guided = branch.like == Branch::Cond || settings.on_negative && branch.like == Branch::Uncond;
        if !guided {
            return Ok(());
        }
        let prompt = codec.prompt(branch.into())?;
        if let Some(concepts) = &mut self.concepts {
            concepts.prompt = (!settings.concept_padding).then(|| prompt.content());
        }
        let told = branch.branch == Branch::Cond;
        let header = prompt.content().first().is_none_or(|span| span.start > 0);
        let of = Asked { params: &settings.params, alone: settings.alone, pooled: settings.pooled, told, header };
        let always = settings.window == Window::WHOLE; // one part for all steps
        let steps = if always { 0..usize::MAX } else { self.steps.clone() };
        conditioning.during(steps, |part| self.edit(&of, &prompt.words(), part))
    }

    fn notes(&self) -> Vec<Note> {
        let mut notes = Vec::new();
        if self.steps.is_empty() {
            let window = self.settings.window;
            let idle = format!("no step of this run is in the window ({window}), so the method did nothing");
            notes.push(Remedy::Window.after(idle));
        } else if self.report.as_ref().is_some_and(|report| report.prompts.iter().all(GuidedPrompt::is_still)) {
            notes.push("the guide moved nothing, because every weight is 0; raise a weight".into());
        }
        if self.zeros {
            notes.push(
                "the empty negative prompt was not guided, because this model reads an empty prompt as zeros".into(),
            );
        }
        if !self.replaced.is_empty() {
            let words = excerpt(&self.replaced.join(", "), LONG_QUOTE);
            notes.push(Note::from(format!(
                "the guide replaced tokens of {words}; attention to these words shows where the guide's features appear"
            )));
        }
        notes
    }

    fn report(&self) -> Result<Option<Report>> {
        let ImageGuidance { guide, params, concepts, window, .. } = &*self.settings;
        let data = serde_json::json!({
            "guide": guide.to_string(),
            "params": params,
            "concepts": concepts,
            "window": window,
            "report": self.report,
        });
        let pictures = match guide {
            Guide::Picture(picture) => vec![Picture::new("the guide", picture.clone())],
            _ => Vec::new(),
        };
        Ok(Some(Report { data, pictures, ..Report::new(format!("ImageGuidance {guide}")) }))
    }

    fn details(&self) -> Result<Vec<Box<dyn Any + Send>>> {
        Ok(self.report.iter().map(|report| Box::new(report.clone()) as Box<dyn Any + Send>).collect())
    }
}

#[cfg(test)]
mod tests;
