//! Things of a picture: the regions that phrases name, by the attention of the network to the phrases.

use super::model_view::ModelView;
use crate::diffusion::solver::{Euler, Solver};
use crate::diffusion::{Noise, Transition};
use crate::error::Result;
use crate::guidance::{Cfg, GuidanceRun};
use crate::mask::Region;
use crate::raster::{Filter, Raster};
use crate::saliency::{DaamRun, Reference, SaliencyRun, object};
use crate::sampler::{Origin, Sampler, Start};
use crate::size::Size;
use crate::step::{Grid, Step};
use tch::Tensor;

/// Number of steps of the whole noise schedule. A reading takes only the last [`READ`] steps.
const STEPS: usize = 16;
/// Number of steps in which a picture is read.
pub(super) const READ: usize = 14;
/// Divisor of a latent's sides in cells. Every network of the family can halve such a side without a remainder.
const HALVED: i64 = 8;
/// Longest side of a latent that is read, in units of [`HALVED`] cells.
const LONGEST: i64 = 32;

/// Finds the regions of a picture that `phrases` name, each of them a phrase of `description`. The network sees the
/// picture at fourteen noise levels.
///
/// # Errors
/// [`Error::PhraseNotFound`](crate::Error::PhraseNotFound) for a phrase that is not in `description`; the errors of
/// [`Sampler::start`].
pub(super) fn find_things<P: Into<String>>(
    model: ModelView<'_>,
    picture: &Raster,
    description: &str,
    phrases: impl IntoIterator<Item = P>,
) -> Result<Reference> {
    let solver = Euler;
    let grid = readable(model, picture.size());
    let scheduler = model.scheduler().on(grid)?;
    let schedule = scheduler.schedule_for_another(solver.family(), STEPS, None)?.last(READ)?;
    let size = Size::new((grid.w * model.cell()) as u32, (grid.h * model.cell()) as u32);
    let seen = picture.resize(size, Filter::Lanczos)?;
    let network = model.network;
    let latent = network.encode(&seen.to_tensor(network.device())?)?;
    let noise = Noise::seeded(0).draw(&latent.size())?.f_to_device(network.device())?;
    let names: Vec<String> = phrases.into_iter().map(Into::into).collect();
    let mut held = Held { latent: latent.shallow_clone(), noise };
    let sampler = Sampler::new(schedule, solver).combine(Cfg(1.0)).attach(&mut held);
    let sampler = names.iter().fold(sampler, |sampler, name| sampler.guide(object(name)));
    let start = Start { origin: Origin::Latent(&latent), ..Start::new(description, grid, Noise::seeded(0)) };
    let mut run = sampler.start_watched(network, start, |_, _| Ok(()))?;
    while run.step()?.is_some() {}
    let looks = run.into_details()?;
    let mut things = Vec::new();
    for name in names {
        if let Some(map) = looks.get::<DaamRun>(&name)?.map()? {
            things.push((name, Region::along_outlines(&map, &seen)?));
        }
    }
    Reference::new(seen, things)
}

/// Returns the latent size for reading a picture: the picture's aspect ratio, at about the area of the model's default
/// size, as far as the model reads such sides.
pub(super) fn readable(model: ModelView<'_>, size: Size) -> Grid {
    let defaults = model.defaults();
    let area = f64::from(defaults.width) * f64::from(defaults.height);
    let (width, height) = (f64::from(size.width.max(1)), f64::from(size.height.max(1)));
    let scale = (area / (width * height)).sqrt() / model.cell() as f64 / HALVED as f64;
    let most = model.network.longest_side().map_or(LONGEST, |cells| (cells / HALVED).clamp(1, LONGEST));
    let side = |length: f64| ((length * scale).round() as i64).clamp(1, most) * HALVED;
    Grid::new(side(height), side(width))
}

/// Guidance method that holds a run at one picture: every step sees the picture's latent, with noise of the step's
/// level.
struct Held {
    latent: Tensor,
    noise: Tensor,
}

impl GuidanceRun for Held {
    fn transition(&mut self, step: &Step, transition: &mut Transition) -> Result<()> {
        transition.mean = self.latent.f_add(&self.noise.f_mul_scalar(step.to)?)?;
        Ok(())
    }

    fn name(&self) -> &'static str {
        "reading a picture"
    }
}
