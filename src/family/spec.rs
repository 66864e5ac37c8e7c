//! [`FamilySpec`]: the facts about a family of models.

/// The facts about a family. A new family needs a variant of [`ModelFamily`](super::ModelFamily) and a file with one of
/// these structs.
#[derive(Debug)]
pub(crate) struct FamilySpec {
    /// Name in messages.
    pub name: &'static str,
    /// Starts that `modelspec.architecture` has in the metadata of the family's files.
    pub architectures: &'static [&'static str],
    /// The text encoders. CLIP's stand in the order in which their states stand side by side in the context.
    pub text_encoders: &'static [&'static str],
    /// True if a checkpoint without its text encoders is whole.
    pub text_is_optional: bool,
    /// Layer of the text encoders that the UNet reads.
    pub text_layer: TextLayer,
    /// True if the network reads the pooled texts of all CLIP encoders side by side, instead of the last one's.
    pub pools_each: bool,
    /// Width of the context that the family's UNet reads.
    pub context: i64,
    /// Input width of the UNet's layer for pooled text and size numbers; `None` without such a layer.
    pub added: Option<i64>,
    /// True if zeros represent an empty negative prompt, instead of the text encoder's states.
    pub empty_is_zeros: bool,
    /// True if the UNet reads an aesthetic score.
    pub reads_score: bool,
    /// diffusers' class of the scheduler that the family was published with.
    pub scheduler: &'static str,
    /// diffusers' class of the scheduler for models that predict v or have zero terminal SNR.
    pub scheduler_of_v: &'static str,
    /// Shift of the levels to high noise, for a rectified flow; `None` for diffusion.
    pub shift: Option<f64>,
    /// Spacing of a flow's times that the family samples with, if it is not that of the scheduler's class.
    pub spacing: Option<&'static str>,
    /// Side of the square latent at the family's own picture size, in cells.
    pub side: i64,
    /// Side of the square latent at the picture size of models that predict v, in cells.
    pub side_of_v: i64,
    /// Number of attention heads on every level.
    pub heads: Heads,
    /// Factor by which the VAE's latents are multiplied for the sampler; 1 if each channel has factors of its own.
    pub scaling_factor: f64,
    /// Number that is subtracted from the VAE's latents before they are multiplied.
    pub latent_shift: f64,
    /// True if the family's VAE is Qwen-Image's, which scales each channel in its own way.
    pub qwen_vae: bool,
    /// True if the VAE's activations exceed the range of f16 unless its configuration says otherwise.
    pub vae_overflows: bool,
    /// Token that pads prompts, if it is not the end token.
    pub pad_token: Option<&'static str>,
    /// Number of layers that are used of a text encoder with 24 layers.
    pub layers_of_24: usize,
    /// Usual guidance scale.
    pub guidance_scale: f64,
}

/// Rule for the number of attention heads on a UNet's level.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Heads {
    /// A fixed number on every level.
    Fixed(i64),
    /// One head for every group of this many channels.
    PerChannels(i64),
}

/// Layer of a text encoder that a UNet reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextLayer {
    /// The last layer, with the encoder's final norm.
    Last,
    /// The last layer but one, without the norm.
    BeforeLast,
}
