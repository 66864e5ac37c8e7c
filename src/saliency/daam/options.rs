//! [`DaamOptions`]: the settings of a [`Daam`](super::Daam) beyond phrase, sites and window.

use super::occurrence::Occurrence;
use super::refine::Refine;
use crate::saliency::series::Accumulate;
use crate::saliency::{Differential, Normalize};
use serde::{Deserialize, Serialize};

/// Settings of a [`Daam`](super::Daam) that seldom need to change. [`Daam::tune`](super::Daam::tune) changes them in
/// place.
///
/// ```
/// use impasto::saliency::{Accumulate, Daam, Refine};
///
/// let hair = Daam::of("hair").tune(|options| {
///     options.accumulate = Accumulate::Mean;
///     options.refine = Refine::contrast();
///     options.except = vec!["ponytail".into()];
/// });
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DaamOptions {
    /// Places of the phrase in the prompt that count; all by default.
    pub occurrence: Occurrence,
    /// Enables [`DaamRun::head_maps`](super::DaamRun::head_maps), which keeps the maps of every head of every site.
    pub per_head: bool,
    /// Combination of steps in [`SaliencyRun::map`](crate::saliency::SaliencyRun::map).
    pub accumulate: Accumulate,
    /// Scaling of [`SaliencyRun::map`](crate::saliency::SaliencyRun::map) to 0..=1.
    pub normalize: Normalize,
    /// Refinement of [`SaliencyRun::map`](crate::saliency::SaliencyRun::map) to the shape of the object. With any value
    /// but `Off`, `normalize` has no effect.
    pub refine: Refine,
    /// Phrases that compete with the phrase under [`Refine::Contrast`]. If the list is empty, as by default, the words
    /// of the prompt whose maps show an object of their own compete.
    pub among: Vec<String>,
    /// Phrases that always compete with the phrase under [`Refine::Contrast`], in addition to `among` or the words of
    /// the prompt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub against: Vec<String>,
    /// Phrases of the prompt that do not compete with the phrase under [`Refine::Contrast`]: parts that count as the
    /// object, such as the "ponytail" of "hair".
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
    /// Changes of the prediction that confirm the attention to the phrase under [`Refine::Contrast`]: each shows where
    /// the prediction changes with one more word before the phrase. None by default.
    ///
    /// Attention may look at an object that no word of the prompt names. With words that are far apart, such as
    /// "red", "green" and "blue", an object is found in any color: it does not change with its own color.
    ///
    /// At most four steps evaluate a change, at timesteps 400 to 850, and the changes take turns. An evaluation costs
    /// half as much as a step with classifier-free guidance. The words are put before whole names alone: "hair" is not
    /// varied in "hair bow" if another "hair" stands before a comma.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Differential>,
}
