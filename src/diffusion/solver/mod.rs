//! Sampling methods.
//!
//! | solver | calls per step | what for |
//! |---|---|---|
//! | [`Euler`], [`Ddim`] | 1 | the plain one; the same curve by two names |
//! | [`EulerAncestral`], [`Ddpm`] | 1 | fresh noise in every step: forgives errors, never settles |
//! | [`Multistep`]: DPM++ 2M, 3M, and their SDE forms | 1 | the usual choice for 15 to 30 steps |
//! | [`UniPc`], [`Deis`] | 1 | as good in 10 to 20 steps |
//! | [`Pndm`] (PLMS), [`Lms`] | 1 | older multistep methods; PNDM is what SD 1.x names in its files |
//! | [`Singlestep`]: DPM++ 2S, 3S | 1 | diffusers' singlestep form |
//! | [`Heun`], [`Dpm2`] | 2 | second order without a memory |
//! | [`Dpm2::ancestral`], [`Dpmpp2SAncestral`], [`DpmppSde`] | 2 | the same with fresh noise |
//! | [`Lcm`], [`Tcd`] | 1 | distilled models, 2 to 8 steps |
//!
//! [`by_name`] finds them by the names of A1111, ComfyUI, k-diffusion and diffusers. Many are the same in sigma space:
//! `DDIM(η)` is Euler ancestral with that η, and DPM++, DEIS, LMS and UniPC of first order are Euler.
//!
//! A solver knows levels and clean pictures, never a model: it asks an [`Eval`] and answers with a [`Transition`]. One
//! of your own is a struct and a method:
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

mod ddim;
mod deis;
mod dpm2;
mod dpmpp_2s;
pub(crate) mod dpmpp_sde;
mod euler;
mod heun;
mod history;
mod lcm;
mod lms;
pub(crate) mod multistep;
mod names;
mod pndm;
mod registry;
mod singlestep;
mod unipc;

pub use ddim::{Ddim, Ddpm, Variance};
pub use deis::Deis;
pub use dpm2::Dpm2;
pub use dpmpp_2s::Dpmpp2SAncestral;
pub use dpmpp_sde::DpmppSde;
pub use euler::{Euler, EulerAncestral};
pub use heun::Heun;
pub use history::History;
pub use lcm::{Lcm, Tcd};
pub use lms::Lms;
pub use multistep::{Correction, Multistep};
pub use names::by_name;
pub(crate) use names::{solver_label, spacing_label};
pub use pndm::Pndm;
pub(in crate::diffusion) use registry::{Class, class};
pub use singlestep::Singlestep;
pub use unipc::UniPc;

use super::spacing::SchedulerFamily;
use super::transition::Transition;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::step::Step;
use tch::Tensor;

/// What a solver may ask for inside a step, as often as it needs.
pub trait Eval {
    /// The combined clean picture for a latent at noise level `sigma`: a call of the model.
    fn x0(&mut self, x: &Tensor, sigma: f64) -> Result<Tensor>;

    /// The same for a level in between those of the schedule, should it by chance equal one: its timestep is
    /// interpolated, whatever the schedule rounds its own to. Default: [`Eval::x0`].
    fn x0_between(&mut self, x: &Tensor, sigma: f64) -> Result<Tensor> {
        self.x0(x, sigma)
    }

    /// Standard normal noise of the latent's shape, on its device. (Noise that is added *after* a step is not the
    /// solver's business: it is the [`Transition`]'s `std`.)
    fn noise(&mut self) -> Result<Tensor>;
}

/// A sampling method: one step, as the Gaussian it implies (given the noise drawn inside it).
///
/// A solver that remembers earlier steps keeps what the model said, and forgets it in [`Solver::reset`]. If it goes
/// back to an earlier latent, as [`UniPc`] and [`Singlestep`] do, it adds what others did to the mean it returned since:
/// otherwise it would take back forces and what a mask keeps.
pub trait Solver: Send {
    /// Forgets earlier steps. Called at the start of a run.
    fn reset(&mut self) {}

    /// From `x` at noise level `step.from` to the distribution at `step.to`.
    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition>;

    /// How a schedule is laid out for it unless another way is asked for. [`SchedulerFamily::Lcm`] for solvers of distilled models, whose
    /// timesteps are theirs whatever the spacing.
    fn family(&self) -> SchedulerFamily {
        SchedulerFamily::default()
    }

    /// Its name, for messages and reports; [`by_name`] knows those of this crate.
    fn name(&self) -> &'static str;

    /// What makes it again, for files. One of your own can be written by [`Recipe::of`]: whoever reads the file is told its name
    /// and settings, but has to make the value himself.
    ///
    /// # Errors
    /// [`Error::NotRepeatable`], as this default says.
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

/// x at noise level `to`, on the line from x0 through `x` at level `from`: x0 + (x − x0)·to/from.
pub fn euler_step(x: &Tensor, x0: &Tensor, from: f64, to: f64) -> Result<Tensor> {
    if to == 0.0 {
        return Ok(x0.shallow_clone());
    }
    Ok(x0.f_add(&x.f_sub(x0)?.f_mul_scalar(to / from)?)?)
}

/// How an ancestral step with strength `eta` splits its end: (`down`, `up`), noise that is left and noise that is new.
///
/// up² = η²·to²·(from² − to²)/from², at most to²; down² = to² − up².
pub fn ancestral_step(from: f64, to: f64, eta: f64) -> (f64, f64) {
    if to == 0.0 || eta == 0.0 {
        return (to, 0.0);
    }
    let up = to.min(eta * to * (from * from - to * to).max(0.0).sqrt() / from);
    ((to * to - up * up).sqrt(), up)
}

/// Refuses strengths of fresh noise that are none.
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
mod tests;
