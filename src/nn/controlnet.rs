//! ControlNets: copies of a UNet's contracting half that read a picture and compute residuals for the UNet.

use super::config::{ConfigFile, Fixed, in_file, levels, read, refuse, sizes};
use super::control_type::ControlType;
use super::guess::Guess;
use super::layers::{Conv, Conv2d};
use super::unet::blocks::BlockBuilder;
use super::unet::config::FIXED as UNET_FIXED;
use super::unet::encoder::{Additions, Encoded, UnetEncoder};
use super::unet::{AddedConditions, Residuals, UnetConfig};
use super::union::{Union, UnionHint, UnionSizes};
use crate::attention::{AttentionSite, Tap};
use crate::error::{Error, Result};
use crate::weights::{Tensors, Weights};
use crate::wording::Remedy;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

/// Name in errors of a configuration that does not come from a file.
const NAME: &str = "ControlNetConfig";

/// The configuration of a ControlNet, `config.json`; the names and the defaults are diffusers'.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ControlNetConfig {
    /// Settings shared with the UNet that the ControlNet copies. Parsing replaces `up_block_types` by the mirror of
    /// `down_block_types`.
    #[serde(flatten)]
    pub unet: UnetConfig,
    /// Channels of the hint: 3 for pictures, other numbers for stacked layers (such as 1 of edges and 4 of strokes).
    pub conditioning_channels: i64,
    /// Channels of the hint's embedding at each size, from the picture's to the latent's.
    pub conditioning_embedding_out_channels: Vec<i64>,
    /// Channel order: `rgb`, or `bgr`, which reverses the hint's three channels first.
    pub controlnet_conditioning_channel_order: String,
    /// Number of hint types in a ControlNet union; `None` for a plain ControlNet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_control_type: Option<i64>,
    /// Number of transformer layers over the hints of a union.
    pub num_trans_layer: i64,
    /// True if each residual is replaced by its mean over the picture.
    pub global_pool_conditions: bool,
    /// The scale that [`Control`](crate::Control) starts with. A field of impasto's own.
    #[serde(skip_serializing_if = "is_one")]
    pub conditioning_scale: f64,
    /// The guess mode that [`Control`](crate::Control) starts with. A field of impasto's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guess_mode: Option<Guess>,
}

/// Returns true for the usual scale. Serde passes references.
fn is_one(scale: &f64) -> bool {
    *scale == 1.0
}

impl Default for ControlNetConfig {
    fn default() -> Self {
        Self {
            unet: UnetConfig::default(),
            conditioning_channels: 3,
            conditioning_embedding_out_channels: vec![16, 32, 96, 256],
            controlnet_conditioning_channel_order: "rgb".into(),
            num_control_type: None,
            num_trans_layer: 1,
            global_pool_conditions: false,
            conditioning_scale: 1.0,
            guess_mode: None,
        }
    }
}

/// Field that changes the result, in addition to the UNet's, and its implemented values.
const FIXED: Fixed = ("controlnet_conditioning_channel_order", &["\"rgb\"", "\"bgr\""]);

impl ConfigFile for ControlNetConfig {
    fn from_json(file: &str, text: &str) -> Result<Self> {
        let fixed: Vec<Fixed> = UNET_FIXED.iter().copied().chain([FIXED]).collect();
        let mut config: Self = read(file, text, &fixed)?;
        let mirrored = config.unet.down_block_types.iter().rev().map(|block| block.replace("Down", "Up"));
        config.unet.up_block_types = mirrored.collect();
        in_file(config.check(), file)?;
        Ok(config)
    }
}

impl ControlNetConfig {
    /// Returns the text of a `config.json` that diffusers and [`from_json`](Self::from_json) read.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration contradicts itself.
    pub fn to_json(&self) -> Result<String> {
        /// Fields of a UNet's configuration that diffusers does not expect in a ControlNet's.
        const UNET_ALONE: [&str; 5] =
            ["center_input_sample", "out_channels", "sample_size", "time_cond_proj_dim", "up_block_types"];
        self.check()?;
        let mut fields = serde_json::to_value(self).unwrap_or_default();
        if let Some(fields) = fields.as_object_mut() {
            fields.retain(|name, value| !UNET_ALONE.contains(&name.as_str()) && *value != Value::Null);
            let class = if self.num_control_type.is_some() { "ControlNetUnionModel" } else { "ControlNetModel" };
            fields.insert("_class_name".into(), json!(class));
            if self.num_control_type.is_none() {
                fields.remove("num_trans_layer");
            }
        }
        Ok(format!("{fields:#}\n"))
    }

