//! Two guidance methods that act as one.

use super::{Guidance, GuidanceRun, Plan, Report, Setup};
use crate::attention::CrossAttentionHook;
use crate::branch::BranchInfo;
use crate::conditioning::{Codec, Conditioning};
use crate::diffusion::{Denoised, Predictions, Transition};
use crate::error::Result;
use crate::recipe::Recipe;
use crate::step::Step;
use crate::wording::Note;
use std::any::Any;
use tch::Tensor;

/// Name in recipes of two guidance methods that act as one.
pub(crate) const SUM: &str = "Sum";

/// Lets both guidance methods act, one after the other.
impl<A: Guidance, B: Guidance> Guidance for (A, B) {
    fn check(&self) -> Result<()> {
        self.0.check()?;
        self.1.check()
    }

    fn first_pass(&self) -> Option<f64> {
        [self.0.first_pass(), self.1.first_pass()].into_iter().flatten().reduce(f64::min)
    }

    fn replaces_context(&self) -> bool {
        self.0.replaces_context() || self.1.replaces_context()
    }

    fn begin(&self, setup: &mut Setup<'_>, first_pass: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        let seen =
            first_pass.map(|run| run as Box<dyn Any>).and_then(|run| run.downcast::<Pair<dyn GuidanceRun>>().ok());
        let (a, b) = seen.map_or((None, None), |pair| (Some(pair.0), Some(pair.1)));
        // As in a run, a method that replaces the context begins first.
        if self.1.replaces_context() && !self.0.replaces_context() {
            let b = self.1.begin(setup, b)?;
            return Ok(Box::new(Pair(begin_after(&self.0, setup, a)?, b)));
        }
        let a = self.0.begin(setup, a)?;
        Ok(Box::new(Pair(a, begin_after(&self.1, setup, b)?)))
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of(SUM, &(self.0.recipe()?, self.1.recipe()?))
    }
}

/// Makes the state of a method that begins after another, which may have replaced the prompt.
fn begin_after(
    method: &dyn Guidance,
    setup: &mut Setup<'_>,
    first_pass: Option<Box<dyn GuidanceRun>>,
) -> Result<Box<dyn GuidanceRun>> {
    match setup.replaced.clone() {
        Some(prompt) => method.begin(&mut setup.for_prompt(&prompt), first_pass),
        None => method.begin(setup, first_pass),
    }
}

/// The states of two guidance methods in one run.
pub(crate) struct Pair<R: ?Sized>(pub Box<R>, pub Box<R>);

/// Calls both states, one after the other.
impl<R: GuidanceRun + ?Sized> GuidanceRun for Pair<R> {
    fn outlook(&self, codec: &dyn Codec) -> Result<Vec<f64>> {
        let (a, b) = (self.0.outlook(codec)?, self.1.outlook(codec)?);
        Ok(match (a.is_empty(), b.is_empty()) {
            (true, _) => b,
            (_, true) => a,
            _ => a.into_iter().zip(b).map(|(a, b)| a * b).collect(),
        })
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
    fn spare(&mut self, exact: &Tensor) -> Result<()> {
        self.0.spare(exact)?;
        self.1.spare(exact)
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
    fn details(&self) -> Result<Vec<Box<dyn Any + Send>>> {
        Ok(self.0.details()?.into_iter().chain(self.1.details()?).collect())
    }
}
