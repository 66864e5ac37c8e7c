//! Values of options that have parts, such as `eyes=gold`. In a file of prompts they are written in the same way.

use clap::ValueEnum;
use impasto::Rgb;
use impasto::pipeline::{Detail, Seamless};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::str::FromStr;

/// A seed, or `-1` for a random one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i128", into = "i128")]
pub enum Seed {
    Random,
    Number(u64),
}

impl Seed {
    /// Returns the number, or draws one.
    pub fn number(self) -> u64 {
        match self {
            Self::Number(number) => number,
            // Short numbers are easier to copy.
            Self::Random => RandomState::new().hash_one("seed") >> 32,
        }
    }
}

/// A phrase of the prompt and the exact color of the thing that it names: `PHRASE=COLOR`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Force {
    pub phrase: String,
    pub color: Rgb,
}

/// A color of a painted map, and the phrase that is painted there: `COLOR=PHRASE[:STRENGTH]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Area {
    pub color: Rgb,
    pub phrase: String,
    pub strength: f64,
}

/// A ControlNet and the picture it follows: `NET=PICTURE[:SCALE]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hint {
    pub net: String,
    pub picture: PathBuf,
    /// `None`: the net's usual scale.
    pub scale: Option<f64>,
}

/// A thing that is repainted at full size: `PHRASE[=PROMPT][:STRENGTH]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DetailOf {
    pub phrase: String,
    /// `None`: the prompt of the picture.
    pub prompt: Option<String>,
    /// `None`: the usual strength.
    pub strength: Option<f64>,
}

/// A second run at a larger size: `SCALE[:STRENGTH]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Enlarged {
    pub scale: f64,
    /// `None`: the usual strength.
    pub strength: Option<f64>,
}

/// The edges at which a picture continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Edges {
    /// The left and the right edge.
    Across,
    /// The upper and the lower edge.
    Down,
    /// All edges.
    Both,
}

/// A file and a strength: `FILE[:STRENGTH]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Weighted {
    pub file: PathBuf,
    pub strength: f64,
}

impl DetailOf {
    /// Returns the detail that is repainted.
    pub fn detail(&self) -> Detail {
        let usual = Detail::of(self.phrase.as_str());
        Detail { prompt: self.prompt.clone(), strength: self.strength.unwrap_or(usual.strength), ..usual }
    }
}

impl Edges {
    /// Returns the setting of the library.
    pub const fn seamless(self) -> Seamless {
        match self {
            Self::Across => Seamless::Across,
            Self::Down => Seamless::Down,
            Self::Both => Seamless::Both,
        }
    }
}

/// Divides a text at its first `=`; neither side may be empty.
fn pair<'t>(text: &'t str, expected: &str) -> Result<(&'t str, &'t str), String> {
    let sides = text.split_once('=').map(|(left, right)| (left.trim(), right.trim()));
    let full = |(left, right): &(&str, &str)| !left.is_empty() && !right.is_empty();
    sides.filter(full).ok_or_else(|| format!("`{text}` has no `=` between two parts; expected {expected}"))
}

/// Splits a number after the last `:` off a text. A text without a number stays whole, such as a Windows path.
fn numbered(text: &str) -> Result<(&str, Option<f64>), String> {
    let numbered = text.rsplit_once(':').and_then(|(rest, number)| Some((rest, number.trim().parse::<f64>().ok()?)));
    match numbered {
        Some((_, number)) if !number.is_finite() => Err(format!("`{text}` ends in {number}; expected a finite number")),
        Some((rest, number)) => Ok((rest.trim_end(), Some(number))),
        None => Ok((text, None)),
    }
}

fn color(text: &str) -> Result<Rgb, String> {
    text.parse().map_err(|error: impasto::Error| error.to_string())
}

/// Returns `:NUMBER`, or nothing without a number.
fn told(number: Option<f64>) -> String {
    number.map_or_else(String::new, |number| format!(":{number}"))
}

impl TryFrom<i128> for Seed {
    type Error = String;

    fn try_from(number: i128) -> Result<Self, String> {
        match u64::try_from(number) {
            Ok(number) => Ok(Self::Number(number)),
            Err(_) if number == -1 => Ok(Self::Random),
            Err(_) => Err(format!("the seed is {number}; expected 0 to {}, or -1 for a random seed", u64::MAX)),
        }
    }
}

impl From<Seed> for i128 {
    fn from(seed: Seed) -> Self {
        match seed {
            Seed::Random => -1,
            Seed::Number(number) => number.into(),
        }
    }
}

impl FromStr for Seed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number: Result<i128, _> = text.trim().parse();
        number.map_err(|_| "expected a whole number, or -1 for a random seed".to_owned())?.try_into()
    }
}

impl FromStr for Force {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (phrase, value) = pair(text, "PHRASE=COLOR, such as eyes=gold or eyes=#ffd700")?;
        Ok(Self { phrase: phrase.into(), color: color(value)? })
    }
}

impl FromStr for Area {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (left, right) = pair(text, "COLOR=PHRASE or COLOR=PHRASE:STRENGTH, such as red=house:1.5")?;
        let (phrase, strength) = numbered(right)?;
        Ok(Self { color: color(left)?, phrase: phrase.into(), strength: strength.unwrap_or(1.0) })
    }
}

impl FromStr for Hint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (net, right) = pair(text, "NET=PICTURE or NET=PICTURE:SCALE, such as canny.safetensors=edges.png:0.8")?;
        let (picture, scale) = numbered(right)?;
        Ok(Self { net: net.into(), picture: picture.into(), scale })
    }
}

