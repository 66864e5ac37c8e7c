//! Groups of inputs that a network evaluates together.

use crate::attention::Tap;
use crate::branch::Branch;
use crate::diffusion::{Input, Predictions};
use crate::error::Result;

/// Calls `evaluate` for each group of inputs that have the same `key`, with the group's key.
pub(super) fn by_key<'i, K>(
    inputs: &[Input<'i>],
    tap: &mut Tap<'_>,
    key: impl Fn(&Input<'i>) -> K,
    same: impl Fn(&K, &K) -> bool,
    mut evaluate: impl FnMut(&K, &[Input<'i>], &mut Tap<'_>) -> Result<Predictions>,
) -> Result<Predictions> {
    let mut groups: Vec<(K, Vec<Input<'i>>)> = Vec::new();
    for input in inputs {
        let own = key(input);
        match groups.iter_mut().find(|(other, _)| same(other, &own)) {
            Some((_, group)) => group.push(*input),
            None => groups.push((own, vec![*input])),
        }
    }
    if let [(key, _)] = groups.as_slice() {
        return evaluate(key, inputs, tap);
    }
    let mut all = Predictions::default();
    for (key, group) in &groups {
        let branches: Vec<Branch> = group.iter().map(|input| input.branch).collect();
        all.extend(evaluate(key, group, &mut tap.of(&branches))?);
    }
    Ok(all)
}
