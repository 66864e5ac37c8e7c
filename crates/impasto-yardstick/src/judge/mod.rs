//! The judges, which find the parts of a picture, and the view that they get of the picture.

mod evaluator;
mod masks;
mod program;
mod saliency;

pub use evaluator::Evaluator;
pub use masks::Masks;
pub use program::Program;
pub use saliency::Saliency;

use crate::metrics::Picture;
use crate::regions::{Labels, Mask, area};
use crate::runner::Failure;
use crate::suite::{Task, fnv};
use impasto::{Raster, Size};
use impasto_train::dataset::Class;
use ndarray::Array2;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Finds the parts of a picture.
///
/// ```
/// use impasto_yardstick::judge::{Judge, Seen, View, class};
/// use impasto_yardstick::runner::Failure;
/// use ndarray::Array2;
///
/// /// Takes dark pixels for hair, and all others for background.
/// struct Dark;
///
/// impl Judge for Dark {
///     fn look(&mut self, view: &View<'_>) -> Result<Option<Seen>, Failure> {
///         let hair = class("hair", view.phrases);
///         let labels = view.picture.map(|pixel| if pixel.0 < 64 { hair } else { 0 });
///         Ok(Some(Seen { labels, sure: [(hair, 0.5)].into() }))
///     }
/// }
///
/// let picture = Array2::from_elem((4, 4), impasto::Rgb(20, 10, 10));
/// let seen = Dark.look(&View { picture: &picture, phrases: &["hair".to_owned()], attention: &[] })?;
/// assert!(seen.is_some_and(|seen| seen.labels.iter().all(|label| *label != 0)));
/// # Ok::<(), Failure>(())
/// ```
pub trait Judge {
    /// Finds the parts of a picture. `None` means that the parts are not known yet: the picture waits, and nothing is
    /// recorded.
    fn look(&mut self, view: &View<'_>) -> Result<Option<Seen>, Failure>;

    /// Returns true if the judge uses [`View::attention`].
    fn wants_attention(&self) -> bool {
        false
    }
}

impl Judge for Box<dyn Judge> {
    fn look(&mut self, view: &View<'_>) -> Result<Option<Seen>, Failure> {
        (**self).look(view)
    }

    fn wants_attention(&self) -> bool {
        (**self).wants_attention()
    }
}

/// Everything that a judge is told. A judge never learns the method, the asked part, or the part's color or mask.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub picture: &'a Picture,
    /// Phrases for everything that can be named in the picture.
    pub phrases: &'a [String],
    /// Attention to each phrase in the unforced twin, 64 × 64 in 0..=1, for a judge that uses it.
    pub attention: &'a [(String, Array2<f32>)],
}

/// A picture as a judge sees it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Class of every pixel, at the picture's size and numbered by [`class`].
    pub labels: Labels,
    /// Confidence of the judge in each class that it found, 0..=1.
    pub sure: BTreeMap<u8, f64>,
}

impl Seen {
    /// Makes labels from a region for each phrase. The smaller of two overlapping regions counts, because eyes lie on a
    /// face.
    fn of(view: &View<'_>, mut regions: Vec<(&str, Mask)>) -> Self {
        regions.sort_by_key(|(_, region)| std::cmp::Reverse(area(region)));
        let mut labels = Labels::from_elem(view.picture.dim(), class(Class::Background.name(), view.phrases));
        for (phrase, region) in regions {
            let class = class(phrase, view.phrases);
            labels.iter_mut().zip(&region).filter(|(_, inside)| **inside).for_each(|(label, _)| *label = class);
        }
        Self { labels, sure: BTreeMap::new() }
    }
}

/// The number of a phrase in [`Labels`]: the evaluator's number, or a number after all of the evaluator's. 0 is the
/// rest.
pub fn class(phrase: &str, phrases: &[String]) -> u8 {
    let known = Class::ALL.iter().position(|class| class.name() == phrase);
    let other = || Class::ALL.len() + phrases.iter().position(|other| other == phrase).unwrap_or(phrases.len());
    known.unwrap_or_else(other).min(usize::from(u8::MAX)) as u8
}

/// A choice of a judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The network, for pictures of the embedded model.
    Evaluator,
    /// The model's own attention.
    Saliency,
    /// Masks in a folder, drawn by hand or by any segmenter.
    Masks(PathBuf),
    /// A program with its arguments.
    Program(String),
}

impl FromStr for Choice {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.split_once(':')) {
            ("evaluator", _) => Ok(Self::Evaluator),
            ("saliency", _) => Ok(Self::Saliency),
            (_, Some(("masks", folder))) if !folder.is_empty() => Ok(Self::Masks(folder.into())),
            (_, Some(("cmd", program))) if !program.is_empty() => Ok(Self::Program(program.to_owned())),
            _ => Err("expected evaluator, saliency, masks:DIR or cmd:PROGRAM"),
        }
    }
}

impl Choice {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Evaluator => "evaluator",
            Self::Saliency => "saliency",
            Self::Masks(_) => "masks",
            Self::Program(_) => "cmd",
        }
    }

    pub fn open(&self) -> Result<Box<dyn Judge>, Failure> {
        Ok(match self {
            Self::Evaluator => Box::new(Evaluator::open()?),
            Self::Saliency => Box::new(Saliency),
            Self::Masks(folder) => Box::new(Masks::open(folder)?),
            Self::Program(command) => Box::new(Program::start(command)?),
        })
    }

    /// Returns true if the judge can judge a task.
    ///
    /// The attention of the unforced picture does not show where a method put an object. So `saliency` judges only
    /// tasks that ask for colors.
    pub fn judges(&self, task: Task) -> bool {
        match task {
            // Only the embedded model has a ControlNet for drawings.
            Task::Edges | Task::Reference => *self == Self::Evaluator,
            _ => *self != Self::Saliency || task.colors(),
        }
    }

    /// Fingerprint of the judge, which keeps figures of different judges apart.
    pub fn fingerprint(&self) -> Result<String, Failure> {
        Ok(match self {
            Self::Evaluator => format!("{:016x}", fnv(impasto_train::Evaluator::WEIGHTS)),
            Self::Saliency => String::new(),
            Self::Masks(folder) => folder.display().to_string(),
            Self::Program(command) => command.clone(),
        })
    }
}

/// Reads a mask from a file: white is inside.
fn read_mask(path: &Path, (h, w): (usize, usize)) -> Result<Mask, Failure> {
    let raster = Raster::open(path)?;
    let Size { width, height } = raster.size();
    if (height as usize, width as usize) != (h, w) {
        return Err(format!(
            "{}: the mask has {width}×{height} pixels; expected the picture's size, {w}×{h}",
            path.display()
        )
        .into());
    }
    let inside = raster.bytes().chunks_exact(3).map(|pixel| pixel.iter().map(|c| u32::from(*c)).sum::<u32>() >= 384);
    Ok(Mask::from_shape_vec((h, w), inside.collect())?)
}

/// Returns a name for a picture, which follows from its pixels.
fn name(picture: &Picture) -> String {
    let (h, w) = picture.dim();
    let mut bytes = format!("{w}x{h}").into_bytes();
    bytes.extend(picture.iter().flat_map(|pixel| [pixel.0, pixel.1, pixel.2]));
    format!("{:016x}", fnv(bytes))
}
