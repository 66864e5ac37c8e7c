//! The judge that reads masks from a folder, drawn by hand or by any segmenter.
//!
//! A picture's key follows from its pixels. If one of its masks is missing, the picture is saved in the folder as
//! `KEY.png` and waits. Its masks are `KEY.PHRASE.png`. They are white inside the object, and all black if the object
//! is not in the picture.

use super::mask_file::{name, read_mask};
use super::view::{Judge, Seen, View};
use crate::failure::Failure;
use crate::picture::raster;
use std::path::{Path, PathBuf};

pub struct Masks(PathBuf);

impl Masks {
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder).map_err(|error| format!("masks {}: {error}", folder.display()))?;
        Ok(Self(folder.to_owned()))
    }
}

impl Judge for Masks {
    fn look(&mut self, view: &View<'_>) -> Result<Option<Seen>, Failure> {
        let key = name(view.picture);
        let mut regions = Vec::new();
        for phrase in view.phrases {
            let path = self.0.join(format!("{key}.{}.png", in_file_names(phrase)));
            if !path.exists() {
                raster(view.picture)?.save(self.0.join(format!("{key}.png")))?;
                return Ok(None);
            }
            regions.push((phrase.as_str(), read_mask(&path, view.picture.dim())?));
        }
        Ok(Some(Seen::of(view, regions)))
    }
}

/// Replaces all but letters and digits of a phrase by dashes, because file names may not allow them.
fn in_file_names(phrase: &str) -> String {
    phrase.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect()
}
