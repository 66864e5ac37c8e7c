//! Styles of drawings.

use super::palette::is_dark;
use impasto::Rgb;

/// Blue of a blueprint's paper.
const PAPER: Rgb = Rgb(28, 72, 158);
/// White of a blueprint's lines.
const CHALK: Rgb = Rgb(240, 246, 255);

/// The style of all drawings of a [`Dataset`](super::Dataset). Styles differ in colors alone: the drawing of a seed has
/// the same things at the same places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Colored drawings with light and shade, which trained the embedded model.
    #[default]
    Colored,
    /// White lines on blue, as in blueprints. The embedded model does not know this style, so it is an example of what
    /// a LoRA can teach.
    Blueprint,
}

impl Style {
    /// Returns true if things have light and shade.
    pub(super) const fn is_shaded(self) -> bool {
        matches!(self, Self::Colored)
    }

    /// Returns the color of a surface that is `color` in a colored drawing.
    pub(super) const fn surface(self, color: Rgb) -> Rgb {
        match self {
            Self::Colored => color,
            Self::Blueprint => PAPER,
        }
    }

    /// Returns the color of a line that is `color` in a colored drawing.
    pub(super) const fn line(self, color: Rgb) -> Rgb {
        match self {
            Self::Colored => color,
            Self::Blueprint => CHALK,
        }
    }

    /// Returns the color of a small part that is `color` in a colored drawing. Dark ones, such as pupils and lashes,
    /// count as lines.
    pub(super) fn detail(self, color: Rgb) -> Rgb {
        if is_dark(color) { self.line(color) } else { self.surface(color) }
    }
}
