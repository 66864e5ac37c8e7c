//! [`Evaluation`]: the model calls that a solver makes within one step.

use super::batching::Batching;
use super::calls::{each, keeps};
use super::cancel::CancelToken;
use super::parts::Conjunction;
use crate::attention::{Call, CrossAttentionHook, HookTable, KvCache, Tap};
use crate::branch::Branch;
use crate::conditioning::Conditioning;
use crate::diffusion::solver::Eval;
use crate::diffusion::{Denoised, Denoiser, Input, Noise, Predictions, Schedule};
use crate::error::{Error, Result};
use crate::guidance::{Attached, Combine, Plan};
use crate::step::{Grid, Step};
use std::collections::HashMap;
use std::ops::Range;
use tch::Tensor;

/// Evaluator of the model within one step, which calls the denoiser, the hooks and the guidance methods.
pub(super) struct Evaluation<'r, 'g> {
    pub(super) step: Step,
    pub(super) schedule: &'r Schedule,
    pub(super) combine: &'r mut dyn Combine,
    pub(super) conjunction: &'r Conjunction,
    pub(super) guidances: &'r mut Vec<Attached<'g>>,
    pub(super) batching: Batching,
    /// Largest number of rows of a call.
    pub(super) most_rows: usize,
    pub(super) cancel: &'r CancelToken,
    pub(super) model: &'r dyn Denoiser,
    pub(super) conditionings: &'r HashMap<Branch, Conditioning>,
    pub(super) table: &'r HookTable,
    pub(super) cache: &'r mut KvCache,
    pub(super) noise: &'r mut Noise,
    /// Seed of each image, for draws inside the network.
    pub(super) seeds: &'r [u64],
    /// Shape of the latent.
    pub(super) shape: Vec<i64>,
    pub(super) grid: Grid,
}

/// A branch to evaluate, with the branch's own latent if [`Plan::evaluate_at`] set one.
pub(super) type Row = (Branch, Option<Tensor>);

impl Eval for Evaluation<'_, '_> {
    fn x0(&mut self, x: &Tensor, sigma: f64) -> Result<Tensor> {
        self.evaluate(x, sigma, self.schedule.timestep(sigma))
    }

    fn x0_between(&mut self, x: &Tensor, sigma: f64) -> Result<Tensor> {
        self.evaluate(x, sigma, self.schedule.timestep_between(sigma))
    }

    fn noise(&mut self) -> Result<Tensor> {
        Ok(self.noise.draw(&self.shape)?.f_to_device(self.model.device())?)
    }
}

impl Evaluation<'_, '_> {
    /// Evaluates a latent, with all hooks and guidance methods.
    fn evaluate(&mut self, x: &Tensor, sigma: f64, timestep: f64) -> Result<Tensor> {
        (self.step.sigma, self.step.timestep) = (sigma, timestep);
        self.step.sd_timestep = self.schedule.sd_timestep(sigma, timestep);
        let mut plan = Plan::default();
        self.combine.branches(&self.step).into_iter().for_each(|branch| plan.evaluate(branch));
        self.conjunction.plan(&mut plan);
        let (step, shape) = (self.step, x.size());
        each(self.guidances, ("plan", Some(step.index)), |guidance| guidance.plan(&step, &mut plan))?;
        let mut predictions = self.predictions(&plan.into_rows()?, x)?;
        each(self.guidances, ("predicted", Some(step.index)), |guidance| guidance.predicted(&step, &mut predictions))?;
        self.conjunction.combine(&mut predictions)?;
        let combined = self.combine.combine(&step, &predictions)?;
        keeps("the combined x0", &combined, &shape)?;
        let mut denoised = Denoised::new(combined);
        each(self.guidances, ("denoised", Some(step.index)), |guidance| {
            guidance.denoised(&step, &mut denoised)?;
            keeps("Denoised::x0", &denoised.x0, &shape)
        })?;
        self.step.eval += 1;
        denoised.resolve()
    }

    /// Calls the model once, or for one part of the branches and images after the other.
    fn predictions(&mut self, rows: &[Row], x: &Tensor) -> Result<Predictions> {
        let images = x.size4()?.0;
        let (branches, at_once) = self.batching.of_a_call(rows.len(), images as usize, self.most_rows);
        let is_split = branches < rows.len() || (at_once as i64) < images;
        let mut all = Predictions::default();
        for rows in rows.chunks(branches) {
            let mut parts = Vec::new();
            for first in (0..images).step_by(at_once) {
                if is_split {
                    // The keys and values of all parts would take memory for every row of the batch.
                    self.cache.clear();
                }
                parts.push(self.denoise(rows, x, first..images.min(first + at_once as i64))?);
            }
            all.extend(Predictions::join(parts)?);
        }
        Ok(all)
    }

    /// Calls the model once, for some branches of some images.
    pub(super) fn denoise(&mut self, rows: &[Row], x: &Tensor, images: Range<i64>) -> Result<Predictions> {
        self.cancel.check()?;
        let count = images.end - images.start;
        let cut = |of: &Tensor| of.f_narrow(0, images.start, count);
        let mut parts = Vec::with_capacity(rows.len());
        for (branch, own) in rows {
            if let Some(own) = own {
                keeps("the latent given to Plan::evaluate_at", own, &self.shape)?;
            }
            let conditioning = self.conditionings.get(branch).ok_or(Error::NoConditioning(*branch))?;
            parts.push((
                *branch,
                cut(own.as_ref().unwrap_or(x))?,
                conditioning.at(self.step.index).images(images.clone())?,
            ));
        }
        let inputs: Vec<Input<'_>> =
            parts.iter().map(|(branch, x, conditioning)| Input::new(*branch, x, conditioning)).collect();
        let branches: Vec<Branch> = rows.iter().map(|(branch, _)| *branch).collect();
        let call = Call { step: &self.step, branches: &branches, images, grid: self.grid };
        let hooks: Vec<&mut dyn CrossAttentionHook> = self.guidances.iter_mut().flat_map(|g| g.hooks()).collect();
        let mut tap = Tap::new(call, hooks, self.table, self.cache)?.seeds(self.seeds);
        self.model.denoise(&self.step, &inputs, &mut tap)
    }
}
