//! Parameters for how strongly, and in which direction, a prompt's tokens are moved.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Parameters of image guidance: the pairing of a prompt's tokens with a guide's, and how far each token is moved.
///
/// ```
/// use impasto::methods::image_guidance::GuidanceParams;
/// let mut style = GuidanceParams::off();
/// style.linear = (0.0, 1.0);
/// style.max_guidance = 0.8;
/// assert_eq!(style.threshold, (0.0, 0.5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GuidanceParams {
    /// Weight, −1..=1, of every token whose similarity is at least the second number, 0..=1.
    pub threshold: (f64, f64),
    /// Weight, −1..=1, of the tokens that resemble the guide most; the weight decreases to 0 between them.
    pub clustered: f64,
    /// Weights of the first and the last token, −1..=1 each, interpolated linearly between them. The front of a prompt
    /// is usually its subject, the back its style.
    pub linear: (f64, f64),
    /// Largest share by which a token is moved, 0..=1, unless [`snap`](Self::snap) moves it all the way.
    pub max_guidance: f64,
    /// Largest share by which a prompt's first token is moved, 0..=1. The first token belongs to no word, but the
    /// picture depends strongly on it; moving the token by about .35 or more causes noise. At 1 only the other limits
    /// apply.
    pub header_max: f64,
    /// Rule that pairs each token with one of the guide's.
    pub mapping: Mapping,
    /// Factor of the cosines before the softmax that turns them into similarities, above 0. CLIP was trained with 100.
    pub temperature: f64,
    /// Enables replacing a token entirely if weight and similarity together reach 1.
    pub snap: bool,
    /// Space in which tokens are compared and moved.
    pub space: Space,
    /// Choice between the intended behavior and the unintended behavior of FlexDiffuse's code.
    pub compat: Compat,
}

/// Rule that pairs each prompt token with one of the guide's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mapping {
    /// Assigns the most similar pairs first.
    BestFit {
        /// Allows several tokens to have the same partner. `BestFit` with reuse equals [`TextOrder`](Self::TextOrder)
        /// with reuse.
        reuse: bool,
    },
    /// Assigns to each prompt token in turn the guide token that resembles this prompt token most.
    TextOrder {
        /// Allows several tokens to have the same partner.
        reuse: bool,
    },
    /// Pairs tokens at equal positions.
    Direct,
}

/// The space in which a picture's tokens and a prompt's are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Space {
    /// The unchanged hidden states of prompt and picture, as in FlexDiffuse.
    #[default]
    Hidden,
    /// The joint space in which CLIP was trained to compare text and picture. States are projected for the comparison;
    /// the picture's tokens are projected back before states are moved towards them. Needs the text encoder's
    /// projection.
    Joint,
}

/// Choice between the intended behavior and the behavior of FlexDiffuse's code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Compat {
    /// The intended behavior.
    #[default]
    Aligned,
    /// The behavior of FlexDiffuse's code:
    /// - Every token is moved towards the partner of the next token.
    /// - Weights below 0 are not limited, and may replace a token by the token that it should be moved away from.
    /// - The weights of a token are added, or only the largest or the smallest counts, depending on whether all weights
    ///   of a kind are below 0.
    /// - Tokens without a partner get the guide's first token.
    Upstream,
}

/// The defaults of FlexDiffuse's functions.
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
    /// Returns the defaults of FlexDiffuse's user interface, which are gentler than [`GuidanceParams::default`].
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

    /// Returns parameters with all weights 0, as a starting point.
    pub fn off() -> Self {
        Self { threshold: (0.0, 0.5), clustered: 0.0, linear: (0.0, 0.0), ..Self::default() }
    }

    /// Checks that all parameters are in range.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a parameter out of range.
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
            let expected = "a number above 0; CLIP was trained with 100";
            return Err(Error::parameter("temperature", self.temperature, expected));
        }
        Ok(())
    }
}

/// Checks that a number is in a range.
pub(crate) fn inside(name: &'static str, value: f64, range: &RangeInclusive<f64>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(Error::parameter(name, value, format!("{} to {}", range.start(), range.end())))
}
