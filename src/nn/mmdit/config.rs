//! The configuration of a transformer of Stable Diffusion 3, `transformer/config.json`.

use crate::error::Result;
use crate::nn::config::{ConfigFile, Fixed, in_file, layers, read, refuse, sizes};
use serde::{Deserialize, Serialize};

/// The configuration of a transformer of Stable Diffusion 3 and 3.5; the names are diffusers', and the defaults are
/// those of SD 3 medium, whose file lacks the newer fields.
///
/// ```
/// use impasto::nn::{ConfigFile, mmdit::Sd3Config};
///
/// let large = r#"{ "num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432 }"#;
/// assert_eq!(Sd3Config::from_json("config.json", large)?.num_layers, 38);
/// let error = Sd3Config::from_json("config.json", r#"{ "dual_attention_layers": [24] }"#).unwrap_err();
/// assert!(error.to_string().starts_with("config.json: dual_attention_layers is 24"));
/// # Ok::<(), impasto::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Sd3Config {
    /// Rows and columns, in cells, of the square latents that the network was trained on.
    pub sample_size: i64,
    /// Rows and columns of a patch.
    pub patch_size: i64,
    /// Channels of the latent.
    pub in_channels: i64,
    /// Channels of the prediction.
    pub out_channels: i64,
    /// Number of blocks.
    pub num_layers: i64,
    /// Number of attention heads.
    pub num_attention_heads: i64,
    /// Width of each head.
    pub attention_head_dim: i64,
    /// Width of the context.
    pub joint_attention_dim: i64,
    /// Width of the context inside the network, equal to the network's width.
    pub caption_projection_dim: i64,
    /// Width of the pooled text embedding.
    pub pooled_projection_dim: i64,
    /// Rows and columns of the stored table of positions, in patches.
    pub pos_embed_max_size: i64,
    /// Indexes of the blocks with self-attention of the picture beside the joint attention.
    pub dual_attention_layers: Vec<i64>,
    /// Kind of norm of queries and keys: none, or `rms_norm`.
    pub qk_norm: Option<String>,
}

impl Default for Sd3Config {
    fn default() -> Self {
        Self {
            sample_size: 128,
            patch_size: 2,
            in_channels: 16,
            out_channels: 16,
            num_layers: 24,
            num_attention_heads: 24,
            attention_head_dim: 64,
            joint_attention_dim: 4096,
            caption_projection_dim: 1536,
            pooled_projection_dim: 2048,
            pos_embed_max_size: 192,
            dual_attention_layers: Vec::new(),
            qk_norm: None,
        }
    }
}

/// Fields that change the result, and the values that are implemented.
const FIXED: &[Fixed] = &[("patch_size", &["2"]), ("qk_norm", &["\"rms_norm\""])];

/// Name of the configuration in errors.
const NAME: &str = "the transformer's configuration";

impl ConfigFile for Sd3Config {
    fn from_json(file: &str, text: &str) -> Result<Self> {
        let config: Self = read(file, text, FIXED)?;
        in_file(config.check(), file)?;
        Ok(config)
    }
}

impl Sd3Config {
    /// Checks every number.
    pub(super) fn check(&self) -> Result<()> {
        for (field, value) in [
            ("sample_size", self.sample_size),
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("num_attention_heads", self.num_attention_heads),
            ("attention_head_dim", self.attention_head_dim),
            ("joint_attention_dim", self.joint_attention_dim),
            ("pooled_projection_dim", self.pooled_projection_dim),
            ("pos_embed_max_size", self.pos_embed_max_size),
        ] {
            sizes(NAME, field, &[value])?;
        }
        layers(NAME, "num_layers", &[self.num_layers])?;
        sizes(NAME, "num_attention_heads", &[self.width()])?;
        if self.patch_size != 2 {
            return Err(refuse(NAME, "patch_size", self.patch_size, "only 2 is implemented"));
        }
        if self.caption_projection_dim != self.width() {
            let expected = format!("expected {}, the number of heads times the width of a head", self.width());
            return Err(refuse(NAME, "caption_projection_dim", self.caption_projection_dim, expected));
        }
        match self.dual_attention_layers.iter().find(|layer| !(0..self.num_layers).contains(layer)) {
            Some(layer) => {
                let expected = format!("expected blocks of the {}, counted from 0", self.num_layers);
                Err(refuse(NAME, "dual_attention_layers", layer, expected))
            }
            None => Ok(()),
        }
    }

    /// Returns the width of the network.
    pub(super) fn width(&self) -> i64 {
        self.num_attention_heads * self.attention_head_dim
    }
}
