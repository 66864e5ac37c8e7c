//! [`MaskWhere`]: a mask of the thing that a phrase names.

use super::canvas::Canvas;
use super::model_view::ModelView;
use super::text_forms::split_number;
use super::things::find_things;
use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::json::read_as_text_too;
use crate::mask::{Region, distances};
use crate::raster::{Filter, Raster};
use crate::size::Size;
use crate::step::Grid;
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// A mask of the thing that a phrase names, or of several things. The run finds the thing in the picture that it starts
/// from, as [`Pipeline::reference`](super::Pipeline::reference) does.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::pipeline::{MaskWhere, Pipeline};
/// let pipeline = Pipeline::builder().build()?;
/// let first = pipeline.request("1girl, red hair, blue shirt").seed(7).steps(8).run()?;
/// let shirt = MaskWhere { grow: 4.0, ..MaskWhere::new("shirt") };
/// let request = pipeline.request("1girl, red hair, green shirt").start(first.image(0)?, 0.8).mask_where(shirt);
/// let output = request.soften(16.0).seed(7).steps(8).run()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct MaskWhere {
    /// The phrase that names the thing, or several phrases with commas between them.
    pub phrase: String,
    /// Description of the picture to start from, with the phrase. `None`: the prompt without the names of colors before
    /// the phrase, because they say what the thing becomes, and followed by the phrase if the prompt lacks it. A
    /// description that also names the things around gives a better mask.
    #[serde(default)]
    pub description: Option<String>,
    /// Distance in pixels by which the mask is larger than the thing, 0..=4096. The default is 8, which takes in the
    /// thing's outline.
    #[serde(default = "eight")]
    pub grow: f64,
}

read_as_text_too!(MaskWhere);

/// Reads a mask as users write it: `PHRASE` or `PHRASE:PIXELS`, with the distance by which the mask is larger.
impl FromStr for MaskWhere {
    type Err = Error;

    /// # Errors
    /// [`Error::Parameter`] for a number that is not finite.
    fn from_str(text: &str) -> Result<Self> {
        let (phrase, grow) = split_number("mask_where", text)?;
        Ok(Self { grow: grow.unwrap_or(eight()), ..Self::new(phrase) })
    }
}

/// Returns the default distance in pixels.
const fn eight() -> f64 {
    8.0
}

impl MaskWhere {
    /// Creates a mask of the thing that `phrase` names, with the default settings.
    pub fn new(phrase: impl Into<String>) -> Self {
        Self { phrase: phrase.into(), description: None, grow: eight() }
    }

    /// Finds the thing in a picture. `prompt` is the prompt of the request, as the text encoder reads it.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a distance out of range, no phrase, or if the picture hardly shows the thing; the
    /// errors of [`Pipeline::reference`](super::Pipeline::reference).
    pub(super) fn find(&self, model: ModelView<'_>, picture: &Raster, prompt: &str, canvas: &Canvas) -> Result<Found> {
        if !(0.0..=4096.0).contains(&self.grow) {
            return Err(Error::parameter("grow", self.grow, "0 to 4096 pixels; 8 is usual"));
        }
        let phrases: Vec<&str> = self.phrase.split(',').map(str::trim).filter(|phrase| !phrase.is_empty()).collect();
        if phrases.is_empty() {
            let expected = "a phrase that names a thing in the picture";
            return Err(Error::parameter("mask_where", format!("{:?}", self.phrase), expected));
        }
        let mut description = self.description.clone().unwrap_or_else(|| prompt.to_owned());
        if self.description.is_none() {
            for phrase in &phrases {
                description = match without_colors(&description, phrase) {
                    Some(colorless) => colorless,
                    None => format!("{description}, {phrase}"),
                };
            }
        }
        let found = find_things(model, picture, &description, phrases.iter().copied())?;
        let mut inside = vec![false; canvas.size.width as usize * canvas.size.height as usize];
        for phrase in phrases {
            let thing = found.mask(phrase)?.resize(canvas.size, Filter::Bilinear)?;
            let (pixels, _) = thing.bytes().as_chunks::<3>();
            inside.iter_mut().zip(pixels).for_each(|(inside, [gray, ..])| *inside |= *gray >= 128);
        }
        Ok(Found { inside, size: canvas.size })
    }
}

/// A thing that was found in a picture.
pub(super) struct Found {
    /// The pixels of the thing, row by row.
    inside: Vec<bool>,
    size: Size,
}

