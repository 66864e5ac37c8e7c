//! The configuration of the Qwen-Image VAE, `vae/config.json`.

use crate::error::Result;
use crate::nn::config::{ConfigFile, Fixed, in_file, layers, levels, read, refuse, sizes};
use crate::nn::vae;
use serde::Deserialize;

/// The configuration of a Qwen-Image VAE; the names are diffusers', and the defaults are those of Qwen-Image.
///
/// Fields for video alone, such as the levels that join frames, are ignored.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct QwenVaeConfig {
    /// Channels of a picture.
    pub input_channels: i64,
    /// Channels of a latent.
    pub z_dim: i64,
    /// Channels of the first level, an even number.
    pub base_dim: i64,
    /// Channels of each level, from the picture's size to the latent's, as multiples of `base_dim`.
    pub dim_mult: Vec<i64>,
    /// Residual blocks of a level of the encoder; levels of the decoder have one more.
    pub num_res_blocks: i64,
    /// Mean of each channel of encoded latents.
    pub latents_mean: Vec<f64>,
    /// Standard deviation of each channel of encoded latents.
    pub latents_std: Vec<f64>,
}

impl Default for QwenVaeConfig {
    fn default() -> Self {
        Self {
            input_channels: 3,
            z_dim: 16,
            base_dim: 96,
            dim_mult: vec![1, 2, 4, 4],
            num_res_blocks: 2,
            latents_mean: vec![
                -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134, -0.0715, 0.5517, -0.3632,
                -0.1922, -0.9497, 0.2503, -0.2921,
            ],
            latents_std: vec![
                2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652, 1.5579, 1.6382,
                1.1253, 2.8251, 1.9160,
            ],
        }
    }
}

/// Fields that change the result, and the values that are implemented.
const FIXED: &[Fixed] = &[("attn_scales", &[]), ("is_residual", &["false"]), ("patch_size", &[])];

/// Name in errors of a configuration that does not come from a file.
const NAME: &str = "QwenVaeConfig";

impl ConfigFile for QwenVaeConfig {
    fn from_json(file: &str, text: &str) -> Result<Self> {
        let config: Self = read(file, text, FIXED)?;
        in_file(config.check(), file)?;
        Ok(config)
    }
}

impl QwenVaeConfig {
    /// Returns the channels of each level, from the picture's size to the latent's.
    pub(super) fn channels(&self) -> Vec<i64> {
        self.dim_mult.iter().map(|mult| self.base_dim * mult).collect()
    }

    /// Checks every number.
    pub(super) fn check(&self) -> Result<()> {
        sizes(NAME, "input_channels", &[self.input_channels])?;
        sizes(NAME, "z_dim", &[self.z_dim])?;
        sizes(NAME, "base_dim", &[self.base_dim])?;
        levels(NAME, "dim_mult", &self.dim_mult)?;
        sizes(NAME, "dim_mult", &self.dim_mult)?;
        sizes(NAME, "dim_mult", &self.channels())?;
        layers(NAME, "num_res_blocks", &[self.num_res_blocks])?;
        if self.base_dim % 2 == 1 {
            return Err(refuse(NAME, "base_dim", self.base_dim, "expected an even number"));
        }
        let count = self.z_dim as usize;
        for (field, values) in [("latents_mean", &self.latents_mean), ("latents_std", &self.latents_std)] {
            if values.len() != count || !values.iter().all(|value| value.is_finite()) {
                let expected = format!("expected {count} finite numbers, one for each channel of a latent");
                return Err(refuse(NAME, field, values, expected));
            }
        }
        if !self.latents_std.iter().all(|std| (1e-6..=1e6).contains(std)) {
            return Err(refuse(NAME, "latents_std", &self.latents_std, "expected numbers of 1e-6 to 1e6"));
        }
        Ok(())
    }

    /// Returns the pixels of a picture per latent cell, in each direction: 8 for Qwen-Image.
    pub(crate) fn factor(&self) -> i64 {
        1 << self.dim_mult.len().saturating_sub(1).min(62)
    }

    /// Estimates the peak number of values that decoding holds per latent cell.
    pub(crate) fn peak_of_decoding(&self) -> f64 {
        vae::peak_of_decoding(&self.channels())
    }

    /// Estimates the peak number of values that encoding holds per latent cell.
    pub(crate) fn peak_of_encoding(&self) -> f64 {
        vae::peak_of_encoding(&self.channels())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_three_times_the_largest_tensor() {
        let config = QwenVaeConfig::default();
        // 96 channels at the picture's size; after the last upsampling, 192.
        assert_eq!(
            (config.factor(), config.peak_of_encoding(), config.peak_of_decoding()),
            (8, 3.0 * 6144.0, 3.0 * 12288.0)
        );
    }

    #[test]
    fn settings_that_do_not_fit_are_named() {
        let message = |json| QwenVaeConfig::from_json("vae/config.json", json).unwrap_err().to_string();
        assert!(message(r#"{"attn_scales": [0.25]}"#).contains("vae/config.json: attn_scales is [0.25]"));
        assert!(message(r#"{"is_residual": true}"#).contains("only false is implemented"));
        assert!(message(r#"{"z_dim": 4}"#).contains("expected 4 finite numbers"));
        assert!(
            message(r#"{"z_dim": 1, "latents_mean": [0], "latents_std": [0]}"#).contains("expected numbers of 1e-6")
        );
        assert!(message(r#"{"dim_mult": []}"#).contains("expected 1 to 16 levels"));
        assert!(message(r#"{"base_dim": 5}"#).contains("expected an even number"));
    }
}
