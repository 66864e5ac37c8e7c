//! Training of a LoRA: a small file that teaches a model a style or a thing from a few pictures with captions.
//!
//! * [`LowRank`]: rank, α, algorithm and layers of the change, and its tensors under the [`Names`] of other programs.
//! * [`LoraTask`]: the training of the change beside a UNet that stays unchanged.
//! * [`write_lora`]: the file, with the metadata that kohya's trainer writes.

mod file;
mod low_rank;
mod task;

pub use file::{Existing, write_lora};
pub use low_rank::{Algorithm, Layers, LowRank, Names};
pub use task::LoraTask;
