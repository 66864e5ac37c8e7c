//! Guidance methods: values that steer a run.
//!
//! A guidance method implements the trait [`Guidance`]. The method may add branches to the evaluation, hook attention,
//! edit predictions, and shift the Gaussian that the next latent is drawn from. The method sees named branches, sites
//! and phases, and the model only through [`Codec`]. Guidance methods do not depend on each other, and all can be
//! combined.

mod cfg;
mod pair;
mod report;

pub use cfg::{Cfg, Combine, RescaledCfg};
pub(crate) use cfg::{add_combinations, check_rescale};
pub(crate) use pair::SUM;
pub use report::{Curve, Picture, Report, Strip, Swatch};

use crate::attention::{AttentionSite, CrossAttentionHook};
use crate::branch::{Branch, BranchInfo};
use crate::conditioning::{Codec, Conditioning, Texts};
use crate::diffusion::{Denoised, Predictions, Schedule, Transition};
use crate::error::{Error, Result};
use crate::prompt::Prompt;
use crate::recipe::{Kind, Recipe};
use crate::step::{Grid, Step};
use crate::wording::Note;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use tch::{Device, Tensor};

/// Upper clamp for σ where a weight depends on the noise level. Zero-terminal-SNR schedules start at huge levels; this
/// value is Stable Diffusion's usual largest.
pub(crate) const LARGEST_LEVEL: f64 = 14.6146;

