//! [`Occurrence`]: the choice of the places at which a phrase is looked for in the prompt.

use crate::error::{Error, Result};
use crate::prompt::Prompt;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Choice among the places at which a phrase occurs in the prompt. Only attention to the chosen places is recorded.
///
/// If a second text encoder reads another prompt, the places in that prompt count only under `All`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Occurrence {
    /// Every place at which the phrase occurs in the prompt.
    #[default]
    All,
    /// The nth place at which the phrase occurs in the prompt, counted from 0.
    Nth(usize),
    /// All places of the phrase within bytes `start..end` of [`Prompt::text`].
    Within {
        /// First byte of the range.
        start: usize,
        /// One past the last byte of the range.
        end: usize,
    },
}

impl Occurrence {
    /// Returns the ranges of bytes of the chosen places in the prompt; `None` for all places.
    pub(super) fn of(self, phrase: &str, prompt: &Prompt) -> Result<Option<Vec<Range<usize>>>> {
        let places = || prompt.places(phrase);
        match self {
            Self::All => Ok(None),
            Self::Nth(n) => {
                let places = places()?;
                let place = places.get(n).cloned().ok_or_else(|| {
                    let expected =
                        format!("less than {}, the number of times \"{phrase}\" is in the prompt", places.len());
                    Error::parameter("occurrence.Nth", n, expected)
                })?;
                Ok(Some(vec![place]))
            }
            Self::Within { start, end } => {
                let inside = |place: &Range<usize>| start <= place.start && place.end <= end;
                let chosen: Vec<Range<usize>> = places()?.into_iter().filter(inside).collect();
                if chosen.is_empty() {
                    let expected = format!("a range of bytes in \"{}\" that contains \"{phrase}\"", prompt.text());
                    return Err(Error::parameter("occurrence.Within", format!("{start}..{end}"), expected));
                }
                Ok(Some(chosen))
            }
        }
    }
}
