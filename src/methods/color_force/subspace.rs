//! [`Subspace`]: the directions in which latents of flat colors differ.

use crate::conditioning::Codec;
use crate::error::Result;
use crate::latent_colors::flats;
use tch::{Device, Kind, Tensor};

/// Number of flat colors along each side of the cube that the directions are computed from, and the side of each in
/// pixels.
const CUBE: (usize, i64) = (4, 64);
/// Number of directions.
const DIRECTIONS: i64 = 3;

/// The first three principal directions of the latents of flat colors. A shift along other directions changes what is
/// drawn, but hardly its color.
///
/// Source: "Latent Color Subspace" (arXiv 2603.12261).
#[derive(Debug)]
pub(super) struct Subspace {
    /// Projection onto the directions, [channels, channels] f32.
    projection: Tensor,
}

impl Subspace {
    /// Computes the directions of a VAE.
    pub(super) fn of(codec: &dyn Codec, device: Device) -> Result<Self> {
        let (latents, _) = flats(codec, CUBE.0, CUBE.1)?;
        let centered = latents.f_sub(&latents.f_mean_dim([0].as_slice(), true, Kind::Double)?)?;
        let (_, _, directions) = centered.f_svd(true, true)?; // a column for each direction, the widest first
        let basis = directions.f_narrow(1, 0, DIRECTIONS.min(directions.size2()?.1))?;
        let projection = basis.f_matmul(&basis.f_transpose(0, 1)?)?;
        Ok(Self { projection: projection.f_to_kind(Kind::Float)?.f_to_device(device)? })
    }

    /// Returns the part of a shift, [n, channels, h, w], along the directions.
    pub(super) fn part(&self, shift: &Tensor) -> Result<Tensor> {
        Ok(Tensor::f_einsum("nchw,cd->ndhw", &[shift, &self.projection], None::<&[i64]>)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::color::Rgb;
    use crate::conditioning::Codec;
    use crate::diffusion::solver::Euler;
    use crate::diffusion::{Noise, Schedule, Spacing, TrainingSchedule};
    use crate::mask::Region;
    use crate::methods::ColorForce;
    use crate::methods::color_force::ForceTarget;
    use crate::sampler::{Sampler, Start};
    use crate::step::Grid;
    use crate::testing::ToyModel;
    use crate::window::Window;
    use ndarray::Array2;

    #[test]
    fn colors_are_in_it_and_other_shifts_are_not() -> Result<()> {
        let codec = ToyModel::new(1)?;
        let subspace = Subspace::of(&codec, Device::Cpu)?;
        let color = |rgb| codec.flat(rgb, Grid::new(2, 2));
        let shift = color(Rgb(255, 215, 0))?.f_sub(&color(Rgb(10, 40, 200))?)?;
        let apart = subspace.part(&shift)?.f_sub(&shift)?.f_abs()?.f_max()?.f_double_value(&[])?;
        assert!(apart < 1e-5, "{apart}");
        // The toy's fourth channel is the average of the others, so a shift of this channel alone is no color.
        let last = Tensor::from_slice(&[0f32, 0.0, 0.0, 1.0]).reshape([1, 4, 1, 1]).expand([1, 4, 2, 2], false);
        let rest = last.f_sub(&subspace.part(&last)?)?;
        let size = |x: &Tensor| x.abs().max().double_value(&[]);
        assert!(size(&subspace.part(&rest)?) < 1e-5 && size(&rest) > 0.5, "{rest}");
        Ok(())
    }

    #[test]
    fn force_leaves_what_is_no_color() -> Result<()> {
        let model = ToyModel::new(1)?;
        let painted = |color_subspace: Option<bool>| -> Result<Tensor> {
            let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 3, Spacing::Leading)?;
            let whole = Region::new(Array2::ones([8, 8]));
            let last = Window::progress(0.6..=1.0);
            let force = color_subspace.map(|color_subspace| {
                let force = ColorForce::published("boat", Rgb(255, 215, 0)).saliency(whole).window(last);
                force.color_var(0.01).tune(|options| {
                    options.target = ForceTarget::Denoised;
                    options.color_subspace = color_subspace;
                })
            });
            let sampler = Sampler::new(schedule, Euler);
            let sampler = if let Some(force) = force { sampler.guide(force) } else { sampler };
            let mut run = sampler.start(&model, Start::new("a red boat", Grid::new(8, 8), Noise::seeded(7)))?;
            while run.step()?.is_some() {}
            Ok(run.latent().shallow_clone())
        };
        let bare = painted(None)?;
        // No color of the toy differs from another along this direction of the channels.
        let direction = Tensor::from_slice(&[1f32, 1.0, 1.0, -3.0]).reshape([1, 4, 1, 1]);
        let moved = |color_subspace| -> Result<[f64; 2]> {
            let shift = painted(Some(color_subspace))?.f_sub(&bare)?;
            let along = shift.f_mul(&direction)?.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?;
            Ok([along, shift].map(|x| x.abs().max().double_value(&[])))
        };
        let ([along, whole], [plain, _]) = (moved(true)?, moved(false)?);
        assert!(along < 1e-4 && whole > 0.1 && plain > 0.1, "{along}, {whole}, {plain}");
        Ok(())
    }
}
