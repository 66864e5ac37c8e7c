//! [`DaamOptions`]: the settings of a [`Daam`](super::Daam) beyond phrase, sites and window.

use super::occurrence::Occurrence;
use super::refine::Refine;
use super::series::Accumulate;
use crate::saliency::{Differential, Normalize};
use serde::{Deserialize, Serialize};

/// The settings of a [`Daam`](super::Daam) that few runs change; [`Daam::tune`](super::Daam::tune) changes them in place.
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
#[derive(Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DaamOptions {
    /// Places of the phrase in the prompt that count; all by default.
    pub occurrence: Occurrence,
    /// Whether the maps of every head of every site are kept too, for [`Daam::head_maps`](super::Daam::head_maps).
    pub per_head: bool,
    /// Steps that [`Saliency::map`](crate::saliency::Saliency::map) shows.
    pub accumulate: Accumulate,
    /// Way in which [`Saliency::map`](crate::saliency::Saliency::map) is brought to 0..=1.
    pub normalize: Normalize,
    /// Way in which [`Saliency::map`](crate::saliency::Saliency::map) is brought to the shape of the object. With anything
    /// but `Off`, `normalize` has no effect.
    pub refine: Refine,
    /// Phrases that the phrase competes with under [`Refine::Contrast`]. Empty, as it is by default: the words of the prompt
    /// that show something of their own.
    pub among: Vec<String>,
    /// Phrases that the phrase competes with under [`Refine::Contrast`] whatever they show, beside the words that evidence
    /// chooses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub against: Vec<String>,
    /// Phrases of the prompt that the phrase does not compete with under [`Refine::Contrast`]: parts that are to be counted
    /// as the object, such as the "ponytail" of "hair".
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
    /// Saliency that takes over where the attention to the phrase is faint, under [`Refine::Contrast`]: it shows where the
    /// prediction changes with a word before the phrase. Its branch is evaluated only while the attention recorded so far is
    /// faint, at timesteps 400 to 850, so a phrase that is attended to costs nothing more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stand_in: Option<Differential>,
}
