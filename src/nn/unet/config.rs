//! The configuration of a UNet, `unet/config.json`.

use crate::error::Result;
use crate::nn::config::{ConfigFile, Fixed, PerLevel, divides, in_file, layers, levels, read, refuse, sizes};
use serde::{Deserialize, Serialize};

/// The configuration of a UNet, `unet/config.json`; the names and the defaults are diffusers'.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct UnetConfig {
    /// Side of the latent grid in training, or its rows and columns.
    pub sample_size: Option<PerLevel>,
    /// Channels of the input: 4, or 9 for inpainting.
    pub in_channels: i64,
    /// Channels of the prediction.
    pub out_channels: i64,
    /// True if the sample is first mapped from 0..=1 to −1..=1.
    pub center_input_sample: bool,
    /// True if the cosines of the timestep precede the sines.
    pub flip_sin_to_cos: bool,
    /// Shift of the frequencies of the timestep.
    pub freq_shift: f64,
    /// Width of an optional vector that is embedded with the timestep, such as LCM's guidance scale.
    pub time_cond_proj_dim: Option<i64>,
    /// A block per level, `CrossAttnDownBlock2D` or `DownBlock2D`, from the largest grid to the smallest.
    pub down_block_types: Vec<String>,
    /// Type of the middle block: `UNetMidBlock2DCrossAttn`, or none.
    pub mid_block_type: Option<String>,
    /// A block per level, `CrossAttnUpBlock2D` or `UpBlock2D`, from the smallest grid to the largest.
    pub up_block_types: Vec<String>,
    /// Channels of each level.
    pub block_out_channels: Vec<i64>,
    /// Number of residual blocks in a down block; up blocks have one more.
    pub layers_per_block: PerLevel,
    /// Groups of the group norms.
    pub norm_num_groups: i64,
    /// Epsilon of the residual blocks' norms.
    pub norm_eps: f64,
    /// Width of the context.
    pub cross_attention_dim: PerLevel,
    /// Number of blocks in each transformer.
    pub transformer_layers_per_block: PerLevel,
    /// Number of attention heads, despite the name of the field.
    pub attention_head_dim: PerLevel,
    /// True if the transformers' projections are linear layers.
    pub use_linear_projection: bool,
    /// Kind of added conditions: `text_time` adds pooled text and size numbers to the timestep.
    pub addition_embed_type: Option<String>,
    /// Width of each size number's sinusoids.
    pub addition_time_embed_dim: Option<i64>,
    /// Width of the pooled text and all sinusoids together.
    pub projection_class_embeddings_input_dim: Option<i64>,
}

