//! Two guidance methods that run as one.

use super::{Guidance, Plan, Report, Setup};
use crate::attention::CrossAttentionHook;
use crate::branch::BranchInfo;
use crate::conditioning::{Codec, Conditioning};
use crate::diffusion::{Denoised, Predictions, Transition};
use crate::error::Result;
use crate::prompt::Prompt;
use crate::recipe::Recipe;
use crate::step::Step;
use crate::wording::Note;
use tch::Tensor;

/// Name in recipes of two guidance methods that run as one.
pub(crate) const SUM: &str = "Sum";

/// Calls both guidance methods, one after the other.
impl<A: Guidance, B: Guidance> Guidance for (A, B) {
    fn check(&self) -> Result<()> {
        self.0.check()?;
        self.1.check()
    }
    fn first_pass(&self) -> Option<f64> {
        [self.0.first_pass(), self.1.first_pass()].into_iter().flatten().reduce(f64::min)
    }
    fn outlook(&self, codec: &dyn Codec) -> Result<Vec<f64>> {
        let (a, b) = (self.0.outlook(codec)?, self.1.outlook(codec)?);
        Ok(match (a.is_empty(), b.is_empty()) {
            (true, _) => b,
            (_, true) => a,
            _ => a.into_iter().zip(b).map(|(a, b)| a * b).collect(),
        })
    }
    fn prompt(&mut self, prompt: &Prompt, codec: &dyn Codec) -> Result<Option<Prompt>> {
        let first = self.0.prompt(prompt, codec)?;
        let second = self.1.prompt(first.as_ref().unwrap_or(prompt), codec)?;
        Ok(second.or(first))
    }
    fn begin(&mut self, setup: &mut Setup<'_>) -> Result<()> {
        self.0.begin(setup)?;
        self.1.begin(setup)
    }
    fn condition(&mut self, branch: &BranchInfo, conditioning: &mut Conditioning, codec: &dyn Codec) -> Result<()> {
        self.0.condition(branch, conditioning, codec)?;
        self.1.condition(branch, conditioning, codec)
    }
    fn noise(&mut self, noise: &mut Tensor) -> Result<()> {
        self.0.noise(noise)?;
        self.1.noise(noise)
    }
    fn plan(&mut self, step: &Step, plan: &mut Plan) -> Result<()> {
        self.0.plan(step, plan)?;
        self.1.plan(step, plan)
    }
    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        self.0.hooks().into_iter().chain(self.1.hooks()).collect()
    }
    fn predicted(&mut self, step: &Step, predictions: &mut Predictions) -> Result<()> {
        self.0.predicted(step, predictions)?;
        self.1.predicted(step, predictions)
    }
    fn denoised(&mut self, step: &Step, denoised: &mut Denoised) -> Result<()> {
        self.0.denoised(step, denoised)?;
        self.1.denoised(step, denoised)
    }
    fn transition(&mut self, step: &Step, transition: &mut Transition) -> Result<()> {
        self.0.transition(step, transition)?;
        self.1.transition(step, transition)
    }
    fn finish(&mut self, latent: &mut Tensor, codec: &dyn Codec) -> Result<()> {
        self.0.finish(latent, codec)?;
        self.1.finish(latent, codec)
    }
    fn exact_cells(&self) -> Result<Option<Tensor>> {
        Ok(match (self.0.exact_cells()?, self.1.exact_cells()?) {
            (Some(a), Some(b)) => Some(a.f_maximum(&b)?),
            (a, b) => a.or(b),
        })
    }
    fn decoded(&mut self, picture: &Tensor) -> Result<()> {
        self.0.decoded(picture)?;
        self.1.decoded(picture)
    }
    fn notes(&self) -> Vec<Note> {
        [self.0.notes(), self.1.notes()].concat()
    }
    fn report(&self) -> Result<Option<Report>> {
        let both = [self.0.report()?, self.1.report()?];
        Ok(both.into_iter().flatten().reduce(|mut a, b| {
            a.name = format!("{} + {}", a.name, b.name);
            a.data = serde_json::json!([a.data, b.data]);
            a.swatches.extend(b.swatches);
            a.curves.extend(b.curves);
            a.strips.extend(b.strips);
            a.pictures.extend(b.pictures);
            a
        }))
    }
    fn recipe(&self) -> Result<Recipe> {
        Recipe::of(SUM, &(self.0.recipe()?, self.1.recipe()?))
    }
}
