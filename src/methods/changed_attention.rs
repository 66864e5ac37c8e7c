//! Guidance away from a prediction with changed self-attention: the part that such methods share.

use crate::attention::{At, AttentionSite, CrossAttentionHook, Interest, Place};
use crate::branch::Branch;
use crate::diffusion::{Denoised, Predictions};
use crate::error::{Error, Result};
use crate::guidance::{GuidanceRun, Plan, Setup};
use crate::recipe::Function;
use crate::step::Step;
use crate::window::Window;
use crate::wording::{Note, Remedy};
use tch::Tensor;

/// A choice of attention sites.
pub(super) type Sites = Function<dyn Fn(&AttentionSite) -> bool + Send + Sync>;

/// A change of the output of self-attention; the output stays as it is for `None`.
type Change = Box<dyn Fn(&At<'_>) -> Result<Option<Tensor>> + Send>;

/// Settings that these methods share.
#[derive(Clone, Debug)]
pub(super) struct Away {
    /// Factor of the difference between the two predictions.
    pub scale: f64,
    pub window: Window,
    pub sites: Option<Sites>,
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

    /// Returns true at the self-attention sites that are changed, by default those of the middle block.
    fn changes(&self, site: &AttentionSite) -> bool {
        let chosen = self.sites.as_ref().map_or(site.place == Place::Mid, |select| select(site));
        chosen && !site.is_cross()
    }

    fn acts(&self, step: &Step) -> bool {
        self.scale != 0.0 && self.window.contains(step)
    }

    /// Adds a branch of the prompt in which `change` replaces the output of self-attention.
    ///
    /// # Errors
    /// [`Error::NoSites`] if no site is chosen.
    pub(super) fn begin(
        self,
        setup: &mut Setup<'_>,
        role: &'static str,
        change: impl Fn(&At<'_>) -> Result<Option<Tensor>> + Send + 'static,
    ) -> Result<Box<dyn GuidanceRun>> {
        if !setup.sites.iter().any(|site| self.changes(site)) {
            let names = setup.sites.iter().filter(|site| !site.is_cross()).map(|site| site.name.clone());
            return Err(Error::NoSites { names: names.collect() });
        }
        let acts = setup.schedule.steps().any(|step| self.window.contains(&step));
        let branch = setup.add_copy(role, Branch::Cond)?;
        Ok(Box::new(ChangedAttention { settings: self, change: Box::new(change), branch, direction: None, acts }))
    }
}

/// The state of one run.
struct ChangedAttention {
    settings: Away,
    change: Change,
    branch: Branch,
    /// cond − changed of the last evaluation, [n, channels, h, w].
    direction: Option<Tensor>,
    /// True if a step of the schedule is inside the window.
    acts: bool,
}

impl CrossAttentionHook for ChangedAttention {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        if self.branch == branch && self.settings.changes(site) { Interest::OUTPUT } else { Interest::NONE }
    }

    fn output(&mut self, at: &At<'_>, output: &mut Tensor) -> Result<()> {
        if let Some(changed) = (self.change)(at)? {
            *output = changed.f_reshape(output.size())?.f_to_kind(output.kind())?;
        }
        Ok(())
    }
}

impl GuidanceRun for ChangedAttention {
    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        vec![self]
    }

    fn plan(&mut self, step: &Step, plan: &mut Plan) -> Result<()> {
        if self.settings.acts(step) {
            plan.evaluate(Branch::Cond);
            plan.evaluate(self.branch);
        }
        Ok(())
    }

    fn predicted(&mut self, step: &Step, predictions: &mut Predictions) -> Result<()> {
        let difference = || Ok::<_, Error>(predictions.x0(Branch::Cond)?.f_sub(predictions.x0(self.branch)?)?);
        self.direction = self.settings.acts(step).then(difference).transpose()?;
        Ok(())
    }

    fn denoised(&mut self, _: &Step, denoised: &mut Denoised) -> Result<()> {
        if let Some(direction) = self.direction.take() {
            denoised.x0 = denoised.x0.f_add(&direction.f_mul_scalar(self.settings.scale)?)?;
        }
        Ok(())
    }

    fn notes(&self) -> Vec<Note> {
        let window = self.settings.window;
        let told = || format!("no step of this run is in the window ({window}), so the method did nothing");
        (!self.acts).then(|| Remedy::Window.after(told())).into_iter().collect()
    }
}
