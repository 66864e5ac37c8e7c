//! Whether branches and images share a forward pass.

use serde::{Deserialize, Serialize};

/// Whether branches and images share a forward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Batching {
    /// Everything in one batch: fastest.
    #[default]
    Together,
    /// One branch of one image at a time: least memory, and image i of a batch equals that image alone, all its seeds i higher, bit
    /// for bit.
    OneByOne,
}
