//! [`Watch`]: callbacks that follow the progress of a run.

use super::Preview;
use super::model_view::ModelView;
use crate::error::{Error, Result};
use crate::sampler::{Progress, Run};
use std::ops::ControlFlow;

/// A callback after every step.
pub(super) type Callback<'p> = Box<dyn FnMut(&Progress) -> ControlFlow<()> + 'p>;
/// A callback with a preview.
pub(super) type Show<'p> = Box<dyn FnMut(&Preview<'_>) -> Result<()> + 'p>;

/// Callbacks that follow the progress of a run.
pub(super) struct Watch<'p> {
    pub model: ModelView<'p>,
    pub on_step: Option<Callback<'p>>,
    pub on_preview: Option<(usize, Show<'p>)>,
    /// Index of the present stage of the request.
    pub stage: usize,
}

impl Watch<'_> {
    /// Calls the callbacks after a step.
    pub(super) fn see(&mut self, run: &Run<'_, '_>, progress: &Progress) -> Result<()> {
        let progress = &Progress { stage: self.stage, ..*progress };
        if self.on_step.as_mut().is_some_and(|callback| callback(progress).is_break()) {
            return Err(Error::Cancelled);
        }
        match &mut self.on_preview {
            Some((every, show))
                if progress.done.is_multiple_of(*every) || progress.step.index + 1 == progress.step.count =>
            {
                Preview::show(run, progress, self.model, &mut **show)
            }
            _ => Ok(()),
        }
    }
}
