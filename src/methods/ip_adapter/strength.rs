//! The range of all strengths.

use crate::error::Result;
use crate::methods::image_guidance::inside;

/// Checks that a strength is in -10..=10. `name` names the strength in messages.
///
/// # Errors
/// [`Error::Parameter`](crate::error::Error::Parameter) for a strength outside.
pub(super) fn check_strength(name: &'static str, strength: f64) -> Result<()> {
    inside(name, strength, &(-10.0..=10.0))
}
