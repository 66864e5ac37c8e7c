//! What steers a run.
//!
//! A [`Guidance`] is one value in one file: it may add branches to the evaluation, hook attention, edit predictions,
//! and shift the Gaussian that the next latent is drawn from. It sees named branches, sites and phases, and the model
//! only through [`Codec`]. Guidances know nothing of each other and all work together.

mod cfg;
mod pair;
mod report;

pub(crate) use cfg::WITHOUT_SKETCH;
pub use cfg::{Cfg, Combine, DualCfg, RescaledCfg};
pub(crate) use pair::SUM;
pub use report::{Curve, Picture, Report, Strip, Swatch};

use crate::attention::{AttentionSite, CrossAttentionHook};
use crate::branch::{Branch, BranchInfo};
use crate::conditioning::{Codec, Conditioning};
use crate::diffusion::{Denoised, Predictions, Schedule, Transition};
use crate::error::{Error, Result};
use crate::prompt::Prompt;
use crate::recipe::Recipe;
use crate::step::{Grid, Step};
use std::collections::BTreeMap;
use std::fmt;
use tch::{Device, Tensor};

/// Noise level that larger ones count as where a guidance weighs by it: zero-terminal-SNR schedules start at huge
/// levels, and this is Stable Diffusion's usual largest.
pub(crate) const LARGEST_LEVEL: f64 = 14.6146;

/// What a guidance sees and may change before the first step.
#[non_exhaustive]
pub struct Setup<'a> {
    /// The prompt, to look phrases up in.
    pub prompt: &'a Prompt,
    /// Latent rows and columns.
    pub grid: Grid,
    /// Number of images.
    pub images: i64,
    /// Where the run's tensors live.
    pub device: Device,
    /// The steps to come.
    pub schedule: &'a Schedule,
    /// The attention sites of the UNet, in the order they run.
    pub sites: &'a [AttentionSite],
    /// The attention sites of the ControlNets, whose indexes follow.
    pub control_sites: &'a [AttentionSite],
    /// Tokenizer, text encoder, VAE.
    pub codec: &'a dyn Codec,
    /// Is this the pass before the run, in which guidance methods only measure? See [`Guidance::first_pass`].
    pub first_pass: bool,
    /// The image of the first pass that this run, of one image, goes on with; `None`: of all images.
    pub candidate: Option<i64>,
    pub(crate) branches: &'a mut Vec<(BranchInfo, Conditioning)>,
}

impl fmt::Debug for Setup<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("prompt", &self.prompt.text())
            .field("grid", &self.grid)
            .field("images", &self.images)
            .field("device", &self.device)
            .field("first_pass", &self.first_pass)
            .finish_non_exhaustive()
    }
}

impl Setup<'_> {
    /// Adds a branch that varies `like` (`Cond` or `Uncond`) on another prompt; ask for it in [`Guidance::plan`] when
    /// it is needed. A branch of the same role, kind and prompt is there already if another guidance added it: that one
    /// is returned and evaluated once for all.
    ///
    /// # Errors
    /// [`Error::Parameter`] beyond 256 extra branches.
    pub fn add(
        &mut self,
        role: &'static str,
        like: Branch,
        prompt: &str,
        conditioning: Conditioning,
    ) -> Result<Branch> {
        self.shared(role, Some(like), prompt, conditioning)
    }

    /// Adds a branch that varies nothing, `like` itself: whatever is done to the prompt is not done to it. It is shared as by
    /// [`add`](Self::add).
    ///
    /// # Errors
    /// [`Error::Parameter`] beyond 256 extra branches.
    pub fn add_apart(&mut self, role: &'static str, prompt: &str, conditioning: Conditioning) -> Result<Branch> {
        self.shared(role, None, prompt, conditioning)
    }

    /// Adds a branch that varies nothing, as [`add_apart`](Self::add_apart) does, and is shared with nobody: for a conditioning that its
    /// prompt does not tell.
    ///
    /// # Errors
    /// [`Error::Parameter`] beyond 256 extra branches.
    pub fn add_alone(&mut self, role: &'static str, prompt: &str, conditioning: Conditioning) -> Result<Branch> {
        self.another(role, None, prompt, conditioning, false)
    }

    /// Adds a variation of a branch with the same prompt and conditioning, shared with no other method: for methods that compare
    /// the network with one whose attention they change.
    ///
    /// # Errors
    /// [`Error::NoConditioning`] if there is no branch `like`, [`Error::Parameter`] beyond 256 extra branches.
    pub fn add_copy(&mut self, role: &'static str, like: Branch) -> Result<Branch> {
        let original = self.branches.iter().find(|(info, _)| info.branch == like);
        let (info, conditioning) = original.ok_or(Error::NoConditioning(like))?;
        let (prompt, conditioning) = (info.prompt.clone(), conditioning.share());
        self.another(role, Some(like), &prompt, conditioning, false)
    }

    /// `like`: `None` for itself.
    fn shared(
        &mut self,
        role: &'static str,
        like: Option<Branch>,
        prompt: &str,
        conditioning: Conditioning,
    ) -> Result<Branch> {
        let alike = |info: &BranchInfo| info.like == like.unwrap_or(info.branch);
        let same = |info: &BranchInfo| info.shared && info.role == role && alike(info) && info.prompt == prompt;
        if let Some((info, _)) = self.branches.iter().find(|(info, _)| same(info)) {
            return Ok(info.branch);
        }
        self.another(role, like, prompt, conditioning, true)
    }

    /// `like`: `None` for itself.
    fn another(
        &mut self,
        role: &'static str,
        like: Option<Branch>,
        prompt: &str,
        conditioning: Conditioning,
        shared: bool,
    ) -> Result<Branch> {
        let used = self.branches.iter().filter(|(info, _)| matches!(info.branch, Branch::Extra(_))).count();
        let number = u8::try_from(used).map_err(|_| Error::parameter("extra branches", used + 1, "at most 256"))?;
        let branch = Branch::Extra(number);
        let like = like.unwrap_or(branch);
        self.branches.push((BranchInfo { branch, like, role, prompt: prompt.into(), shared }, conditioning));
        Ok(branch)
    }

    /// Returns this setup with another prompt, for a method that begins others on branches of its own.
    pub fn for_prompt<'s>(&'s mut self, prompt: &'s Prompt) -> Setup<'s> {
        Setup { prompt, branches: &mut *self.branches, ..*self }
    }

    /// The branches so far.
    pub fn branches(&self) -> impl Iterator<Item = &BranchInfo> {
        self.branches.iter().map(|(info, _)| info)
    }
}

