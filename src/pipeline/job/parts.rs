//! Parts of a [`Job`](super::Job) that have several values: [`Force`], [`SameColor`],
//! [`PaletteColor`], [`Area`], [`Follow`] and [`Like`].

use super::image::Image;
use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::json::read_as_text_too;
use crate::nn::guess::Guess;
use crate::nn::union::ControlType;
use crate::pipeline::text_forms::{pair, split_number};
use crate::raster::Layer;
use crate::window::Window;
use serde::{Deserialize, Serialize, de};
use std::str::FromStr;

/// A phrase of the prompt, and the exact color of the thing that it names. Read as text from `PHRASE=COLOR`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct Force {
    /// The phrase.
    pub phrase: String,
    /// The color, such as "gold" or "#ffd700".
    #[cfg_attr(feature = "schemars", schemars(with = "String"))]
    pub color: Rgb,
}

/// A phrase of the prompt, and another thing of the picture whose color the phrase's thing takes. Read as text from
/// `PHRASE=THING`, such as `hair=bow`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct SameColor {
    /// The phrase.
    pub phrase: String,
    /// The other thing, as a phrase of the prompt.
    pub thing: String,
}

/// A color of a palette, and its share of the picture. Read as text from `COLOR` or `COLOR:SHARE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct PaletteColor {
    /// The color, such as "gold" or "#ffd700".
    #[cfg_attr(feature = "schemars", schemars(with = "String"))]
    pub color: Rgb,
    /// Share of the picture, relative to the other colors. The default is 1.
    #[serde(default = "one")]
    pub share: f64,
}

/// A phrase of the prompt, and where it is painted: in one color of the job's map, or in a mask. Read as text from
/// `COLOR=PHRASE` or `COLOR=PHRASE:STRENGTH`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct Area {
    /// The phrase.
    pub phrase: String,
    /// The color of the map under which the phrase is painted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schemars", schemars(with = "Option<String>"))]
    pub color: Option<Rgb>,
    /// Mask, white where the phrase is painted. The shape may also be in the transparency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<Image<Layer>>,
    /// Strength, 0 to 10. The default is 1.
    #[serde(default = "one")]
    pub strength: f64,
}

/// A ControlNet or T2I adapter, and the picture that it follows. Read as text from `NET=PICTURE` or
/// `NET=PICTURE:SCALE`; for a ControlNet union from `NET=TYPE:PICTURE`, such as `union=depth:map.png:0.8`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct Follow {
    /// Name of the ControlNet among the [`Nets`](super::Nets): `embedded`, a folder, a file or a repository.
    pub net: String,
    /// The picture. A ControlNet for lines and strokes reads dark lines on white paper, and the job's strokes.
    pub picture: Image,
    /// Factor of the ControlNet's effect, 0 or more. The default is the ControlNet's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// Part of the run in which the ControlNet acts. The default is the whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schemars", schemars(with = "Option<serde_json::Value>"))]
    pub window: Option<Window>,
    /// Type of the picture, for a ControlNet union.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_type: Option<ControlType>,
    /// Guess mode. The default is the ControlNet's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guess: Option<Guess>,
}

/// A picture that the run draws like, by an IP-Adapter. Read as text from a picture, or with a place from
/// `PHRASE=PICTURE` or `PHRASE=PICTURE:STRENGTH`, such as `hair=braid.png:0.8`, where the picture is a path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct Like {
    /// The picture.
    pub picture: Image,
    /// Phrase of the prompt. Only the thing that the phrase names is drawn like the picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phrase: Option<String>,
    /// Mask, white where the run draws like the picture. The shape may also be in the transparency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<Image<Layer>>,
    /// Strength of a picture with a phrase or a mask, -10 to 10, as a factor of the job's strength. The default is 1.
    #[serde(default = "one")]
    pub strength: f64,
}

read_as_text_too!(Force, SameColor, PaletteColor, Area, Follow, Like);

const fn one() -> f64 {
    1.0
}

impl FromStr for Force {
    type Err = Error;

    /// # Errors
    /// [`Error::Parameter`] for a text of another form, or an unknown color.
    fn from_str(text: &str) -> Result<Self> {
        let (phrase, color) = pair("force", text, "PHRASE=COLOR, such as eyes=gold or eyes=#ffd700")?;
        Ok(Self { phrase: phrase.into(), color: color.parse()? })
    }
}

impl FromStr for SameColor {
    type Err = Error;

    /// # Errors
    /// [`Error::Parameter`] for a text of another form.
    fn from_str(text: &str) -> Result<Self> {
        let (phrase, thing) = pair("same_color", text, "PHRASE=THING, such as hair=bow")?;
        Ok(Self { phrase: phrase.into(), thing: thing.into() })
    }
}

impl FromStr for PaletteColor {
    type Err = Error;

    /// # Errors
    /// [`Error::Parameter`] for an unknown color, and for a share that is not finite.
    fn from_str(text: &str) -> Result<Self> {
        let (color, share) = split_number("palette", text)?;
        Ok(Self { color: color.parse()?, share: share.unwrap_or(one()) })
    }
}

impl FromStr for Area {
    type Err = Error;

    /// # Errors
    /// [`Error::Parameter`] for a text of another form, an unknown color, or a strength that is not finite.
    fn from_str(text: &str) -> Result<Self> {
        let (color, right) = pair("area", text, "COLOR=PHRASE or COLOR=PHRASE:STRENGTH, such as red=house:1.5")?;
        let (phrase, strength) = split_number("area", right)?;
        Ok(Self { phrase: phrase.into(), color: Some(color.parse()?), mask: None, strength: strength.unwrap_or(one()) })
    }
}

impl FromStr for Follow {
    type Err = Error;

