//! [`Shapes`]: the sizes of tensors, from which configurations are derived.

use std::collections::{BTreeMap, BTreeSet};
use tch::Tensor;

/// Tensors with access to their shapes.
pub(super) struct Shapes<'t>(pub &'t BTreeMap<String, Tensor>);

impl Shapes<'_> {
    /// Returns the size of dimension `side` of a tensor; 0, which no configuration accepts, if the tensor is missing.
    pub(super) fn side(&self, name: &str, side: usize) -> i64 {
        self.0.get(name).and_then(|x| x.size().get(side).copied()).unwrap_or_default()
    }

    /// Returns the number of different name parts that follow `start`.
    pub(super) fn count(&self, start: &str) -> usize {
        let names = self.0.range(start.to_owned()..).map(|(name, _)| name).take_while(|name| name.starts_with(start));
        names.filter_map(|name| name.get(start.len()..)?.split('.').next()).collect::<BTreeSet<_>>().len()
    }
}
