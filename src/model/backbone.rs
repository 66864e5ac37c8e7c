//! [`Backbone`]: the network that denoises, of one of the kinds that models have.

use super::read_config::read_config;
use crate::attention::{AttentionSite, Tap};
use crate::error::{Error, Result};
use crate::nn::cosmos::{CosmosConfig, CosmosTransformer};
use crate::nn::mmdit::{Sd3Config, Sd3Transformer};
use crate::nn::unet::Deep;
use crate::nn::z_image::{ZImageConfig, ZImageTransformer};
use crate::nn::{AddedConditions, ConfigFile, UNet, UnetConfig};
use crate::step::{Grid, Step};
use crate::weights::{Checkpoint, Weights};
use serde::Deserialize;
use std::collections::BTreeSet;
use tch::Tensor;

/// Part of a checkpoint with a UNet.
pub(super) const UNET: &str = "unet";
/// Part of a checkpoint with a transformer.
pub(super) const TRANSFORMER: &str = "transformer";

/// The configuration of a network that denoises.
#[derive(Clone, Debug)]
pub(super) enum BackboneConfig {
    Unet(Box<UnetConfig>),
    Cosmos(Box<CosmosConfig>),
    Sd3(Box<Sd3Config>),
    ZImage(Box<ZImageConfig>),
}

/// diffusers' class of a network.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Class {
    _class_name: String,
}

impl BackboneConfig {
    /// Reads the configuration of a checkpoint's network.
    pub(super) fn read(checkpoint: &Checkpoint) -> Result<Self> {
        let Some(class) = checkpoint.json::<Class>(&format!("{TRANSFORMER}/config.json"))? else {
            return Ok(Self::Unet(Box::new(read_config(checkpoint, UNET, UnetConfig::from_json)?)));
        };
        Ok(match class._class_name.as_str() {
            "SD3Transformer2DModel" => Self::Sd3(Box::new(read_config(checkpoint, TRANSFORMER, Sd3Config::from_json)?)),
            "ZImageTransformer2DModel" => {
                Self::ZImage(Box::new(read_config(checkpoint, TRANSFORMER, ZImageConfig::from_json)?))
            }
            "CosmosTransformer3DModel" | "" => {
                Self::Cosmos(Box::new(read_config(checkpoint, TRANSFORMER, CosmosConfig::from_json)?))
            }
            other => {
                let (file, field) = (checkpoint.name(&format!("{TRANSFORMER}/config.json")), "_class_name".into());
                let expected = "CosmosTransformer3DModel, SD3Transformer2DModel or ZImageTransformer2DModel";
                return Err(Error::Config { file, field, value: other.into(), expected: expected.into() });
            }
        })
    }

    /// Returns the part of a checkpoint that has the network.
    pub(super) const fn part(&self) -> &'static str {
        match self {
            Self::Unet(_) => UNET,
            Self::Cosmos(_) | Self::Sd3(_) | Self::ZImage(_) => TRANSFORMER,
        }
    }

    /// Returns the configuration of a UNet; `None` for another network.
    pub(super) const fn unet(&self) -> Option<&UnetConfig> {
        match self {
            Self::Unet(config) => Some(config),
            Self::Cosmos(_) | Self::Sd3(_) | Self::ZImage(_) => None,
        }
    }

    /// Returns the number of channels that the network reads, and the number that it predicts.
    pub(super) const fn channels(&self) -> (i64, i64) {
        match self {
            Self::Unet(config) => (config.in_channels, config.out_channels),
            Self::Cosmos(config) => (config.in_channels, config.out_channels),
            Self::Sd3(config) => (config.in_channels, config.out_channels),
            Self::ZImage(config) => (config.in_channels, config.in_channels),
        }
    }

    /// Returns the widths of the contexts that the network reads.
    pub(super) fn context_widths(&self) -> Vec<i64> {
        match self {
            Self::Unet(config) => {
                let levels = 0..config.block_out_channels.len();
                levels.filter_map(|level| config.cross_attention_dim.level(level)).collect()
            }
            Self::Cosmos(config) => vec![config.text_embed_dim],
            Self::Sd3(config) => vec![config.joint_attention_dim],
            Self::ZImage(config) => vec![config.cap_feat_dim],
        }
    }

    /// Returns the field of the configuration that states the width of the context.
    pub(super) const fn context_field(&self) -> &'static str {
        match self {
            Self::Unet(_) => "cross_attention_dim",
            Self::Cosmos(_) => "text_embed_dim",
            Self::Sd3(_) => "joint_attention_dim",
            Self::ZImage(_) => "cap_feat_dim",
        }
    }

    /// Returns the width of the pooled text that a transformer reads; `None` for another network.
    pub(super) const fn width_of_pooled(&self) -> Option<i64> {
        match self {
            Self::Sd3(config) => Some(config.pooled_projection_dim),
            Self::Unet(_) | Self::Cosmos(_) | Self::ZImage(_) => None,
        }
    }

    /// Returns the rows and columns, in cells, of the square latents that the network was trained on, if the
    /// configuration states them.
    pub(super) fn sample_size(&self) -> [Option<i64>; 2] {
        match self {
            Self::Unet(config) => [0, 1].map(|index| config.sample_size.as_ref().and_then(|size| size.level(index))),
            Self::Cosmos(_) | Self::ZImage(_) => [None; 2],
            Self::Sd3(config) => [Some(config.sample_size); 2],
        }
    }

    /// Returns the usual number of steps, if it is another one than that of most networks.
    pub(super) const fn usual_steps(&self) -> Option<usize> {
        match self {
            // Stable Diffusion 3.5 medium
            Self::Sd3(config) if !config.dual_attention_layers.is_empty() => Some(40),
            _ => None,
        }
    }
}

