//! [`Failure`]: the end of a command that did not finish.

use std::fmt;
use std::io;

/// The end of a command that did not finish, with its exit status.
#[derive(Debug)]
pub enum Failure {
    /// An error of the library.
    Library(impasto::Error),
    /// An error of this program, in one sentence.
    Message(String),
    /// Ctrl-C; the text says how to go on.
    Interrupted(String),
}

impl Failure {
    /// An error of the standard output, such as a pipe that was closed.
    pub fn output(error: io::Error) -> Self {
        Self::Message(format!("the standard output cannot be written: {error}"))
    }

    /// The exit status of the program.
    pub const fn status(&self) -> u8 {
        match self {
            Self::Interrupted(_) => 130,
            Self::Library(_) | Self::Message(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Library(error) => error.fmt(f),
            Self::Message(text) | Self::Interrupted(text) => f.write_str(text),
        }
    }
}

impl From<impasto::Error> for Failure {
    fn from(error: impasto::Error) -> Self {
        Self::Library(error)
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Message(text)
    }
}