/// The run as a guidance method sees it, and may change it, before the first step.
#[non_exhaustive]
pub struct Setup<'a> {
    /// Prompt of the run, to look phrases up in.
    pub prompt: &'a Prompt,
    /// Latent rows and columns.
    pub grid: Grid,
    /// Number of images.
    pub images: i64,
    /// Device of the run's tensors.
    pub device: Device,
    /// Noise schedule of the run.
    pub schedule: &'a Schedule,
    /// Attention sites of the UNet, in the order in which they run.
    pub sites: &'a [AttentionSite],
    /// Attention sites of the ControlNets; their indexes follow those of the UNet.
    pub control_sites: &'a [AttentionSite],
    /// Tokenizer, text encoder and VAE.
    pub codec: &'a dyn Codec,
    /// True in the first pass, in which the methods that want one only measure. See [`Guidance::first_pass`].
    pub first_pass: bool,
    /// Index of the first pass's image with which this run, of one image, goes on. `None`: the run goes on with all
    /// images.
    pub candidate: Option<i64>,
    /// Prompt of the second text encoder; `None`: both encoders read the same text.
    pub(crate) second_prompt: Option<&'a str>,
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
    /// Encodes another prompt in place of the run's. If the second text encoder has a prompt of its own (SDXL), that
    /// prompt stays.
    ///
    /// # Errors
    /// The errors of [`Codec::text`].
    pub fn text(&self, prompt: &str) -> Result<Conditioning> {
        self.codec.text(Texts::new(prompt, self.second_prompt))
    }

    /// Adds a branch that varies `like` (`Cond` or `Uncond`) with another prompt. Request the branch in
    /// [`Guidance::plan`] for each evaluation that needs the branch.
    ///
    /// If another guidance method has added a branch of the same role, `like` and prompt, that branch is returned. The
    /// shared branch is evaluated once for both methods.
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

    /// Adds an independent branch: [`BranchInfo::like`] is the branch itself, so edits to the prompt's branch are not
    /// applied to this branch. The branch is shared as in [`add`](Self::add).
    ///
    /// # Errors
    /// [`Error::Parameter`] beyond 256 extra branches.
    pub fn add_apart(&mut self, role: &'static str, prompt: &str, conditioning: Conditioning) -> Result<Branch> {
        self.shared(role, None, prompt, conditioning)
    }

    /// Adds an independent branch like [`add_apart`](Self::add_apart), but shares the branch with no other method. Call
    /// this for a conditioning that the prompt does not identify.
    ///
    /// # Errors
    /// [`Error::Parameter`] beyond 256 extra branches.
    pub fn add_alone(&mut self, role: &'static str, prompt: &str, conditioning: Conditioning) -> Result<Branch> {
        self.another(role, None, prompt, conditioning, false)
    }

    /// Adds a variation of a branch with the same prompt and conditioning, shared with no other method. A method can
    /// change attention in the copy alone, and compare the predictions of the two branches.
    ///
    /// # Errors
    /// [`Error::NoConditioning`] if there is no branch `like`, [`Error::Parameter`] beyond 256 extra branches.
    pub fn add_copy(&mut self, role: &'static str, like: Branch) -> Result<Branch> {
        let (prompt, conditioning) = self.conditioned(like)?;
        self.another(role, Some(like), &prompt, conditioning, false)
    }

    /// Returns the prompt of a branch as it was written, and the branch's conditioning. [`Prompt::text`] has no markup
    /// and no second prompt, so a text encoder must not read it again.
    pub(crate) fn conditioned(&self, branch: Branch) -> Result<(String, Conditioning)> {
        let found = self.branches.iter().find(|(info, _)| info.branch == branch);
        let (info, conditioning) = found.ok_or(Error::NoConditioning(branch))?;
        Ok((info.prompt.clone(), conditioning.share()))
    }

    /// Returns the shared branch of this role, `like` and prompt, and adds the branch if there is none. For an
    /// independent branch, `like` is `None`.
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

    /// Adds a branch with the next number. `like` is `None` for an independent branch. `shared` is true if
    /// [`shared`](Self::shared) may return this branch to other methods.
    fn another(
        &mut self,
        role: &'static str,
        like: Option<Branch>,
        prompt: &str,
        conditioning: Conditioning,
        shared: bool,
    ) -> Result<Branch> {
        let used = self.branches.iter().filter(|(info, _)| matches!(info.branch, Branch::Extra(_))).count();
        let expected = "at most 256; remove regions or guidance methods";
        let number =
            u8::try_from(used).map_err(|_| Error::parameter("number of extra branches", used + 1, expected))?;
        let branch = Branch::Extra(number);
        let varied = self.branches.iter().find(|(info, _)| Some(info.branch) == like);
        let second_prompt = varied.and_then(|(info, _)| info.second_prompt.clone());
        let (like, prompt) = (like.unwrap_or(branch), prompt.into());
        self.branches.push((BranchInfo { branch, like, role, prompt, second_prompt, shared }, conditioning));
        Ok(branch)
    }

    /// Returns this setup with another prompt, for a method that begins other methods on its own branches.
    pub fn for_prompt<'s>(&'s mut self, prompt: &'s Prompt) -> Setup<'s> {
        Setup { prompt, branches: &mut *self.branches, ..*self }
    }

    /// Returns the branches added so far.
    pub fn branches(&self) -> impl Iterator<Item = &BranchInfo> {
        self.branches.iter().map(|(info, _)| info)
    }
}

/// Branches that an evaluation needs, as requested by guidance methods.
#[derive(Debug, Default)]
pub struct Plan {
    rows: BTreeMap<Branch, Option<Tensor>>,
    /// A branch that was requested at two latents.
    torn: Option<Branch>,
}

impl Plan {
    /// Requests the evaluation of `branch` at the run's latent.
    pub fn evaluate(&mut self, branch: Branch) {
        self.request(branch, None);
    }

    /// Requests the evaluation of `branch` at its own latent `x`, such as a noised reference: [n, 4, h, w] at the noise
    /// level of the evaluation. A branch has one latent: the run ends with an error if another request evaluates the
    /// branch at the run's latent or at its own. [`Setup::add_alone`] adds a branch that no other method requests.
    pub fn evaluate_at(&mut self, branch: Branch, x: Tensor) {
        self.request(branch, Some(x));
    }

    fn request(&mut self, branch: Branch, x: Option<Tensor>) {
        match self.rows.entry(branch) {
            Entry::Vacant(new) => drop(new.insert(x)),
            Entry::Occupied(known) if known.get().is_none() && x.is_none() => {}
            Entry::Occupied(_) => self.torn = Some(branch),
        }
    }

