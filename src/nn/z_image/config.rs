//! The configuration of a transformer of Z-Image, `transformer/config.json`.

use crate::error::Result;
use crate::nn::config::{ConfigFile, Fixed, divides, in_file, layers, read, refuse, sizes};
use serde::{Deserialize, Serialize};

/// Largest width of the embedded time, from which every block computes its scales and gates.
const MOST_TIME: i64 = 256;

/// The configuration of a transformer of Z-Image; the names are diffusers', and the defaults are those of Z-Image and
/// Z-Image-Turbo.
///
/// ```
/// use impasto::nn::{ConfigFile, z_image::ZImageConfig};
///
/// assert_eq!(ZImageConfig::from_json("config.json", r#"{ "all_patch_size": [2] }"#)?.n_layers, 30);
/// let error = ZImageConfig::from_json("config.json", r#"{ "siglip_feat_dim": 1152 }"#).unwrap_err();
/// assert!(error.to_string().starts_with("config.json: siglip_feat_dim is 1152"));
/// # Ok::<(), impasto::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ZImageConfig {
    /// Channels of the latent and of the prediction.
    pub in_channels: i64,
    /// Width of the network.
    pub dim: i64,
    /// Number of layers in which picture and caption attend to both.
    pub n_layers: i64,
    /// Number of layers that refine the picture alone before, and of those that refine the caption alone.
    pub n_refiner_layers: i64,
    /// Number of attention heads.
    pub n_heads: i64,
    /// Number of heads of keys and values, equal to `n_heads`.
    pub n_kv_heads: i64,
    /// Epsilon of the norms of tokens.
    pub norm_eps: f64,
    /// Width of the caption's states.
    pub cap_feat_dim: i64,
    /// Base of the rotary wavelengths.
    pub rope_theta: f64,
    /// Factor of the time before its sinusoids.
    pub t_scale: f64,
    /// Widths of a head that the positions along caption, rows and columns rotate.
    pub axes_dims: [i64; 3],
    /// Numbers of positions along caption, rows and columns.
    pub axes_lens: [i64; 3],
    /// Width between the two layers of the time embedding. Published files lack this field.
    pub time_width: i64,
}

impl Default for ZImageConfig {
    fn default() -> Self {
        Self {
            in_channels: 16,
            dim: 3840,
            n_layers: 30,
            n_refiner_layers: 2,
            n_heads: 30,
            n_kv_heads: 30,
            norm_eps: 1e-5,
            cap_feat_dim: 2560,
            rope_theta: 256.0,
            t_scale: 1000.0,
            axes_dims: [32, 48, 48],
            axes_lens: [1536, 512, 512],
            time_width: 1024,
        }
    }
}

/// Fields that change the result, and the values that are implemented.
const FIXED: &[Fixed] =
    &[("all_f_patch_size", &["1"]), ("all_patch_size", &["2"]), ("qk_norm", &["true"]), ("siglip_feat_dim", &[])];

/// Name of the configuration in errors.
const NAME: &str = "the transformer's configuration";

impl ConfigFile for ZImageConfig {
    fn from_json(file: &str, text: &str) -> Result<Self> {
        let config: Self = read(file, text, FIXED)?;
        in_file(config.check(), file)?;
        Ok(config)
    }
}

impl ZImageConfig {
    /// Checks every number.
    pub(super) fn check(&self) -> Result<()> {
        for (field, value) in [
            ("in_channels", self.in_channels),
            ("dim", self.dim),
            ("cap_feat_dim", self.cap_feat_dim),
            ("time_width", self.time_width),
        ] {
            sizes(NAME, field, &[value])?;
        }
        sizes(NAME, "axes_dims", &self.axes_dims)?;
        sizes(NAME, "axes_lens", &self.axes_lens)?;
        layers(NAME, "n_layers", &[self.n_layers])?;
        layers(NAME, "n_refiner_layers", &[self.n_refiner_layers])?;
        divides(NAME, "n_heads", self.n_heads, self.dim)?;
        if self.n_kv_heads != self.n_heads {
            let expected = format!("expected {}, the number of heads", self.n_heads);
            return Err(refuse(NAME, "n_kv_heads", self.n_kv_heads, expected));
        }
        let head = self.dim / self.n_heads;
        if self.axes_dims.iter().any(|width| width % 2 == 1) || self.axes_dims.iter().sum::<i64>() != head {
            let expected = format!("expected three even numbers with the sum {head}, the width of a head");
            return Err(refuse(NAME, "axes_dims", self.axes_dims, expected));
        }
        if !(self.rope_theta >= 1.0 && self.rope_theta <= 1e12) {
            return Err(refuse(NAME, "rope_theta", self.rope_theta, "expected a number in 1..=1e12"));
        }
        for (field, value) in [("norm_eps", self.norm_eps), ("t_scale", self.t_scale)] {
            if !(value > 0.0 && value <= 1e6) {
                return Err(refuse(NAME, field, value, "expected a number above 0 and at most 1e6"));
            }
        }
        Ok(())
    }

    /// Returns the width of the embedded time.
    pub(super) fn time(&self) -> i64 {
        self.dim.min(MOST_TIME)
    }

    /// Returns the width of the feed-forward layers' hidden values: eight thirds of the network's.
    pub(super) fn inner_width(&self) -> i64 {
        ((self.dim as f64 / 3.0 * 8.0) as i64).max(1)
    }
}
