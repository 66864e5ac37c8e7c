//! [`SkipLayers`]: guidance away from a prediction without some layers.

use super::away::{Away, AwayRun};
use crate::branch::BranchInfo;
use crate::conditioning::{Codec, Conditioning, SkippedBlocks, SkipsBlocks};
use crate::diffusion::{Denoised, Predictions};
use crate::error::{Error, Result};
use crate::guidance::{Guidance, GuidanceRun, Plan, Setup};
use crate::recipe::Recipe;
use crate::step::Step;
use crate::window::Window;
use crate::wording::Note;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Blocks that Stability AI leaves out of Stable Diffusion 3.5 medium.
const USUAL: [usize; 3] = [7, 8, 9];

/// Skip-layer guidance: x0 + s · (cond − skipped), where cond is the prompt's prediction. The skipped prediction is
/// made in the same way, but without some blocks of the transformer.
///
/// Stability AI recommends the method for the anatomy of Stable Diffusion 3.5 medium. The method costs one more branch
/// in each step of its [`window`](Self::window), by default the first fifth of the run. Only networks whose blocks can
/// be left out have the method: the transformers of Stable Diffusion 3.
///
/// ```no_run
/// # fn main() -> impasto::Result<()> {
/// use impasto::methods::SkipLayers;
/// use impasto::{Pipeline, Source};
///
/// let pipeline = Pipeline::builder().source(Source::file("sd3.5_medium.safetensors")).build()?;
/// let output = pipeline.request("a dancer, open hands").seed(7).guide(SkipLayers::new(2.8)).run()?;
/// # Ok(()) }
/// ```
///
/// Source: Stability AI's reference code of Stable Diffusion 3.5 medium; diffusers' `skip_guidance_layers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct SkipLayers {
    #[serde(flatten)]
    away: Away,
    blocks: BTreeSet<usize>,
}

impl SkipLayers {
    /// Creates the method with `scale`, the factor s, 0..=30; 2.8 is usual, and 0 changes nothing. The blocks 7, 8 and
    /// 9 are left out.
    pub fn new(scale: f64) -> Self {
        Self { away: Away { scale, window: Window::progress(0.01..=0.2) }, blocks: USUAL.into() }
    }

    /// Leaves out these blocks, counted from 0.
    pub fn blocks(mut self, blocks: impl IntoIterator<Item = usize>) -> Self {
        self.blocks = blocks.into_iter().collect();
        self
    }

    /// Acts only in this window; outside of the window the skipped branch is not evaluated. Default: the steps from 1
    /// to 20 % of the run. As in the reference code, a step counts by its start: of 28 steps, counted from 0, the steps
    /// 1 to 5 are in this window.
    pub fn window(mut self, window: Window) -> Self {
        self.away.window = window;
        self
    }
}

impl Guidance for SkipLayers {
    fn check(&self) -> Result<()> {
        if self.blocks.is_empty() {
            return Err(Error::parameter("blocks", "empty", "at least one block to leave out, such as 7, 8 and 9"));
        }
        self.away.check()
    }

    fn begin(&self, setup: &mut Setup<'_>, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        let Some(network) = setup.codec.capability::<dyn SkipsBlocks>() else {
            let expected = "a network whose blocks can be left out, such as Stable Diffusion 3.5";
            return Err(Error::parameter("SkipLayers", "for another network", expected));
        };
        let count = network.blocks();
        if let Some(block) = self.blocks.iter().find(|block| **block >= count) {
            let expected = format!("blocks below {count}, the number of this network's blocks");
            return Err(Error::parameter("blocks", block, expected));
        }
        let away = self.away.begin(setup, "skipped layers", Window::has_start_of)?;
        Ok(Box::new(SkipLayersRun { away, skipped: SkippedBlocks(self.blocks.clone()) }))
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("SkipLayers", self)
    }

    fn name(&self) -> &'static str {
        "SkipLayers"
    }
}

/// The state of one run.
struct SkipLayersRun {
    away: AwayRun,
    skipped: SkippedBlocks,
}

impl GuidanceRun for SkipLayersRun {
    fn condition(&mut self, info: &BranchInfo, conditioning: &mut Conditioning, _: &dyn Codec) -> Result<()> {
        if info.branch != self.away.branch {
            return Ok(());
        }
        conditioning.during(0..usize::MAX, |part| {
            part.extras.set(self.skipped.clone());
            Ok(())
        })
    }

    fn plan(&mut self, step: &Step, plan: &mut Plan) -> Result<()> {
        self.away.plan(step, plan);
        Ok(())
    }

    fn predicted(&mut self, step: &Step, predictions: &mut Predictions) -> Result<()> {
        self.away.take(step, predictions)
    }

    fn denoised(&mut self, _: &Step, denoised: &mut Denoised) -> Result<()> {
        self.away.add(denoised)
    }

    fn notes(&self) -> Vec<Note> {
        self.away.notes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_settings_are_named() {
        let message = |method: SkipLayers| method.check().unwrap_err().to_string();
        assert!(message(SkipLayers::new(-1.0)).contains("scale is -1; expected 0..=30"));
        assert!(message(SkipLayers::new(1.0).blocks([])).contains("at least one block"));
        SkipLayers::new(2.8).check().unwrap();
    }

    #[test]
    fn usual_window_has_the_steps_of_the_reference() {
        // Stability AI's code skips layers in step i of n if .01·n < i < .2·n.
        let window = SkipLayers::new(2.8).away.window;
        for (n, expected) in [(28, 1..=5), (40, 1..=7), (8, 1..=1)] {
            let steps = (0..n).map(|index| Step::new(index, n, 1.0, 0.5, 500.0));
            let skips: Vec<usize> = steps.filter(|step| window.has_start_of(step)).map(|step| step.index).collect();
            assert_eq!(skips, Vec::from_iter(expected), "{n} steps");
        }
        let first = Window::progress(0.0..=0.5);
        assert!(
            first.has_start_of(&Step::new(0, 4, 1.0, 0.5, 500.0)),
            "a window from the beginning has the first step"
        );
    }
}
