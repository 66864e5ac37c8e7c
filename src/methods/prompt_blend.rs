//! [`PromptBlend`]: a prompt that turns into a second prompt during a run.

use crate::branch::{Branch, BranchInfo};
use crate::conditioning::{Codec, Conditioning};
use crate::error::{Error, Result};
use crate::guidance::{Curve, Guidance, GuidanceRun, Report, Setup};
use crate::recipe::{Function, Recipe};
use crate::step::Step;
use crate::window::Window;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;
use tch::Tensor;

/// Blends the prompt into a second one as the run goes on: the context is a + s·(b − a). Here a and b are the contexts
/// of the first and the second prompt, and s rises from 0 to 1.
///
/// The first prompt decides what forms early, such as the layout; the second prompt decides the rest. Branches that
/// other guidance methods derive from the prompt are blended into the second prompt too. Keys and values of the context
/// are computed again at every step at which s changes.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::methods::PromptBlend;
/// use impasto::{Pipeline, Window};
/// let pipeline = Pipeline::builder().build()?;
/// let blend = PromptBlend::to("a red house, sky, ground").window(Window::progress(0.0..=0.5));
/// let output = pipeline.request("a red boat, sky, ground").seed(7).steps(4).guide(blend).run()?;
/// # Ok(()) }
/// ```
///
/// Source: FlexDiffuse, which computes the blend but does not use it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct PromptBlend {
    text: String,
    window: Window,
    #[serde(default)]
    curve: Option<Function<dyn Fn(f64) -> f64 + Send + Sync>>,
}

/// The state of one run.
struct Blending {
    settings: PromptBlend,
    /// Conditioning of the second prompt.
    other: Conditioning,
    /// Context of an empty chunk. Such chunks are appended to the shorter prompt until both are equally long.
    empty: Tensor,
    /// Share s of the second prompt at each step: 0 is the first prompt alone, 1 is the second prompt alone.
    shares: Vec<f64>,
}

impl PromptBlend {
    /// Blends towards `text`, linearly over the whole run.
    pub fn to(text: impl Into<String>) -> Self {
        Self { text: text.into(), window: Window::WHOLE, curve: None }
    }

    /// Blends in this window. Before the window only the first prompt acts, after the window only the second. A window
    /// with equal ends switches at once. Default: the whole run.
    pub fn window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// Sets the share s of the second prompt as a function of the progress within the window, 0..=1. The function's
    /// values must be finite. Before the window the progress is 0, after the window 1. Default: the progress itself.
    pub fn curve(mut self, curve: impl Fn(f64) -> f64 + Send + Sync + 'static) -> Self {
        self.curve = Some(Function(Arc::new(curve)));
        self
    }

    /// Returns the share s of the second prompt at a step.
    fn share(&self, step: &Step) -> f64 {
        let within = self.window.elapsed(step);
        self.curve.as_ref().map_or(within, |curve| curve(within))
    }
}

impl Guidance for PromptBlend {
    fn check(&self) -> Result<()> {
        self.window.check()
    }

    fn begin(&self, setup: &mut Setup<'_>, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        let shares: Vec<f64> = setup.schedule.steps().map(|step| self.share(&step)).collect();
        if let Some(share) = shares.iter().find(|share| !share.is_finite()) {
            return Err(Error::parameter(
                "curve",
                share,
                "finite numbers; 0 gives the first prompt, 1 gives the second prompt",
            ));
        }
        let (other, empty) = (setup.text(&self.text)?, setup.codec.empty_chunk()?);
        Ok(Box::new(Blending { settings: self.clone(), other, empty, shares }))
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("PromptBlend", self)
    }

    fn name(&self) -> &'static str {
        "PromptBlend"
    }
}

impl GuidanceRun for Blending {
    fn condition(&mut self, branch: &BranchInfo, conditioning: &mut Conditioning, _: &dyn Codec) -> Result<()> {
        if branch.like != Branch::Cond {
            return Ok(());
        }
        // Consecutive steps with the same share form one part.
        let mut steps = 0..0;
        for same in self.shares.chunk_by(|a, b| a == b) {
            steps = steps.end..steps.end + same.len();
            let Some(&share) = same.first().filter(|share| **share != 0.0) else { continue };
            conditioning.during(steps.clone(), |part| {
                let longest = part.context.size3()?.1.max(self.other.context.size3()?.1);
                let [a, b] = [&*part, &self.other].map(|prompt| fill(&prompt.context, &self.empty, longest));
                let (a, b) = (a?, align(b?, self.other.unchunked.as_ref(), part.unchunked.as_ref())?);
                if a.size() != b.size() {
                    let expected = format!("{:?}, the shape of the first prompt's context in whole chunks", a.size());
                    return Err(Error::Shape { what: "the second prompt's context", got: b.size(), expected });
                }
                part.context = a.f_lerp(&b, share)?;
                if let (Some(a), Some(b)) = (&part.pooled, &self.other.pooled) {
                    part.pooled = Some(a.f_lerp(b, share)?);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn report(&self) -> Result<Option<Report>> {
        let PromptBlend { text, window, .. } = &self.settings;
        let data = serde_json::json!({ "to": text, "window": window, "shares": self.shares });
        let shares = Curve::new("share of the second prompt", self.shares.iter().copied().enumerate().collect());
        Ok(Some(Report { data, curves: vec![shares], ..Report::new(format!("PromptBlend {text:?}")) }))
    }
}

/// Appends empty chunks to a context, [1 or n, tokens, width], as long as the result has at most `longest` tokens.
/// `empty` is the context of an empty chunk, [1, tokens, width].
fn fill(context: &Tensor, empty: &Tensor, longest: i64) -> Result<Tensor> {
    let (n, tokens, _) = context.size3()?;
    let missing = (longest - tokens) / empty.size3()?.1.max(1);
    let chunk = empty.f_expand([n, -1, -1], false)?;
    let parts = [context.shallow_clone()].into_iter().chain((0..missing).map(|_| chunk.shallow_clone()));
    Ok(Tensor::f_cat(&parts.collect::<Vec<_>>(), 1)?)
}

/// Moves the columns of a context, [1 or n, tokens, width], that are read as one text from their place to the place of
/// the other prompt's. So chunks are blended with chunks, and T5's columns with T5's.
fn align(context: Tensor, from: Option<&Range<i64>>, to: Option<&Range<i64>>) -> Result<Tensor> {
    let (Some(from), Some(to)) = (from, to) else { return Ok(context) };
    if from == to {
        return Ok(context);
    }
    let (text, rest) = (context.f_slice(1, from.start, from.end, 1)?, context.size3()?.1 - from.end);
    let chunks = Tensor::f_cat(&[context.f_narrow(1, 0, from.start)?, context.f_narrow(1, from.end, rest)?], 1)?;
    let after = chunks.size3()?.1 - to.start;
    Ok(Tensor::f_cat(&[chunks.f_narrow(1, 0, to.start)?, text, chunks.f_narrow(1, to.start, after)?], 1)?)
}
