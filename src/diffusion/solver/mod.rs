//! Sampling methods.
//!
//! | solver | model calls per step | use |
//! |---|---|---|
//! | [`Euler`], [`Ddim`] | 1 | first order, without fresh noise; both take the same steps |
//! | [`EulerAncestral`], [`Ddpm`] | 1 | fresh noise corrects earlier errors; the picture never converges |
//! | [`Multistep`]: DPM++ 2M, 3M, and their SDE forms | 1 | the usual choice for 15 to 30 steps |
//! | [`UniPc`], [`Deis`], [`ResMultistep`] | 1 | as good as DPM++ 2M, in 10 to 20 steps |
//! | [`SaSolver`], [`ErSde`] | 1 | multistep, with less fresh noise than DPM++ SDE |
//! | [`Pndm`] (PLMS), [`Lms`] | 1 | older multistep methods; the files of SD 1.x name PNDM |
//! | [`Singlestep`]: DPM++ 2S, 3S | 1 | DPM++ in blocks of steps, as in diffusers |
//! | [`Heun`], [`Dpm2`] | 2 | second order without a memory of earlier steps |
//! | [`Restart`] | 2, and more in one step | Heun's method, with a part of the run repeated from fresh noise |
//! | [`Dpm2`] with η = 1, [`Dpmpp2SAncestral`], [`DpmppSde`] | 2 | fresh noise in every step |
//! | [`Lcm`], [`Tcd`] | 1 | for distilled models, in 2 to 8 steps |
//!
//! [`by_name`] finds solvers by the names of A1111, ComfyUI, k-diffusion and diffusers. Several solvers are equal in
//! sigma space. [`Ddim`] is [`EulerAncestral`] with the same η. At first order, DPM++, DEIS, LMS and UniPC without its
//! corrector are [`Euler`].
//!
//! A solver sees noise levels and clean pictures, but never the model: the solver gets clean pictures from an [`Eval`]
//! and returns a [`Transition`]. A custom solver is a struct with two methods:
//!
//! ```
//! use impasto::diffusion::Transition;
//! use impasto::diffusion::solver::{Eval, Solver, euler_step};
//! use impasto::{Result, Step};
//! use tch::Tensor;
//!
//! /// Euler's method that goes only part of the way in every step but the last.
//! struct Hesitant(f64);
//!
//! impl Solver for Hesitant {
//!     fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
//!         let x0 = eval.x0(x, step.from)?;
//!         let x0 = if step.to > 0.0 { euler_step(&x0, x, 1.0, self.0)? } else { x0 };
//!         Ok(Transition::new(euler_step(x, &x0, step.from, step.to)?, 0.0, step.to, x.shallow_clone(), x0))
//!     }
//!     fn name(&self) -> &'static str {
//!         "Hesitant"
//!     }
//! }
//! ```

mod axis;
mod ddim;
mod deis;
mod dpm2;
mod dpmpp_2s;
pub(crate) mod dpmpp_sde;
mod er_sde;
mod euler;
mod heun;
mod history;
mod lcm;
mod lms;
pub(crate) mod multistep;
mod names;
mod pndm;
mod registry;
mod res_multistep;
mod restart;
mod sa_solver;
mod singlestep;
mod unipc;

pub use ddim::{Ddim, Ddpm, Variance};
pub use deis::Deis;
pub use dpm2::Dpm2;
pub use dpmpp_2s::Dpmpp2SAncestral;
pub use dpmpp_sde::DpmppSde;
pub use er_sde::{ErSde, NoiseScale};
pub use euler::{Euler, EulerAncestral};
pub use heun::Heun;
pub use history::History;
pub use lcm::{Lcm, Tcd};
pub use lms::Lms;
pub use multistep::{Correction, Multistep};
pub use names::{by_name, labels};
pub(crate) use names::{solver_label, spacing_label};
pub use pndm::Pndm;
pub(crate) use registry::add_solvers;
pub(in crate::diffusion) use registry::{Class, class};
pub use res_multistep::ResMultistep;
pub use restart::Restart;
pub use sa_solver::SaSolver;
pub use singlestep::Singlestep;
pub use unipc::UniPc;

