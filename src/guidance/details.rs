//! [`Details`]: the findings of a run's guidance methods.

use super::GuidanceRun;
use crate::error::{Error, Result};
use std::any::{Any, type_name};
use std::fmt;

/// The findings of a run's guidance methods, by their labels ([`Guidance::label`](super::Guidance::label)).
#[derive(Default)]
pub struct Details(Vec<Entry>);

/// The results of one guidance method.
struct Entry {
    label: String,
    run: Box<dyn GuidanceRun>,
    /// The values of [`GuidanceRun::details`].
    values: Vec<Box<dyn Any + Send>>,
}

impl fmt::Debug for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|entry| &entry.label)).finish()
    }
}

impl Details {
    /// Adds the results of a method whose run has ended.
    ///
    /// # Errors
    /// The errors of [`GuidanceRun::details`].
    pub(crate) fn push(&mut self, label: String, run: Box<dyn GuidanceRun>) -> Result<()> {
        let values = run.details()?;
        self.0.push(Entry { label, run, values });
        Ok(())
    }

    /// Returns the first result of type `T` of a method with this label; letter case does not matter. `T` is the type
    /// of the method's state, or of one of its [`GuidanceRun::details`].
    ///
    /// # Errors
    /// [`Error::Parameter`] if there is none.
    pub fn get<T: 'static>(&self, label: &str) -> Result<&T> {
        let named = self.0.iter().filter(|entry| entry.label.eq_ignore_ascii_case(label));
        named.clone().find_map(Entry::get).ok_or_else(|| {
            let of_type: Vec<String> = self.0.iter().filter(|entry| entry.get::<T>().is_some()).map(quote).collect();
            let labels: Vec<String> = self.0.iter().map(quote).collect();
            let expected = match (of_type.as_slice(), named.count()) {
                ([], 0) if labels.is_empty() => "a run with guidance methods".into(),
                ([], 0) => format!("the label of a guidance method of the run: {}", labels.join(", ")),
                ([], _) => format!("a type that this method reports, not {}", type_name::<T>()),
                (known, _) => format!("the label of a method that reports {}: {}", type_name::<T>(), known.join(", ")),
            };
            Error::parameter("details", format!("asked of \"{label}\""), expected)
        })
    }
}

/// Returns the label of an entry in quotation marks.
fn quote(entry: &Entry) -> String {
    format!("\"{}\"", entry.label)
}

impl Entry {
    fn get<T: 'static>(&self) -> Option<&T> {
        let run: &dyn Any = &*self.run;
        run.downcast_ref().or_else(|| self.values.iter().find_map(|value| value.downcast_ref()))
    }
}
