//! [`Failure`]: the error of this crate.

/// Any error, as a text for the person who runs the yardstick.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