use super::spacing::SchedulerFamily;
use super::transition::Transition;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::step::{Process, Step};
use axis::Axis;
use tch::Tensor;

/// The requests that a solver can make inside a step, as often as needed. The sampler implements this trait; an
/// implementation of your own tests a solver without a model:
///
/// ```
/// use impasto::diffusion::solver::{Euler, Eval, Solver};
/// use impasto::{Result, Step};
/// use tch::{Device, Kind, Tensor};
///
/// /// A model that takes every latent for a gray picture with noise.
/// struct Gray;
///
/// impl Eval for Gray {
///     fn x0(&mut self, x: &Tensor, _sigma: f64) -> Result<Tensor> {
///         Ok(x.f_zeros_like()?)
///     }
///     fn noise(&mut self) -> Result<Tensor> {
///         Ok(Tensor::f_randn([1, 4, 8, 8], (Kind::Float, Device::Cpu))?)
///     }
/// }
///
/// let (x, step) = (Tensor::ones([1, 4, 8, 8], (Kind::Float, Device::Cpu)), Step::new(0, 2, 10.0, 5.0, 900.0));
/// let next = Euler.step(&step, &x, &mut Gray)?;
/// assert_eq!(next.mean, x * 0.5); // half of the noise is left
/// # Ok::<(), impasto::Error>(())
/// ```
pub trait Eval {
    /// Calls the model: returns the clean picture for latent `x` at noise level `sigma`, combined from all branches.
    fn x0(&mut self, x: &Tensor, sigma: f64) -> Result<Tensor>;

    /// Returns the combined clean picture at a noise level between the levels of the schedule. The timestep is always
    /// interpolated, even if `sigma` happens to equal a level of the schedule. Default: [`Eval::x0`].
    fn x0_between(&mut self, x: &Tensor, sigma: f64) -> Result<Tensor> {
        self.x0(x, sigma)
    }

    /// Draws standard normal noise of the latent's shape, on its device. (Solvers do not draw the noise that is added
    /// *after* a step: it is the [`Transition`]'s `std`.)
    fn noise(&mut self) -> Result<Tensor>;
}

/// A sampling method: turns a step into the Gaussian of the next latent, given the noise drawn inside the step.
///
/// A solver with a memory of earlier steps stores the model's predictions, and clears the memory in [`Solver::reset`].
/// A solver that starts again from an earlier latent, such as [`UniPc`], [`SaSolver`] and [`Singlestep`], must add
/// later edits of its mean again. Without this, the solver would undo pulls and masks.
///
/// ```
/// use impasto::diffusion::Transition;
/// use impasto::diffusion::solver::{Eval, Solver, euler_step};
/// use impasto::{Pipeline, Result, Step};
/// use tch::Tensor;
///
/// /// A straight line from the latent toward the predicted clean picture.
/// struct Line;
///
/// impl Solver for Line {
///     fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
///         let x0 = eval.x0(x, step.from)?;
///         let mean = euler_step(x, &x0, step.from, step.to)?;
///         Ok(Transition::new(mean, 0.0, step.to, x.shallow_clone(), x0))
///     }
///     fn name(&self) -> &'static str {
///         "Line"
///     }
/// }
///
/// # fn main() -> Result<()> {
/// Pipeline::builder().build()?.request("a red boat").seed(7).steps(2).solver(Line).run()?;
/// # Ok(()) }
/// ```
pub trait Solver: Send {
    /// Forgets earlier steps; called at the start of a run.
    fn reset(&mut self) {}

    /// Takes a step: from `x` at noise level `step.from` to the distribution at `step.to`.
    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition>;