    /// Returns the branches to evaluate, each with its own latent if it has one.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a branch was requested at two latents.
    pub(crate) fn into_rows(self) -> Result<Vec<(Branch, Option<Tensor>)>> {
        match self.torn {
            None => Ok(self.rows.into_iter().collect()),
            Some(branch) => {
                let expected = "one latent for each branch; add a branch of your own with `Setup::add_alone`";
                Err(Error::parameter("the latent of a branch", format!("given twice for {branch:?}"), expected))
            }
        }
    }
}

/// A guidance method, which steers a run. Every phase has a default; override the phases you need.
///
/// Phases are called in this order, and within a phase the methods in attach order:
///
/// 1. `recipe`, when a request begins
/// 2. `first_pass`
/// 3. for each pass: `check`, `prompt` and `begin` of every method, `condition` of every branch, `noise`
/// 4. per evaluation: `plan`, the hooks, `predicted`, `denoised`
/// 5. per step: `transition`
/// 6. after the last step of a whole run: `finish` and, if the picture is decoded, `exact_cells` and `decoded`
///
/// ```
/// use impasto::diffusion::Transition;
/// use impasto::guidance::{Guidance, Setup};
/// use impasto::{Pipeline, Result, Step};
///
/// /// Measures the contrast of the predicted clean picture at every step.
/// #[derive(Default)]
/// struct Contrast(Vec<f64>);
///
/// impl Guidance for Contrast {
///     fn begin(&mut self, _: &mut Setup) -> Result<()> {
///         self.0.clear();
///         Ok(())
///     }
///     fn transition(&mut self, _: &Step, transition: &mut Transition) -> Result<()> {
///         self.0.push(transition.x0.f_std(true)?.f_double_value(&[])?);
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let mut contrast = Contrast::default();
/// Pipeline::builder().build()?.request("a red boat").seed(7).steps(3).guide(&mut contrast).run()?;
/// assert_eq!(contrast.0.len(), 3);
/// # Ok(()) }
/// ```
#[allow(unused_variables)]
pub trait Guidance: Send {
    /// Checks the settings, and returns an error if no run can use them. Called when a pipeline is built and before
    /// `begin`.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Returns the training timestep down to which the method wants a first pass, or `None` for no first pass. The
    /// first pass is the same run over the same noise, made before the run itself so that the method can measure.
    /// Timestep 0 makes the first pass as long as the run. If several methods want a first pass, the longest is
    /// made.
    ///
    /// `begin` is called for each pass, and the second pass can use what the method measured in the first pass. Methods
    /// that want no first pass act in both passes, so that the first pass shows their effects, too. A first pass ends
    /// without `finish` and `decoded`.
    fn first_pass(&self) -> Option<f64> {
        None
    }

    /// Rates how well each image of the first pass that has just ended suits this method, 0..=1; 1 is best. Ratings of
    /// several methods are multiplied. Called if a run chooses the best of several first passes. An empty list, the
    /// default, rates no image.
    ///
    /// # Errors
    /// Any error that prevents the rating.
    fn outlook(&self, codec: &dyn Codec) -> Result<Vec<f64>> {
        let _ = codec;
        Ok(Vec::new())
    }

    /// Returns the prompt with new places of its words in the context, for a method that replaces the text encoder's
    /// context. Called before `begin`. `None`, the default, leaves the prompt unchanged.
    ///
    /// # Errors
    /// Any error that prevents the search for words.
    fn prompt(&mut self, prompt: &Prompt, codec: &dyn Codec) -> Result<Option<Prompt>> {
        Ok(None)
    }

    /// Prepares for a run before its first step: looks phrases up, encodes texts, adds branches. The method must drop
    /// state of earlier runs here.
    fn begin(&mut self, setup: &mut Setup<'_>) -> Result<()> {
        Ok(())
    }

