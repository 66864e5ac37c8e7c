//! [`Part`]: a prompt of a run, as its texts over the steps. [`Conjunction`]: the prompts that `AND` combines.

use super::{Origin, Start};
use crate::branch::Branch;
use crate::conditioning::{Codec, Conditioning, Texts, encode_changing};
use crate::diffusion::{Predictions, Schedule};
use crate::error::{Error, Result};
use crate::guidance::Plan;
use crate::prompt::{Prompt, PromptSchedule, PromptSyntax, check_length, check_weight, conjunction};

/// Largest number of prompts that `AND` combines. Each is a branch of every step.
const MOST_PARTS: usize = 32;

/// A prompt of a run, as its texts over the steps.
pub(super) struct Part {
    /// Weight of the part among those that `AND` combines.
    pub weight: f64,
    /// Texts in their order, each with the index of the step from which on the encoders read it. Neighbors differ.
    texts: Vec<(usize, Text)>,
}

/// The text of each text encoder; `None` if the encoder reads the first.
#[derive(Clone, PartialEq)]
pub(super) struct Text {
    pub first: String,
    pub second: Option<String>,
    pub third: Option<String>,
}

impl Text {
    fn each(&self) -> Texts<'_> {
        Texts::new(&self.first, self.second.as_deref()).with_third(self.third.as_deref())
    }
}

/// Reader of the prompts of a run.
pub(super) struct Reader {
    syntax: PromptSyntax,
    /// Steps of the whole schedule.
    nominal: usize,
    /// Steps of the run, and those of an earlier run that this run continues.
    count: usize,
    before: usize,
    first_steps: Option<usize>,
}

impl Reader {
    /// Creates the reader of a run. A run from a picture counts its own steps, and a run that continues another run
    /// counts through both.
    pub(super) fn new(start: &Start<'_>, schedule: &Schedule) -> Self {
        let first = schedule.steps().next();
        let (nominal, before) = first.map_or((0, 0), |step| (step.nominal, step.before));
        let before = if matches!(start.origin, Origin::Unfinished(_)) { before } else { 0 };
        let &Start { syntax, first_steps, .. } = start;
        Self { syntax, nominal, count: schedule.steps().count(), before, first_steps }
    }

    /// Reads a prompt, and the prompts of the second and the third text encoder if they have their own.
    pub(super) fn read(&self, first: &str, [second, third]: [Option<&str>; 2]) -> Result<Part> {
        let schedule = |prompt: &str| match self.first_steps {
            Some(first) => PromptSchedule::of_second_run(prompt, self.syntax, first, self.nominal),
            None => PromptSchedule::new(prompt, self.syntax, self.nominal),
        };
        let (first, second) = (schedule(first)?, second.map(schedule).transpose()?);
        let third = third.map(schedule).transpose()?;
        let mut texts: Vec<(usize, Text)> = Vec::new();
        for step in 0..self.count.max(1) {
            let at = |schedule: &PromptSchedule| schedule.at(self.before + step).to_owned();
            let text = Text { first: at(&first), second: second.as_ref().map(at), third: third.as_ref().map(at) };
            if texts.last().is_none_or(|(_, last)| *last != text) {
                texts.push((step, text));
            }
        }
        Ok(Part { weight: 1.0, texts })
    }