impl Found {
    /// Draws the mask of the thing in black and white, larger than the thing by a distance in pixels.
    pub(super) fn mask(&self, grow: f64) -> Result<Raster> {
        let Size { width, height } = self.size;
        let far = distances(&self.inside, Grid::new(i64::from(height), i64::from(width)));
        let gray = |far: f64| if far <= grow { 255 } else { 0 };
        Raster::from_bytes(far.into_iter().flat_map(|far| [gray(far); 3]).collect(), self.size)
    }

    /// Returns the place of the thing.
    pub(super) fn region(&self) -> Region {
        let Size { width, height } = self.size;
        let at = |(y, x): (usize, usize)| self.inside.get(y * width as usize + x).is_some_and(|inside| *inside);
        Region::new(Array2::from_shape_fn((height as usize, width as usize), |pixel| f32::from(u8::from(at(pixel)))))
    }
}

/// Returns a prompt without the names of colors before a phrase; `None` if the prompt lacks the phrase, in any letter
/// case.
fn without_colors(prompt: &str, phrase: &str) -> Option<String> {
    let (words, phrase) = (words(prompt), words(phrase));
    let mut left = String::new();
    let (mut from, mut at) = (0, 0);
    let mut is_named = false;
    while at < words.len() {
        let colors =
            words.iter().skip(at).take_while(|word| word.text.parse::<Rgb>().is_ok() && word.is_joined).count();
        // The phrase may begin with the name of a color itself.
        let is_here = |skipped: &usize| {
            let here = words.get(at + skipped..at + skipped + phrase.len()).unwrap_or_default();
            !here.is_empty() && here.iter().zip(&phrase).all(|(word, of)| word.is(of))
        };
        if let Some(colors) = (0..=colors).rev().find(is_here) {
            is_named = true;
            let start = |at: usize| words.get(at).map_or(prompt.len(), |word| word.start);
            left += prompt.get(from..start(at)).unwrap_or_default();
            from = start(at + colors);
            at += colors + phrase.len();
        } else {
            at += 1;
        }
    }
    left += prompt.get(from..).unwrap_or_default();
    is_named.then_some(left)
}

/// A word of a text.
struct Word<'t> {
    text: &'t str,
    /// Index of its first byte.
    start: usize,
    /// True if nothing but white space is between the word and the next word.
    is_joined: bool,
}

impl Word<'_> {
    /// Returns true if the words have the same letters, in any case.
    fn is(&self, other: &Word<'_>) -> bool {
        self.text.to_lowercase() == other.text.to_lowercase()
    }
}

/// Returns the words of a text: its runs of letters and digits.
fn words(text: &str) -> Vec<Word<'_>> {
    let is_end = |letter: char| !letter.is_alphanumeric();
    let mut words: Vec<Word<'_>> = Vec::new();
    let mut start = 0;
    for piece in text.split_inclusive(is_end) {
        let word = piece.trim_end_matches(is_end);
        if !word.is_empty() {
            words.push(Word { text: word, start, is_joined: true });
        }
        if let Some(last) = words.last_mut() {
            last.is_joined &= piece.strip_prefix(word).is_none_or(|after| after.chars().all(char::is_whitespace));
        }
        start += piece.len();
    }
    words
}

impl From<&str> for MaskWhere {
    /// Creates a mask with the default settings.
    fn from(phrase: &str) -> Self {
        Self::new(phrase)
    }
}

impl From<String> for MaskWhere {
    /// Creates a mask with the default settings.
    fn from(phrase: String) -> Self {
        Self::new(phrase)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_colors_before_the_phrase_are_dropped() {
        let dropped = |prompt: &str, phrase: &str| without_colors(prompt, phrase).unwrap_or_else(|| "none".into());
        assert_eq!(dropped("1girl, blue hair, red shirt", "hair"), "1girl, hair, red shirt");
        assert_eq!(dropped("1girl with  Navy blue Hair  bow, eyes", "hair bow"), "1girl with  Hair  bow, eyes");
        assert_eq!(dropped("white cat, (red hair:1.2)", "hair"), "white cat, (hair:1.2)");
        assert_eq!(dropped("orange", "orange"), "orange");
        assert_eq!(dropped("black red hair", "red hair"), "red hair");
        assert_eq!(dropped("red, hair", "hair"), "red, hair");
        assert_eq!(dropped("1girl, chair", "hair"), "none");
    }
}
