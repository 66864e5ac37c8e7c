//! [`Texts`]: the texts that the text encoders of a model read.

use crate::branch::BranchInfo;
use crate::error::{Error, Result};

/// The texts that the text encoders of a model read. Most models have one text encoder, which reads the first text; the
/// second encoder of SDXL and of SD 3 reads the second text, and T5 of SD 3 reads the third.
///
/// ```
/// use impasto::Texts;
/// let same = Texts::from("a red boat");
/// assert_eq!((same.first, same.second), ("a red boat", "a red boat"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Texts<'t> {
    /// Text of the first encoder.
    pub first: &'t str,
    /// Text of the second encoder.
    pub second: &'t str,
    /// Text of the third encoder.
    pub third: &'t str,
}

impl<'t> Texts<'t> {
    /// Creates texts with a separate text for the second encoder. `None`: all encoders read the first text.
    pub fn new(first: &'t str, second: Option<&'t str>) -> Self {
        Self { first, second: second.unwrap_or(first), third: first }
    }

    /// Sets a separate text for the third encoder. `None`: it reads the first text.
    #[must_use]
    pub fn with_third(self, third: Option<&'t str>) -> Self {
        Self { third: third.unwrap_or(self.first), ..self }
    }

    /// Returns the text for a model with one text encoder.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a different second text.
    pub fn only(self) -> Result<&'t str> {
        let Self { first, second, .. } = self.two()?;
        if first == second {
            return Ok(first);
        }
        let expected = "no second prompt, because this model has one text encoder; use the prompt alone";
        Err(Error::parameter("second_prompt", format!("{:?}", self.second), expected))
    }

    /// Returns the texts for a model with at most two text encoders.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a different third text.
    pub(crate) fn two(self) -> Result<Self> {
        if self.first == self.third {
            return Ok(self);
        }
        let expected = "no third prompt, because this model has no third text encoder; use the prompt alone";
        Err(Error::parameter("third_prompt", format!("{:?}", self.third), expected))
    }
}

impl<'t> From<&'t str> for Texts<'t> {
    fn from(text: &'t str) -> Self {
        Self::new(text, None)
    }
}

impl<'t> From<&'t String> for Texts<'t> {
    fn from(text: &'t String) -> Self {
        Self::new(text, None)
    }
}

impl<'t> From<&'t BranchInfo> for Texts<'t> {
    fn from(branch: &'t BranchInfo) -> Self {
        Self::new(&branch.prompt, branch.second_prompt.as_deref()).with_third(branch.third_prompt.as_deref())
    }
}