    /// Returns the pixels of a hint per latent cell, in each direction: 8 for Stable Diffusion.
    pub(crate) fn factor(&self) -> i64 {
        1 << self.conditioning_embedding_out_channels.len().saturating_sub(1).min(62)
    }

    /// Returns the sizes of a union; `None` for a plain ControlNet.
    fn union_sizes(&self) -> Option<UnionSizes> {
        Some(UnionSizes { types: self.num_control_type?, layers: self.num_trans_layer })
    }

    fn bgr(&self) -> bool {
        self.controlnet_conditioning_channel_order == "bgr"
    }

    fn check(&self) -> Result<()> {
        self.unet.levels()?;
        sizes(NAME, "conditioning_channels", &[self.conditioning_channels])?;
        sizes(NAME, "conditioning_embedding_out_channels", &self.conditioning_embedding_out_channels)?;
        levels(NAME, "conditioning_embedding_out_channels", &self.conditioning_embedding_out_channels)?;
        if let Some(sizes) = self.union_sizes() {
            sizes.check(&self.unet)?;
        }
        if self.bgr() && self.conditioning_channels != 3 {
            let expected = "expected 3, because controlnet_conditioning_channel_order is bgr";
            return Err(refuse(NAME, "conditioning_channels", self.conditioning_channels, expected));
        }
        if !self.conditioning_scale.is_finite() {
            return Err(refuse(NAME, "conditioning_scale", self.conditioning_scale, "expected a finite number"));
        }
        Ok(())
    }
}

/// diffusers' `ControlNetModel` and `ControlNetUnionModel`, for SD 1.x, 2.x and SDXL and hints of any number of
/// channels.
///
/// The ControlNet runs before the UNet, on the same sample, timestep and context. Its output goes into
/// [`AddedConditions::residuals`].
///
/// Source: "Adding Conditional Control to Text-to-Image Diffusion Models" (arXiv 2302.05543).
#[derive(Debug)]
pub struct ControlNet {
    contracting: UnetEncoder,
    controlnet_cond_embedding: HintEmbedding,
    controlnet_down_blocks: Vec<Conv2d>,
    controlnet_mid_block: Conv2d,
    /// Layers that only a union has.
    union: Option<Union>,
    config: ControlNetConfig,
    sites: Vec<AttentionSite>,
    options: (Kind, Device),
}

impl ControlNet {
    /// Builds a ControlNet from the weights `w`.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration contradicts itself, [`Error::Weights`] if the weights do not fit it.
    pub fn new(w: &Weights, config: &ControlNetConfig) -> Result<Self> {
        config.check()?;
        let levels = config.unet.levels()?;
        let ends = |level: Option<&super::unet::Level>| level.map(|level| level.channels).unwrap_or_default();
        let (first, last) = (ends(levels.first()), ends(levels.last()));
        let mut make = BlockBuilder::new(&config.unet, 4 * first);
        let (contracting, skips) = UnetEncoder::new(w, &mut make, &levels)?;
        let zero = |w: Weights, channels: i64| w.conv2d(channels, channels, Conv::CELL);
        let down = |(i, &channels): (usize, &i64)| zero(w.at("controlnet_down_blocks").at(i), channels);
        let net = Self {
            contracting,
            controlnet_cond_embedding: HintEmbedding::new(&w.at("controlnet_cond_embedding"), config, first)?,
            controlnet_down_blocks: skips.iter().enumerate().map(down).collect::<Result<_>>()?,
            controlnet_mid_block: zero(w.at("controlnet_mid_block"), last)?,
            union: config.union_sizes().map(|of| Union::new(w, &config.unet, of, first, 4 * first)).transpose()?,
            config: config.clone(),
            sites: make.sites.into_vec(),
            options: (w.kind(), w.device()),
        };
        w.finish()?;
        Ok(net)
    }

