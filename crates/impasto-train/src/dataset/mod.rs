//! An unlimited dataset of drawn pictures with exact labels, which trains the tiny model.
//!
//! Drawings are cartoon portraits (nine of twenty) and scenes of one to three things. Each drawing has the class of
//! every pixel and the color of every part:
//!
//! ```
//! use impasto_train::dataset::{Class, Dataset, Wording};
//! let drawing = Dataset::new(256)?.draw(7)?;
//! assert_eq!((drawing.picture.size().height, drawing.mask.dim()), (256, (256, 256)));
//! println!("{}", drawing.record.caption(Wording::default(), 0)); // 1girl, navy eyes, hair, ...
//! for (class, color) in drawing.record.colors() {
//!     println!("{class}: {} {}", color.name, color.rgb);
//! }
//! # let _ = Class::Hair;
//! # Ok::<(), impasto::Error>(())
//! ```
//!
//! The colors in a [`Record`] are exact: most pixels of a part have the recorded color to the bit. Light, shade and
//! small things cover the rest.

mod canvas;
mod caption;
mod class;
mod clutter;
mod dice;
mod face;
mod hair;
mod object;
mod palette;
mod portrait;
mod record;
mod scene;
mod shape;
mod style;
#[cfg(test)]
mod tests;

pub use caption::Wording;
pub use class::Class;
pub use clutter::Cluttered;
pub use palette::{ALIASES, NamedColor, PALETTE};
pub use record::{Bounds, HairStyle, Object, Part, Record, Who};
pub use style::Style;

use dice::Dice;
use impasto::Raster;
use impasto::{Error, Result};
use ndarray::Array2;
use std::ops::RangeInclusive;

/// Possible sides of drawings, in pixels.
const SIZES: RangeInclusive<u32> = 64..=512;
/// Share of portraits among all pictures.
const PORTRAITS: f64 = 0.45;

/// A picture with its mask and its record.
#[derive(Clone, Debug)]
pub struct Drawing {
    /// The picture, `size` pixels in both directions.
    pub picture: Raster,
    /// [`Class::index`] of every pixel, rows first.
    pub mask: Array2<u8>,
    /// Things that were drawn, with their colors.
    pub record: Record,
}

/// Draws pictures of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dataset {
    size: u32,
    style: Style,
}

impl Dataset {
    /// Creates a dataset of pictures of `size` pixels in both directions, 64..=512. 256 is usual; at 64, eyes are six
    /// pixels wide.
    ///
    /// # Errors
    /// [`Error::Parameter`] for other sizes.
    pub fn new(size: u32) -> Result<Self> {
        if !SIZES.contains(&size) {
            return Err(Error::parameter("size", size, "64..=512 pixels; 256 is usual"));
        }
        Ok(Self { size, style: Style::Colored })
    }

    /// Sets the style of the drawings. Default: colored.
    #[must_use]
    pub const fn in_style(mut self, style: Style) -> Self {
        self.style = style;
        self
    }

    /// Returns the side of pictures in pixels.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Returns the drawing of a seed. Each seed gives another drawing. Its mask and record are the same at any time and
    /// on any machine; the blending of its picture may differ by processor.
    ///
    /// # Errors
    /// None for a size within the range.
    pub fn draw(&self, seed: u64) -> Result<Drawing> {
        self.drawn(seed, None)
    }

    /// Returns a drawing of the same things as `like` in the same colors, in another pose, another place or another
    /// style. Each seed gives another drawing. A sketch of `like` takes its colors from this drawing, as from a
    /// reference that a person would choose.
    ///
    /// # Errors
    /// None for a size within the range.
    pub fn draw_in_colors_of(&self, like: &Record, seed: u64) -> Result<Drawing> {
        self.drawn(seed, Some(like))
    }

    fn drawn(&self, seed: u64, like: Option<&Record>) -> Result<Drawing> {
        let mut dice = Dice::seeded(seed);
        let any = dice.chance(PORTRAITS);
        let portrait = like.map_or(any, |like| matches!(like, Record::Portrait { .. }));
        let (canvas, mut record) = match portrait {
            true => portrait::draw(&mut dice, self.size, self.style, like)?,
            false => scene::draw(&mut dice, self.size, self.style, like)?,
        };
        let (picture, mask) = canvas.finish()?;
        scene::measure(&mut record, &mask);
        Ok(Drawing { picture, mask, record })
    }
}