impl FromStr for DetailOf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (words, strength) = numbered(text)?;
        let (phrase, prompt) = match words.split_once('=') {
            Some((phrase, prompt)) => (phrase.trim(), Some(prompt.trim().to_owned())),
            None => (words.trim(), None),
        };
        if phrase.is_empty() || prompt.as_ref().is_some_and(String::is_empty) {
            let expected = "PHRASE, PHRASE=PROMPT or PHRASE=PROMPT:STRENGTH, such as \"eyes=1girl, gold eyes:0.5\"";
            return Err(format!("`{text}` has an empty part; expected {expected}"));
        }
        Ok(Self { phrase: phrase.into(), prompt, strength })
    }
}

impl FromStr for Enlarged {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| {
            let number = part.trim().parse().ok().filter(|number: &f64| number.is_finite());
            number.ok_or_else(|| format!("`{part}` is no number; expected SCALE or SCALE:STRENGTH, such as 2:0.4"))
        };
        let (scale, strength) = text.split_once(':').map_or((text, None), |(scale, strength)| (scale, Some(strength)));
        Ok(Self { scale: number(scale)?, strength: strength.map(number).transpose()? })
    }
}

impl FromStr for Weighted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (file, strength) = numbered(text)?;
        Ok(Self { file: file.into(), strength: strength.unwrap_or(1.0) })
    }
}

impl fmt::Display for Force {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.phrase, self.color)
    }
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}{}", self.color, self.phrase, told(Some(self.strength).filter(|strength| *strength != 1.0)))
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}{}", self.net, self.picture.display(), told(self.scale))
    }
}

impl fmt::Display for DetailOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prompt = self.prompt.as_ref().map_or_else(String::new, |prompt| format!("={prompt}"));
        write!(f, "{}{prompt}{}", self.phrase, told(self.strength))
    }
}

impl fmt::Display for Enlarged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.scale, told(self.strength))
    }
}

/// Lets serde read a value from text, and write it as text.
macro_rules! as_text {
    ($($value:ty),*) => { $(
        impl TryFrom<String> for $value {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> { text.parse() }
        }
        impl From<$value> for String {
            fn from(value: $value) -> Self { value.to_string() }
        }
    )* };
}

as_text!(Force, Area, Hint, DetailOf, Enlarged);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_are_written() {
        for text in ["eyes=#ffd700", "hair bow=#008080"] {
            assert_eq!(text.parse::<Force>().unwrap().to_string(), text);
        }
        for text in ["#ff0000=house:1.5", "#0000ff=sky"] {
            assert_eq!(text.parse::<Area>().unwrap().to_string(), text);
        }
        for text in ["canny.safetensors=edges.png:0.8", "owner/name=C:\\edges.png"] {
            assert_eq!(text.parse::<Hint>().unwrap().to_string(), text);
        }
        for text in ["eyes", "face:0.5", "hair=1girl, #ff0000 hair:0.6"] {
            assert_eq!(text.parse::<DetailOf>().unwrap().to_string(), text);
        }
        for text in ["2", "1.5:0.4"] {
            assert_eq!(text.parse::<Enlarged>().unwrap().to_string(), text);
        }
        assert_eq!("eyes=gold".parse::<Force>().unwrap().color, Rgb(255, 215, 0));
        assert_eq!("ink.safetensors:0.8".parse::<Weighted>().unwrap().strength, 0.8);
        assert_eq!("red=house: 2".parse::<Area>().unwrap().phrase, "house");
    }

    #[test]
    fn seed_of_minus_one_is_random() {
        assert_eq!("-1".parse(), Ok(Seed::Random));
        assert_eq!(serde_json::from_str::<Seed>("-1").unwrap(), Seed::Random);
        for text in ["0", "18446744073709551615"] {
            assert_eq!(text.parse(), Ok(Seed::Number(text.parse().unwrap())));
            assert_eq!(serde_json::to_value(text.parse::<Seed>().unwrap()).unwrap().to_string(), text);
            assert_eq!(serde_json::from_str::<Seed>(text).unwrap(), text.parse().unwrap());
        }
        for text in ["-2", "18446744073709551616"] {
            assert!(text.parse::<Seed>().unwrap_err().contains("or -1 for a random seed"), "{text}");
        }
        assert!("x".parse::<Seed>().unwrap_err().contains("a whole number"));
        assert_ne!(Seed::Random.number(), Seed::Random.number());
    }

    #[test]
    fn broken_values_name_the_expected_form() {
        for text in ["eyes", "=gold", "eyes="] {
            assert!(text.parse::<Force>().unwrap_err().contains("PHRASE=COLOR"), "{text}");
        }
        for text in ["", "=a", "eyes="] {
            assert!(text.parse::<DetailOf>().unwrap_err().contains("PHRASE=PROMPT"), "{text}");
        }
        for text in ["", "2:", "x", "2:nan"] {
            assert!(text.parse::<Enlarged>().unwrap_err().contains("SCALE:STRENGTH"), "{text}");
        }
        assert!("eyes=shiny".parse::<Force>().unwrap_err().contains("shiny"));
        assert!("house".parse::<Area>().unwrap_err().contains("COLOR=PHRASE"));
        assert!("hint.png".parse::<Hint>().unwrap_err().contains("NET=PICTURE"));
        assert!("canny=hint.png:nan".parse::<Hint>().unwrap_err().contains("expected a finite number"));
        assert!("ink.safetensors:inf".parse::<Weighted>().unwrap_err().contains("expected a finite number"));
    }
}