    /// # Errors
    /// [`Error::Parameter`] for a text of another form, or a scale that is not finite.
    fn from_str(text: &str) -> Result<Self> {
        let expected = "NET=PICTURE or NET=PICTURE:SCALE, such as canny.safetensors=edges.png:0.8";
        let (net, right) = pair("control", text, expected)?;
        let (picture, scale) = split_number("control", right)?;
        // A ControlNet union reads TYPE:PICTURE.
        let typed = picture.split_once(':').and_then(|(name, picture)| {
            Some((ControlType::ALL.into_iter().find(|control_type| control_type.name() == name)?, picture))
        });
        let (control_type, picture) =
            typed.map_or((None, picture), |(control_type, picture)| (Some(control_type), picture));
        let (net, picture) = (net.into(), Image::Path(picture.into()));
        Ok(Self { net, picture, scale, window: None, control_type, guess: None })
    }
}

impl FromStr for Like {
    type Err = Error;

    /// # Errors
    /// [`Error::Parameter`] for a text of another form, or a strength that is not finite.
    fn from_str(text: &str) -> Result<Self> {
        let whole = |picture| Self { picture, phrase: None, mask: None, strength: one() };
        if text.starts_with("data:") || !text.contains('=') {
            let picture = Image::deserialize(de::value::StrDeserializer::<de::value::Error>::new(text));
            return picture.map(whole).map_err(|error| Error::custom(format!("ip_adapter_pictures: {error}")));
        }
        let expected = "PICTURE, PHRASE=PICTURE or PHRASE=PICTURE:STRENGTH, such as hair=braid.png:0.8";
        let (phrase, right) = pair("ip_adapter_pictures", text, expected)?;
        let (picture, strength) = split_number("ip_adapter_pictures", right)?;
        let like = whole(Image::Path(picture.into()));
        Ok(Self { phrase: Some(phrase.into()), strength: strength.unwrap_or(one()), ..like })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{Detail, Hires, MaskWhere};
    use crate::raster::Raster;

    #[test]
    fn values_are_read_from_text() -> Result<()> {
        assert_eq!("hair bow=#008080".parse::<Force>()?, Force { phrase: "hair bow".into(), color: Rgb(0, 128, 128) });
        assert_eq!("navy:2".parse::<PaletteColor>()?, PaletteColor { color: Rgb(0, 0, 128), share: 2.0 });
        assert_eq!("#fff".parse::<PaletteColor>()?.share, 1.0);
        let same = SameColor { phrase: "hair".into(), thing: "hair bow".into() };
        assert_eq!("hair=hair bow".parse::<SameColor>()?, same);
        let area: Area = "red=house: 2".parse()?;
        assert_eq!((area.phrase.as_str(), area.color, area.strength), ("house", Some(Rgb(255, 0, 0)), 2.0));
        let follow: Follow = "owner/name=C:\\edges.png".parse()?;
        assert_eq!((follow.picture, follow.scale), (Image::Path("C:\\edges.png".into()), None));
        assert_eq!("canny.safetensors=edges.png:0.8".parse::<Follow>()?.scale, Some(0.8));
        let follow: Follow = "union=soft_edge:C:\\edges.png:0.8".parse()?;
        assert_eq!((follow.picture, follow.scale), (Image::Path("C:\\edges.png".into()), Some(0.8)));
        assert_eq!(follow.control_type, Some(ControlType::SoftEdge));
        let like: Like = "C:\\fox.png".parse()?;
        assert_eq!((like.picture, like.phrase, like.strength), (Image::Path("C:\\fox.png".into()), None, 1.0));
        let like: Like = "long hair=braid.png:-0.8".parse()?;
        assert_eq!((like.phrase.as_deref(), like.strength), (Some("long hair"), -0.8));
        let picture = Raster::flat(Rgb(9, 8, 7), (2, 2));
        let like: Like = picture.data_url()?.parse()?;
        assert_eq!((like.picture, like.phrase), (picture.into(), None));
        let detail: Detail = "hair=1girl, #ff0000 hair:0.6".parse()?;
        assert_eq!(detail, Detail { prompt: Some("1girl, #ff0000 hair".into()), strength: 0.6, ..Detail::of("hair") });
        assert_eq!(("2".parse::<Hires>()?, "1.5:0.4".parse()?), (Hires::new(2.0, 0.5), Hires::new(1.5, 0.4)));
        assert_eq!("hair, shirt:12".parse::<MaskWhere>()?, MaskWhere { grow: 12.0, ..MaskWhere::new("hair, shirt") });
        Ok(())
    }

    #[test]
    fn broken_values_name_the_expected_form() {
        let refused = |error: Option<Error>, words: &str| {
            let error = error.map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(words), "{error}");
        };
        for text in ["eyes", "=gold", "eyes="] {
            refused(text.parse::<Force>().err(), "PHRASE=COLOR");
        }
        for text in ["", "=a", "eyes="] {
            refused(text.parse::<Detail>().err(), "PHRASE=PROMPT");
        }
        for text in ["", "2:", "x", "2:nan"] {
            refused(text.parse::<Hires>().err(), "SCALE:STRENGTH");
        }
        refused("eyes=shiny".parse::<Force>().err(), "shiny");
        refused("house".parse::<Area>().err(), "COLOR=PHRASE");
        refused("hint.png".parse::<Follow>().err(), "NET=PICTURE");
        refused("=braid.png".parse::<Like>().err(), "PHRASE=PICTURE");
        refused("hair=braid.png:inf".parse::<Like>().err(), "a finite number");
        refused("data:image/jpeg;base64,no".parse::<Like>().err(), "expected a PNG in a data URL");
        refused("canny=hint.png:nan".parse::<Follow>().err(), "a finite number");
    }
}
