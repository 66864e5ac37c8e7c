//! The phrases that a phrase was told apart from.

use serde::Serialize;

/// Whom the words of the prompt left a phrase to compete with, in one image.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Competition {
    /// Index of the image in the batch.
    pub image: usize,
    /// Standard deviation over the picture of the attention to the phrase, as a share of the loudest word's: 1 is the loudest. Below
    /// .01 the map is doubtful, below .0001 it says nothing.
    pub loudness: f64,
    /// Words that compete with the phrase, the loudest first.
    pub rivals: Vec<String>,
    /// Words that do not, each with the word whose map it follows, or with the phrase if it was excepted.
    pub joined: Vec<(String, String)>,
}
