//! [`Identity`]: the model that made a picture.

use super::{Model, PREVIEW};
use crate::error::{Error, Result};
use crate::weights::dense;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use tch::{Device, Kind, Tensor};

/// The model that made a picture, as far as a file can identify it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Identity {
    /// Name of the model's source: a file or folder name without its path, or a repository.
    pub name: String,
    /// Fingerprint of 16 hexadecimal digits. Two models have equal fingerprints, wherever they were loaded from, if
    /// these properties are equal:
    /// - the weights of text encoders, UNet and VAE, LoRAs included, and their kinds
    /// - learned words
    /// - the scheduler
    /// - the settings for reading prompts and decoding
    ///
    /// An image encoder from another source counts by the name of that source alone.
    pub fingerprint: String,
    /// Device the model ran on.
    pub device: String,
    /// Kind of number that the model computed in.
    pub kind: String,
}

/// Number of evenly spaced values of each tensor that go into a fingerprint. Training and LoRAs change all values of a
/// tensor a little, and reading every value of a large model takes seconds.
const SAMPLES: i64 = 16;

impl Model {
    /// Returns the identity of the model. The first call takes some milliseconds.
    ///
    /// # Errors
    /// The errors of libtorch.
    pub fn identity(&self) -> Result<Identity> {
        let fingerprint = match self.fingerprint.get() {
            Some(known) => known.clone(),
            None => {
                let weighed = self.weighed()?;
                self.fingerprint.get_or_init(|| weighed).clone()
            }
        };
        let (device, kind) = (format!("{:?}", self.device), format!("{:?}", self.kind));
        Ok(Identity { name: self.name.clone(), fingerprint, device, kind })
    }

    /// Computes the fingerprint.
    fn weighed(&self) -> Result<String> {
        let _no_grad = tch::no_grad_guard();
        let mut hash = Sha256::new();
        let mut samples = Vec::new();
        // Previews do not change pictures.
        for (part, tensors) in self.parts.iter().filter(|(part, _)| *part != PREVIEW) {
            // Offloaded tensors have the kind of their file, not that of the network.
            let kind = if part == "vae" { self.vae_kind } else { self.kind };
            for (name, tensor) in tensors {
                hash.update(format!("{part} {name} {:?} {kind:?}\n", tensor.size()));
                let flat = dense(tensor)?.f_flatten(0, -1)?;
                let stride = (flat.size1()? / SAMPLES).max(1);
                let sample = flat.f_slice(0, None, None, stride)?;
                samples.push(sample.f_to_device(self.device)?.f_to_kind(kind)?.f_to_kind(Kind::Float)?);
            }
        }
        let samples = Tensor::f_cat(&samples, 0)?.f_to_device(Device::Cpu)?;
        for value in Vec::<f32>::try_from(&samples)? {
            hash.update(value.to_le_bytes());
        }
        let scheduler = serde_json::to_string(&self.scheduler)
            .map_err(|error| Error::Malformed { file: "scheduler".into(), problem: error.to_string() })?;
        hash.update(format!("{scheduler} {}", self.reading));
        // The configurations also change pictures: they set the arrangement of the tensors, the scale of latents and
        // the end token of texts.
        hash.update(format!("{:?} {:?} {}", self.unet_config, self.vae.config(), self.text_encoders.configured()));
        Ok(hex(&hash.finalize(), 8))
    }
}

/// Formats the first `count` bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8], count: usize) -> String {
    bytes.iter().take(count).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a string does not fail
        text
    })
}
