//! Guidance away from a prediction with changed self-attention: the part that such methods share.

use super::away::{Away, AwayRun};
use crate::attention::{At, AttentionSite, CrossAttentionHook, Interest, Place};
use crate::branch::Branch;
use crate::diffusion::{Denoised, Predictions};
use crate::error::{Error, Result};
use crate::guidance::{GuidanceRun, Plan, Setup};
use crate::recipe::Function;
use crate::step::Step;
use crate::wording::Note;
use tch::Tensor;

/// A choice of attention sites.
pub(super) type Sites = Function<dyn Fn(&AttentionSite) -> bool + Send + Sync>;

/// A change of the output of self-attention; the output stays as it is for `None`.
type Change = Box<dyn Fn(&At<'_>) -> Result<Option<Tensor>> + Send>;

/// Returns true at the self-attention sites that are changed, by default those of the middle block.
fn changes(chosen: Option<&Sites>, site: &AttentionSite) -> bool {
    chosen.map_or(site.place == Place::Mid, |select| select(site)) && !site.is_cross()
}

/// Adds a branch of the prompt in which `change` replaces the output of self-attention at the chosen sites.
///
/// # Errors
/// [`Error::NoSites`] if no site is chosen.
pub(super) fn begin(
    away: Away,
    sites: Option<&Sites>,
    setup: &mut Setup<'_>,
    role: &'static str,
    change: impl Fn(&At<'_>) -> Result<Option<Tensor>> + Send + 'static,
) -> Result<Box<dyn GuidanceRun>> {
    if !setup.sites.iter().any(|site| changes(sites, site)) {
        let names = setup.sites.iter().filter(|site| !site.is_cross()).map(|site| site.name.clone());
        return Err(Error::NoSites { names: names.collect() });
    }
    let away = away.begin(setup, role)?;
    Ok(Box::new(ChangedAttention { away, sites: sites.cloned(), change: Box::new(change) }))
}

/// The state of one run.
struct ChangedAttention {
    away: AwayRun,
    sites: Option<Sites>,
    change: Change,
}

impl CrossAttentionHook for ChangedAttention {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        if self.away.branch == branch && changes(self.sites.as_ref(), site) { Interest::OUTPUT } else { Interest::NONE }
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
