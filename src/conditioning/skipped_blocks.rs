//! [`SkippedBlocks`]: blocks of a network that are left out in one branch.

use super::Extra;
use crate::error::Result;
use std::collections::BTreeSet;
use std::ops::Range;

/// A network whose blocks can be left out ([`Codec::offer`](crate::Codec::offer)), such as the transformer of Stable
/// Diffusion 3.
///
/// ```
/// use impasto::conditioning::{Offer, SkipsBlocks};
///
/// /// A network of 24 blocks.
/// struct Network;
///
/// impl SkipsBlocks for Network {
///     fn blocks(&self) -> usize {
///         24
///     }
/// }
///
/// // In `impl Codec for …`:
/// fn offer<'a>(network: &'a Network, offer: &mut Offer<'a>) {
///     offer.give::<_, dyn SkipsBlocks>(network, |network| network);
/// }
/// ```
pub trait SkipsBlocks {
    /// Returns the number of blocks, which are counted from 0.
    fn blocks(&self) -> usize;
}

/// The blocks of a network that are left out in one branch, as an [`Extra`] of the branch's conditioning. Only networks
/// that offer [`SkipsBlocks`] read this value.
///
/// ```
/// use impasto::Conditioning;
/// use impasto::conditioning::SkippedBlocks;
/// use tch::{Device, Kind, Tensor};
///
/// let mut conditioning = Conditioning::new(Tensor::zeros([1, 77, 8], (Kind::Float, Device::Cpu)));
/// conditioning.extras.set(SkippedBlocks([7, 8, 9].into()));
/// assert!(conditioning.extras.get::<SkippedBlocks>().is_some_and(|skipped| skipped.0.contains(&8)));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SkippedBlocks(pub BTreeSet<usize>);

impl Extra for SkippedBlocks {
    fn share(&self) -> Box<dyn Extra> {
        Box::new(self.clone())
    }

    fn narrow(&self, _: Range<i64>) -> Result<Box<dyn Extra>> {
        Ok(Box::new(self.clone()))
    }
}
