//! Attention sites: where in a network attention happens.

/// What a site attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SiteKind {
    /// The prompt.
    Cross,
    /// The picture itself.
    SelfAttention,
}

/// Which part of the network a site is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Place {
    /// The contracting half.
    Down,
    /// The bottleneck.
    Mid,
    /// The expanding half.
    Up,
}

/// A place in the network where attention happens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttentionSite {
    /// Position in the list of the model's sites.
    pub index: usize,
    /// Path in the checkpoint, `down_blocks.0.attentions.1.transformer_blocks.0.attn2`.
    pub name: String,
    /// What it attends to.
    pub kind: SiteKind,
    /// Half of the network it is in.
    pub place: Place,
    /// How often the latent grid was halved to get here.
    pub halvings: u32,
    /// Number of heads.
    pub heads: i64,
    /// Number of the ControlNet that the site is in, counted from 0 in the order in which they are attached; `None`: the UNet.
    pub control: Option<usize>,
}

impl AttentionSite {
    /// Describes a site; its index is given by the network that lists it.
    pub fn new(name: impl Into<String>, kind: SiteKind, place: Place, halvings: u32, heads: i64) -> Self {
        Self { index: 0, name: name.into(), kind, place, halvings, heads, control: None }
    }

    /// Is the context the prompt?
    pub const fn is_cross(&self) -> bool {
        matches!(self.kind, SiteKind::Cross)
    }
}
