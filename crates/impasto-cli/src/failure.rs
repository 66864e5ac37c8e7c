//! [`Failure`]: the end of a command that did not finish.

use crate::wording::Terminal;
use std::io;

/// The end of a command that did not finish, with its exit status.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An error of the library.
    #[error("{}", .0.worded(&Terminal))]
    Library(#[from] impasto::Error),
    /// An error of this program, in one sentence.
    #[error("{0}")]
    Message(String),
    /// Ctrl-C; the text says how to go on.
    #[error("{0}")]
    Interrupted(String),
    /// The reader of the standard output wants no more, as `head` after its last line. The program ends without a word.
    #[error("the standard output is closed")]
    Closed,
}

impl Failure {
    /// Returns the failure for an error of the standard output.
    pub fn output(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Message(format!("cannot write to the standard output: {error}")),
        }
    }

    /// The exit status of the program.
    pub const fn status(&self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Interrupted(_) => 130,
            Self::Library(_) | Self::Message(_) => 1,
        }
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Message(text)
    }
}
