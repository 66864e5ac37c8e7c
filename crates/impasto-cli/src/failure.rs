//! [`Failure`]: the end of a command that did not finish.

use crate::wording::Terminal;
use impasto::Error;
use std::io;

/// The end of a command that did not finish, with its exit status.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An error of the library.
    #[error("{}", .0.worded(&Terminal::present()))]
    Library(Error),
    /// An error of this program, in one sentence.
    #[error("{0}")]
    Message(String),
    /// A mistake in the command line, in one sentence.
    #[error("{0}")]
    CommandLine(String),
    /// Ctrl-C; the text may say how to go on.
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

    /// Returns the failure for an error of the library that the command line alone brings about.
    pub fn of_command_line(error: Error) -> Self {
        Self::CommandLine(error.worded(&Terminal::present()))
    }

    /// Adds how to go on to a failure that ends a run.
    pub fn with_advice(self, advice: &str) -> Self {
        match self {
            Self::Interrupted(text) => Self::Interrupted(format!("{text}; {advice}")),
            Self::Library(_) | Self::Message(_) => Self::Message(format!("{self}; {advice}")),
            Self::CommandLine(_) | Self::Closed => self,
        }
    }

    /// Adds how to go on to the interruption of a command that writes all its files after the run.
    pub fn of_unwritten(self) -> Self {
        match self {
            Self::Interrupted(_) => self.with_advice("nothing was written; to go on, repeat the command"),
            other => other,
        }
    }

    /// The exit status of the program.
    pub const fn status(&self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Library(_) | Self::Message(_) => 1,
            Self::CommandLine(_) => 2,
            Self::Interrupted(_) => 130,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if error.is_cancelled() { Self::Interrupted("interrupted".into()) } else { Self::Library(error) }
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Message(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_status_tells_how_a_command_ended() {
        let inside = Error::Guidance { name: "Daam", phase: "begin", step: None, source: Error::Cancelled.into() };
        for cancelled in [Error::Cancelled, inside] {
            assert_eq!(Failure::from(cancelled).status(), 130);
        }
        assert_eq!(Failure::from(Error::custom("no light")).status(), 1);
        assert_eq!(Failure::output(io::ErrorKind::BrokenPipe.into()).status(), 0);
        assert_eq!(Failure::output(io::ErrorKind::StorageFull.into()).status(), 1);
    }
}
