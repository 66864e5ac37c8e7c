//! [`KvCache`]: keys and values of the prompt, from one evaluation of a run to the next.

use crate::branch::Branch;
use std::collections::HashMap;
use std::ops::Range;
use tch::Tensor;

/// A site, and whose rows are stacked there: images and branches.
pub(super) type Group = (usize, Range<i64>, Vec<Branch>);

/// Keys and values of the prompt at every cross-attention site. They do not change while the prompt stays, so a run projects
/// them once and not at every step.
#[derive(Debug, Default)]
pub struct KvCache(HashMap<Group, (Tensor, Tensor)>);

impl KvCache {
    /// Forgets all keys and values: the prompt is another from here on.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn get(&self, group: &Group) -> Option<(Tensor, Tensor)> {
        self.0.get(group).map(|(k, v)| (k.shallow_clone(), v.shallow_clone()))
    }

    pub(super) fn insert(&mut self, group: Group, (k, v): (&Tensor, &Tensor)) {
        self.0.insert(group, (k.shallow_clone(), v.shallow_clone()));
    }
}
