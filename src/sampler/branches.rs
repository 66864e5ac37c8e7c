//! [`Branches`]: the branches of a run with their conditionings, before the first step.

use super::Start;
use super::calls::each;
use crate::branch::{Branch, BranchInfo};
use crate::conditioning::{Conditioning, Texts};
use crate::diffusion::Network;
use crate::error::Result;
use crate::guidance::Attached;
use crate::prompt::Prompt;
use crate::wording::{LONG_QUOTE, Note, excerpt};
use tch::Tensor;

/// The branches of a run with their conditionings, before the first step.
pub(super) struct Branches {
    /// The prompt with its tokens.
    pub prompt: Prompt,
    pub all: Vec<(BranchInfo, Conditioning)>,
    /// Notes on prompts that are too long.
    pub notes: Vec<Note>,
}

impl Branches {
    /// Encodes the prompt and the negative prompt.
    pub(super) fn encode(model: &dyn Network, start: &Start<'_>) -> Result<Self> {
        let &Start { prompt, second_prompt, negative, second_negative, .. } = start;
        let read = |name: &str, text, second, notes: &mut Vec<Note>| -> Result<Prompt> {
            let read = model.prompt(Texts::new(text, second))?;
            if let Some(cut) = read.cut() {
                let cut = excerpt(cut, LONG_QUOTE);
                notes.push(Note::from(format!(
                    "the {name} is too long for the text encoder, which does not see \"{cut}\"; shorten the {name}"
                )));
            }
            Ok(read)
        };
        let mut notes = Vec::new();
        let tokens = read("prompt", prompt, second_prompt, &mut notes)?;
        let _ = read("negative prompt", negative, second_negative, &mut notes)?;
        let branch = |branch, role, prompt: &str, second: Option<&str>| -> Result<(BranchInfo, Conditioning)> {
            let (prompt, second_prompt) = (prompt.into(), second.map(Into::into));
            let info = BranchInfo { branch, like: branch, role, prompt, second_prompt, shared: true };
            let conditioning = model.text((&info).into())?;
            Ok((info, conditioning))
        };
        let uncond = branch(Branch::Uncond, "uncond", negative, second_negative)?;
        let cond = branch(Branch::Cond, "cond", prompt, second_prompt)?;
        Ok(Self { prompt: tokens, all: vec![uncond, cond], notes })
    }

    /// Lets the guidance methods edit the conditionings, tells each which sizes and which kind of prompt it has, and
    /// makes all contexts equally long.
    pub(super) fn condition(
        self,
        guidances: &mut [Attached<'_>],
        model: &dyn Network,
        start: &Start<'_>,
    ) -> Result<(Vec<BranchInfo>, Vec<Conditioning>)> {
        let mut all = self.all;
        for (info, conditioning) in &mut all {
            each(guidances, ("condition", None), |guidance| guidance.condition(info, conditioning, model))?;
        }
        let own = start.micro_conditioning;
        let against = start.negative_micro_conditioning.unwrap_or_else(|| own.negative()).or_score(2.5);
        for (info, conditioning) in &mut all {
            let is_negative = info.like == Branch::Uncond;
            conditioning.during(0..usize::MAX, |part| {
                part.against = is_negative;
                part.micro.get_or_insert(if is_negative { against } else { own });
                Ok(())
            })?;
        }
        let (infos, mut conditionings): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        Conditioning::equalize(&mut conditionings, model)?;
        Ok((infos, conditionings))
    }
}

/// Adds the channels that an inpainting network reads beside the latent to each conditioning that has none.
pub(super) fn add_channels(conditionings: &mut [Conditioning], channels: Option<&Tensor>) -> Result<()> {
    conditionings.iter_mut().try_for_each(|conditioning| {
        conditioning.during(0..usize::MAX, |part| {
            part.concat = part.concat.take().or_else(|| channels.map(Tensor::shallow_clone));
            Ok(())
        })
    })
}