/// The branches one evaluation needs.
#[derive(Debug, Default)]
pub struct Plan(BTreeMap<Branch, Option<Tensor>>);

impl Plan {
    /// Evaluates `branch` at the run's latent.
    pub fn evaluate(&mut self, branch: Branch) {
        self.0.entry(branch).or_default();
    }

    /// Evaluates `branch` at a latent of its own, [n, 4, h, w] at this noise level: a noised reference, for instance.
    pub fn evaluate_at(&mut self, branch: Branch, x: Tensor) {
        self.0.insert(branch, Some(x));
    }

    pub(crate) fn into_rows(self) -> Vec<(Branch, Option<Tensor>)> {
        self.0.into_iter().collect()
    }
}

/// Steers a run. Every method has a default; override what you need.
///
/// The order of calls: `recipe`, of a request; `first_pass`; then for each pass `check`, `prompt`, `begin` of every guidance, `condition` of
/// every branch, `noise`; per evaluation `plan`, the hooks, `predicted`, `denoised`; per step `transition`; after the last step of a
/// whole run `finish` and, if the picture is decoded, `decoded`. Several methods are called in attach order.
#[allow(unused_variables)]
pub trait Guidance: Send {
    /// Is what was configured possible at all? Asked when a pipeline is built and before `begin`.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// The training timestep down to which the guidance wants a first pass: the same run over the same noise, before the run
    /// itself, to look at. `begin` is called for each; what was learned in the first is used in the second. 0 is all of the
    /// run; of several wishes the longest counts, `None` is none. After a first pass there is no `finish` and no `decoded`.
    fn first_pass(&self) -> Option<f64> {
        None
    }

    /// Rates each image of the first pass that has just ended, 0..=1, by how well it suits this method; what several methods say is
    /// multiplied. Asked if a run chooses among first passes. Empty, the default, is no opinion.
    ///
    /// # Errors
    /// Whatever hinders it.
    fn outlook(&self, codec: &dyn Codec) -> Result<Vec<f64>> {
        let _ = codec;
        Ok(Vec::new())
    }

    /// Gives the prompt, before `begin`, with the places of its words in the context, for a method that puts another context in place of the
    /// text encoder's. `None`, the default, leaves it as it is.
    ///
    /// # Errors
    /// Whatever hinders it.
    fn prompt(&mut self, prompt: &Prompt, codec: &dyn Codec) -> Result<Option<Prompt>> {
        Ok(None)
    }

    /// Before the first step: look up phrases, encode, add branches. Forget earlier runs.
    fn begin(&mut self, setup: &mut Setup<'_>) -> Result<()> {
        Ok(())
    }

    /// Once per branch, after everybody's `begin`: read or edit what it is conditioned on.
    fn condition(&mut self, branch: &BranchInfo, conditioning: &mut Conditioning, codec: &dyn Codec) -> Result<()> {
        Ok(())
    }

    /// The noise that the run begins with, [n, 4, h, w] of mean 0 and variance 1, before it is scaled or added to a picture:
    /// read or edit. Not called for a run that goes on with another's latent.
    fn noise(&mut self, noise: &mut Tensor) -> Result<()> {
        Ok(())
    }

    /// Asks for extra branches, once per evaluation.
    fn plan(&mut self, step: &Step, plan: &mut Plan) -> Result<()> {
        Ok(())
    }

