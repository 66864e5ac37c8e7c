//! The configuration of a Cosmos transformer, `transformer/config.json`.

use crate::error::Result;
use crate::nn::config::{ConfigFile, Fixed, in_file, layers, read, refuse, sizes};
use serde::{Deserialize, Serialize};

/// The configuration of a Cosmos transformer for pictures; the names are diffusers', and the defaults are Anima's.
///
/// Fields for video alone, such as the largest number of frames, are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct CosmosConfig {
    /// Channels of the latent.
    pub in_channels: i64,
    /// Channels of the prediction.
    pub out_channels: i64,
    /// Number of attention heads.
    pub num_attention_heads: i64,
    /// Width of each head, an even number.
    pub attention_head_dim: i64,
    /// Number of blocks.
    pub num_layers: i64,
    /// Width of the feed-forward layers, as a multiple of the network's width.
    pub mlp_ratio: f64,
    /// Width of the context.
    pub text_embed_dim: i64,
    /// Rank of the layers that compute shifts, scales and gates from the time.
    pub adaln_lora_dim: i64,
    /// Frames, rows and columns of a patch.
    pub patch_size: [i64; 3],
    /// Factors of the longest rotary wavelengths of frames, rows and columns.
    pub rope_scale: [f64; 3],
    /// Kind of position that is added to the tokens besides the rotations: none, or `learnable`.
    pub extra_pos_embed_type: Option<String>,
    /// Largest frames, rows and columns of a latent that learned positions are stored for.
    pub max_size: [i64; 3],
    /// True if the input has another channel, which marks padding: zeros for a whole picture.
    pub concat_padding_mask: bool,
    /// Factor by which the network multiplies its timesteps, above 0 and at most 1000. diffusers has no such field; its
    /// files mean 1.
    pub timestep_scale: f64,
}

impl Default for CosmosConfig {
    fn default() -> Self {
        Self {
            in_channels: 16,
            out_channels: 16,
            num_attention_heads: 16,
            attention_head_dim: 128,
            num_layers: 28,
            mlp_ratio: 4.0,
            text_embed_dim: 1024,
            adaln_lora_dim: 256,
            patch_size: [1, 2, 2],
            rope_scale: [1.0, 4.0, 4.0],
            extra_pos_embed_type: None,
            max_size: [128, 240, 240],
            concat_padding_mask: true,
            timestep_scale: 1.0,
        }
    }
}

/// Fields that change the result, and the values that are implemented.
const FIXED: &[Fixed] = &[
    ("controlnet_block_every_n", &[]),
    ("extra_pos_embed_type", &["\"learnable\""]),
    ("img_context_dim_in", &[]),
    ("use_crossattn_projection", &["false"]),
];

/// Name of the configuration in errors.
const NAME: &str = "the transformer's configuration";

/// Smallest width of a head: each of the three axes needs a pair of numbers.
const NARROWEST: i64 = 6;

impl ConfigFile for CosmosConfig {
    fn from_json(file: &str, text: &str) -> Result<Self> {
        let config: Self = read(file, text, FIXED)?;
        in_file(config.check(), file)?;
        Ok(config)
    }
}

impl CosmosConfig {
    /// Checks every number.
    pub(super) fn check(&self) -> Result<()> {
        for (field, value) in [
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("num_attention_heads", self.num_attention_heads),
            ("attention_head_dim", self.attention_head_dim),
            ("text_embed_dim", self.text_embed_dim),
            ("adaln_lora_dim", self.adaln_lora_dim),
        ] {
            sizes(NAME, field, &[value])?;
        }
        sizes(NAME, "max_size", &self.max_size)?;
        layers(NAME, "num_layers", &[self.num_layers])?;
        sizes(NAME, "num_attention_heads", &[self.width()])?;
        if self.attention_head_dim < NARROWEST || self.attention_head_dim % 2 == 1 {
            let expected = format!("expected an even number of at least {NARROWEST}");
            return Err(refuse(NAME, "attention_head_dim", self.attention_head_dim, expected));
        }
        if !(self.mlp_ratio > 0.0 && self.mlp_ratio <= 64.0) {
            return Err(refuse(NAME, "mlp_ratio", self.mlp_ratio, "expected a number above 0 and at most 64"));
        }
        if self.patch_size != [1, 2, 2] {
            return Err(refuse(NAME, "patch_size", self.patch_size, "only [1, 2, 2] is implemented"));
        }
        if !self.rope_scale.iter().all(|scale| (0.01..=100.0).contains(scale)) {
            return Err(refuse(NAME, "rope_scale", self.rope_scale, "expected three numbers in 0.01..=100"));
        }
        if !(self.timestep_scale > 0.0 && self.timestep_scale <= 1000.0) {
            let expected = "expected a number above 0 and at most 1000";
            return Err(refuse(NAME, "timestep_scale", self.timestep_scale, expected));
        }
        Ok(())
    }

    /// Returns the width of the network.
    pub fn width(&self) -> i64 {
        self.num_attention_heads * self.attention_head_dim
    }

    /// Returns the numbers of patches that learned positions are stored for along time, rows and columns.
    pub(super) fn places(&self) -> [i64; 3] {
        let count = |(size, patch): (&i64, &i64)| (size / patch.max(&1)).max(1);
        let mut counts = self.max_size.iter().zip(&self.patch_size).map(count);
        std::array::from_fn(|_| counts.next().unwrap_or(1))
    }

    /// Returns the width of the feed-forward layers' hidden values.
    pub(super) fn inner_width(&self) -> i64 {
        ((self.width() as f64 * self.mlp_ratio) as i64).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::{ConfigFile, CosmosConfig};

    #[test]
    fn impossible_values_are_refused_by_name() {
        for (field, value) in [
            ("attention_head_dim", "7"),
            ("mlp_ratio", "0"),
            ("patch_size", "[1, 4, 4]"),
            ("rope_scale", "[1, 0, 1]"),
            ("timestep_scale", "0"),
            ("timestep_scale", "2000"),
        ] {
            let error = CosmosConfig::from_json("config.json", &format!(r#"{{ "{field}": {value} }}"#));
            let message = error.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(message.contains(field), "{field} {value}: {message}");
        }
        assert!(CosmosConfig::from_json("config.json", r#"{ "timestep_scale": 1000 }"#).is_ok());
    }
}