/// Stacked network inputs of several branches.
#[derive(Debug)]
pub(super) struct NetworkInput {
    /// Latents in sigma space, f32.
    pub x: Tensor,
    /// Number of distinct latent rows, which come first. The batch repeats them cyclically when all inputs share one
    /// latent.
    pub distinct: i64,
    /// Latents as the network reads them, [rows, channels, h, w] in the network's kind.
    pub sample: Tensor,
    /// Training timestep or time of all rows, [1] f32.
    pub timestep: Tensor,
    /// Contexts of all rows, [rows, tokens, width] in the network's kind.
    pub context: Tensor,
    pub added: Option<AddedConditions>,
    /// Pooled texts of all rows, [rows, width], for a transformer that reads them.
    pub pooled: Option<Tensor>,
    /// Blocks that are left out.
    pub skipped: BTreeSet<usize>,
}

/// The network that denoises.
#[derive(Debug)]
pub(super) enum Backbone {
    Unet(Box<UNet>),
    Cosmos(Box<CosmosTransformer>),
    Sd3(Box<Sd3Transformer>),
    ZImage(Box<ZImageTransformer>),
}

impl Backbone {
    /// Builds the network from the weights `w`.
    pub(super) fn new(w: &Weights, config: &BackboneConfig) -> Result<Self> {
        Ok(match config {
            BackboneConfig::Unet(config) => Self::Unet(Box::new(UNet::new(w, config)?)),
            BackboneConfig::Cosmos(config) => Self::Cosmos(Box::new(CosmosTransformer::new(w, config)?)),
            BackboneConfig::Sd3(config) => Self::Sd3(Box::new(Sd3Transformer::new(w, config)?)),
            BackboneConfig::ZImage(config) => Self::ZImage(Box::new(ZImageTransformer::new(w, config)?)),
        })
    }

    /// Builds the network again from `w`, whose tensors are this network's.
    pub(super) fn again(&self, w: &Weights) -> Result<Self> {
        match self {
            Self::Unet(unet) => Ok(Self::Unet(Box::new(unet.again(w)?))),
            Self::Cosmos(_) | Self::Sd3(_) | Self::ZImage(_) => self.rebuild(w),
        }
    }

    /// Builds the network with other tensors.
    pub(super) fn rebuild(&self, w: &Weights) -> Result<Self> {
        Ok(match self {
            Self::Unet(unet) => Self::Unet(Box::new(UNet::new(w, unet.config())?)),
            Self::Cosmos(own) => Self::Cosmos(Box::new(CosmosTransformer::new(w, own.config())?)),
            Self::Sd3(own) => Self::Sd3(Box::new(Sd3Transformer::new(w, own.config())?)),
            Self::ZImage(own) => Self::ZImage(Box::new(ZImageTransformer::new(w, own.config())?)),
        })
    }