    /// Reads or edits the conditioning of a branch. Called once per branch, after `begin` of every method.
    fn condition(&mut self, branch: &BranchInfo, conditioning: &mut Conditioning, codec: &dyn Codec) -> Result<()> {
        Ok(())
    }

    /// Reads or edits the noise that the run begins with, [n, 4, h, w] of mean 0 and variance 1. Called before the
    /// noise is scaled or added to a picture. Not called for a run that continues from the latent of another run.
    fn noise(&mut self, noise: &mut Tensor) -> Result<()> {
        Ok(())
    }

    /// Requests extra branches. Called once per evaluation.
    fn plan(&mut self, step: &Step, plan: &mut Plan) -> Result<()> {
        Ok(())
    }

    /// Returns the method's attention hooks. The number of hooks must stay the same throughout a run.
    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        Vec::new()
    }

    /// Reads or edits x0 (and ε) of every branch before the branches are combined.
    fn predicted(&mut self, step: &Step, predictions: &mut Predictions) -> Result<()> {
        Ok(())
    }

    /// Reads or moves the combined x0 before the solver sees it. Called once per evaluation.
    fn denoised(&mut self, step: &Step, denoised: &mut Denoised) -> Result<()> {
        Ok(())
    }

    /// Reads or moves the Gaussian that the next latent is drawn from. Called once per step.
    fn transition(&mut self, step: &Step, transition: &mut Transition) -> Result<()> {
        Ok(())
    }

    /// Reads or edits the finished latent, [n, 4, h, w], before it is decoded. Not called if another run continues from
    /// this latent.
    fn finish(&mut self, latent: &mut Tensor, codec: &dyn Codec) -> Result<()> {
        Ok(())
    }

    /// Returns the share of each cell, [n, 1, h, w] in 0..=1, to which the method gave an exact color. The tone of
    /// these cells is not changed after decoding. `None`, the default, stands for no cells. Called before
    /// [`decoded`](Self::decoded).
    ///
    /// # Errors
    /// Any error that prevents the answer.
    fn exact_cells(&self) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Reads the picture, [n, 3, H, W] in about -1..=1, to measure the effect of the method. In a run that repaints a
    /// part of a picture, the rest is the picture that was given.
    fn decoded(&mut self, picture: &Tensor) -> Result<()> {
        Ok(())
    }

    /// Returns messages about the run for the user: warnings and findings, in whole sentences. A run sets
    /// [`Note::origin`] to the method's name.
    fn notes(&self) -> Vec<Note> {
        Vec::new()
    }

    /// Returns a report of the run in numbers and pictures, for files, web pages and programs. A caller that needs
    /// typed details reads them from the method itself. Called after every run, so return maps as they are
    /// ([`Picture::map`]) and do not draw them.
    fn report(&self) -> Result<Option<Report>> {
        Ok(None)
    }

    /// Returns a recipe that is stored in files, and from which this value can be made again. Called before a run.
    /// Methods of your own can return [`Recipe::of`]: a program that reads the file gets the name and the settings, and
    /// builds the value from them.
    ///
    /// # Errors
    /// [`Error::NotRepeatable`], which this default returns. Files then name the method and say that it cannot be
    /// repeated.
    fn recipe(&self) -> Result<Recipe> {
        Err(Error::NotRepeatable { what: self.name().into() })
    }

    /// Returns the method's name in errors, notes and reports.
    fn name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }
}

impl Kind for dyn Guidance {
    const NAME: &'static str = "guidance method";
}

/// Forwards every phase to the inner guidance method. A phase missing here would silently do nothing.
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
            fn exact_cells(&self) -> Result<Option<Tensor>> {
                (**self).exact_cells()
            }
            fn decoded(&mut self, picture: &Tensor) -> Result<()> {
                (**self).decoded(picture)
            }
            fn notes(&self) -> Vec<Note> {
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

// References (`&mut method`), which let the caller read the method after the run, and boxes are guidance methods too.
forward_guidance!((G: Guidance + ?Sized) &mut G, (G: Guidance + ?Sized) Box<G>);

/// A guidance method that consists of one attention hook.
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
