//! [`FreeUFactors`]: factors of a UNet's expanding half.

use super::Extra;
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Factors of the first two blocks of a UNet's expanding half, counted from the smallest grid, as FreeU sets them. A
/// conditioning holds them in its [`extras`](crate::Conditioning::extras); all branches of a run share them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FreeUFactors {
    /// Factors of the first half of the channels that come from the block below; 1 changes nothing.
    pub backbone: [f64; 2],
    /// Factors of the low frequencies of the skip connections; 1 changes nothing.
    pub skip: [f64; 2],
}

impl Extra for FreeUFactors {
    fn share(&self) -> Box<dyn Extra> {
        Box::new(*self)
    }

    fn narrow(&self, _: Range<i64>) -> Result<Box<dyn Extra>> {
        Ok(Box::new(*self))
    }
}
