//! [`Reuse`]: deep layers that are not computed at every evaluation of a run.

use crate::branch::Branch;
use crate::error::{Error, Result};
use crate::nn::Residuals;
use crate::step::Step;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use tch::Tensor;

/// Largest number of evaluations for which deep layers are computed once.
const MOST: usize = 10;

/// Checks a number of evaluations for which deep layers are computed once.
///
/// # Errors
/// [`Error::Parameter`] for 0, and for more than 10.
pub(crate) fn check_reuse(every: usize) -> Result<()> {
    if (1..=MOST).contains(&every) {
        return Ok(());
    }
    let expected = format!("1 to {MOST}; 2 or 3 is usual, 1 computes all layers every time");
    Err(Error::parameter("reuse", every, expected))
}

/// The branches and images of an evaluation.
pub(super) type Stack = (Vec<Branch>, Range<i64>);

/// The results of deep layers in a run.
#[derive(Debug)]
pub(super) struct Reuse {
    /// Evaluations for which deep layers are computed once; 1 computes them always.
    every: usize,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    kept: HashMap<Stack, Kept>,
    /// Evaluations that used results again.
    reused: usize,
}

/// The results of an evaluation that was computed whole.
#[derive(Debug)]
pub(super) struct Kept {
    /// Result of the deep layers, [b, channels, h, w].
    pub deep: Tensor,
    /// Residuals of the ControlNets.
    pub residuals: Option<Residuals>,
    /// Evaluations that used the results.
    uses: usize,
}

impl Reuse {
    pub(super) fn new(every: usize) -> Self {
        Self { every, state: RefCell::default() }
    }

    /// Returns true if some evaluations use results again.
    pub(super) const fn acts(&self) -> bool {
        self.every > 1
    }

    /// Returns the number of evaluations that used results again.
    pub(super) fn count_reused(&self) -> usize {
        self.state.borrow().reused
    }

    /// Returns the results to use again; `None` if this evaluation is to be computed whole.
    pub(super) fn again(&self, step: &Step, stack: &Stack) -> Result<Option<Kept>> {
        let State { kept, reused } = &mut *self.state.borrow_mut();
        if step.index == 0 && step.eval == 0 {
            kept.remove(stack); // a new run
        }
        let Some(known) = kept.get_mut(stack).filter(|known| known.uses + 1 < self.every) else { return Ok(None) };
        known.uses += 1;
        *reused += 1;
        let residuals = known.residuals.as_ref().map(Residuals::share).transpose()?;
        Ok(Some(Kept { deep: known.deep.shallow_clone(), residuals, uses: known.uses }))
    }

    /// Keeps the results of an evaluation that was computed whole.
    pub(super) fn keep(&self, stack: Stack, deep: Tensor, residuals: Option<Residuals>) {
        self.state.borrow_mut().kept.insert(stack, Kept { deep, residuals, uses: 0 });
    }
}