impl Default for UnetConfig {
    fn default() -> Self {
        let blocks = |first: &str, cross: &str, last: &str| [first, cross, cross, last].map(String::from).to_vec();
        Self {
            sample_size: None,
            in_channels: 4,
            out_channels: 4,
            center_input_sample: false,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
            time_cond_proj_dim: None,
            down_block_types: blocks("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            mid_block_type: Some("UNetMidBlock2DCrossAttn".into()),
            up_block_types: blocks("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            block_out_channels: vec![320, 640, 1280, 1280],
            layers_per_block: PerLevel::Same(2),
            norm_num_groups: 32,
            norm_eps: 1e-5,
            cross_attention_dim: PerLevel::Same(1280),
            transformer_layers_per_block: PerLevel::Same(1),
            attention_head_dim: PerLevel::Same(8),
            use_linear_projection: false,
            addition_embed_type: None,
            addition_time_embed_dim: None,
            projection_class_embeddings_input_dim: None,
        }
    }
}

/// Fields that change the result, and the values that are implemented.
pub(in crate::nn) const FIXED: &[Fixed] = &[
    ("act_fn", &["\"silu\"", "\"swish\""]),
    ("addition_embed_type", &["\"text_time\""]),
    ("attention_type", &["\"default\""]),
    ("class_embed_type", &[]),
    ("conv_in_kernel", &["3"]),
    ("conv_out_kernel", &["3"]),
    ("cross_attention_norm", &[]),
    ("down_block_types", &["\"CrossAttnDownBlock2D\"", "\"DownBlock2D\""]),
    ("downsample_padding", &["1"]),
    ("dual_cross_attention", &["false"]),
    ("encoder_hid_dim", &[]),
    ("encoder_hid_dim_type", &[]),
    ("mid_block_only_cross_attention", &["false"]),
    ("mid_block_scale_factor", &["1", "1.0"]),
    ("mid_block_type", &["\"UNetMidBlock2DCrossAttn\""]),
    ("num_attention_heads", &[]),
    ("num_class_embeds", &[]),
    ("only_cross_attention", &["false"]),
    ("resnet_out_scale_factor", &["1", "1.0"]),
    ("resnet_skip_time_act", &["false"]),
    ("resnet_time_scale_shift", &["\"default\""]),
    ("reverse_transformer_layers_per_block", &[]),
    ("time_embedding_act_fn", &[]),
    ("time_embedding_dim", &[]),
    ("time_embedding_type", &["\"positional\""]),
    ("timestep_post_act", &[]),
    ("up_block_types", &["\"CrossAttnUpBlock2D\"", "\"UpBlock2D\""]),
];

/// One resolution of a UNet, with the sizes of the layers that both halves have at this resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Level {
    /// Number of halvings of the latent grid.
    pub halvings: u32,
    /// Number of channels.
    pub channels: i64,
    /// Number of attention heads.
    pub heads: i64,
    /// Number of blocks in each transformer.
    pub depth: i64,
    /// Width of the context.
    pub context: i64,
    /// Number of residual blocks in the down block.
    pub layers: i64,
    /// True if the down block has transformers.
    pub down_attends: bool,
    /// True if the up block has transformers.
    pub up_attends: bool,
}

impl ConfigFile for UnetConfig {
    fn from_json(file: &str, text: &str) -> Result<Self> {
        let config: Self = read(file, text, FIXED)?;
        in_file(config.levels(), file)?;
        Ok(config)
    }
}

impl UnetConfig {
    /// Checks every number, and returns the levels from the largest grid to the smallest.
    ///
    /// # Errors
    /// [`Error::Config`](crate::error::Error::Config) if lists differ in length, a number is not positive or does not
    /// divide the channels.
    pub fn levels(&self) -> Result<Vec<Level>> {
        let count = self.block_out_channels.len();
        let short = |field: &str, got: usize| refuse(NAME, field, got, format!("expected {count} levels"));
        for (field, got) in
            [("down_block_types", self.down_block_types.len()), ("up_block_types", self.up_block_types.len())]
        {
            if got != count {
                return Err(short(field, got));
            }
        }
        levels(NAME, "block_out_channels", &self.block_out_channels)?;
        sizes(NAME, "block_out_channels", &self.block_out_channels)?;
        sizes(NAME, "in_channels", &[self.in_channels])?;
        sizes(NAME, "out_channels", &[self.out_channels])?;
        sizes(NAME, "time_cond_proj_dim", &[self.time_cond_proj_dim.unwrap_or(1)])?;
        for side in 0..2 {
            let cells = self.sample_size.as_ref().and_then(|size| size.level(side));
            sizes(NAME, "sample_size", &[cells.unwrap_or(1)])?;
        }
        if self.addition_embed_type.as_deref() == Some("text_time") {
            // 0 is not a valid size, so a missing size is refused.
            sizes(NAME, "addition_time_embed_dim", &[self.addition_time_embed_dim.unwrap_or(0)])?;
            let inputs = self.projection_class_embeddings_input_dim.unwrap_or(0);
            sizes(NAME, "projection_class_embeddings_input_dim", &[inputs])?;
        }
        // The configurations of some models related to SDXL have a depth of 0 for levels without attention.
        let at = |field: &'static str, list: &PerLevel, i, attends: bool| -> Result<i64> {
            let value = list.level(i).ok_or_else(|| short(field, i))?;
            let check = if field.contains("layers") { layers } else { sizes };
            if attends { check(NAME, field, &[value]).map(|()| value) } else { Ok(value) }
        };
        let ups = self.up_block_types.iter().rev();
        let kinds = self.down_block_types.iter().zip(ups);
        let level = |(i, (&channels, (down, up))): (usize, (&i64, (&String, &String)))| {
            let (down_attends, up_attends) = (down.starts_with("CrossAttn"), up.starts_with("CrossAttn"));
            let attends = down_attends || up_attends || (i + 1 == count && self.mid_block_type.is_some());
            let heads = at("attention_head_dim", &self.attention_head_dim, i, attends)?;
            if attends {
                divides(NAME, "attention_head_dim", heads, channels)?;
            }
            divides(NAME, "norm_num_groups", self.norm_num_groups, channels)?;
            Ok(Level {
                halvings: i as u32,
                channels,
                heads,
                depth: at("transformer_layers_per_block", &self.transformer_layers_per_block, i, attends)?,
                context: at("cross_attention_dim", &self.cross_attention_dim, i, attends)?,
                layers: at("layers_per_block", &self.layers_per_block, i, true)?,
                down_attends,
                up_attends,
            })
        };
        self.block_out_channels.iter().zip(kinds).enumerate().map(level).collect()
    }
}

/// Name in errors of a configuration that does not come from a file.
const NAME: &str = "UnetConfig";

#[cfg(test)]
mod tests {
    use super::*;

    fn message(json: &str) -> String {
        UnetConfig::from_json("unet/config.json", json).unwrap_err().to_string()
    }

    #[test]
    fn unimplemented_settings_are_refused_by_name() {
        let text = message(r#"{"class_embed_type": "timestep"}"#);
        assert!(
            text.contains("unet/config.json: class_embed_type is \"timestep\"; this value is not implemented"),
            "{text}"
        );
        assert!(message(r#"{"act_fn": "gelu"}"#).contains("only \"silu\" or \"swish\" is implemented"));
        assert!(message(r#"{"down_block_types": ["AttnDownBlock2D"]}"#).contains("down_block_types"));
        assert!(message(r#"{"only_cross_attention": [false, true]}"#).contains("only_cross_attention"));
        let fine =
            r#"{"only_cross_attention": [false, false], "mid_block_scale_factor": 1.0, "dropout": 0.5, "new": {}}"#;
        assert_eq!(UnetConfig::from_json("", fine).unwrap(), UnetConfig::default());
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(message(r#"{"block_out_channels": [320, 640]}"#).contains("down_block_types is 4; expected 2 levels"));
        assert!(
            message(r#"{"block_out_channels": [], "down_block_types": [], "up_block_types": []}"#).contains("levels")
        );
        assert!(message(r#"{"attention_head_dim": [5, 10]}"#).contains("attention_head_dim"));
        assert!(message(r#"{"attention_head_dim": 0}"#).contains("attention_head_dim is 0"));
        assert!(message(r#"{"attention_head_dim": 7}"#).contains("must divide 320"));
        assert!(message(r#"{"block_out_channels": [320, 640, 1280, -1]}"#).contains("block_out_channels is -1"));
        assert!(message(r#"{"in_channels": "four"}"#).contains("invalid type"));
        assert!(message(r#"{"addition_embed_type": "text_time"}"#).contains("addition_time_embed_dim is 0"));
        assert!(message("{").contains("EOF"));
    }
}
