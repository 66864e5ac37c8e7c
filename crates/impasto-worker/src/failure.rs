//! [`Failure`]: a reason why a job has no pictures.

/// A reason why a job has no pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The job cannot be painted, in words. It is not tried again.
    Refused(String),
    /// This try failed, in words. The job is tried again, on any worker.
    Trouble(String),
    /// [`Progress`](crate::Progress) asked for the end.
    Stopped,
}
