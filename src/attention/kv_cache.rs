//! [`KvCache`]: the prompt's keys and values, kept from one evaluation of a run to the next.

use crate::branch::Branch;
use std::collections::HashMap;
use std::ops::Range;
use tch::Tensor;

/// A key of the cache: the index of a site, and the images and branches stacked there.
pub(super) type Group = (usize, Range<i64>, Vec<Branch>);

/// The key/value cache of the prompt, for every cross-attention site. Keys and values depend on the prompt alone, so a
/// run projects them once instead of at every step.
#[derive(Debug, Default)]
pub struct KvCache(HashMap<Group, (Tensor, Tensor)>);

impl KvCache {
    /// Removes all keys and values, because the prompt has changed.
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
