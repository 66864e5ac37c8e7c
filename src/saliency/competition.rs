//! [`Competition`]: the words that a phrase was told apart from.

use serde::Serialize;

/// Words that competed with a phrase in one image, and words that did not because their maps follow another word's map.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Competition {
    /// Index of the image in the batch.
    pub image: usize,
    /// Strength of the attention to the phrase: its standard deviation over the picture, as a share of the standard
    /// deviation for the loudest word. At 1 the phrase is the loudest word. Below .01 the attention is doubtful, and at
    /// .0001 and below it is useless.
    pub loudness: f64,
    /// Words that compete with the phrase, the loudest first.
    pub rivals: Vec<String>,
    /// Words that do not compete, each with the word whose map its own map follows. A word of
    /// [`DaamOptions::except`](super::DaamOptions::except) is listed with the phrase.
    pub joined: Vec<(String, String)>,
}
