//! [`Strength`]: the part of a schedule that an image-to-image run takes.

use crate::error::{Error, Result};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The part of a schedule that an image-to-image run takes, counted from the end of the schedule. Strengths near 0 keep
/// the picture; 1 leaves next to nothing of the picture.
///
/// ```
/// use impasto::diffusion::Strength;
///
/// assert_eq!(Strength::Portion(0.6).steps(10)?, (10, 6));        // the last 6 of 10 steps
/// assert_eq!(Strength::FullSteps(0.6).steps(10)?, (16, 10));     // the last 10 of 16
/// # Ok::<(), impasto::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", remote = "Self")]
#[non_exhaustive]
pub enum Strength {
    /// A portion of the requested steps, rounded down (diffusers).
    Portion(f64),
    /// All requested steps, at the end of a schedule that is longer by the factor 1/strength (ComfyUI's "denoise").
    FullSteps(f64),
}

impl Strength {
    /// The strength as a number.
    pub(crate) const fn share(self) -> f64 {
        let (Self::Portion(strength) | Self::FullSteps(strength)) = self;
        strength
    }

    /// Returns the number of steps of the schedule, and how many of its last steps are run. `steps` is the requested
    /// number of steps.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless the strength is in 0..=1 and at least one step is left to run.
    pub fn steps(self, steps: usize) -> Result<(usize, usize)> {
        self.of(steps, |portion| portion as usize)
    }

    /// Returns the numbers of [`Strength::steps`] for a flow: there, diffusers' pipelines round a portion of the steps
    /// up.
    ///
    /// # Errors
    /// The errors of [`Strength::steps`].
    pub fn flow_steps(self, steps: usize) -> Result<(usize, usize)> {
        self.of(steps, |portion| steps - (steps as f64 - portion).max(0.0) as usize)
    }

    /// Returns the numbers of [`Strength::steps`], with a rounding of portions.
    fn of(self, steps: usize, rounded: impl Fn(f64) -> usize) -> Result<(usize, usize)> {
        let strength = self.share();
        if !(0.0..=1.0).contains(&strength) {
            return Err(Error::parameter("strength", strength, "0 to 1; 0.5 to 0.8 is usual"));
        }
        let asked = steps as f64;
        let (schedule, run) = match self {
            Self::Portion(_) => (steps, rounded(asked * strength).min(steps)),
            Self::FullSteps(_) if strength > 0.9999 => (steps, steps),
            Self::FullSteps(_) => ((asked / strength) as usize, if strength > 0.0 { steps } else { 0 }),
        };
        if run == 0 {
            let expected = format!("a larger strength or more steps, because none of {steps} steps is left to run");
            return Err(Error::parameter("strength", strength, expected));
        }
        Ok((schedule, run))
    }
}

/// Stores a portion as a number.
impl Serialize for Strength {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Portion(portion) => to.serialize_f64(*portion),
            other => Self::serialize(other, to),
        }
    }
}

impl<'de> Deserialize<'de> for Strength {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Strength;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or an object with a portion or full_steps")
            }
            fn visit_f64<E: de::Error>(self, portion: f64) -> std::result::Result<Strength, E> {
                Ok(Strength::Portion(portion))
            }
            fn visit_u64<E: de::Error>(self, portion: u64) -> std::result::Result<Strength, E> {
                Ok(Strength::Portion(portion as f64))
            }
            fn visit_i64<E: de::Error>(self, portion: i64) -> std::result::Result<Strength, E> {
                Ok(Strength::Portion(portion as f64))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<Strength, A::Error> {
                Strength::deserialize(MapAccessDeserializer::new(map))
            }
        }
        from.deserialize_any(Form)
    }
}

/// Reads a portion.
impl FromStr for Strength {
    type Err = Error;

    /// # Errors
    /// [`Error::Parameter`] for a text that is no number.
    fn from_str(text: &str) -> Result<Self> {
        let portion = text.trim().parse().map(Self::Portion);
        portion.map_err(|_| Error::parameter("strength", format!("{text:?}"), "a number up to 1; 0.5 to 0.8 is usual"))
    }
}

impl From<f64> for Strength {
    /// Creates a [`Strength::Portion`].
    fn from(strength: f64) -> Self {
        Self::Portion(strength)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn steps_match_diffusers_and_comfyui() {
        let golden: Value = serde_json::from_str(include_str!("../../tests/golden/specs/sampling.json")).unwrap();
        for (name, want) in golden["strength"].as_object().unwrap() {
            let (steps, strength) = name.split_once('@').unwrap();
            let (steps, strength): (usize, f64) = (steps.parse().unwrap(), strength.parse().unwrap());
            let want = |field: &str| want[field].as_u64().unwrap() as usize;
            assert_eq!(Strength::from(strength).steps(steps).unwrap(), (steps, want("diffusers_steps")), "{name}");
            let comfy = (want("comfy_schedule"), want("comfy_steps"));
            assert_eq!(Strength::FullSteps(strength).steps(steps).unwrap(), comfy, "{name}");
        }
        assert_eq!(Strength::Portion(0.29).steps(100).unwrap(), (100, 28)); // 0.29·100 is below 29 in f64
    }

    #[test]
    fn strength_that_leaves_no_step_is_an_error() {
        for strength in [-0.1, 1.1, f64::NAN] {
            let error = Strength::Portion(strength).steps(10).unwrap_err().to_string();
            assert!(error.starts_with("strength is ") && error.contains("0 to 1"), "{error}");
        }
        let error = Strength::Portion(0.05).steps(10).unwrap_err().to_string();
        let expected = "expected a larger strength or more steps, because none of 10 steps is left to run";
        assert_eq!(error, format!("strength is 0.05; {expected}"));
        assert!(Strength::FullSteps(0.0).steps(10).is_err());
    }
}
