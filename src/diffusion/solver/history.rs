//! [`History`]: a solver's memory of earlier steps, and polynomials for multistep solvers.

use std::collections::VecDeque;
use tch::Tensor;

/// A solver's memory of the earlier steps of a run; [`Solver::reset`](super::Solver::reset) empties it.
///
/// The memory is a field beside a solver's settings, so that struct update syntax can change the settings:
///
/// ```
/// use impasto::diffusion::solver::Multistep;
///
/// let solver = Multistep { eta: 0.5, ..Multistep::default() };
/// ```
#[derive(Debug, Default)]
pub struct History {
    /// The (noise level, value) of the last steps, the newest first.
    values: VecDeque<(f64, Tensor)>,
    /// The step that a singlestep block or a correction goes back to.
    pub(super) past: Option<Past>,
}

/// A completed step that a solver goes back to.
#[derive(Debug)]
pub(super) struct Past {
    /// The latent that the step started from.
    pub(super) x: Tensor,
    /// The mean that the solver returned last.
    pub(super) mean: Tensor,
    /// The order of the step, or of its correction.
    pub(super) order: usize,
    /// Factor on ln σ in the exponent of the step; 1 without fresh noise.
    pub(super) rate: f64,
}

impl History {
    /// Creates an empty memory.
    pub(super) const fn new() -> Self {
        Self { values: VecDeque::new(), past: None }
    }

    /// Adds a value and keeps the newest `most` values.
    pub(super) fn push(&mut self, level: f64, value: Tensor, most: usize) {
        self.values.push_front((level, value));
        self.values.truncate(most);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The (noise level, value) of `steps` steps ago; 0 is the newest step.
    pub(super) fn ago(&self, steps: usize) -> Option<(f64, &Tensor)> {
        self.values.get(steps).map(|(level, value)| (*level, value))
    }

    /// Every (noise level, value), the newest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (f64, &Tensor)> {
        self.values.iter().map(|(level, value)| (*level, value))
    }
}

/// The copy shares the remembered values, which no solver changes.
impl Clone for History {
    fn clone(&self) -> Self {
        let values = self.iter().map(|(level, value)| (level, value.shallow_clone())).collect();
        let past = self.past.as_ref().map(|Past { x, mean, order, rate }| Past {
            x: x.shallow_clone(),
            mean: mean.shallow_clone(),
            order: *order,
            rate: *rate,
        });
        Self { values, past }
    }
}

/// Coefficients of the Lagrange polynomial of each node, the constant first. The polynomial is 1 at its node and 0 at
/// the other nodes.
pub(super) fn lagrange(nodes: &[f64]) -> impl Iterator<Item = Vec<f64>> {
    nodes.iter().enumerate().map(|(at, node)| {
        let others = nodes.iter().enumerate().filter(|(other, _)| *other != at);
        others.fold(vec![1.0], |p, (_, other)| {
            // (p₀ + p₁·x + …)·(x − other)/(node − other)
            let (lower, upper) =
                (p.iter().map(|c| -c * other).chain([0.0]), [0.0].into_iter().chain(p.iter().copied()));
            lower.zip(upper).map(|(a, b)| (a + b) / (node - other)).collect()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lagrange_is_one_at_its_node_and_zero_at_others() {
        let nodes = [2.0, -1.0, 0.5, 3.0];
        for (at, coefficients) in lagrange(&nodes).enumerate() {
            for (place, x) in nodes.iter().enumerate() {
                let value = coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c);
                assert!((value - f64::from(u8::from(at == place))).abs() < 1e-12);
            }
        }
        assert_eq!(lagrange(&[7.0]).collect::<Vec<_>>(), [[1.0]]);
    }

    #[test]
    fn history_keeps_the_newest_values_first() {
        let mut history = History::new();
        (0..5).for_each(|i| history.push(f64::from(i), Tensor::from(i), 3));
        assert_eq!(history.iter().map(|(level, _)| level).collect::<Vec<_>>(), [4.0, 3.0, 2.0]);
        assert_eq!((history.ago(1).map(|(level, _)| level), history.len()), (Some(3.0), 3));
        history.clear();
        assert!(history.ago(0).is_none());
    }

    #[test]
    fn copied_history_goes_on_from_the_same_steps() {
        let mut history = History::new();
        (0..2).for_each(|i| history.push(f64::from(i), Tensor::from(i), 3));
        history.past = Some(Past { x: Tensor::from(5), mean: Tensor::from(6), order: 2, rate: 1.5 });
        let copy = history.clone();
        history.clear();
        let values: Vec<_> = copy.iter().map(|(level, value)| (level, value.int64_value(&[]))).collect();
        assert_eq!(values, [(1.0, 1), (0.0, 0)]);
        assert!(copy.past.is_some_and(|past| past.order == 2 && past.rate == 1.5 && past.mean == Tensor::from(6)));
    }
}
