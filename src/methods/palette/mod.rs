//! [`Palette`]: pictures in few given colors.

mod choice;
mod recoloring;
mod report;
mod run;
mod things;

pub use report::{PaintedPalette, PaletteReport};

use crate::color::{Rgb, labs};
use crate::error::{Error, Result};
use crate::guidance::{Guidance, GuidanceRun, Setup};
use crate::raster::{Filter, Raster};
use crate::recipe::Recipe;
use palette::white_point::D65;
use run::PaletteRun;
use serde::{Deserialize, Serialize};
use tch::Device;

/// Most swatches of a palette.
const MOST: usize = 64;
/// Largest side of the picture from which a palette is made, in pixels. Larger pictures are made smaller first.
const SIDE: u32 = 64;

/// Gives a whole picture the colors of a palette, each with its share of the picture. The layout stays, and every thing
/// keeps dark lines and a share of its light and shade.
///
/// The finished picture is decoded, and its things are found: pieces of similar colors, joined across smooth borders
/// and divided by outlines. Every thing goes to one swatch as a whole. The shares are met as far as whole things can
/// meet them, neighbors get different swatches where that is possible, and light things tend to light swatches. The
/// latent is then moved by the difference between the encoded pictures, and measured again. The method evaluates no
/// branch, and decodes and encodes two to four pictures after the last step. Cells that color forces give an exact
/// color keep that color.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::methods::Palette;
/// use impasto::methods::palette::PaletteReport;
/// use impasto::{Pipeline, Rgb};
/// let palette = Palette::new([(Rgb(23, 37, 84), 2.0), (Rgb(244, 162, 97), 1.0), (Rgb(253, 240, 213), 1.0)]);
/// let pipeline = Pipeline::builder().build()?;
/// let output = pipeline.request("a house, tree, sky, ground").seed(7).steps(8).guide(palette).run()?;
/// let painted = &output.details::<PaletteReport>("Palette")?.painted[0];
/// println!("{:.0} % navy, {:.1} from the palette", 100.0 * painted.shares[0], painted.distance);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct Palette {
    swatches: Vec<(Rgb, f64)>,
    shading: f64,
    trim: usize,
}

impl Palette {
    /// Creates the method with colors and their shares of the picture. Shares are relative: the colors
    /// `[(navy, 2.0), (cream, 1.0)]` take two thirds and one third. A palette has 1 to 64 colors.
    pub fn new(swatches: impl IntoIterator<Item = (Rgb, f64)>) -> Self {
        let swatches = swatches.into_iter().collect();
        Self { swatches, shading: 0.6, trim: 2 }
    }

    /// Creates the method with the `count` main colors of a picture, found by k-means in CIE L\*a\*b\*, and with their
    /// shares of that picture.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a picture without pixels, and for a count outside 1..=64.
    pub fn of(picture: &Raster, count: usize) -> Result<Self> {
        if !(1..=MOST).contains(&count) {
            return Err(Error::parameter("the number of colors of a palette", count, "1..=64; 4 to 8 is usual"));
        }
        let size = picture.size();
        if picture.bytes().is_empty() {
            return Err(Error::parameter("the picture of a palette", "without pixels", "at least one pixel"));
        }
        let small = picture.resize((size.width.min(SIDE), size.height.min(SIDE)), Filter::Box)?;
        let colors = labs(&small.to_tensor(Device::Cpu)?.f_squeeze_dim(0)?)?;
        let points: Vec<palette::Lab<D65, f32>> =
            colors.iter().map(|lab| palette::Lab::new(lab.l as f32, lab.a as f32, lab.b as f32)).collect();
        let found = kmeans_colors::get_kmeans_hamerly(count.min(points.len()), 100, 0.01, false, &points, 0);
        let swatch = |(index, center): (usize, &palette::Lab<D65, f32>)| {
            let pixels = found.indices.iter().filter(|at| usize::from(**at) == index).count();
            let center = crate::color::Lab { l: center.l.into(), a: center.a.into(), b: center.b.into() };
            let [r, g, b] = center.to_srgb().map(|channel| (255.0 * channel).round() as u8);
            (Rgb(r, g, b), pixels as f64)
        };
        Ok(Self::new(found.centroids.iter().enumerate().map(swatch).filter(|(_, pixels)| *pixels > 0.0)))
    }

    /// Sets the share of light and shade that stays within the pixels of a swatch, 0..=1. Default .6; 0 paints flat
    /// colors.
    pub fn shading(mut self, shading: f64) -> Self {
        self.shading = shading;
        self
    }

    /// Sets the largest number of further corrections of the latent, 0..=10. Each of them encodes one picture and
    /// decodes one. Default 2.
    pub fn trim(mut self, rounds: usize) -> Self {
        self.trim = rounds;
        self
    }

    /// Returns the colors with their shares of the picture, which sum to 1.
    pub fn swatches(&self) -> Vec<(Rgb, f64)> {
        let all: f64 = self.swatches.iter().map(|(_, share)| share).sum();
        self.swatches.iter().map(|(color, share)| (*color, share / all)).collect()
    }
}

impl Guidance for Palette {
    fn check(&self) -> Result<()> {
        if !(1..=MOST).contains(&self.swatches.len()) {
            return Err(Error::parameter("the number of colors of a palette", self.swatches.len(), "1..=64"));
        }
        let is_share = |share: f64| share > 0.0 && share.is_finite();
        if let Some((color, share)) = self.swatches.iter().find(|(_, share)| !is_share(*share)) {
            let expected = format!("a finite number above 0, such as 1; leave the color {color} out otherwise");
            return Err(Error::parameter("the share of a palette's color", share, expected));
        }
        if !(0.0..=1.0).contains(&self.shading) {
            return Err(Error::parameter("Palette::shading", self.shading, "a share in 0..=1"));
        }
        if self.trim > 10 {
            return Err(Error::parameter("Palette::trim", self.trim, "0..=10 rounds; 2 is usual"));
        }
        Ok(())
    }

    fn begin(&self, _: &mut Setup<'_>, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        Ok(Box::new(PaletteRun::new(self.swatches(), self.shading, self.trim)))
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Palette", self)
    }

    fn name(&self) -> &'static str {
        "Palette"
    }
}
