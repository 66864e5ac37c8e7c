//! Modules that add features of a reference to the expanding half of a UNet.

use super::config::Level;
use crate::attention::repeated;
use crate::error::{Error, Result};
use crate::nn::layers::{LayerNorm, Linear, cells, picture};
use crate::nn::reading_block::ReadingBlock;
use crate::reference::ReferenceFeatures;
use crate::weights::Weights;
use tch::Tensor;

/// Modules of a UNet that read features of a reference, one for each layer of the expanding half. Most models have
/// none.
#[derive(Debug)]
pub(super) struct ReferenceModules {
    /// Attention of a skip connection's cells to the background's tokens.
    warps: Vec<ReadingBlock>,
    styles: Vec<Style>,
}

/// A scale and a shift for each channel, computed from the style and the time embedding.
#[derive(Debug)]
struct Style {
    norm: LayerNorm,
    of_time: Linear,
    out: Linear,
}

impl ReferenceModules {
    /// Builds the modules that the weights contain. `skips` are the channels of the contracting half's skip
    /// connections, in order.
    pub(super) fn new(w: &Weights, skips: &[i64], levels: &[Level], time: i64) -> Result<Self> {
        let (mut warps, mut styles) = (Vec::new(), Vec::new());
        if w.at("warp_modules.0.norm1").has("weight") {
            for (i, channels) in skips.iter().rev().enumerate() {
                let w = w.at("warp_modules").at(i);
                let norms = [w.at("norm1"), w.at("norm2")];
                warps.push(ReadingBlock::new(norms, &w.at("attn"), &w.at("ff"), *channels)?);
            }
        }
        if w.at("style_modules.0.0").has("weight") {
            let layers = levels.iter().rev().flat_map(|level| (0..=level.layers).map(|_| level.channels));
            for (i, channels) in layers.enumerate() {
                let w = w.at("style_modules").at(i);
                styles.push(Style {
                    norm: w.at(0).layer_norm(2 * channels, 1e-5)?,
                    of_time: w.at(1).linear(time, 2 * channels)?,
                    out: w.at(2).linear(2 * channels, 2 * channels)?,
                });
            }
        }
        Ok(Self { warps, styles })
    }

    /// Pairs the modules with the features of one evaluation.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the number of features is neither 0 nor the number of modules.
    pub(super) fn with<'a>(&'a self, features: &'a ReferenceFeatures, time: &'a Tensor) -> Result<Reference<'a>> {
        for (what, features, modules) in [
            ("background features", features.background.len(), self.warps.len()),
            ("style features", features.styles.len(), self.styles.len()),
        ] {
            if features != 0 && features != modules {
                return Err(Error::parameter(what, features, format!("{modules}, one for each module of the network")));
            }
        }
        Ok(Reference { modules: self, features, time })
    }
}

/// The modules of a UNet with the features of one evaluation.
#[derive(Clone, Copy)]
pub(super) struct Reference<'a> {
    modules: &'a ReferenceModules,
    features: &'a ReferenceFeatures,
    /// The time embedding before its SiLU, [1 or b, width].
    time: &'a Tensor,
}

impl Reference<'_> {
    /// Returns the skip connection for layer `layer` of the expanding half, [b, channels, h, w], warped by the
    /// background's features. Cells of the figure keep their own features.
    pub(super) fn skip(&self, layer: usize, skip: &Tensor) -> Result<Tensor> {
        let both = self.modules.warps.get(layer).zip(self.features.background.get(layer));
        let Some((warp, background)) = both else { return Ok(skip.shallow_clone()) };
        let (b, _, h, w) = skip.size4()?;
        let background = repeated(&fitting(background, skip)?, b)?;
        let warped = picture(&warp.forward(&cells(skip)?, &background)?, skip)?;
        let Some((figure, threshold)) = &self.features.figure else { return Ok(warped) };
        // As in ColorizeDiffusion's code, the interpolation is bicubic, and its values may leave 0..=1.
        let figure = figure.f_upsample_bicubic2d([h, w], false, None::<f64>, None::<f64>)?;
        let figure = repeated(&figure.f_to_device(skip.device())?.f_gt(*threshold)?, b)?;
        Ok(skip.f_where_self(&figure, &warped)?)
    }

    /// Applies the reference's style to `x`, the output of layer `layer` of the expanding half.
    pub(super) fn styled(&self, layer: usize, x: Tensor) -> Result<Tensor> {
        let both = self.modules.styles.get(layer).zip(self.features.styles.get(layer));
        let Some((Style { norm, of_time, out }, style)) = both else { return Ok(x) };
        let style = of_time.forward(self.time)?.f_add(&fitting(style, &x)?)?;
        let both = out.forward(&norm.forward(&style)?)?.f_unsqueeze(-1)?.f_unsqueeze(-1)?;
        let channels = both.size4()?.1 / 2;
        let (scale, shift) = (both.f_narrow(1, 0, channels)?, both.f_narrow(1, channels, channels)?);
        Ok(x.f_mul(&scale.f_add_scalar(1.0)?)?.f_add_(&shift)?)
    }
}

/// Converts `x` to the kind and the device of `like`.
fn fitting(x: &Tensor, like: &Tensor) -> Result<Tensor> {
    Ok(x.f_to_device(like.device())?.f_to_kind(like.kind())?)
}
