//! How strongly a prompt's tokens are moved, and which way.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// How a prompt's tokens are paired with a guide's, and how far each is moved towards its partner.
///
/// ```
/// use impasto::methods::image_guidance::GuidanceParams;
/// let style = GuidanceParams { linear: (0.0, 1.0), max_guidance: 0.8, ..GuidanceParams::off() };
/// assert_eq!(style.threshold, (0.0, 0.5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuidanceParams {
    /// A weight, −1..=1, for every token whose similarity is at least the second number, 0..=1.
    pub threshold: (f64, f64),
    /// A weight, −1..=1, for the tokens that resemble the guide most, falling off to those between them.
    pub clustered: f64,
    /// Weights of the first and the last token, −1..=1 each, and between them in a line: the front of a prompt is its
    /// subject, the back its style.
    pub linear: (f64, f64),
    /// The most that a token is moved, 0..=1, unless [`snap`](Self::snap) moves it all the way.
    pub max_guidance: f64,
    /// The most that a prompt's first token is moved, 0..=1; it belongs to no word and carries much, and noise comes of
    /// moving it by about .35 or more. 1 is no limit of its own.
    pub header_max: f64,
    /// Which token of the guide a token is paired with.
    pub mapping: Mapping,
    /// What cosines are multiplied by before the softmax that makes them similarities, above 0; CLIP was trained with 100.
    pub temperature: f64,
    /// Is a token replaced wholly if weight and similarity together reach 1?
    pub snap: bool,
    /// Where tokens are compared and moved.
    pub space: Space,
    /// What FlexDiffuse does by accident.
    pub compat: Compat,
}

/// Which token of a guide each token of a prompt is paired with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mapping {
    /// The most similar pairs first.
    BestFit {
        /// May several tokens have the same partner? Then this and [`TextOrder`](Self::TextOrder) are the same.
        reuse: bool,
    },
    /// Each token of the prompt in turn takes the one that resembles it most.
    TextOrder {
        /// May several tokens have the same partner?
        reuse: bool,
    },
    /// The tokens of the same number.
    Direct,
}

/// The space in which a picture's tokens and a prompt's are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Space {
    /// The prompt's states as they are, beside the picture's tokens as they are, as FlexDiffuse has it.
    #[default]
    Hidden,
    /// Where CLIP was trained to compare them: states are projected before they are compared, and the picture's tokens taken
    /// back before states are moved to them. Needs the text encoder's projection.
    Joint,
}

/// Which of two behaviors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Compat {
    /// What is meant.
    #[default]
    Aligned,
    /// What FlexDiffuse computes: every token is moved towards the partner of the token after it; weights below 0 are not
    /// limited and may replace a token by what it should be moved away from; kinds of weights are added or lost by the sign of
    /// their maxima; tokens without a partner get the guide's first.
    Upstream,
}

/// Those of FlexDiffuse's functions.
impl Default for GuidanceParams {
    fn default() -> Self {
        Self {
            threshold: (0.5, 0.5),
            clustered: 0.5,
            linear: (0.0, 0.5),
            max_guidance: 0.5,
            header_max: 0.15,
            mapping: Mapping::BestFit { reuse: true },
            temperature: 100.0,
            snap: true,
            space: Space::Hidden,
            compat: Compat::Aligned,
        }
    }
}

impl GuidanceParams {
    /// Those of FlexDiffuse's user interface, which are gentler.
    pub fn ui() -> Self {
        Self {
            threshold: (0.25, 0.75),
            clustered: 0.15,
            linear: (0.1, 0.5),
            max_guidance: 0.35,
            header_max: 0.0,
            ..Self::default()
        }
    }

    /// No weights at all, to begin from.
    pub fn off() -> Self {
        Self { threshold: (0.0, 0.5), clustered: 0.0, linear: (0.0, 0.0), ..Self::default() }
    }

    /// Is everything in range?
    ///
    /// # Errors
    /// [`Error::Parameter`] for what is not.
    pub(crate) fn check(&self) -> Result<()> {
        let signed = -1.0..=1.0;
        inside("threshold", self.threshold.0, &signed)?;
        inside("threshold floor", self.threshold.1, &(0.0..=1.0))?;
        inside("clustered", self.clustered, &signed)?;
        inside("linear start", self.linear.0, &signed)?;
        inside("linear end", self.linear.1, &signed)?;
        inside("max_guidance", self.max_guidance, &(0.0..=1.0))?;
        inside("header_max", self.header_max, &(0.0..=1.0))?;
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            return Err(Error::parameter("temperature", self.temperature, "a number above 0; 100 is CLIP's"));
        }
        Ok(())
    }
}

/// Is a number in a range?
pub(crate) fn inside(name: &'static str, value: f64, range: &RangeInclusive<f64>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(Error::parameter(name, value, format!("{} to {}", range.start(), range.end())))
}