    /// Creates the initial f32 weights to train a ControlNet:
    ///
    /// - the contracting half is a copy of the UNet's;
    /// - the hint embedding is random, except for a last convolution of zeros;
    /// - the output convolutions are zeros.
    ///
    /// Such a ControlNet changes no bit of the UNet's prediction.
    ///
    /// `unet` holds the UNet's tensors under diffusers' names ([`Model::tensors`](crate::Model::tensors)); `seed`
    /// determines the hint embedding.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration contradicts itself; [`Error::Parameter`] for a tensor that the UNet lacks
    /// or has in another shape.
    pub fn from_unet(unet: &Tensors, config: &ControlNetConfig, seed: u64) -> Result<Tensors> {
        const EMBEDDING: &str = "controlnet_cond_embedding";
        let _no_grad = tch::no_grad_guard();
        let random = Weights::random(seed, Kind::Float, Device::Cpu);
        Self::new(&random, config)?;
        let mut weights = random.drawn()?;
        for (name, x) in &mut weights {
            let zero = ["controlnet_down_blocks", "controlnet_mid_block", "controlnet_cond_embedding.conv_out"];
            if zero.iter().any(|part| name.starts_with(part)) {
                *x = x.f_zeros_like()?;
            } else if name.starts_with(EMBEDDING) {
                // SiLU halves small values. Seven SiLUs would shrink the values of a thin line to a hundredth, and
                // training would take long to notice the line. Doubled weights keep the values at their size.
                *x = x.f_mul_scalar(2.0)?;
            } else {
                let of = unet.get(name).filter(|of| of.size() == x.size()).ok_or_else(|| {
                    let expected = format!("a UNet that has {name} of shape {:?}", x.size());
                    Error::parameter("the UNet to copy", "one of another architecture", expected)
                })?;
                *x = x.f_empty_like()?;
                x.f_copy_(of)?;
            }
        }
        Ok(weights)
    }

    /// Returns the configuration of the network.
    pub const fn config(&self) -> &ControlNetConfig {
        &self.config
    }

    /// Returns the attention sites in the order they run.
    pub fn sites(&self) -> &[AttentionSite] {
        &self.sites
    }

    /// Embeds a hint, which is the same at every step: [b, conditioning_channels, 8h, 8w] in 0..=1 → [b, channels, h,
    /// w] in this network's kind.
    ///
    /// # Errors
    /// [`Error::Shape`] if the hint has other channels, or sides that are not multiples of 2ⁿ⁻¹ for n
    /// `conditioning_embedding_out_channels`: 8 for Stable Diffusion. [`Error::Parameter`] for a union.
    pub fn embed(&self, hint: &Tensor) -> Result<Tensor> {
        if self.union.is_some() {
            let expected = Remedy::HintTypes.after("a type for each hint of a ControlNet union");
            return Err(Error::parameter("control_type", "missing", expected));
        }
        self.embed_one(hint)
    }

    /// Embeds the hints of a union, of the same shape each: → [b, channels, h, w] in this network's kind. The types
    /// also belong into [`AddedConditions::control_types`].
    ///
    /// The scales are used only beside other hints. The residuals of a single hint are multiplied by its scale
    /// afterwards; those of several hints are not.
    ///
    /// # Errors
    /// [`Error::Shape`] as in [`embed`](Self::embed). [`Error::Parameter`] without hints, for a type that the network
    /// does not know, or if the network is no union.
    ///
    /// Source: `ControlNetUnionModel` of diffusers 0.42.
    pub fn embed_union(&self, hints: &[UnionHint<'_>]) -> Result<Tensor> {
        let Some(union) = &self.union else {
            return Err(Error::parameter("control_type", "given", "none; this ControlNet is no union"));
        };
        let one = |UnionHint { hint, control_type, scale }: &UnionHint<'_>| -> Result<(Tensor, ControlType, f64)> {
            Ok((self.embed_one(hint)?, *control_type, *scale))
        };
        union.sum(&hints.iter().map(one).collect::<Result<Vec<_>>>()?)
    }

    /// Returns true if the network is a union, whose hints have types.
    pub(crate) const fn is_union(&self) -> bool {
        self.union.is_some()
    }

    fn embed_one(&self, hint: &Tensor) -> Result<Tensor> {
        let (channels, factor) = (self.config.conditioning_channels, self.config.factor());
        match hint.size().as_slice() {
            &[_, c, h, w] if c == channels && h % factor == 0 && w % factor == 0 => {}
            got => {
                let expected = format!("[b, {channels}, h, w] with sides that are multiples of {factor}");
                return Err(Error::Shape { what: "hint", got: got.to_vec(), expected });
            }
        }
        let hint = hint.f_to_device(self.options.1)?.f_to_kind(self.options.0)?;
        let hint = if self.config.bgr() { hint.f_flip([1])? } else { hint };
        self.controlnet_cond_embedding.forward(&hint)
    }

