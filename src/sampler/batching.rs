//! [`Batching`]: sharing of a forward pass by branches and images.

use serde::{Deserialize, Serialize};

/// Sharing of a forward pass by branches and images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[non_exhaustive]
pub enum Batching {
    /// Everything in one batch, which is fastest.
    #[default]
    Together,
    /// One branch of one image at a time, which needs the least memory. Image i of a batch then equals, bit for bit,
    /// the same image generated alone with all seeds higher by i.
    OneByOne,
}
