//! [`ControlNetwork`]: the networks that follow a hint.

use crate::nn::ControlNet;
use crate::nn::t2i_adapter::T2iAdapter;

/// A network that follows a hint. [`Control`](super::Control) takes each kind by reference.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum ControlNetwork<'n> {
    /// A ControlNet, which runs in every step.
    ControlNet(&'n ControlNet),
    /// A T2I adapter, which runs once before the first step.
    T2iAdapter(&'n T2iAdapter),
}

impl<'n> From<&'n ControlNet> for ControlNetwork<'n> {
    fn from(net: &'n ControlNet) -> Self {
        Self::ControlNet(net)
    }
}

impl<'n> From<&'n T2iAdapter> for ControlNetwork<'n> {
    fn from(adapter: &'n T2iAdapter) -> Self {
        Self::T2iAdapter(adapter)
    }
}

impl ControlNetwork<'_> {
    /// Returns true if both are the same network in memory.
    pub(super) fn is(self, other: ControlNetwork<'_>) -> bool {
        match (self, other) {
            (Self::ControlNet(own), ControlNetwork::ControlNet(other)) => std::ptr::eq(own, other),
            (Self::T2iAdapter(own), ControlNetwork::T2iAdapter(other)) => std::ptr::eq(own, other),
            _ => false,
        }
    }

    /// Returns the number of channels of the hint.
    pub(crate) const fn channels(self) -> i64 {
        match self {
            Self::ControlNet(net) => net.config().conditioning_channels,
            Self::T2iAdapter(adapter) => adapter.config().in_channels,
        }
    }

    /// Returns the name of the kind of network, for reports and messages.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ControlNet(_) => "ControlNet",
            Self::T2iAdapter(_) => "T2I adapter",
        }
    }
}
