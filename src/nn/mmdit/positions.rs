//! Tokens of a picture: patches with their positions.

use super::config::Sd3Config;
use crate::error::{Error, Result};
use crate::nn::layers::{Conv, Conv2d, cells};
use crate::nn::patches;
use crate::step::Grid;
use crate::weights::Weights;
use tch::Tensor;

/// diffusers' `PatchEmbed`: a convolution over patches of 2×2 cells, and a stored table of positions.
#[derive(Debug)]
pub(super) struct PatchEmbed {
    proj: Conv2d,
    /// Positions of a square of patches, [1, side · side, width].
    table: Tensor,
    side: i64,
}

impl PatchEmbed {
    pub(super) fn new(w: &Weights, config: &Sd3Config) -> Result<Self> {
        let (width, side) = (config.width(), config.pos_embed_max_size);
        let patch = Conv { kernel: 2, stride: 2, padding: 0 };
        Ok(Self {
            proj: w.at("proj").conv2d(config.in_channels, width, patch)?,
            table: w.tensor("pos_embed", &[1, side * side, width])?,
            side,
        })
    }

    /// Embeds a latent in the kind of the layers, [b, channels, h, w] → [b, h/2 · w/2, width].
    ///
    /// # Errors
    /// [`Error::Shape`] if the latent has an odd side, or more patches than the table has positions.
    pub(super) fn forward(&self, latent: &Tensor) -> Result<Tensor> {
        patches::check(latent)?;
        let (_, _, h, w) = latent.size4()?;
        let Grid { h, w } = patches::tokens(Grid::new(h, w));
        if h > self.side || w > self.side {
            let most = 2 * self.side;
            let expected = format!("at most {most} rows and columns, for which the model has positions");
            return Err(Error::Shape { what: "the transformer's sample", got: latent.size(), expected });
        }
        // The positions are those of the middle of the square.
        let start = |patches: i64| (self.side - patches) / 2;
        let square = self.table.f_unflatten(1, [self.side, self.side])?;
        let positions = square.f_narrow(1, start(h), h)?.f_narrow(2, start(w), w)?.f_flatten(1, 2)?;
        Ok(cells(&self.proj.forward(latent)?)?.f_add(&positions)?)
    }
}
