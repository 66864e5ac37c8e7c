//! [`Texts`]: the texts that the text encoders of a model read.

use crate::branch::BranchInfo;
use crate::error::{Error, Result};

/// The texts that the text encoders of a model read. Most models have one text encoder, which reads the first text; the
/// second encoder of SDXL reads the second text.
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
}

impl<'t> Texts<'t> {
    /// Creates texts with a separate text for the second encoder. `None`: both encoders read the first text.
    pub fn new(first: &'t str, second: Option<&'t str>) -> Self {
        Self { first, second: second.unwrap_or(first) }
    }

    /// Returns the text for a model with one text encoder.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a different second text.
    pub fn only(self) -> Result<&'t str> {
        if self.first == self.second {
            return Ok(self.first);
        }
        let expected = "no second prompt, because this model has one text encoder; use the prompt alone";
        Err(Error::parameter("second_prompt", format!("{:?}", self.second), expected))
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
        Self::new(&branch.prompt, branch.second_prompt.as_deref())
    }
}