    /// My attention hooks. The same number throughout a run.
    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        Vec::new()
    }

    /// x0 (and ε) of every branch before they are combined; read or edit.
    fn predicted(&mut self, step: &Step, predictions: &mut Predictions) -> Result<()> {
        Ok(())
    }

    /// The combined x0 before the solver sees it; once per evaluation.
    fn denoised(&mut self, step: &Step, denoised: &mut Denoised) -> Result<()> {
        Ok(())
    }

    /// The Gaussian the next latent is drawn from; once per step.
    fn transition(&mut self, step: &Step, transition: &mut Transition) -> Result<()> {
        Ok(())
    }

    /// The finished latent, [n, 4, h, w], before it is decoded. Not called where another run goes on with it.
    fn finish(&mut self, latent: &mut Tensor, codec: &dyn Codec) -> Result<()> {
        Ok(())
    }

    /// The picture, [n, 3, H, W] in about -1..=1, to look at: what came of the guidance.
    fn decoded(&mut self, picture: &Tensor) -> Result<()> {
        Ok(())
    }

    /// What the user should hear about the run: warnings and findings, in whole sentences.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// The run in numbers and pictures, for files, pages and programs; typed details are read from the guidance itself. It is
    /// asked for after every run: hand maps over as they are ([`Picture::map`]) rather than draw them.
    fn report(&self) -> Result<Option<Report>> {
        Ok(None)
    }

    /// What makes this value again, for files; asked before a run. One of your own can be written by [`Recipe::of`]: whoever
    /// reads the file gets it back by name and settings, but has to make the value himself.
    ///
    /// # Errors
    /// [`Error::NotRepeatable`], which this default says: files name what took part and cannot be repeated.
    fn recipe(&self) -> Result<Recipe> {
        Err(Error::NotRepeatable { what: self.name().into() })
    }

    /// How errors, notes and reports call it.
    fn name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }
}

/// Forwards every phase to the guidance inside; a forgotten one would silently do nothing.
macro_rules! forward_guidance {
    ($(($($generics:tt)*) $wrapper:ty),*) => {$(
        impl<$($generics)*> Guidance for $wrapper {
            fn check(&self) -> Result<()> {
                (**self).check()
            }
            fn first_pass(&self) -> Option<f64> {
                (**self).first_pass()
            }
            fn outlook(&self, codec: &dyn Codec) -> Result<Vec<f64>> {
                (**self).outlook(codec)
            }
            fn prompt(&mut self, prompt: &Prompt, codec: &dyn Codec) -> Result<Option<Prompt>> {
                (**self).prompt(prompt, codec)
            }

            fn begin(&mut self, setup: &mut Setup<'_>) -> Result<()> {
                (**self).begin(setup)
            }
            fn condition(
                &mut self,
                branch: &BranchInfo,
                conditioning: &mut Conditioning,
                codec: &dyn Codec,
            ) -> Result<()> {
                (**self).condition(branch, conditioning, codec)
            }
            fn noise(&mut self, noise: &mut Tensor) -> Result<()> {
                (**self).noise(noise)
            }
            fn plan(&mut self, step: &Step, plan: &mut Plan) -> Result<()> {
                (**self).plan(step, plan)
            }
            fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
                (**self).hooks()
            }
            fn predicted(&mut self, step: &Step, predictions: &mut Predictions) -> Result<()> {
                (**self).predicted(step, predictions)
            }
            fn denoised(&mut self, step: &Step, denoised: &mut Denoised) -> Result<()> {
                (**self).denoised(step, denoised)
            }
            fn transition(&mut self, step: &Step, transition: &mut Transition) -> Result<()> {
                (**self).transition(step, transition)
            }
            fn finish(&mut self, latent: &mut Tensor, codec: &dyn Codec) -> Result<()> {
                (**self).finish(latent, codec)
            }
            fn decoded(&mut self, picture: &Tensor) -> Result<()> {
                (**self).decoded(picture)
            }
            fn notes(&self) -> Vec<String> {
                (**self).notes()
            }
            fn report(&self) -> Result<Option<Report>> {
                (**self).report()
            }
            fn recipe(&self) -> Result<Recipe> {
                (**self).recipe()
            }
            fn name(&self) -> &'static str {
                (**self).name()
            }
        }
    )*};
}

// Lending (`&mut guidance` is a guidance, read after the run) and owning.
forward_guidance!((G: Guidance + ?Sized) &mut G, (G: Guidance + ?Sized) Box<G>);

/// Lets a bare hook steer a run.
pub(crate) struct HookOnly<H>(pub H);

impl<H: CrossAttentionHook> Guidance for HookOnly<H> {
    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        vec![&mut self.0]
    }
    fn recipe(&self) -> Result<Recipe> {
        Err(Error::NotRepeatable { what: format!("the hook {}", std::any::type_name::<H>()) })
    }
    fn name(&self) -> &'static str {
        "hook"
    }
}
