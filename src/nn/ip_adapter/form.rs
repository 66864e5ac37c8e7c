//! [`Form`]: the forms of IP-Adapters, recognized by the names of tensors.

use crate::error::Result;
use crate::weights::Weights;
use std::fmt;

/// A form of IP-Adapter, by its projection of pictures to tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One layer makes a few tokens from the embedding of the whole picture.
    Plain,
    /// Two layers make one token from each state of the image encoder.
    FullFace,
    /// A resampler makes a few tokens from the states of the image encoder.
    Plus,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::FullFace => "full face",
            Self::Plus => "Plus",
        })
    }
}

impl Form {
    /// Finds the form of a file by the names of its tensors.
    ///
    /// # Errors
    /// [`Error::Malformed`](crate::error::Error::Malformed) if no form that is supported has these names.
    pub(super) fn find(w: &Weights) -> Result<Self> {
        let names: Vec<String> = w.report().unused.into_iter().map(|tensor| tensor.name).collect();
        let has = |name: &str| w.has(&format!("image_proj.{name}.weight"));
        if has("proj") && has("norm") {
            return Ok(Self::Plain);
        }
        if has("proj.0") && has("proj.2") && has("proj.3") {
            return Ok(Self::FullFace);
        }
        let is_face_id = |name: &String| name.starts_with("image_proj.perceiver_resampler.") || name.contains("_lora.");
        if (has("proj.0") && has("norm")) || names.iter().any(is_face_id) {
            return Err(w.fault(
                "the file is an IP-Adapter FaceID, which needs a face recognizer and is not supported; give a Plus-face \
                 or full-face IP-Adapter",
            ));
        }
        if w.has("image_proj.latents") {
            return Ok(Self::Plus);
        }
        Err(w.fault(
            "the file has no projection of a known IP-Adapter (image_proj.proj, image_proj.proj.0 or \
             image_proj.latents); give the file of a plain, Plus, Plus-face or full-face IP-Adapter",
        ))
    }
}
