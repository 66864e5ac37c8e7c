//! Report of image guidance on a prompt.

use serde::Serialize;

/// The tokens that image guidance paired and moved.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ImageGuidanceReport {
    /// The guided prompt: one entry, or one for each image if their prompts or guides differ.
    pub prompts: Vec<GuidedPrompt>,
    /// The guided steps, from the first number up to but excluding the second; `None` for [`tween`](super::tween),
    /// which has no steps.
    pub steps: Option<(usize, usize)>,
}

/// One prompt and its guide.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GuidedPrompt {
    /// Every token of the context, in order.
    pub tokens: Vec<GuidedToken>,
    /// Mean similarity of the tokens that have a partner, excluding the headers.
    pub mean_similarity: f64,
    /// Positions of the tokens that the guide replaced entirely.
    pub replaced: Vec<i64>,
    /// Tokens that were replaced for a concept.
    pub concepts: Vec<ConceptHit>,
}

/// One token of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GuidedToken {
    /// Position of the token in the context.
    pub position: i64,
    /// Index of the guide's token that this token is paired with; `None` if no partner was left.
    pub alternate: Option<i64>,
    /// Similarity of the two tokens, 0..=1.
    pub similarity: f64,
    /// Weight by which the token was to be moved, −1..=1.
    pub weight: f64,
    /// Share by which the token was moved towards its partner: 1 is all the way; a share below 0 moved the token away.
    pub share: f64,
}

/// A prompt token that was replaced by the guide's token for a concept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ConceptHit {
    /// Position of the token in the context.
    pub position: i64,
    /// Index of the concept's token that the prompt token resembles.
    pub concept: i64,
    /// Index of the guide's token that replaced the prompt token.
    pub alternate: i64,
}

impl ImageGuidanceReport {
    pub(super) const fn of(prompts: Vec<GuidedPrompt>) -> Self {
        Self { prompts, steps: None }
    }
}

impl GuidedPrompt {
    /// Returns true if no token moved.
    pub(super) fn is_still(&self) -> bool {
        self.tokens.iter().all(|token| token.share == 0.0) && self.concepts.is_empty()
    }

    /// Computes the figures that follow from the tokens.
    pub(super) fn sum_up(mut self) -> Self {
        let paired = self.tokens.iter().filter(|token| token.alternate.is_some() && token.similarity > 0.0);
        let (sum, count) = paired.fold((0.0, 0), |(sum, count), token| (sum + token.similarity, count + 1));
        self.mean_similarity = sum / f64::from(count.max(1));
        let whole = self.tokens.iter().filter(|token| token.share == 1.0).map(|token| token.position);
        let concepts = self.concepts.iter().map(|hit| hit.position);
        self.replaced = whole.chain(concepts).collect();
        self.replaced.sort_unstable();
        self.replaced.dedup();
        self
    }
}