    /// Computes the residuals for a UNet with the same `sample`, `timestep`, `context` and `added`; see
    /// [`UNet::forward`](super::UNet::forward). `embedded` is the hint from [`ControlNet::embed`] or
    /// [`ControlNet::embed_union`], with one row or as many as the sample. The residuals have this network's kind.
    /// `tap` carries the hooks.
    ///
    /// # Errors
    /// [`Error::Shape`] if a tensor has another shape, [`Error::Parameter`] if the checkpoint needs `added`.
    pub fn forward(
        &self,
        sample: &Tensor,
        timestep: &Tensor,
        context: &Tensor,
        added: Option<&AddedConditions>,
        embedded: &Tensor,
        tap: &mut Tap<'_>,
    ) -> Result<Residuals> {
        let _serial = self.contracting.among_kernels(sample)?;
        let types = added.map_or(&[][..], |added| &added.control_types);
        let time = self.union.as_ref().map(|union| union.time(types, self.options)).transpose()?;
        let hints = std::slice::from_ref(embedded);
        let additions = Additions { hints, time: time.as_ref(), ..Additions::default() };
        let Encoded { x, skips, .. } =
            self.contracting.forward(sample, timestep, context, added, additions, tap)?.whole()?;
        let put_out = |zero: &Conv2d, x: &Tensor| -> Result<Tensor> {
            let residual = zero.forward(x)?;
            match self.config.global_pool_conditions {
                true => Ok(residual.f_mean_dim([2i64, 3].as_slice(), true, None)?),
                false => Ok(residual),
            }
        };
        let skips = self.controlnet_down_blocks.iter().zip(&skips).map(|(zero, skip)| put_out(zero, skip));
        Ok(Residuals { skips: skips.collect::<Result<_>>()?, mid: put_out(&self.controlnet_mid_block, &x)? })
    }
}

/// Convolutions from the hint's size to the latent's, with a SiLU after each convolution except the last.
#[derive(Debug)]
struct HintEmbedding {
    conv_in: Conv2d,
    blocks: Vec<Conv2d>,
    conv_out: Conv2d,
}

impl HintEmbedding {
    fn new(w: &Weights, config: &ControlNetConfig, outputs: i64) -> Result<Self> {
        let widths = &config.conditioning_embedding_out_channels;
        let (first, last) = (widths.first().copied().unwrap_or_default(), widths.last().copied().unwrap_or_default());
        let mut blocks = Vec::new();
        for (i, (&from, &to)) in widths.iter().zip(widths.iter().skip(1)).enumerate() {
            let w = w.at("blocks");
            blocks.push(w.at(2 * i).conv2d(from, from, Conv::SAME)?);
            blocks.push(w.at(2 * i + 1).conv2d(from, to, Conv::HALVE)?);
        }
        Ok(Self {
            conv_in: w.at("conv_in").conv2d(config.conditioning_channels, first, Conv::SAME)?,
            blocks,
            conv_out: w.at("conv_out").conv2d(last, outputs, Conv::SAME)?,
        })
    }

