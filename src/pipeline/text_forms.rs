//! Values with parts as users write them, such as `eyes=gold` or `2:0.4`.

use crate::error::{Error, Result};

/// Divides a text at its first `=`, with the spaces around both parts removed. Neither part may be empty.
///
/// # Errors
/// [`Error::Parameter`] with the name of the value.
pub(super) fn pair<'t>(name: &'static str, text: &'t str, expected: &'static str) -> Result<(&'t str, &'t str)> {
    let parts = text.split_once('=').map(|(left, right)| (left.trim(), right.trim()));
    let full = |(left, right): &(&str, &str)| !left.is_empty() && !right.is_empty();
    parts.filter(full).ok_or_else(|| Error::parameter(name, format!("{text:?}"), expected))
}

/// Splits a number after the last `:` off a text. A text without a number stays whole, such as a Windows path.
///
/// # Errors
/// [`Error::Parameter`] with the name of the value, if the number is not finite.
pub(super) fn split_number<'t>(name: &'static str, text: &'t str) -> Result<(&'t str, Option<f64>)> {
    let numbered = text.rsplit_once(':').and_then(|(rest, number)| Some((rest, number.trim().parse::<f64>().ok()?)));
    match numbered {
        Some((_, number)) if !number.is_finite() => {
            Err(Error::parameter(name, format!("{text:?}"), "a finite number after the colon"))
        }
        Some((rest, number)) => Ok((rest.trim(), Some(number))),
        None => Ok((text.trim(), None)),
    }
}