    /// Returns the part of a checkpoint that has the network.
    pub(super) const fn part(&self) -> &'static str {
        match self {
            Self::Unet(_) => UNET,
            Self::Cosmos(_) | Self::Sd3(_) | Self::ZImage(_) => TRANSFORMER,
        }
    }

    /// Returns the UNet; `None` for another network.
    pub(super) const fn unet(&self) -> Option<&UNet> {
        match self {
            Self::Unet(unet) => Some(unet),
            Self::Cosmos(_) | Self::Sd3(_) | Self::ZImage(_) => None,
        }
    }

    /// Returns the UNet, which `what` needs.
    ///
    /// # Errors
    /// [`Error::Parameter`] for another network.
    pub(super) fn unet_for(&self, what: &'static str) -> Result<&UNet> {
        let expected = "a model with a UNet";
        self.unet().ok_or_else(|| Error::parameter(what, "for a model whose network is a transformer", expected))
    }

    /// Returns the attention sites in the order they run.
    pub(super) fn sites(&self) -> &[AttentionSite] {
        match self {
            Self::Unet(unet) => unet.sites(),
            Self::Cosmos(transformer) => transformer.sites(),
            Self::Sd3(transformer) => transformer.sites(),
            Self::ZImage(transformer) => transformer.sites(),
        }
    }

    /// Returns the number of channels that the network reads.
    pub(super) fn in_channels(&self) -> i64 {
        match self {
            Self::Unet(unet) => unet.config().in_channels,
            Self::Cosmos(transformer) => transformer.config().in_channels,
            Self::Sd3(transformer) => transformer.config().in_channels,
            Self::ZImage(transformer) => transformer.config().in_channels,
        }
    }

    /// Returns the side, in cells, of the patches that the network reads as one.
    pub(super) const fn patch(&self) -> i64 {
        match self {
            Self::Unet(_) => 1,
            Self::Cosmos(_) | Self::Sd3(_) | Self::ZImage(_) => 2,
        }
    }

    /// Returns the longest side, in cells, of a latent that the network has positions for; `None` for any side.
    pub(super) fn longest_side(&self) -> Option<i64> {
        match self {
            Self::Sd3(transformer) => Some(self.patch() * transformer.config().pos_embed_max_size),
            Self::Unet(_) | Self::Cosmos(_) | Self::ZImage(_) => None,
        }
    }

    /// Returns the number of blocks, in a network whose blocks can be left out.
    pub(super) fn blocks(&self) -> Option<usize> {
        match self {
            Self::Sd3(transformer) => Some(transformer.config().num_layers as usize),
            Self::Unet(_) | Self::Cosmos(_) | Self::ZImage(_) => None,
        }
    }

    /// Returns the number that the network is told for the noise level of a step: Stable Diffusion's timestep, the
    /// time of the flow, 0..=1, for Anima and Z-Image, or 1000 times that time for Stable Diffusion 3.
    pub(super) fn time(&self, step: &Step) -> f64 {
        match self {
            Self::Unet(_) => step.timestep,
            Self::Cosmos(_) | Self::ZImage(_) => step.sigma / step.process.size(step.sigma),
            Self::Sd3(_) => 1000.0 * step.sigma / step.process.size(step.sigma),
        }
    }

    /// Returns the number of grids on which the network computes: the latent's own, and halvings of it.
    pub(super) fn grids(&self) -> Result<u32> {
        Ok(match self {
            Self::Unet(unet) => unet.config().levels()?.len() as u32,
            Self::Cosmos(_) | Self::Sd3(_) | Self::ZImage(_) => 2,
        })
    }

    /// Estimates the largest number of values that each row of an evaluation on latents of `grid` holds at once.
    /// `branches` branches share a latent, and the context has `columns` columns.
    pub(super) fn peak_values(&self, grid: Grid, branches: usize, columns: usize) -> f64 {
        match self {
            Self::Unet(unet) => unet.config().peak_values(grid, branches),
            Self::Cosmos(transformer) => transformer.config().peak_values(grid, columns),
            Self::Sd3(transformer) => transformer.config().peak_values(grid, columns),
            Self::ZImage(transformer) => transformer.config().peak_values(grid, columns),
        }
    }

    /// Returns the configuration as text, for the model's fingerprint.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Unet(unet) => format!("{:?}", unet.config()),
            Self::Cosmos(transformer) => format!("{:?}", transformer.config()),
            Self::Sd3(transformer) => format!("{:?}", transformer.config()),
            Self::ZImage(transformer) => format!("{:?}", transformer.config()),
        }
    }

    /// Evaluates the network on stacked inputs.
    pub(super) fn forward(&self, input: &NetworkInput, deep: Deep<'_>, tap: &mut Tap<'_>) -> Result<Tensor> {
        let NetworkInput { distinct, sample, timestep, context, added, pooled, skipped, .. } = input;
        let sample = sample.f_narrow(0, 0, *distinct)?;
        match self {
            Self::Unet(unet) => unet.forward_by(&sample, timestep, context, added.as_ref(), deep, tap),
            Self::Cosmos(transformer) => transformer.forward(&sample, timestep, context, tap),
            Self::ZImage(transformer) => transformer.forward(&sample, timestep, context, tap),
            Self::Sd3(transformer) => {
                let missing = || Error::parameter("Conditioning::pooled", "None", "the pooled text of each branch");
                let (pooled, skipped) = (pooled.as_ref().ok_or_else(missing)?, Vec::from_iter(skipped.iter().copied()));
                transformer.forward(&sample, timestep, context, pooled, &skipped, tap)
            }
        }
    }
}