    fn forward(&self, hint: &Tensor) -> Result<Tensor> {
        let mut x = self.conv_in.forward(hint)?.f_silu_()?;
        for block in &self.blocks {
            x = block.forward(&x)?.f_silu_()?;
        }
        self.conv_out.forward(&x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::UNet;

    const SMALL: &str = r#"{"block_out_channels": [8, 16], "norm_num_groups": 4, "attention_head_dim": 2,
        "cross_attention_dim": 12, "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "conditioning_channels": 5, "conditioning_embedding_out_channels": [4, 8], "layers_per_block": 1"#;

    fn small(more: &str) -> Result<ControlNetConfig> {
        ControlNetConfig::from_json("config.json", &format!("{SMALL}{more}}}"))
    }

    fn ones(shape: &[i64]) -> Tensor {
        Tensor::ones(shape, (Kind::Float, Device::Cpu))
    }

    fn run(config: &ControlNetConfig, w: &Weights, hint: &Tensor) -> Result<Residuals> {
        let net = ControlNet::new(w, config)?;
        net.forward(
            &ones(&[2, 4, 6, 4]),
            &Tensor::from(7.0),
            &ones(&[2, 3, 12]),
            None,
            &net.embed(hint)?,
            &mut Tap::none(),
        )
    }

    #[test]
    fn initial_controlnet_leaves_the_prediction_unchanged() -> Result<()> {
        let (config, random) = (small("")?, Weights::random(2, Kind::Float, Device::Cpu));
        let unet = UNet::new(&random, &config.unet)?;
        let weights = ControlNet::from_unet(&random.drawn()?, &config, 1)?;
        assert_eq!(weights["mid_block.resnets.0.conv1.weight"], random.drawn()?["mid_block.resnets.0.conv1.weight"]);
        assert!(weights["controlnet_cond_embedding.conv_in.weight"].abs().max().double_value(&[]) > 0.0);
        let residuals = run(&config, &Weights::new("copy", weights, Kind::Float, Device::Cpu), &ones(&[1, 5, 12, 8]))?;
        assert_eq!(residuals.skips.len(), 4);
        let eps = |residuals| {
            let added = AddedConditions { residuals, ..AddedConditions::default() };
            let (x, context) = (ones(&[2, 4, 6, 4]), ones(&[2, 3, 12]));
            unet.forward(&x, &Tensor::from(7.0), &context, Some(&added), &mut Tap::none())
        };
        assert_eq!(eps(Some(residuals))?, eps(None)?);

        let other = Weights::random(2, Kind::Float, Device::Cpu);
        UNet::new(&other, &UnetConfig { block_out_channels: vec![8, 8], ..config.unet.clone() })?;
        let error = ControlNet::from_unet(&other.drawn()?, &config, 1).unwrap_err().to_string();
        assert!(error.contains("the UNet to copy is one of another architecture; expected a UNet that has"), "{error}");
        Ok(())
    }

    #[test]
    fn configuration_is_read_as_it_was_written() -> Result<()> {
        for more in ["", r#", "global_pool_conditions": true, "attention_head_dim": [2, 4]"#] {
            let config = ControlNetConfig { unet: UnetConfig { sample_size: None, ..small("")?.unet }, ..small(more)? };
            let text = config.to_json()?;
            assert!(text.contains("ControlNetModel") && !text.contains("out_channels\": 4") && !text.contains("null"));
            assert_eq!(ControlNetConfig::from_json("config.json", &text)?, config);
        }
        Ok(())
    }

    #[test]
    fn color_order_and_pooling_follow_the_configuration() -> Result<()> {
        let w = Weights::random(1, Kind::Float, Device::Cpu);
        let hint = Tensor::arange(3 * 96, (Kind::Float, Device::Cpu)).reshape([1, 3, 12, 8]) / 288.0;
        let rgb = SMALL.replace("\"conditioning_channels\": 5", "\"conditioning_channels\": 3");
        let config = |more: &str| ControlNetConfig::from_json("", &format!("{rgb}{more}}}"));
        let plain = run(&config("")?, &w, &hint)?;
        let turned = run(&config(r#", "controlnet_conditioning_channel_order": "bgr""#)?, &w, &hint.flip([1]))?;
        assert_eq!(plain.mid, turned.mid);
        let pooled = run(&config(r#", "global_pool_conditions": true"#)?, &w, &hint)?;
        assert_eq!(pooled.skips[0].size(), [2, 8, 1, 1]);
        assert!(pooled.mid.allclose(&plain.mid.mean_dim([2i64, 3].as_slice(), true, None), 1e-5, 1e-6, false));
        Ok(())
    }

    #[test]
    fn wrong_hints_and_settings_are_errors() -> Result<()> {
        let error = small(r#", "controlnet_conditioning_channel_order": "bgr""#).unwrap_err().to_string();
        assert!(error.contains("config.json: conditioning_channels is 5; expected 3"), "{error}");
        let w = Weights::random(1, Kind::Float, Device::Cpu);
        let message = |shape: &[i64]| run(&small("").unwrap(), &w, &ones(shape)).unwrap_err().to_string();
        assert!(message(&[1, 3, 12, 8]).contains("hint has shape [1, 3, 12, 8]; expected [b, 5, h, w]"));
        assert!(message(&[1, 5, 13, 8]).contains("multiples of 2"));
        assert!(
            message(&[1, 5, 24, 8]).contains("the embedded hint has shape [1, 8, 12, 4]; expected [1 or 2, 8, 6, 4]")
        );
        Ok(())
    }
}
