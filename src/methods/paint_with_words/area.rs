//! [`Area`]: something painted, and what it stands for.

use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::mask::Region;
use serde::{Deserialize, Serialize};

/// Something painted, and the phrase of the prompt that it stands for. A run checks the numbers.
///
/// ```
/// use impasto::Rgb;
/// use impasto::mask::Region;
/// use impasto::methods::PaintWithWords;
/// use impasto::methods::paint_with_words::Area;
///
/// let boat = Area::mask(Region::rect(0.0..0.5, 0.4..1.0), "boat");
/// let blur = Area::mask(Region::rect(0.5..1.0, 0.0..1.0), "blurry");
/// let paint = PaintWithWords::default()
///     .area(Area { strength: 2.0, seed: Some(2077), ..boat })
///     .area(Area { negative: true, ..blur });
/// ```
#[derive(Debug, Serialize, Deserialize)]
#[must_use]
pub struct Area {
    /// AreaPlace of the area: a color of the map, or a mask.
    pub place: AreaPlace,
    /// Phrase of the prompt.
    pub phrase: String,
    /// Weight of the phrase in the area, -10..=10, 1 by default: .2 to 2 is usual, below 0 keeps the phrase away.
    pub strength: f64,
    /// Weight of the phrase where the area is not, -10..=10, 0 by default: a little below 0 confines it. Where the area is
    /// soft, it counts as far as the area is not there.
    pub outside: f64,
    /// Seed of noise that the area begins with (that + i for image i), whatever the run's: what comes of it can be kept while
    /// the rest varies. The noise is that of the whole picture, cut out; so an area that moves shows another part of it. It
    /// acts at any strength, 0 too.
    pub seed: Option<u64>,
    /// Standard deviation of the Gaussian that softens its edges, in pixels of the map or the mask, 0 to a quarter of the
    /// shorter side; `None`: the painting's own [`blur`](super::PaintOptions::blur).
    pub blur: Option<f64>,
    /// Whether the phrase is one of the negative prompt: there the picture is kept away from it.
    pub negative: bool,
}

/// The place of an [`Area`].
#[derive(Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum AreaPlace {
    /// Where a map has this color.
    Color(Rgb),
    /// A mask or box drawn apart from the map.
    Region(Region),
}

impl Area {
    /// Where the map has a color.
    pub fn color(color: Rgb, phrase: impl Into<String>) -> Self {
        Self::new(AreaPlace::Color(color), phrase.into())
    }

    /// A mask or box drawn apart from the map, soft if need be; it may differ from image to image ([`Region::each`]).
    pub fn mask(mask: Region, phrase: impl Into<String>) -> Self {
        Self::new(AreaPlace::Region(mask), phrase.into())
    }

    const fn new(place: AreaPlace, phrase: String) -> Self {
        Self { place, phrase, strength: 1.0, outside: 0.0, seed: None, blur: None, negative: false }
    }

    pub(super) const fn rgb(&self) -> Option<Rgb> {
        match self.place {
            AreaPlace::Color(color) => Some(color),
            AreaPlace::Region(_) => None,
        }
    }

    /// Can it change attention?
    pub(super) fn weighs(&self) -> bool {
        self.strength != 0.0 || self.outside != 0.0
    }

    /// Are phrase, strengths and mask possible at all?
    pub(super) fn check(&self) -> Result<()> {
        if !self.phrase.contains(char::is_alphanumeric) {
            return Err(Error::EmptyPhrase);
        }
        let usual = [
            ("strength", self.strength, "-10..=10; .2 to 2 is usual, below 0 keeps away"),
            ("outside", self.outside, "-10..=10; 0 is nothing, a little below 0 confines the phrase to its area"),
        ];
        for (name, value, expected) in usual {
            if !(-10.0..=10.0).contains(&value) {
                return Err(Error::parameter(name, format!("{value} for \"{}\"", self.phrase), expected));
            }
        }
        match &self.place {
            AreaPlace::Region(region) => region.check(),
            AreaPlace::Color(_) => Ok(()),
        }
    }
}
