//! [`Nets`]: ControlNets by name.

use super::Job;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::nn::ControlNet;
use crate::weights::Source;
use crate::wording::Remedy;
use std::collections::BTreeMap;

/// ControlNets by the names that jobs give them. Each is loaded once.
#[derive(Debug, Default)]
pub struct Nets(BTreeMap<String, ControlNet>);

impl Nets {
    /// Name of the embedded ControlNet, which follows lines and strokes.
    pub const EMBEDDED: &str = "embedded";

    /// Adds a ControlNet, in place of one with the same name.
    pub fn insert(&mut self, name: impl Into<String>, net: ControlNet) {
        self.0.insert(name.into(), net);
    }

    /// Loads the ControlNets of a job that are not loaded yet, for `model`. A name is that of a [`Source`]. A program
    /// that reads jobs of strangers calls [`insert`](Self::insert) instead, with the ControlNets that it allows.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a name that is no source; the errors of [`Model::controlnet`].
    pub fn load(&mut self, job: &Job, model: &Model) -> Result<()> {
        for name in job.nets(model.colorizes()) {
            if !self.0.contains_key(name) {
                let source: Source = name.parse().map_err(|error| match error {
                    Error::Parameter { value, expected, .. } => {
                        Error::Parameter { name: "the control's net", value, expected }
                    }
                    other => other,
                })?;
                self.insert(name, model.controlnet(&source)?);
            }
        }
        Ok(())
    }

    /// Returns a ControlNet.
    ///
    /// # Errors
    /// [`Error::Parameter`] if none has the name.
    pub(super) fn get(&self, name: &str) -> Result<&ControlNet> {
        self.0.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
            let known =
                if known.is_empty() { "no ControlNet, because none is loaded".into() } else { known.join(", ") };
            Error::parameter("the control's net", format!("{name:?}"), Remedy::ControlNet.after(known))
        })
    }
}
