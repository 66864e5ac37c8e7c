//! What a guidance has to show of a run.

use crate::raster::Raster;

/// A run as one guidance saw it, for files and programs.
#[derive(Clone, Debug)]
pub struct Report {
    /// The guidance, with what it was about: `ColorForce "eyes"`.
    pub name: String,
    /// Its figures.
    pub data: serde_json::Value,
    /// Pictures to look at, each with a caption.
    pub images: Vec<(String, Raster)>,
}
