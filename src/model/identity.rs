//! The description of a loaded model: its [`ModelInfo`], with the fingerprint of its weights.

use super::{Defaults, Identity, Model, ModelInfo, PREVIEW, Work, kernels_in_use};
use crate::diffusion::{Denoiser, SchedulerConfig};
use crate::error::{Error, Result};
use crate::step::Grid;
use crate::weights::{Factors, Unmerged};
use crate::wording::Note;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use tch::{Device, Kind, Tensor};

/// Number of evenly spaced values of each tensor that go into a fingerprint. Training and LoRAs change all values of a
/// tensor a little, and reading every value of a large model takes seconds.
const SAMPLES: i64 = 16;

/// Memory of a step in half precision, as a multiple of its numbers: some sums are f32.
const HALF: f64 = 1.2;
/// Memory of a step that libtorch computes, as a multiple of the memory with impasto's kernels.
const LIBTORCH: f64 = 1.5;

impl Model {
    /// Returns the identity of the model. The first call takes some milliseconds.
    ///
    /// # Errors
    /// The errors of libtorch.
    pub fn identity(&self) -> Result<Identity> {
        let fingerprint = match self.fingerprint.get() {
            Some(known) => known.clone(),
            None => {
                let weighed = self.hash_weights()?;
                self.fingerprint.get_or_init(|| weighed).clone()
            }
        };
        let (device, kind) = (format!("{:?}", self.device), format!("{:?}", self.kind));
        Ok(Identity { name: self.name.clone(), fingerprint, device, kind, shift: self.scheduler.own_shift() })
    }

    /// Computes the fingerprint.
    fn hash_weights(&self) -> Result<String> {
        let _no_grad = tch::no_grad_guard();
        let mut hash = Sha256::new();
        let mut samples = Vec::new();
        let sample = |tensor: &Tensor, kind: Kind| -> Result<Tensor> {
            let count = tensor.numel() as i64;
            let places = (Kind::Int64, tensor.device());
            let places = Tensor::f_arange_start_step(0, count, (count / SAMPLES).max(1), places)?;
            // Flattening would copy a tensor whose memory is in another order, which is most of a large model.
            let sample = tensor.f_take(&places)?;
            Ok(sample.f_to_device(self.device)?.f_to_kind(kind)?.f_to_kind(Kind::Float)?)
        };
        // Previews do not change pictures.
        for (part, tensors) in self.parts.iter().filter(|(part, _)| *part != PREVIEW) {
            // Offloaded tensors have the kind of their file, not that of the network.
            let kind = if part == "vae" { self.vae_kind } else { self.kind };
            for (name, tensor) in tensors {
                hash.update(format!("{part} {name} {:?} {kind:?}\n", tensor.size()));
                samples.push(sample(tensor, kind)?);
            }
        }
        for Unmerged { name, layers } in &self.unmerged {
            for (path, Factors { down, up, ratio }) in layers {
                hash.update(format!("{name} {path} {:?} {ratio}\n", up.size()));
                for tensor in down.iter().chain([up]) {
                    samples.push(sample(tensor, self.kind)?);
                }
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
        hash.update(format!("{} {:?} {}", self.backbone.describe(), self.vae.config(), self.texts.describe()));
        Ok(hex(&hash.finalize(), 8))
    }
}

impl ModelInfo for Model {
    fn defaults(&self) -> Defaults {
        self.defaults
    }

    fn scheduler(&self) -> SchedulerConfig {
        self.scheduler.clone()
    }

    fn identity(&self) -> Result<Identity> {
        Self::identity(self)
    }

    fn notes(&self) -> Vec<Note> {
        self.notes.clone()
    }

    fn prompt_note(&self, prompt: &str) -> Result<Option<Note>> {
        self.doubts_of(prompt)
    }

    fn decoding_note(&self, grid: Grid) -> Option<Note> {
        self.vae.tiles_told(grid.h, grid.w)
    }

    fn memory(&self, work: Work, grid: Grid, images: usize) -> Option<u64> {
        // The estimate was measured on CPUs, for weights in memory.
        if self.device != Device::Cpu || self.offload {
            return None;
        }
        Some(match work {
            Work::Step { branches } => {
                // Branches with conditions beside the prompt share nothing.
                let reads_prompt_alone =
                    !self.inpaints() && !self.embeds_guidance() && !self.reads_micro_conditioning();
                let sharing = if reads_prompt_alone && !self.colorizes() { branches } else { 1 };
                let rows = (branches * images) as f64;
                let bytes = self.kind.elt_size_in_bytes() as f64;
                let bytes = if self.kind == Kind::Float { bytes } else { HALF * bytes };
                let bytes = if kernels_in_use().is_some() { bytes } else { LIBTORCH * bytes };
                rows * self.backbone.peak_values(grid, sharing, self.texts.columns()) * bytes
            }
            Work::Decode => self.vae.memory_of_decoding(grid, i64::try_from(images).ok()?),
            Work::Encode => self.vae.memory_of_encoding(grid, i64::try_from(images).ok()?),
        } as u64)
    }

    fn embeds_guidance(&self) -> bool {
        self.backbone.unet().is_some_and(|unet| unet.config().time_cond_proj_dim.is_some())
    }

    fn reads_micro_conditioning(&self) -> bool {
        self.backbone.unet().is_some_and(|unet| unet.config().addition_embed_type.is_some())
    }

    fn clip_skip(&self) -> Option<usize> {
        self.texts.options().clip_skip
    }

    fn preview(&self, x0: &Tensor) -> Result<Option<Tensor>> {
        self.preview.as_ref().map(|tiny| tiny.decode(x0)).transpose()
    }
}

/// Formats the first `count` bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8], count: usize) -> String {
    bytes.iter().take(count).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a string does not fail
        text
    })
}
