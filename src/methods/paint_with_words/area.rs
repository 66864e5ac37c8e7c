//! [`Area`]: something painted, and what it stands for.

use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::mask::Region;
use serde::{Deserialize, Serialize};

/// Something painted, and the phrase of the prompt it stands for. Setters cannot fail; a run checks them.
///
/// ```
/// use impasto::Rgb;
/// use impasto::mask::Region;
/// use impasto::methods::PaintWithWords;
/// use impasto::methods::paint_with_words::Area;
///
/// let paint = PaintWithWords::default()
///     .area(Area::mask(Region::rect(0.0..0.5, 0.4..1.0), "boat").strength(2.0).seed(2077))
///     .area(Area::mask(Region::rect(0.5..1.0, 0.0..1.0), "blurry").negative());
/// ```
#[derive(Debug, Serialize, Deserialize)]
#[must_use]
pub struct Area {
    pub(super) place: Place,
    pub(super) phrase: String,
    pub(super) strength: f64,
    pub(super) outside: f64,
    pub(super) seed: Option<u64>,
    pub(super) blur: Option<f64>,
    pub(super) negative: bool,
}

/// Where an area is.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Place {
    /// Where a map has this color.
    Color(Rgb),
    Region(Region),
}

impl Area {
    /// Where the map has a color.
    pub fn color(color: Rgb, phrase: impl Into<String>) -> Self {
        Self::new(Place::Color(color), phrase.into())
    }

    /// A mask or box drawn apart from the map, soft if need be; it may differ from image to image ([`Region::each`]).
    pub fn mask(mask: Region, phrase: impl Into<String>) -> Self {
        Self::new(Place::Region(mask), phrase.into())
    }

    const fn new(place: Place, phrase: String) -> Self {
        Self { place, phrase, strength: 1.0, outside: 0.0, seed: None, blur: None, negative: false }
    }

    /// -10..=10, 1 by default: .2 to 2 is usual, below 0 keeps the phrase away.
    pub fn strength(mut self, strength: f64) -> Self {
        self.strength = strength;
        self
    }

    /// What the phrase weighs where the area is not, -10..=10, 0 by default: a little below 0 confines it. Where the area
    /// is soft, as far as it is not there.
    pub fn outside(mut self, outside: f64) -> Self {
        self.outside = outside;
        self
    }

    /// The area begins with the noise of a seed of its own (that + i for image i), whatever the run's: what comes of it can
    /// be kept while the rest varies. The noise is that of the whole picture, cut out; so an area that moves shows
    /// another part of it. At any strength, 0 too.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Softens its edges by a Gaussian of this standard deviation, in pixels of the map or the mask, instead of the
    /// painting's own [`blur`](super::PaintWithWords::blur). 0 to a quarter of the shorter side.
    pub fn blur(mut self, sigma: f64) -> Self {
        self.blur = Some(sigma);
        self
    }

    /// The phrase is one of the negative prompt: there the picture is kept away from it.
    pub fn negative(mut self) -> Self {
        self.negative = true;
        self
    }

    pub(super) const fn rgb(&self) -> Option<Rgb> {
        match self.place {
            Place::Color(color) => Some(color),
            Place::Region(_) => None,
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
            Place::Region(region) => region.check(),
            Place::Color(_) => Ok(()),
        }
    }
}
