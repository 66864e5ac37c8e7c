//! Regions of the picture, and resampling from one size to another. Regions are arrays in 0..=1 and nothing else.

mod alike;
mod guided_filter;
mod otsu;
mod region;
mod resample;

pub use region::Region;
pub use resample::Resample;

pub(crate) use alike::alike;
pub(crate) use guided_filter::{covered, outlined};
pub(crate) use otsu::otsu;
pub(crate) use region::has_images;
