//! Noise schedules, solvers, and the sampler's view of a model.
//!
//! All latents are in sigma space (k-diffusion's convention): a latent at noise level σ is x = x0 + σ·noise. Three
//! parts make a run:
//!
//! - A model ([`Denoiser`]) predicts x0, the latent of the clean picture.
//! - A [`Schedule`] lists the noise levels of the run.
//! - A [`solver::Solver`] turns each step into a Gaussian, a [`Transition`]. Guidance methods may move the Gaussian's
//!   mean before the run draws the next latent from the Gaussian.
//!
//! An example of a run without a pipeline. Its fake model always predicts x0 = 0:
//!
//! ```
//! use impasto::diffusion::solver::{EulerAncestral, Eval, Solver};
//! use impasto::diffusion::{Noise, Schedule, Spacing, TrainingSchedule};
//! use impasto::Result;
//! use tch::Tensor;
//!
//! struct Gray;
//! impl Eval for Gray {
//!     fn x0(&mut self, x: &Tensor, _sigma: f64) -> Result<Tensor> {
//!         Ok(x.f_zeros_like()?)
//!     }
//!     fn noise(&mut self) -> Result<Tensor> {
//!         unreachable!("this solver draws nothing inside a step")
//!     }
//! }
//!
//! let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 20, Spacing::Karras)?;
//! let (mut noise, mut solver) = (Noise::seeded(7), EulerAncestral::default());
//! let mut x = noise.draw(&[1, 4, 8, 8])? * schedule.initial_scale();
//! for step in schedule.steps() {
//!     x = solver.step(&step, &x, &mut Gray)?.sample(&mut noise)?;
//! }
//! assert_eq!(x.abs().max().double_value(&[]), 0.0);
//! # Ok::<(), impasto::Error>(())
//! ```

mod denoiser;
mod flow_levels;
mod levels;
mod noise;
mod prediction;
mod pulls;
mod region_noise;
mod schedule;
mod scheduler_config;
pub mod solver;
mod spacing;
mod strength;
mod torch_rng;
mod training_schedule;
mod transition;

pub(crate) use denoiser::Network;
pub use denoiser::{Denoiser, Input, Predictions};
pub use noise::{Noise, NoiseKind};
pub use prediction::Prediction;
pub(crate) use pulls::{Pulls, Repaint};
pub use region_noise::{NoiseEdges, region_noise};
pub use schedule::Schedule;
pub use scheduler_config::SchedulerConfig;
pub use spacing::{
    Ends, FlowStart, InitScale, SchedulerFamily, Spacing, SpacingOptions, Target, Terminal, TimestepRule,
};
pub use strength::Strength;
pub use training_schedule::TrainingSchedule;
pub use transition::{Denoised, Transition};

pub use crate::step::Process;
