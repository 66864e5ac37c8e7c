//! Stable Diffusion on libtorch, with guidance hooks.

pub mod attention;
mod branch;
mod conditioning;
mod error;
mod prompt;
mod step;
pub mod weights;

pub use branch::{Branch, BranchInfo};
pub use conditioning::{Codec, Conditioning};
pub use error::{Error, Result};
pub use prompt::{Prompt, TokenSpan};
pub use step::{Grid, Step};