    /// Returns true if the solver computes with ln σ and therefore needs a finite first level: a flow's schedule then
    /// begins below t = 1, see [`Schedule::below_start`](crate::diffusion::Schedule::below_start). False by default.
    fn needs_finite_start(&self) -> bool {
        false
    }

    /// The default family of schedules for this solver. Solvers of distilled models return [`SchedulerFamily::Lcm`];
    /// its timesteps do not depend on the spacing.
    fn family(&self) -> SchedulerFamily {
        SchedulerFamily::default()
    }

    /// The solver's name, for messages and reports. [`by_name`] takes the names that other programs give to solvers.
    fn name(&self) -> &'static str;

    /// The recipe that recreates the solver, for files. A custom solver can return [`Recipe::of`]. A program that reads
    /// the file then gets the solver's name and settings, but has to create the solver itself.
    ///
    /// # Errors
    /// [`Error::NotRepeatable`] by default.
    fn recipe(&self) -> Result<Recipe> {
        Err(Error::NotRepeatable { what: format!("the solver {}", self.name()) })
    }
}

impl<S: Solver + ?Sized> Solver for Box<S> {
    fn reset(&mut self) {
        (**self).reset();
    }

    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        (**self).step(step, x, eval)
    }

    fn needs_finite_start(&self) -> bool {
        (**self).needs_finite_start()
    }

    fn family(&self) -> SchedulerFamily {
        (**self).family()
    }

    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn recipe(&self) -> Result<Recipe> {
        (**self).recipe()
    }
}

/// The latent at noise level `to`, on the line from x0 through `x` at level `from`: x0 + (x − x0)·to/from.
pub fn euler_step(x: &Tensor, x0: &Tensor, from: f64, to: f64) -> Result<Tensor> {
    if to == 0.0 {
        return Ok(x0.shallow_clone());
    }
    Ok(x0.f_add(&x.f_sub(x0)?.f_mul_scalar(to / from)?)?)
}

/// Splits the noise at the end of an ancestral step with strength `eta` into (`down`, `up`): the noise level that is
/// left and the standard deviation of the fresh noise.
///
/// up² = η²·to²·(from² − to²)/from², at most to²; down² = to² − up².
pub fn ancestral_step(from: f64, to: f64, eta: f64) -> (f64, f64) {
    if to == 0.0 || eta == 0.0 {
        return (to, 0.0);
    }
    let up = to.min(eta * to * (from * from - to * to).max(0.0).sqrt() / from);
    ((to * to - up * up).sqrt(), up)
}

/// Splits the noise at the end of an ancestral step of any process, like [`ancestral_step`]. For a flow with times
/// t → t', the noise level that is left is that of the time d = t'·(1 + (t'/t − 1)·η) (ComfyUI).
fn ancestral(step: &Step, eta: f64) -> (f64, f64) {
    let (from, to) = (step.from, step.to);
    if step.process == Process::Diffusion || to == 0.0 || eta == 0.0 {
        return ancestral_step(from, to, eta);
    }
    let axis = Axis::of(step);
    let (t, next) = (axis.place(from), axis.place(to));
    let down = axis.level((next * (1.0 + (next / t - 1.0) * eta)).max(0.0));
    (down, (to * to - down * down).max(0.0).sqrt())
}

/// Checks that `eta` is 0 or more, that `s_noise` is positive, and that both are finite.
fn check_noise(eta: f64, s_noise: f64) -> Result<()> {
    if !(0.0..f64::INFINITY).contains(&eta) {
        return Err(Error::parameter("eta", eta, "0 (no fresh noise) or more; 1 is usual"));
    }
    if s_noise <= 0.0 || !s_noise.is_finite() {
        return Err(Error::parameter("s_noise", s_noise, "a positive number; 1 is usual"));
    }
    Ok(())
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod flow_references;
#[cfg(test)]
mod references;
#[cfg(test)]
mod tests;
