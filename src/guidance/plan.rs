//! [`Plan`]: the branches that an evaluation needs.

use crate::branch::Branch;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use tch::Tensor;

/// Branches that an evaluation needs, as requested by guidance methods.
#[derive(Debug, Default)]
pub struct Plan {
    rows: BTreeMap<Branch, Option<Tensor>>,
    /// A branch that was requested at two latents.
    torn: Option<Branch>,
}

impl Plan {
    /// Requests the evaluation of `branch` at the run's latent.
    pub fn evaluate(&mut self, branch: Branch) {
        self.request(branch, None);
    }

    /// Requests the evaluation of `branch` at its own latent `x`, such as a noised reference: [n, c, h, w] at the noise
    /// level of the evaluation. A branch has one latent: the run ends with an error if another request evaluates the
    /// branch at the run's latent or at its own. [`Setup::add_alone`] adds a branch that no other method requests.
    pub fn evaluate_at(&mut self, branch: Branch, x: Tensor) {
        self.request(branch, Some(x));
    }

    fn request(&mut self, branch: Branch, x: Option<Tensor>) {
        match self.rows.entry(branch) {
            Entry::Vacant(new) => drop(new.insert(x)),
            Entry::Occupied(known) if known.get().is_none() && x.is_none() => {}
            Entry::Occupied(_) => self.torn = Some(branch),
        }
    }

    /// Returns the branches to evaluate, each with its own latent if it has one.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a branch was requested at two latents.
    pub(crate) fn into_rows(self) -> Result<Vec<(Branch, Option<Tensor>)>> {
        match self.torn {
            None => Ok(self.rows.into_iter().collect()),
            Some(branch) => {
                let expected = "one latent for each branch; add a branch of your own with `Setup::add_alone`";
                Err(Error::parameter("the latent of a branch", format!("given twice for {branch:?}"), expected))
            }
        }
    }
}
