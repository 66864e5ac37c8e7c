//! [`Flaw`]: a reason why a pickle is not read.

use std::io;

/// A result whose error is a flaw of the file.
pub(super) type Checked<T> = Result<T, Flaw>;

/// A reason why a pickle is not read.
#[derive(Debug)]
pub(in crate::weights) enum Flaw {
    /// The file could not be read.
    Io(io::Error),
    /// A sentence about the file.
    Problem(String),
}

impl From<io::Error> for Flaw {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<String> for Flaw {
    fn from(problem: String) -> Self {
        Self::Problem(problem)
    }
}

impl From<&str> for Flaw {
    fn from(problem: &str) -> Self {
        Self::Problem(problem.into())
    }
}
