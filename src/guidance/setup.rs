//! [`Setup`]: the run as a guidance method sees it before the first step.

use crate::attention::AttentionSite;
use crate::branch::{Branch, BranchInfo};
use crate::conditioning::{Codec, Conditioning, Texts, encode_changing};
use crate::diffusion::Schedule;
use crate::error::{Error, Result};
use crate::prompt::Prompt;
use crate::step::Grid;
use std::fmt;
use tch::Device;

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
    /// True in the first pass, in which the methods that want one only measure. See
    /// [`Guidance::first_pass`](super::Guidance::first_pass).
    pub first_pass: bool,
    /// Index of the first pass's image with which this run, of one image, goes on. `None`: the run goes on with all
    /// images.
    pub candidate: Option<i64>,
    /// The further prompts that `AND` combines, with their branches.
    pub(crate) parts: &'a [(Branch, Prompt)],
    /// Prompt of the second text encoder; `None`: the encoder reads the same text as the first.
    pub(crate) second_prompt: Option<&'a str>,
    /// Prompt of the third text encoder; `None`: the encoder reads the same text as the first.
    pub(crate) third_prompt: Option<&'a str>,
    pub(crate) branches: &'a mut Vec<(BranchInfo, Conditioning)>,
    /// Prompt that takes the place of the run's.
    pub(crate) replaced: &'a mut Option<Prompt>,
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

impl<'a> Setup<'a> {
    /// Returns the prompt in which a phrase is found, with its branch: the run's prompt, unless only one of the further
    /// prompts that `AND` combines has the phrase.
    pub(crate) fn part_with(&self, phrase: &str) -> (Branch, &'a Prompt) {
        let own = (Branch::Cond, self.prompt);
        if !matches!(self.prompt.find(phrase), Err(Error::PhraseNotFound { .. })) {
            return own;
        }
        self.parts.iter().find(|(_, part)| part.find(phrase).is_ok()).map_or(own, |(branch, part)| (*branch, part))
    }

    /// Encodes another prompt in place of the run's. If the second or the third text encoder has a prompt of its own
    /// (SDXL, SD 3), that prompt stays.
    ///
    /// # Errors
    /// The errors of [`Codec::text`].
    pub fn text(&self, prompt: &str) -> Result<Conditioning> {
        self.codec.text(self.texts(prompt))
    }

    /// Returns the texts of all encoders, with another prompt in place of the run's.
    fn texts<'t>(&'t self, prompt: &'t str) -> Texts<'t> {
        Texts::new(prompt, self.second_prompt).with_third(self.third_prompt)
    }

    /// Encodes variants of the prompt's texts, each with the index of the step at which it begins.
    ///
    /// # Errors
    /// The errors of [`encode_changing`].
    pub(crate) fn encode_texts(&self, texts: &[(usize, String)]) -> Result<Conditioning> {
        let texts = texts.iter().map(|(from, text)| (*from, self.texts(text)));
        Ok(encode_changing(self.codec, &texts.collect::<Vec<_>>())?.0)
    }

    /// Sets the prompt in which all methods that begin later find their words: the same text, with other places of its
    /// words in the context. For a method that replaces the context of the text encoder
    /// ([`Guidance::replaces_context`](super::Guidance::replaces_context)).
    pub fn replace_prompt(&mut self, prompt: Prompt) {
        *self.replaced = Some(prompt);
    }

    /// Adds a branch that varies `like` (`Cond` or `Uncond`) with another prompt. Request the branch in
    /// [`GuidanceRun::plan`](super::GuidanceRun::plan) for each evaluation that needs the branch.
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
        let (prompt, conditioning) = self.conditioning_of(like)?;
        self.another(role, Some(like), &prompt, conditioning, false)
    }

    /// Returns the prompt of a branch as it was written, and the branch's conditioning. [`Prompt::text`] has no markup
    /// and no second prompt, so a text encoder must not read it again.
    pub(crate) fn conditioning_of(&self, branch: Branch) -> Result<(String, Conditioning)> {
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
        let (second_prompt, third_prompt) =
            varied.map(|(info, _)| (info.second_prompt.clone(), info.third_prompt.clone())).unwrap_or_default();
        let (like, prompt) = (like.unwrap_or(branch), prompt.into());
        let info = BranchInfo { branch, like, role, prompt, second_prompt, third_prompt, shared };
        self.branches.push((info, conditioning));
        Ok(branch)
    }

    /// Returns this setup with another prompt, for a method that begins other methods on its own branches.
    pub fn for_prompt<'s>(&'s mut self, prompt: &'s Prompt) -> Setup<'s> {
        Setup { prompt, parts: &[], branches: &mut *self.branches, replaced: &mut *self.replaced, ..*self }
    }

    /// Returns the branches added so far.
    pub fn branches(&self) -> impl Iterator<Item = &BranchInfo> {
        self.branches.iter().map(|(info, _)| info)
    }
}
