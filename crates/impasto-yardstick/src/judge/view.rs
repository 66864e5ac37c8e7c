//! [`Judge`]: what finds the parts of a picture, from a [`View`] to what is [`Seen`].

use crate::failure::Failure;
use crate::picture::Picture;
use crate::regions::{Labels, Mask, area};
use impasto_train::dataset::Class;
use ndarray::Array2;
use std::collections::BTreeMap;

/// Finds the parts of a picture.
///
/// ```
/// use impasto_yardstick::judge::{Judge, Seen, View, class};
/// use impasto_yardstick::failure::Failure;
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
pub trait Judge: Send {
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
    pub(super) fn of(view: &View<'_>, mut regions: Vec<(&str, Mask)>) -> Self {
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
