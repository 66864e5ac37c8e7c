//! Guidance away from the prediction of one more branch: the part that such methods share.

use crate::branch::Branch;
use crate::diffusion::{Denoised, Predictions};
use crate::error::{Error, Result};
use crate::guidance::{Plan, Setup};
use crate::step::Step;
use crate::window::Window;
use crate::wording::{Note, Remedy};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Settings that these methods share.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Away {
    /// Factor of the difference between the two predictions.
    pub scale: f64,
    pub window: Window,
}

impl Away {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a scale outside 0..=30 or a window without order.
    pub(super) fn check(&self) -> Result<()> {
        if !(0.0..=30.0).contains(&self.scale) {
            return Err(Error::parameter("scale", self.scale, "0..=30; 3 is usual"));
        }
        self.window.check()
    }

    /// Adds the branch, a copy of the prompt's. `inside` tells which steps are in the window.
    pub(super) fn begin(self, setup: &mut Setup<'_>, role: &'static str, inside: Inside) -> Result<AwayRun> {
        let acts = setup.schedule.steps().any(|step| inside(&self.window, &step));
        Ok(AwayRun { settings: self, inside, branch: setup.add_copy(role, Branch::Cond)?, direction: None, acts })
    }
}

/// A rule that tells whether a step is in a window.
type Inside = fn(&Window, &Step) -> bool;

/// The state of one run.
pub(super) struct AwayRun {
    settings: Away,
    inside: Inside,
    /// The branch that the guidance leads away from.
    pub branch: Branch,
    /// cond − branch of the last evaluation, [n, channels, h, w].
    direction: Option<Tensor>,
    /// True if a step of the schedule is inside the window.
    acts: bool,
}

impl AwayRun {
    fn is_active(&self, step: &Step) -> bool {
        self.settings.scale != 0.0 && (self.inside)(&self.settings.window, step)
    }

    /// Asks for the prompt's branch and the added one.
    pub(super) fn plan(&self, step: &Step, plan: &mut Plan) {
        if self.is_active(step) {
            plan.evaluate(Branch::Cond);
            plan.evaluate(self.branch);
        }
    }

    /// Takes the difference of the two predictions.
    pub(super) fn take(&mut self, step: &Step, predictions: &Predictions) -> Result<()> {
        let difference = || Ok::<_, Error>(predictions.x0(Branch::Cond)?.f_sub(predictions.x0(self.branch)?)?);
        self.direction = self.is_active(step).then(difference).transpose()?;
        Ok(())
    }

    /// Adds the difference, times the scale.
    pub(super) fn add(&mut self, denoised: &mut Denoised) -> Result<()> {
        if let Some(direction) = self.direction.take() {
            denoised.x0 = denoised.x0.f_add(&direction.f_mul_scalar(self.settings.scale)?)?;
        }
        Ok(())
    }

    /// Returns a note if no step of the run is in the window.
    pub(super) fn notes(&self) -> Vec<Note> {
        let window = self.settings.window;
        let told = || format!("no step of this run is in the window ({window}), so the method did nothing");
        (!self.acts).then(|| Remedy::Window.after(told())).into_iter().collect()
    }
}
