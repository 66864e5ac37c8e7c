//! Painted areas and their phrases.

use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::mask::Region;
use serde::{Deserialize, Serialize};

/// A painted area, and the phrase of the prompt that the area stands for. A run checks the numbers.
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct Area {
    /// Place of the area: a color of the map, or a mask.
    pub place: AreaPlace,
    /// Phrase of the prompt, or of the negative prompt if [`negative`](Self::negative) is set.
    pub phrase: String,
    /// Weight of the phrase in the area, -10..=10, 1 by default. Usual values are .2 to 2; a value below 0 keeps
    /// the phrase away.
    pub strength: f64,
    /// Weight of the phrase outside the area, -10..=10, 0 by default. A value a little below 0 confines the phrase to
    /// the area. At a soft edge this weight applies in proportion to 1 − mask.
    pub outside: f64,
    /// Seed of the area's initial noise (plus i for image i), independent of the run's seed. With a fixed seed, the
    /// content of the area can be kept while the run's seed varies the rest. The noise is cut out of a field for the
    /// whole picture, so an area that moves shows another part of that field. The seed acts at any strength, including
    /// 0.
    pub seed: Option<u64>,
    /// Standard deviation of the Gaussian that softens the area's edges, in pixels of the map or the mask. The range is
    /// 0 to a quarter of the shorter side. `None`: the painting's [`blur`](super::PaintOptions::blur) for a color of
    /// the map, no blur for a mask or box.
    pub blur: Option<f64>,
    /// True if the phrase belongs to the negative prompt: the picture is kept away from the phrase in this area.
    pub negative: bool,
}

/// The place of an [`Area`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum AreaPlace {
    /// The pixels of a map with this color.
    Color(Rgb),
    /// A mask or box drawn apart from the map.
    Region(Region),
}

impl Area {
    /// Creates the area of the map's pixels with a color.
    pub fn color(color: Rgb, phrase: impl Into<String>) -> Self {
        Self::new(AreaPlace::Color(color), phrase.into())
    }

    /// Creates an area from a mask or box drawn apart from the map. The mask may be soft, and may differ from image to
    /// image ([`Region::each`]).
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

    /// Returns true if the area can change attention.
    pub(super) fn weighs(&self) -> bool {
        self.strength != 0.0 || self.outside != 0.0
    }

    /// Checks that the phrase has words, that the strengths are in range and that the mask is valid.
    pub(super) fn check(&self) -> Result<()> {
        if !self.phrase.contains(char::is_alphanumeric) {
            return Err(Error::EmptyPhrase);
        }
        let usual = [
            ("the area's strength", self.strength, "-10..=10; .2 to 2 is usual, a value below 0 keeps the phrase away"),
            (
                "outside",
                self.outside,
                "-10..=10; 0 has no effect, a value slightly below 0 confines the phrase to its area",
            ),
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
