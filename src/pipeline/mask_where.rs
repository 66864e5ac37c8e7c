//! [`MaskWhere`]: a mask of the thing that a phrase names.

use super::canvas::Canvas;
use super::things::find_things;
use crate::error::{Error, Result};
use crate::mask::distances;
use crate::model::Model;
use crate::raster::{Filter, Raster};
use crate::step::Grid;
use serde::{Deserialize, Serialize};

/// A mask of the thing that a phrase names, or of several things. The run finds the thing in the picture that it starts
/// from, as [`Pipeline::reference`](super::Pipeline::reference) does.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::pipeline::{MaskWhere, Pipeline};
/// let mut pipeline = Pipeline::builder().build()?;
/// let first = pipeline.request("1girl, red hair, blue shirt").seed(7).steps(8).run()?;
/// let shirt = MaskWhere { grow: 4.0, ..MaskWhere::new("shirt") };
/// let request = pipeline.request("1girl, red hair, green shirt").start(first.image(0)?, 0.8).mask_where(shirt);
/// let output = request.soften(16.0).seed(7).steps(8).run()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskWhere {
    /// The phrase that names the thing, or several phrases with commas between them.
    pub phrase: String,
    /// Description of the picture to start from, with the phrase. `None`: the prompt, followed by the phrase if the
    /// prompt lacks it. A description that also names the things around gives a better mask.
    #[serde(default)]
    pub description: Option<String>,
    /// Distance in pixels by which the mask is larger than the thing, 0..=4096. The default is 8, which takes in the
    /// thing's outline.
    #[serde(default = "eight")]
    pub grow: f64,
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

    /// Finds the thing in a picture and draws its mask in black and white, at the size of `canvas`. `prompt` is the
    /// prompt of the request, as the text encoder reads it.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a distance out of range, no phrase, or if the picture hardly shows the thing; the
    /// errors of [`Pipeline::reference`](super::Pipeline::reference).
    pub(super) fn draw(&self, model: &Model, picture: &Raster, prompt: &str, canvas: &Canvas) -> Result<Raster> {
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
            for phrase in phrases.iter().filter(|phrase| !names(prompt, phrase)) {
                description = format!("{description}, {phrase}");
            }
        }
        let found = find_things(model, picture, &description, phrases.iter().copied())?;
        let mut inside = vec![false; canvas.size.width as usize * canvas.size.height as usize];
        for phrase in phrases {
            let thing = found.mask(phrase)?.resize(canvas.size, Filter::Bilinear)?;
            let (pixels, _) = thing.bytes().as_chunks::<3>();
            inside.iter_mut().zip(pixels).for_each(|(inside, [gray, ..])| *inside |= *gray >= 128);
        }
        let far = distances(&inside, Grid::new(i64::from(canvas.size.height), i64::from(canvas.size.width)));
        let gray = |far: f64| if far <= self.grow { 255 } else { 0 };
        Raster::from_bytes(far.into_iter().flat_map(|far| [gray(far); 3]).collect(), canvas.size)
    }
}

/// Returns true if a prompt contains the words of a phrase, in any letter case.
fn names(prompt: &str, phrase: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    words(prompt).contains(&words(phrase))
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
