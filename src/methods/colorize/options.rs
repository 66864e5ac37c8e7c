//! [`ColorizeOptions`]: the settings of a coloring beyond its pictures, words and window.

use super::attention;
use super::{FigureAndGround, Injection, Ink, ReferenceScales};
use crate::error::{Error, Result};
use crate::window::Window;
use serde::{Deserialize, Serialize};

/// The settings of a coloring; [`Colorize::tune`](super::Colorize::tune) changes them in place.
///
/// ```
/// use impasto::methods::Colorize;
/// use impasto::methods::colorize::{Ink, ReferenceScales};
/// use impasto::{Raster, Rgb};
///
/// let (sketch, reference) = (Raster::flat(Rgb(0, 0, 0), (64, 64)), Raster::flat(Rgb(200, 30, 30), (64, 64)));
/// let colors = Colorize::new(&sketch, &reference).tune(|options| {
///     options.ink = Ink::Light;
///     options.scales = ReferenceScales { low: 0.8, ..ReferenceScales::default() };
/// });
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ColorizeOptions {
    /// The ink and paper of the sketch. Default: dark lines on a light ground.
    pub ink: Ink,
    /// Factor of the sketch's features, 0..=3. Default 1.
    pub sketch_strength: f64,
    /// Factor by which white bars beside the reference widen it, 1..=4. Default 1. The vision tower reads the whole
    /// picture squeezed to a square, and takes a wide margin for a plain background.
    pub padding: f64,
    /// Reads one token for the whole reference instead of one for each patch, for models that were trained this way.
    /// Default: false.
    pub whole: bool,
    /// Factors of the attention to the reference, by part of the network.
    pub scales: ReferenceScales,
    /// One more factor, 0..=4, for each cross-attention site, in the order in which the sites run. Published models
    /// have 16 sites. The factors multiply those of [`scales`](Self::scales). Default: none.
    pub sites: Option<Vec<f64>>,
    /// The separation of figure and background, so that neither takes colors of the other. Default: none; the whole
    /// picture reads the whole reference.
    pub parts: Option<FigureAndGround>,
    /// Takes over the reference's style, which is a factor and an offset for each channel in the expanding half of the
    /// network. The style needs a model of version 2. Default: false.
    pub style: bool,
    /// Lets the picture attend to the reference picture itself too. Default: none; the picture attends only to the
    /// reference's tokens.
    pub injection: Option<Injection>,
    /// Part of the run without the reference, even inside the window of [`Colorize::window`](super::Colorize::window).
    /// Default: none.
    pub pause: Option<Window>,
}

impl Default for ColorizeOptions {
    fn default() -> Self {
        Self {
            ink: Ink::default(),
            sketch_strength: 1.0,
            padding: 1.0,
            whole: false,
            scales: ReferenceScales::default(),
            sites: None,
            parts: None,
            style: false,
            injection: None,
            pause: None,
        }
    }
}

impl ColorizeOptions {
    /// Checks the settings that do not depend on the model.
    pub(super) fn check(&self) -> Result<()> {
        if !(0.0..=3.0).contains(&self.sketch_strength) {
            return Err(Error::parameter("sketch_strength", self.sketch_strength, "0..=3; 1 is as trained"));
        }
        if !(1.0..=4.0).contains(&self.padding) {
            return Err(Error::parameter("padding", self.padding, "1..=4 times the reference's width"));
        }
        self.scales.check()?;
        attention::check(self.sites.as_deref().unwrap_or_default())?;
        self.injection.iter().try_for_each(Injection::check)?;
        self.parts.iter().try_for_each(FigureAndGround::check)?;
        self.pause.iter().try_for_each(Window::check)
    }
}
