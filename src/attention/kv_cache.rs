//! [`KvCache`]: what a network computes of the prompt alone, kept from one evaluation of a run to the next.

use crate::branch::Branch;
use std::collections::HashMap;
use std::ops::Range;
use tch::Tensor;

/// Images and branches that are stacked in a call of a network.
pub(super) type Batch = (Range<i64>, Vec<Branch>);

/// A key of the cache: the index of a site, and what is stacked there.
pub(super) type Group = (usize, Batch);

/// The cache of what a network computes of the prompt alone: keys and values of every cross-attention site, and the
/// prompt's tokens as the blocks of a transformer with joint attention read them. A run computes both once instead of
/// at every step.
#[derive(Debug, Default)]
pub struct KvCache {
    keys_values: HashMap<Group, (Tensor, Tensor)>,
    tokens: HashMap<Batch, Tensor>,
}

impl KvCache {
    /// Removes everything, because the prompt has changed.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn get(&self, group: &Group) -> Option<(Tensor, Tensor)> {
        self.keys_values.get(group).map(|(k, v)| (k.shallow_clone(), v.shallow_clone()))
    }

    pub(super) fn insert(&mut self, group: Group, (k, v): (&Tensor, &Tensor)) {
        self.keys_values.insert(group, (k.shallow_clone(), v.shallow_clone()));
    }

    pub(super) fn tokens(&self, batch: &Batch) -> Option<Tensor> {
        self.tokens.get(batch).map(Tensor::shallow_clone)
    }

    pub(super) fn insert_tokens(&mut self, batch: Batch, tokens: &Tensor) {
        self.tokens.insert(batch, tokens.shallow_clone());
    }
}
