//! [`Paint`]: paints jobs.

use crate::failure::Failure;
use crate::progress::Progress;
use serde_json::Value;

/// Paints jobs, one after the other, on a thread of its own.
///
/// ```
/// use impasto_worker::{Failure, Paint, Painted, Progress};
/// use serde_json::{Value, json};
///
/// /// Paints one gray pixel.
/// struct Gray;
///
/// impl Paint for Gray {
///     fn paint(&mut self, _job: &Value, progress: &Progress) -> Result<Painted, Failure> {
///         progress.step(1, 1, Vec::new)?;
///         Ok(Painted { pictures: vec![b"a PNG".to_vec()], report: json!({}) })
///     }
/// }
/// ```
pub trait Paint: Send + 'static {
    /// Paints a job. Tells `progress` of each step, and ends soon after `progress` says so.
    ///
    /// The job comes from another machine: everything in it is to be checked as a request from a network is.
    ///
    /// # Errors
    /// A [`Failure`], which says whether another try makes sense.
    fn paint(&mut self, job: &Value, progress: &Progress) -> Result<Painted, Failure>;
}

/// The pictures of a job, and its report.
#[derive(Clone, Debug)]
pub struct Painted {
    /// Files of the pictures, each a PNG. The same job gives the same bytes on one kind of processor.
    pub pictures: Vec<Vec<u8>>,
    /// The report as JSON.
    pub report: Value,
}
