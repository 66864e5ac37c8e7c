//! [`Attached`]: what guides one run.

use super::{Details, Guidance, GuidanceRun, Report, Setup};
use crate::attention::CrossAttentionHook;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::wording::Note;
use std::any::{Any, type_name};
use std::sync::Arc;

/// A guidance method, a value or a hook that is attached to one run.
pub(crate) enum Attached<'g> {
    /// Settings, with the state that the run has made of them.
    Method { settings: Arc<dyn Guidance>, run: Option<Box<dyn GuidanceRun>> },
    /// A state that the caller reads after the run.
    Lent(&'g mut (dyn GuidanceRun + 'static)),
    /// An attention hook without a guidance method.
    Hook { hook: Box<dyn CrossAttentionHook + 'g>, type_name: &'static str },
}

impl<'g> Attached<'g> {
    pub(crate) fn method(settings: Arc<dyn Guidance>) -> Self {
        Self::Method { settings, run: None }
    }

    pub(crate) fn hook<H: CrossAttentionHook + 'g>(hook: H) -> Self {
        Self::Hook { hook: Box::new(hook), type_name: type_name::<H>() }
    }

    /// Returns the settings; `None` for a value and for a hook.
    pub(crate) fn settings(&self) -> Option<&dyn Guidance> {
        match self {
            Self::Method { settings, .. } => Some(&**settings),
            Self::Lent(_) | Self::Hook { .. } => None,
        }
    }

    /// Returns the settings if they are a `T`.
    pub(crate) fn settings_as<T: Guidance>(&self) -> Option<&T> {
        self.settings().and_then(|settings| (settings as &dyn Any).downcast_ref())
    }

    /// Returns the name in errors, notes and reports.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Method { settings, .. } => settings.name(),
            Self::Lent(run) => run.name(),
            Self::Hook { .. } => "hook",
        }
    }

    /// Prepares for a pass. Settings make the state of the pass, and get the state of an earlier pass.
    pub(crate) fn begin(&mut self, setup: &mut Setup<'_>) -> Result<()> {
        match self {
            Self::Method { settings, run } => *run = Some(settings.begin(setup, run.take())?),
            Self::Lent(run) => run.begin(setup)?,
            Self::Hook { .. } => {}
        }
        Ok(())
    }

    /// Returns the state of the pass; `None` before the pass, and for a hook.
    pub(crate) fn run(&self) -> Option<&dyn GuidanceRun> {
        match self {
            Self::Method { run, .. } => run.as_deref(),
            Self::Lent(run) => Some(&**run),
            Self::Hook { .. } => None,
        }
    }

    /// Returns the state of the pass, to be changed.
    pub(crate) fn run_mut(&mut self) -> Option<&mut dyn GuidanceRun> {
        match self {
            Self::Method { run, .. } => run.as_deref_mut(),
            Self::Lent(run) => Some(&mut **run),
            Self::Hook { .. } => None,
        }
    }

    /// Returns the attention hooks.
    pub(crate) fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        match self {
            Self::Hook { hook, .. } => vec![&mut **hook],
            _ => self.run_mut().map_or_else(Vec::new, |run| run.hooks()),
        }
    }

    /// Returns the notes of the method, with the method's name as origin.
    pub(crate) fn notes(&self) -> Vec<Note> {
        let notes = self.run().map_or_else(Vec::new, |run| run.notes());
        notes.into_iter().map(|note| Note { origin: Some(self.name()), ..note }).collect()
    }

    pub(crate) fn report(&self) -> Result<Option<Report>> {
        self.run().map_or(Ok(None), |run| run.report())
    }

    /// Returns the recipe of the method's settings.
    pub(crate) fn recipe(&self) -> Result<Recipe> {
        match self {
            Self::Method { settings, .. } => settings.recipe(),
            Self::Lent(run) => Err(Error::NotRepeatable { what: run.name().into() }),
            Self::Hook { type_name, .. } => Err(Error::NotRepeatable { what: format!("the hook {type_name}") }),
        }
    }

    /// Returns the same method for one of several runs.
    pub(crate) fn lend(&mut self) -> Attached<'_> {
        match self {
            Self::Method { settings, .. } => Attached::method(settings.clone()),
            Self::Lent(run) => Attached::Lent(&mut **run),
            Self::Hook { hook, type_name } => Attached::Hook { hook: Box::new(&mut **hook), type_name },
        }
    }

    /// Returns the same settings for another run; `None` for a value and for a hook, which guide one run.
    pub(crate) fn again(&self) -> Option<Attached<'static>> {
        match self {
            Self::Method { settings, .. } => Some(Attached::method(settings.clone())),
            Self::Lent(_) | Self::Hook { .. } => None,
        }
    }

    /// Returns the results of the methods whose state the run made itself.
    pub(crate) fn end_all(all: Vec<Self>) -> Result<Details> {
        let mut details = Details::default();
        for one in all {
            if let Self::Method { settings, run: Some(run) } = one {
                details.push(settings.label(), run)?;
            }
        }
        Ok(details)
    }
}
