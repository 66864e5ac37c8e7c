//! [`Reference`]: a picture with the regions of the things that its description names.

use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::mask::Region;
use crate::raster::Raster;
use crate::size::Size;

/// Minimum saliency of a pixel that belongs to a thing.
const THERE: f32 = 0.5;
/// Minimum number of pixels of a thing, as a share of the picture.
const LEAST: f64 = 0.0005;

/// A picture with the regions of the things that its description names.
/// [`Pipeline::reference`](crate::Pipeline::reference) makes a reference;
/// [`ColorForce::like`](crate::methods::ColorForce::like) and
/// [`ReferenceColor::part`](crate::methods::ReferenceColor::part) read one.
#[derive(Clone, Debug)]
pub struct Reference {
    picture: Raster,
    /// Phrases of the picture's description, each with the region of the named thing, at the picture's size.
    things: Vec<(String, Region)>,
}

impl Reference {
    /// Creates a reference from known regions, such as those of a segmentation network. Each region has the picture's
    /// size in pixels, with values in 0..=1. Pixels of .5 and more belong to the thing.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a region that is no drawing of the picture's size, or that has values outside 0..=1.
    pub fn new(picture: Raster, things: impl IntoIterator<Item = (String, Region)>) -> Result<Self> {
        let things: Vec<(String, Region)> = things.into_iter().collect();
        let Size { width, height } = picture.size();
        let size = (height as usize, width as usize);
        for (phrase, region) in &things {
            region.check()?;
            let got = region.values().map(ndarray::ArrayBase::dim);
            if got != Some(size) {
                let sides = |(rows, columns): (usize, usize)| format!("{rows} rows and {columns} columns");
                let own = got.map_or_else(|| "no drawing".to_owned(), sides);
                let expected = format!("a drawing of {}, like the picture", sides(size));
                return Err(Error::parameter("region", format!("{own} for \"{phrase}\""), expected));
            }
        }
        Ok(Self { picture, things })
    }

    /// Returns the picture.
    pub const fn picture(&self) -> &Raster {
        &self.picture
    }

    /// Returns the region of the thing that `phrase` names; letter case does not matter.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the reference was not read for the phrase, or if the picture hardly shows the thing.
    pub fn region(&self, phrase: &str) -> Result<Region> {
        let (found, pixels) = self.find(phrase)?;
        if pixels.is_empty() {
            let expected = "a thing that the reference shows; nothing of this phrase was found; use another phrase";
            return Err(Error::parameter("phrase", format!("{phrase:?}"), expected));
        }
        Ok(found.clone())
    }

    /// Returns the region of the thing that `phrase` names as a picture in gray, for
    /// [`Request::mask`](crate::pipeline::Request::mask). The gray is the region's value.
    ///
    /// # Errors
    /// The errors of [`region`](Self::region).
    pub fn mask(&self, phrase: &str) -> Result<Raster> {
        let region = self.region(phrase)?;
        let grays = region.values().into_iter().flatten().flat_map(|value| [(255.0 * value).round() as u8; 3]);
        Raster::from_bytes(grays.collect(), self.picture.size())
    }

    /// Returns the median color, channel by channel, of the thing that `phrase` names.
    ///
    /// # Errors
    /// The errors of [`region`](Self::region).
    pub fn color(&self, phrase: &str) -> Result<Rgb> {
        let _ = self.region(phrase)?;
        let (_, pixels) = self.find(phrase)?;
        let median = |channel: fn(&Rgb) -> u8| {
            let mut values: Vec<u8> = pixels.iter().map(channel).collect();
            values.sort_unstable();
            values.get(values.len() / 2).copied().unwrap_or_default()
        };
        Ok(Rgb(median(|color| color.0), median(|color| color.1), median(|color| color.2)))
    }

    /// Returns the region of a thing, and its pixels. No pixels are returned if their share of the picture is below
    /// [`LEAST`].
    fn find(&self, phrase: &str) -> Result<(&Region, Vec<Rgb>)> {
        let asked = phrase.trim();
        let found = self.things.iter().find(|(name, _)| name.eq_ignore_ascii_case(asked));
        let (_, region) = found.ok_or_else(|| {
            let known: Vec<String> = self.things.iter().map(|(known, _)| format!("{known:?}")).collect();
            let expected = format!(
                "a phrase that the reference was read for ({}); name the phrase when the reference is read",
                known.join(", ")
            );
            Error::parameter("phrase", format!("{phrase:?}"), expected)
        })?;
        let inside = region.values().into_iter().flat_map(|values| values.indexed_iter());
        let inside = inside.filter(|(_, value)| **value >= THERE);
        let pixels: Vec<Rgb> = inside.filter_map(|((y, x), _)| self.picture.pixel(x as u32, y as u32)).collect();
        let Size { width, height } = self.picture.size();
        let least = f64::from(width) * f64::from(height) * LEAST;
        Ok((region, if (pixels.len() as f64) < least { Vec::new() } else { pixels }))
    }
}
