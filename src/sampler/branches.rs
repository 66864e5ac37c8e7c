//! [`Branches`]: the branches of a run with their conditionings, before the first step.

use super::Start;
use super::calls::each;
use super::parts::{Conjunction, Part, Reader, Text};
use crate::branch::{AND, Branch, BranchInfo};
use crate::conditioning::Conditioning;
use crate::diffusion::{Network, Schedule};
use crate::error::Result;
use crate::guidance::Attached;
use crate::prompt::Prompt;
use crate::wording::{LONG_QUOTE, Note, excerpt};
use tch::Tensor;

/// The branches of a run with their conditionings, before the first step.
pub(super) struct Branches {
    /// The prompt with its tokens.
    pub prompt: Prompt,
    /// The further prompts that `AND` combines, with their branches.
    pub parts: Vec<(Branch, Prompt)>,
    pub conjunction: Conjunction,
    pub all: Vec<(BranchInfo, Conditioning)>,
    /// Notes on prompts that are too long.
    pub notes: Vec<Note>,
}

impl Branches {
    /// Encodes the prompt and the negative prompt.
    pub(super) fn encode(model: &dyn Network, start: &Start<'_>, schedule: &Schedule) -> Result<Self> {
        let &Start { prompt, second_prompt, third_prompt, .. } = start;
        let &Start { negative, second_negative, third_negative, .. } = start;
        let reader = Reader::new(start, schedule);
        let (mut all, mut notes) = (Vec::new(), Vec::new());
        let mut encode = |name: &str, branch, role, part: &Part| -> Result<Prompt> {
            let (conditioning, prompt) = part.encode(model)?;
            if let Some(cut) = prompt.cut() {
                let cut = excerpt(cut, LONG_QUOTE);
                notes.push(Note::from(format!(
                    "the {name} is too long for the text encoder, which does not see \"{cut}\"; shorten the {name}"
                )));
            }
            let (first, second_prompt, third_prompt) = match part.text().cloned() {
                Some(Text { first, second, third }) => (first, second, third),
                None => (String::new(), None, None),
            };
            let like = if branch == Branch::Uncond { branch } else { Branch::Cond };
            let info = BranchInfo { branch, like, role, prompt: first, second_prompt, third_prompt, shared: true };
            all.push((info, conditioning));
            Ok(prompt)
        };
        let parts = reader.read_all(prompt, [second_prompt, third_prompt])?;
        let against = reader.read(negative, [second_negative, third_negative])?;
        encode("negative prompt", Branch::Uncond, "uncond", &against)?;
        let mut prompts = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter().enumerate() {
            let (branch, role) = match index.checked_sub(1) {
                None => (Branch::Cond, "cond"),
                Some(number) => (Branch::Extra(number as u8), AND),
            };
            prompts.push((branch, encode("prompt", branch, role, part)?));
        }
        let weights = prompts.iter().zip(&parts).map(|((branch, _), part)| (*branch, part.weight)).collect();
        let (_, prompt) = prompts.remove(0);
        Ok(Self { prompt, parts: prompts, conjunction: Conjunction::new(weights), all, notes })
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
