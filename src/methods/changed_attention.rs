//! Guidance away from a prediction with changed self-attention: the part that such methods share.

use super::away::{Away, AwayRun};
use crate::attention::{At, AttentionSite, CrossAttentionHook, Interest, Place};
use crate::branch::Branch;
use crate::diffusion::{Denoised, Predictions};
use crate::error::{Error, Result};
use crate::guidance::{GuidanceRun, Plan, Setup};
use crate::recipe::Function;
use crate::step::Step;
use crate::window::Window;
use crate::wording::Note;
use tch::Tensor;

/// A choice of attention sites.
pub(super) type Sites = Function<dyn Fn(&AttentionSite) -> bool + Send + Sync>;

/// A change of the output of self-attention; the output stays as it is for `None`.
type Change = Box<dyn Fn(&At<'_>) -> Result<Option<Tensor>> + Send>;

/// The self-attention sites that are changed.
enum Changed {
    /// A program chooses the sites.
    Chosen(Sites),
    /// The sites are those of one part of the network.
    In(Place),
}

impl Changed {
    /// Returns the sites that are changed unless a program chooses: those of the middle block. In a network without
    /// such a block, the middle one of the layers that have self-attention stands for it; `None` without any layer.
    fn usual(sites: &[AttentionSite]) -> Option<Self> {
        let places: Vec<Place> = sites.iter().filter(|site| !site.is_cross()).map(|site| site.place).collect();
        if places.contains(&Place::Mid) {
            return Some(Self::In(Place::Mid));
        }
        let layers: Vec<Place> = places.into_iter().filter(|place| matches!(place, Place::Layer(_))).collect();
        layers.get(layers.len() / 2).copied().map(Self::In)
    }

    fn has(&self, site: &AttentionSite) -> bool {
        let chosen = match self {
            Self::Chosen(select) => select(site),
            Self::In(place) => site.place == *place,
        };
        chosen && !site.is_cross()
    }
}

/// Adds a branch of the prompt in which `change` replaces the output of self-attention at the chosen sites.
///
/// # Errors
/// [`Error::Parameter`] for a network without self-attention of its own; [`Error::NoSites`] if no site is chosen.
pub(super) fn begin(
    away: Away,
    sites: Option<&Sites>,
    setup: &mut Setup<'_>,
    role: &'static str,
    change: impl Fn(&At<'_>) -> Result<Option<Tensor>> + Send + 'static,
) -> Result<Box<dyn GuidanceRun>> {
    let own: Vec<&AttentionSite> = setup.sites.iter().filter(|site| !site.is_cross()).collect();
    if own.is_empty() {
        return Err(no_self_attention(role));
    }
    let sites = sites.cloned().map(Changed::Chosen).or_else(|| Changed::usual(setup.sites));
    let Some(sites) = sites.filter(|sites| own.iter().any(|site| sites.has(site))) else {
        return Err(Error::NoSites { names: own.into_iter().map(|site| site.name.clone()).collect() });
    };
    let away = away.begin(setup, role, Window::contains)?;
    Ok(Box::new(ChangedAttention { away, sites, change: Box::new(change) }))
}

/// Returns the error of a method for a network without self-attention of its own.
pub(super) fn no_self_attention(method: &'static str) -> Error {
    let given = "for a network whose picture attends only together with the prompt";
    let expected = "a network with self-attention, such as a UNet, Anima, Stable Diffusion 3.5 medium or Z-Image";
    Error::parameter(method, given, expected)
}

/// The state of one run.
struct ChangedAttention {
    away: AwayRun,
    sites: Changed,
    change: Change,
}

impl CrossAttentionHook for ChangedAttention {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        if self.away.branch == branch && self.sites.has(site) { Interest::OUTPUT } else { Interest::NONE }
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