    /// Reads the prompts that `AND` combines. Equal prompts are one, with the sum of their weights.
    ///
    /// # Errors
    /// [`Error::Parameter`] for more than 32 prompts, for a weight beyond ±10000, and if another text encoder has
    /// another number of them.
    pub(super) fn read_all(&self, first: &str, others: [Option<&str>; 2]) -> Result<Vec<Part>> {
        if self.syntax == PromptSyntax::Plain {
            return Ok(vec![self.read(first, others)?]);
        }
        check_length(first)?;
        let (first, others) = (conjunction(first), others.map(|other| other.map(conjunction)));
        if first.len() > MOST_PARTS {
            let expected = format!("at most {MOST_PARTS}, because each is evaluated at every step");
            return Err(Error::parameter("prompt", format!("{} prompts with AND", first.len()), expected));
        }
        for (name, other) in ["second_prompt", "third_prompt"].into_iter().zip(&others) {
            if let Some(other) = other.as_ref().filter(|other| ![1, first.len()].contains(&other.len())) {
                let expected = format!("1 or {}, as the prompt has", first.len());
                return Err(Error::parameter(name, format!("{} prompts with AND", other.len()), expected));
            }
        }
        let mut parts: Vec<Part> = Vec::new();
        for (index, prompt) in first.iter().enumerate() {
            check_weight(&prompt.text, prompt.weight)?;
            let beside = others.each_ref().map(|other| {
                let other = other.as_ref()?;
                Some(other.get(index).or(other.first())?.text.as_str())
            });
            let part = self.read(&prompt.text, beside)?;
            match parts.iter_mut().find(|known| known.is_like(&part)) {
                Some(known) => known.weight += prompt.weight,
                None => parts.push(Part { weight: prompt.weight, ..part }),
            }
        }
        Ok(parts)
    }
}

impl Part {
    /// Returns the text of the first step.
    pub(super) fn text(&self) -> Option<&Text> {
        self.texts.first().map(|(_, text)| text)
    }

    /// Returns true for a part whose texts differ from those of another by the space around them at most.
    fn is_like(&self, other: &Self) -> bool {
        let trimmed = |Text { first, second, third }: &Text| {
            [Some(first), second.as_ref(), third.as_ref()].map(|text| text.map(|text| text.trim().to_owned()))
        };
        self.texts.len() == other.texts.len()
            && self
                .texts
                .iter()
                .zip(&other.texts)
                .all(|((a, text), (b, other))| a == b && trimmed(text) == trimmed(other))
    }

    /// Encodes the texts. Returns the conditioning, and a prompt in which the phrases of all texts are found.
    ///
    /// # Errors
    /// The errors of [`Codec::text`]; [`Error::Parameter`] for too many or too long texts.
    pub(super) fn encode(&self, codec: &dyn Codec) -> Result<(Conditioning, Prompt)> {
        let texts = self.texts.iter().map(|(from, text)| (*from, text.each()));
        encode_changing(codec, &texts.collect::<Vec<_>>())
    }
}

/// The prompts that `AND` combines: the branches with their weights wₖ. Their combination takes the place of the
/// prompt's prediction: u + Σ wₖ·(cₖ − u). So classifier-free guidance of scale g gives u + Σ wₖ·g·(cₖ − u).
///
/// Source: Liu et al. (2022), Compositional Visual Generation with Composable Diffusion Models; the weights as in
/// stable-diffusion-webui, where they are not normalized.
#[derive(Debug, Default)]
pub(super) struct Conjunction(Vec<(Branch, f64)>);

impl Conjunction {
    /// Creates a conjunction. A single prompt of weight 1 needs none.
    pub(super) fn new(parts: Vec<(Branch, f64)>) -> Self {
        let is_plain = matches!(parts.as_slice(), [(_, weight)] if *weight == 1.0);
        Self(if is_plain { Vec::new() } else { parts })
    }

    /// Returns the branches that each evaluation needs.
    pub(super) fn branches(&self) -> impl Iterator<Item = Branch> {
        let uncond = (!self.0.is_empty()).then_some(Branch::Uncond);
        self.0.iter().map(|(branch, _)| *branch).chain(uncond)
    }

    /// Requests the branches.
    pub(super) fn plan(&self, plan: &mut Plan) {
        self.branches().for_each(|branch| plan.evaluate(branch));
    }

    /// Combines the predictions of the branches into that of the prompt.
    pub(super) fn combine(&self, predictions: &mut Predictions) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let uncond = predictions.x0(Branch::Uncond)?;
        let mut sum = uncond.shallow_clone();
        for (branch, weight) in &self.0 {
            sum = sum.f_add(&predictions.x0(*branch)?.f_sub(uncond)?.f_mul_scalar(*weight)?)?;
        }
        *predictions.x0_mut(Branch::Cond)? = sum;
        Ok(())
    }
}
