//! Attention sites: the places in a network where attention happens.

/// The context that a site attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SiteKind {
    /// Cross-attention: the context is the prompt.
    Cross,
    /// Self-attention: the context is the picture itself.
    SelfAttention,
    /// Joint attention: the tokens of the picture and of the prompt attend to both in one softmax. Hooks see and change
    /// the part in which the picture attends to the prompt.
    Joint,
}

/// The part of the network that a site is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Place {
    /// The contracting half of the network.
    Down,
    /// The bottleneck between the two halves.
    Mid,
    /// The expanding half of the network.
    Up,
    /// The block with this index, in a network without halves.
    Layer(usize),
}

/// A place in the network where attention happens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttentionSite {
    /// Position in the list of the model's sites.
    pub index: usize,
    /// Path in the checkpoint, such as `down_blocks.0.attentions.1.transformer_blocks.0.attn2`.
    pub name: String,
    /// Context that the site attends to.
    pub kind: SiteKind,
    /// Part of the network that the site is in.
    pub place: Place,
    /// Number of halvings of the latent grid before this site.
    pub halvings: u32,
    /// Number of attention heads.
    pub heads: i64,
    /// ControlNet that the site is in, counted from 0 in the order in which ControlNets are attached. `None`: the site
    /// is in the UNet.
    pub control: Option<usize>,
    /// True if saliencies read the site to find words, unless a program chooses sites. The network that lists the site
    /// sets this field.
    pub finds_words: bool,
}

impl AttentionSite {
    /// Describes a site, with index 0. The network that lists the site sets the index. The site finds words unless it
    /// is in the middle block, as in the package of DAAM's authors.
    pub fn new(name: impl Into<String>, kind: SiteKind, place: Place, halvings: u32, heads: i64) -> Self {
        let finds_words = !matches!(place, Place::Mid);
        Self { index: 0, name: name.into(), kind, place, halvings, heads, control: None, finds_words }
    }

    /// Returns true at the sites at which the picture attends to the prompt: cross-attention and joint attention.
    pub const fn is_cross(&self) -> bool {
        matches!(self.kind, SiteKind::Cross | SiteKind::Joint)
    }
}
