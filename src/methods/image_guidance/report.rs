//! What a guide did to a prompt.

use serde::Serialize;

/// What image guidance paired and moved.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ImageGuidanceReport {
    /// The prompt: once, or for each image if their prompts or guides differ.
    pub prompts: Vec<GuidedPrompt>,
    /// The steps at which it was so, from the first to before the second; `None` for [`tween`](super::tween), which knows of
    /// none.
    pub steps: Option<(usize, usize)>,
}

/// One prompt and its guide.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GuidedPrompt {
    /// Every token of the context, in order.
    pub tokens: Vec<GuidedToken>,
    /// Mean similarity of the tokens that have a partner, the headers aside.
    pub mean_similarity: f64,
    /// Positions of the tokens that the guide replaced wholly.
    pub replaced: Vec<i64>,
    /// What concepts replaced.
    pub concepts: Vec<ConceptHit>,
}

/// One token of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GuidedToken {
    /// Its place in the context.
    pub position: i64,
    /// The token of the guide that it is paired with; `None` if none was left.
    pub alternate: Option<i64>,
    /// How much the two resemble each other, 0..=1.
    pub similarity: f64,
    /// How far it was to be moved, −1..=1.
    pub weight: f64,
    /// How far it was moved: 1 is all the way, below 0 away.
    pub share: f64,
}

/// A token that became what the guide has for a concept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ConceptHit {
    /// Its place in the context.
    pub position: i64,
    /// The token of the concept that it resembles.
    pub concept: i64,
    /// The token of the guide that took its place.
    pub alternate: i64,
}

impl ImageGuidanceReport {
    pub(super) const fn of(prompts: Vec<GuidedPrompt>) -> Self {
        Self { prompts, steps: None }
    }
}

impl GuidedPrompt {
    /// Did nothing move?
    pub(super) fn is_still(&self) -> bool {
        self.tokens.iter().all(|token| token.share == 0.0) && self.concepts.is_empty()
    }

    /// With the figures that follow from its tokens.
    pub(super) fn summed(mut self) -> Self {
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
