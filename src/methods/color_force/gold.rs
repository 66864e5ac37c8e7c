//! The latent of a flat color.

use crate::color::{Lab, Rgb, linear_mean};
use crate::conditioning::Codec;
use crate::error::{Error, Result};
use crate::guidance::Setup;
use crate::recipe::SharedTensor;
use crate::step::Grid;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Method that makes the latent of a flat color.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum GoldMode {
    /// A picture of the color, as large as the output, encoded by the VAE. The latent's edges differ a little from its
    /// middle.
    #[default]
    Full,
    /// The middle of an encoded 256-pixel picture, repeated everywhere. The latent has no edges and is cheap for large
    /// pictures.
    Constant,
    /// A given latent, [1, c, h, w] or [1, c, 1, 1], in sampler units: `GoldMode::Latent(tensor.into())`.
    Latent(SharedTensor),
}

/// A color's latent, and how closely the VAE can show the color.
#[derive(Debug)]
pub(super) struct Gold {
    /// The latent, [1, c, h, w] f32.
    pub latent: Tensor,
    /// CIEDE2000 between the color and the color that the decoder shows for the latent.
    pub delta_e: f64,
}

/// Returns the latent of a color without edges, [1, 4, 1, 1]: the median of the middle of a 256-pixel picture.
pub(super) fn constant(color: Rgb, codec: &dyn Codec) -> Result<Tensor> {
    let side = 256 / codec.cell();
    let middle = codec.flat(color, Grid::new(side, side))?;
    let middle = middle.f_narrow(2, side / 4, side / 2)?.f_narrow(3, side / 4, side / 2)?;
    Ok(middle.f_flatten(2, -1)?.f_median_dim(2, false)?.0.f_reshape([1, -1, 1, 1])?)
}

impl GoldMode {
    pub(super) fn latent(&self, color: Rgb, setup: &Setup<'_>) -> Result<Gold> {
        let (grid, codec) = (setup.grid, setup.codec);
        let latent = match self {
            Self::Full => codec.flat(color, grid)?,
            Self::Constant => constant(color, codec)?.f_expand([1, -1, grid.h, grid.w], false)?,
            Self::Latent(latent) => {
                let (latent, Grid { h, w }) = (latent.get(), grid);
                let channels = codec.flat(color, grid)?.size4()?.1;
                if ![[1, channels, h, w], [1, channels, 1, 1]].iter().any(|size| latent.size() == size) {
                    let expected = format!("[1, {channels}, {h}, {w}], the run's size, or [1, {channels}, 1, 1]");
                    return Err(Error::Shape { what: "gold latent", got: latent.size(), expected });
                }
                latent.f_to_kind(Kind::Float)?.f_to_device(setup.device)?.f_expand([1, -1, h, w], false)?
            }
        };
        // The round trip is measured in the middle of a small patch, because flat pictures look the same at any size.
        let patch = latent.f_narrow(2, grid.h / 2, 1)?.f_narrow(3, grid.w / 2, 1)?.f_expand([1, -1, 8, 8], false)?;
        let shown = codec.decode(&patch)?;
        let (_, _, height, width) = shown.size4()?;
        let shown = shown.f_narrow(2, height * 3 / 8, height / 4)?.f_narrow(3, width * 3 / 8, width / 4)?;
        let shown = linear_mean(&shown.f_reshape([3, -1])?)?;
        Ok(Gold { latent, delta_e: Lab::from_linear(shown).delta_e(color.lab()) })
    }
}
