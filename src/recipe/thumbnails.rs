//! Thumbnails in place of a recipe's pictures. To repeat a run, the user gives the full pictures again, and their
//! hashes identify them.

use crate::error::Result;
use crate::raster::{self, Filter, Raster};
use crate::size::Size;
use crate::wording::{QUOTED, excerpt};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// Prefix of a picture's hash in a recipe.
const PREFIX: &str = "picture sha256:";
/// Longer side of a thumbnail in pixels. A picture of this side or smaller is kept whole.
const SIDE: u32 = 96;

/// Number of a hash's letters in messages.
const SHOWN: usize = 12;

/// Form in which a saved recipe keeps the pictures that steered its run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum KeptPictures {
    /// All pixels of the pictures. The file alone repeats the run.
    #[default]
    Whole,
    /// A hash of the pixels and a thumbnail of at most 96 pixels a side. Files are small and do not contain the full
    /// pictures.
    Thumbnails,
}

/// Returns the hash of a picture's size and pixels, which is the same in every lossless file format.
fn hash(picture: &Raster) -> String {
    let Size { width, height } = picture.size();
    let mut hash = Sha256::new();
    hash.update(width.to_le_bytes());
    hash.update(height.to_le_bytes());
    hash.update(picture.bytes());
    format!("{:x}", hash.finalize())
}

/// Calls `change` with every text among the settings.
fn each(settings: &mut Value, change: &mut impl FnMut(&mut String) -> Result<()>) -> Result<()> {
    match settings {
        Value::String(text) => change(text),
        Value::Array(values) => values.iter_mut().try_for_each(|value| each(value, change)),
        Value::Object(fields) => fields.values_mut().try_for_each(|value| each(value, change)),
        _ => Ok(()),
    }
}

/// Replaces every picture larger than a thumbnail by its hash and a thumbnail. Layers with transparency stay as they
/// are, because strokes take few bytes.
pub(crate) fn thin(settings: &mut Value) -> Result<()> {
    each(settings, &mut |text| {
        let Some(picture) = raster::read_embedded_picture(text) else { return Ok(()) };
        let Size { width, height } = picture.size();
        let longer = width.max(height);
        if longer > SIDE {
            let side = |length: u32| (length * SIDE / longer).max(1);
            let small = picture.resize((side(width), side(height)), Filter::Box)?;
            *text = format!("{PREFIX}{} {width}x{height} {}", hash(&picture), small.data_url()?);
        }
        Ok(())
    })
}

/// Replaces thumbnails by the full pictures among `pictures`. Returns the missing pictures, as
/// `sha256:… of W×H pixels`.
pub(crate) fn complete(settings: &mut Value, pictures: &[Raster]) -> Result<Vec<String>> {
    let known: HashMap<String, &Raster> = pictures.iter().map(|picture| (hash(picture), picture)).collect();
    let mut missing = Vec::new();
    each(settings, &mut |text| {
        let Some((hash, rest)) = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once(' ')) else { return Ok(()) };
        match known.get(hash) {
            Some(picture) => *text = picture.data_url()?,
            None => {
                let size = excerpt(rest.split(' ').next().unwrap_or_default(), QUOTED).replace('x', "×");
                missing.push(format!("sha256:{} of {size} pixels", excerpt(hash, SHOWN)));
            }
        }
        Ok(())
    })?;
    missing.dedup();
    Ok(missing)
}
