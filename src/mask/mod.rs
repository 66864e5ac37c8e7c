//! Regions of the picture, and resampling of masks from one size to another. A region is an array of values in 0..=1, a
//! box, a union of regions, or one of these for each image.

mod alike;
mod blur;
mod distance;
mod guided_filter;
mod histogram;
mod label_map;
mod material;
mod matte;
mod morphology;
mod otsu;
mod pieces;
mod region;
mod resample;

pub use region::Region;
pub use resample::Resample;

pub(crate) use alike::alike;
pub(crate) use blur::blur;
pub(crate) use distance::distances;
pub(crate) use guided_filter::{covered, follow_outlines};
pub(crate) use label_map::LabelMap;
pub(crate) use material::Material;
pub(crate) use matte::Matte;
pub(crate) use otsu::otsu;
pub(crate) use pieces::{label_pieces, neighbors, pieces};
pub(crate) use region::has_images;
