//! [`ImagePrompt`]: a picture as a prompt, and its place.

use super::strength::check_strength;
use crate::error::{Error, Result};
use crate::mask::Region;
use crate::methods::place::Place;
use crate::raster::Raster;
use crate::recipe::SharedTensor;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// A picture as a prompt, for [`IpAdapter`](super::IpAdapter). Without a place the whole run attends to the picture.
///
/// ```
/// use impasto::mask::Region;
/// use impasto::methods::ip_adapter::ImagePrompt;
/// use impasto::{Raster, Rgb};
///
/// let (sea, braid) = (Raster::flat(Rgb(0, 90, 140), (64, 64)), Raster::flat(Rgb(140, 60, 20), (64, 64)));
/// let below = ImagePrompt::new(&sea).within(Region::rect(0.0..1.0, 0.6..1.0)).strength(0.8);
/// let hair = ImagePrompt::new(&braid).on("hair");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct ImagePrompt {
    pub(super) shown: Shown,
    #[serde(default)]
    pub(super) place: Place,
    pub(super) strength: f64,
}

/// A picture, or the tokens that an IP-Adapter made of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Shown {
    Picture(Raster),
    Tokens(SharedTensor),
}

impl ImagePrompt {
    /// Creates a prompt from a picture of any size.
    pub fn new(picture: &Raster) -> Self {
        Self::of(Shown::Picture(picture.clone()))
    }

    /// Creates a prompt from the tokens of one picture, [1, tokens, width], that
    /// [`IpAdapterNet::encode`](crate::nn::ip_adapter::IpAdapterNet::encode) has computed.
    pub fn tokens(tokens: &Tensor) -> Self {
        Self::of(Shown::Tokens(tokens.shallow_clone().into()))
    }

    const fn of(shown: Shown) -> Self {
        Self { shown, place: Place::Everywhere, strength: 1.0 }
    }

    /// Lets only the cells of a region attend to the picture. The region has the aspect of the run's picture (within
    /// 1 %) and may differ from image to image.
    pub fn within(mut self, region: Region) -> Self {
        self.place = Place::Region(region);
        self
    }

    /// Lets only the cells attend to the picture where the run's picture shows the object that `phrase` names in the
    /// prompt. For example, "hair" gives hair like the hair of the picture.
    /// [`Daam::competing`](crate::saliency::Daam::competing) finds the object; the map of the object exists from
    /// timestep 850 down, and no cell attends to the picture before.
    pub fn on(mut self, phrase: impl Into<String>) -> Self {
        self.place = Place::phrase(phrase.into());
        self
    }

    /// Sets the strength of a picture that has a place, in addition to the strength of the method. Default 1. Pictures
    /// without a place have the method's strength.
    pub fn strength(mut self, strength: f64) -> Self {
        self.strength = strength;
        self
    }

    /// Checks the settings before a run.
    pub(super) fn check(&self) -> Result<()> {
        match &self.shown {
            Shown::Picture(picture) if picture.bytes().is_empty() => {
                return Err(Error::parameter("picture", "without pixels", "a picture of at least one pixel"));
            }
            Shown::Tokens(tokens) => {
                let got = tokens.get().size();
                if !matches!(got.as_slice(), &[1, tokens, width] if tokens > 0 && width > 0) {
                    let expected = "[1, tokens, width], the tokens of one picture".into();
                    return Err(Error::Shape { what: "the tokens of a picture", got, expected });
                }
            }
            Shown::Picture(_) => {}
        }
        check_strength("strength of a picture", self.strength)?;
        match &self.place {
            Place::Everywhere if self.strength != 1.0 => Err(Error::parameter(
                "strength of a picture",
                self.strength,
                "1 for a picture without a place; set the strength of the method, or give the picture a place",
            )),
            place => place.check(),
        }
    }
}

impl From<&Raster> for ImagePrompt {
    fn from(picture: &Raster) -> Self {
        Self::new(picture)
    }
}
