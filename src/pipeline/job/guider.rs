//! [`Guider`]: a kind of guidance that a [`Job`](super::Job) switches on by its name.

use crate::error::{Error, Result};
use crate::guidance::{Apg, CfgPlusPlus, CfgZeroStar, FrequencyDecoupled};
use crate::json::read_as_text_too;
use crate::methods::{FreeU, PerturbedAttention, SkipLayers, SmoothedEnergy};
use crate::pipeline::Request;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// A kind of guidance, and its number. Read as text from `NAME` or `NAME:NUMBER`, such as `pag`, `pag:3` or
/// `fdg:10,5`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct Guider {
    /// Name of the kind of guidance.
    pub name: GuiderName,
    /// Numbers of the guidance. Without numbers, those that are usual.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub numbers: Vec<f64>,
}

/// The name of a kind of guidance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum GuiderName {
    /// [`PerturbedAttention`], with its scale.
    Pag,
    /// [`SmoothedEnergy`], with its scale.
    Seg,
    /// [`SkipLayers`] for Stable Diffusion 3.5, with its scale.
    Slg,
    /// [`FreeU`] with the factors for Stable Diffusion 1.5.
    FreeU,
    /// [`FreeU`] with the factors for SDXL.
    FreeUXl,
    /// [`Apg`] on clean pictures, at the run's guidance scale.
    Apg,
    /// [`CfgZeroStar`], at the run's guidance scale.
    CfgZero,
    /// [`CfgPlusPlus`], with its scale.
    #[serde(rename = "cfg++")]
    CfgPlusPlus,
    /// [`FrequencyDecoupled`], with its scales from the finest details to the coarsest.
    Fdg,
}

read_as_text_too!(Guider);

impl GuiderName {
    /// All names.
    pub const ALL: [Self; 9] = [
        Self::Pag,
        Self::Seg,
        Self::Slg,
        Self::FreeU,
        Self::FreeUXl,
        Self::Apg,
        Self::CfgZero,
        Self::CfgPlusPlus,
        Self::Fdg,
    ];

    /// Returns the name as it is written in texts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pag => "pag",
            Self::Seg => "seg",
            Self::Slg => "slg",
            Self::FreeU => "free-u",
            Self::FreeUXl => "free-u-xl",
            Self::Apg => "apg",
            Self::CfgZero => "cfg-zero",
            Self::CfgPlusPlus => "cfg++",
            Self::Fdg => "fdg",
        }
    }

    /// Returns true for guidance that takes the place of classifier-free guidance.
    const fn combines(self) -> bool {
        matches!(self, Self::Apg | Self::CfgZero | Self::CfgPlusPlus | Self::Fdg)
    }

    /// Returns the numbers that are usual.
    const fn usual(self) -> &'static [f64] {
        match self {
            Self::Pag | Self::Seg => &[3.0],
            Self::Slg => &[2.8],
            Self::CfgPlusPlus => &[0.8],
            Self::Fdg => &[10.0, 5.0],
            Self::FreeU | Self::FreeUXl | Self::Apg | Self::CfgZero => &[],
        }
    }
}

impl Guider {
    /// Checks several guiders of one job.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a wrong number of numbers, and for two guiders that take the place of classifier-free
    /// guidance.
    pub(super) fn check(all: &[Self]) -> Result<()> {
        for Self { name, numbers } in all {
            let usual = name.usual();
            let fits = numbers.is_empty() || numbers.len() == usual.len() || *name == GuiderName::Fdg;
            if !fits {
                let name = name.name();
                let expected = match usual.first() {
                    None => format!("{name} without a number"),
                    Some(usual) => format!("one number, such as {name}:{usual}"),
                };
                return Err(Error::parameter("guiders", format!("{name} with {} numbers", numbers.len()), expected));
            }
        }
        let mut combining = all.iter().filter(|guider| guider.name.combines()).map(|guider| guider.name.name());
        match (combining.next(), combining.next()) {
            (Some(one), Some(other)) => {
                let expected =
                    "one of apg, cfg-zero, cfg++ and fdg, because each takes the place of the usual guidance";
                Err(Error::parameter("guiders", format!("{one} and {other}"), expected))
            }
            _ => Ok(()),
        }
    }

