//! [`HookTable`]: what the hooks of a run want, and where.

use crate::attention::{AttentionSite, CrossAttentionHook, Interest, SiteKind};
use crate::branch::Branch;
use crate::error::{Error, Result};
use std::collections::HashMap;

/// The phases that the hooks of a run want, by hook, site and branch. Every hook is asked once, before the first step.
#[derive(Debug, Default)]
pub struct HookTable {
    pub(super) hooks: usize,
    interest: HashMap<(usize, usize, Branch), Interest>,
}

impl HookTable {
    /// Asks every hook about every site and branch.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a site's index is not its position in `sites`, because [`KvCache`] stores keys and
    /// values by that index; or if a hook wants [`Interest::CONTEXT`] at a site of joint attention.
    pub fn new(hooks: &[&mut dyn CrossAttentionHook], sites: &[AttentionSite], branches: &[Branch]) -> Result<Self> {
        if let Some((position, site)) = sites.iter().enumerate().find(|(position, site)| site.index != *position) {
            let value = format!("{} for the site {}", site.index, site.name);
            let expected = format!("{position}, the site's position in the model's list of sites");
            return Err(Error::parameter("AttentionSite::index", value, expected));
        }
        let mut interest = HashMap::new();
        for (i, hook) in hooks.iter().enumerate() {
            let controls = hook.controls();
            let asked = sites.iter().filter(|site| controls || site.control.is_none());
            for (site, &branch) in asked.flat_map(|site| branches.iter().map(move |branch| (site, branch))) {
                let phases = hook.interest(site, branch);
                if site.kind == SiteKind::Joint && phases.contains(Interest::CONTEXT) {
                    let value = format!("CONTEXT at the site {}", site.name);
                    let expected = "other phases at sites of joint attention, where no context is given to the site";
                    return Err(Error::parameter("CrossAttentionHook::interest", value, expected));
                }
                if phases != Interest::NONE {
                    interest.insert((i, site.index, branch), phases);
                }
            }
        }
        Ok(Self { hooks: hooks.len(), interest })
    }

    pub(super) fn of(&self, hook: usize, site: &AttentionSite, branch: Branch) -> Interest {
        self.interest.get(&(hook, site.index, branch)).copied().unwrap_or_default()
    }

    /// Returns true if a hook wants a phase at a site in any branch.
    pub(super) fn wants(&self, hook: usize, site: &AttentionSite) -> bool {
        self.interest.keys().any(|&(own, index, _)| (own, index) == (hook, site.index))
    }
}
