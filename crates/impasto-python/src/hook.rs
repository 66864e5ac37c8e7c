//! [`Hook`]: an object of Python as a hook of the library.

use crate::attention::{At, Site, Step, name};
use crate::failure::Failure;
use crate::tensors::{from_python, to_python};
use impasto::attention::{AttentionSite, CrossAttentionHook, Interest, Probs, Scores};
use impasto::{Branch, Result};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;
use tch::Tensor;

/// The phases, by the names of the methods that are called in them.
const PHASES: [(&str, Interest); 5] = [
    ("context", Interest::CONTEXT),
    ("bias", Interest::BIAS),
    ("scores", Interest::SCORES),
    ("probs", Interest::PROBS),
    ("output", Interest::OUTPUT),
];

/// An object of Python with some of the methods of a hook. Tensors are given to it without a copy.
///
/// An exception in a method ends the run, and Python gets that exception.
pub struct Hook {
    object: PyObject,
    /// Phases that the object has methods for.
    methods: Interest,
    failure: Failure,
}

impl Hook {
    /// Looks up the methods of an object.
    ///
    /// # Errors
    /// `TypeError` if the object has no method of a phase.
    pub fn new(object: &Bound<'_, PyAny>, failure: &Failure) -> PyResult<Self> {
        let mut methods = Interest::NONE;
        for (method, phase) in PHASES {
            if object.hasattr(method)? {
                methods |= phase;
            }
        }
        if methods == Interest::NONE {
            let names = PHASES.map(|(method, _)| method).join(", ");
            let kind = object.get_type().name()?.to_string();
            return Err(PyTypeError::new_err(format!(
                "the hook {kind} has no method of a phase; expected one of {names}"
            )));
        }
        Ok(Self { object: object.clone().unbind(), methods, failure: failure.clone() })
    }

    /// Calls a method that the object may lack. The result is `usual` if the method is missing, or after an exception,
    /// which ends the run.
    fn ask<T>(&self, method: &str, usual: T, call: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T>) -> T {
        let answer = Python::with_gil(|py| {
            let object = self.object.bind(py);
            if object.hasattr(method)? { call(&object.getattr(method)?).map(Some) } else { Ok(None) }
        });
        match answer {
            Ok(answer) => answer.unwrap_or(usual),
            Err(exception) => {
                self.failure.keep(exception);
                usual
            }
        }
    }

    /// Calls the method of a phase with a tensor. Returns the tensor that the method returns.
    fn call(&self, method: &str, at: &impasto::attention::At<'_>, tensor: &Tensor) -> Result<Option<Tensor>> {
        let called = Python::with_gil(|py| {
            let arguments = (At::new(py, at)?, to_python(py, tensor)?);
            from_python(&self.object.bind(py).call_method1(method, arguments)?)
        });
        called.map_err(|exception| self.failure.keep(exception))
    }

    /// Calls the method of a phase that changes a tensor in place, or returns another one.
    fn edit(&self, method: &str, at: &impasto::attention::At<'_>, tensor: &mut Tensor) -> Result<()> {
        if let Some(other) = self.call(method, at, tensor)? {
            *tensor = other;
        }
        Ok(())
    }
}

/// Reads the phases that `interest` returned: None, a name, or several names.
fn phases(answer: &Bound<'_, PyAny>) -> PyResult<Interest> {
    let phase = |name: &str| {
        let found = PHASES.iter().find(|(method, _)| *method == name).map(|(_, phase)| *phase);
        let names = PHASES.map(|(method, _)| method).join(", ");
        found.ok_or_else(|| PyValueError::new_err(format!("interest is {name:?}; expected phases of {names}")))
    };
    if answer.is_none() {
        return Ok(Interest::NONE);
    }
    if let Ok(one) = answer.downcast::<PyString>() {
        return phase(&one.to_cow()?);
    }
    answer.try_iter()?.try_fold(Interest::NONE, |all, one| Ok(all | phase(&one?.extract::<String>()?)?))
}

impl CrossAttentionHook for Hook {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        // An object that says nothing takes part where the picture reads the prompt.
        let usual = if site.is_cross() && branch == Branch::Cond { self.methods } else { Interest::NONE };
        self.ask("interest", usual, |method| phases(&method.call1((Site::from(site), name(branch)))?))
    }

    fn controls(&self) -> bool {
        self.ask("controls", false, |method| method.call0()?.is_truthy())
    }

    fn active(&self, step: &impasto::Step) -> bool {
        self.ask("active", true, |method| method.call1((Step::from(step),))?.is_truthy())
    }

    fn context(&mut self, at: &impasto::attention::At<'_>, context: &mut Tensor) -> Result<()> {
        self.edit("context", at, context)
    }

    fn bias(&mut self, at: &impasto::attention::At<'_>, scores: &Scores<'_>) -> Result<Option<Tensor>> {
        self.call("bias", at, &scores.full()?)
    }

    fn scores(&mut self, at: &impasto::attention::At<'_>, scores: &mut Tensor) -> Result<()> {
        self.edit("scores", at, scores)
    }

    fn probs(&mut self, at: &impasto::attention::At<'_>, probs: &Probs<'_>) -> Result<()> {
        self.call("probs", at, &probs.columns(probs.tokens())?).map(|_| ())
    }

    fn output(&mut self, at: &impasto::attention::At<'_>, output: &mut Tensor) -> Result<()> {
        self.edit("output", at, output)
    }
}