    /// Adds the guidance to a request, whose guidance scale is `scale`.
    pub(super) fn guide<'p>(&self, request: Request<'p>, scale: f64) -> Request<'p> {
        let numbers = if self.numbers.is_empty() { self.name.usual() } else { &self.numbers };
        let first = numbers.first().copied().unwrap_or_default();
        // Guidance that has the scale itself leaves none for the usual guidance.
        let own = |request: Request<'p>| request.tune(|config| config.guidance_scale = None);
        match self.name {
            GuiderName::Pag => request.guide(PerturbedAttention::new(first)),
            GuiderName::Seg => request.guide(SmoothedEnergy::new(first)),
            GuiderName::Slg => request.guide(SkipLayers::new(first)),
            GuiderName::FreeU => request.guide(FreeU::sd15()),
            GuiderName::FreeUXl => request.guide(FreeU::sdxl()),
            GuiderName::Apg => own(request.combine(Apg::new(scale).clean())),
            GuiderName::CfgZero => own(request.combine(CfgZeroStar { scale, zero_steps: 0 })),
            GuiderName::CfgPlusPlus => request.combine(CfgPlusPlus::new(first)),
            GuiderName::Fdg => request.combine(FrequencyDecoupled::new(numbers.to_vec())),
        }
    }
}

impl FromStr for Guider {
    type Err = Error;

    /// # Errors
    /// [`Error::Parameter`] for an unknown name, and for numbers that are not finite.
    fn from_str(text: &str) -> Result<Self> {
        let (name, numbers) = text.split_once(':').map_or((text, None), |(name, numbers)| (name, Some(numbers)));
        let known = GuiderName::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(name.trim()));
        let name = known.ok_or_else(|| {
            let names = GuiderName::ALL.map(GuiderName::name).join(", ");
            Error::parameter("guiders", format!("{text:?}"), format!("one of {names}, such as pag:3"))
        })?;
        let number = |number: &str| number.trim().parse::<f64>().ok().filter(|number| number.is_finite());
        let numbers = numbers.map(|numbers| numbers.split(',').map(number).collect::<Option<Vec<_>>>());
        let numbers = numbers.unwrap_or(Some(Vec::new())).ok_or_else(|| {
            Error::parameter(
                "guiders",
                format!("{text:?}"),
                "finite numbers after the colon, such as pag:3 or fdg:10,5",
            )
        })?;
        Ok(Self { name, numbers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guiders_are_read_from_text() -> Result<()> {
        let names = GuiderName::ALL.map(|name| name.name().parse::<Guider>().map(|guider| guider.name));
        assert_eq!(names.into_iter().collect::<Result<Vec<_>>>()?, GuiderName::ALL);
        assert_eq!("fdg:10, 5".parse::<Guider>()?, Guider { name: GuiderName::Fdg, numbers: vec![10.0, 5.0] });
        assert_eq!("CFG++:0.6".parse::<Guider>()?, Guider { name: GuiderName::CfgPlusPlus, numbers: vec![0.6] });
        for name in GuiderName::ALL {
            let written = serde_json::to_value(name).map_err(|error| Error::parameter("name", error, "JSON"))?;
            assert_eq!(written, name.name());
        }
        Ok(())
    }

    #[test]
    fn unfit_guiders_are_named() {
        let refused = |texts: &[&str]| {
            let guiders: Result<Vec<Guider>> = texts.iter().map(|text| text.parse()).collect();
            guiders.and_then(|guiders| Guider::check(&guiders)).unwrap_err().to_string()
        };
        assert!(refused(&["pagg"]).contains("one of pag, seg"));
        assert!(refused(&["pag:x"]).contains("finite numbers"));
        assert!(refused(&["pag:1,2"]).contains("pag with 2 numbers; expected one number, such as pag:3"));
        assert!(refused(&["apg:7"]).contains("apg without a number"));
        assert!(refused(&["apg", "pag", "fdg"]).contains("apg and fdg"));
    }
}
