//! [`Competition`]: the words that a phrase was told apart from.

use serde::Serialize;

/// Words that competed with a phrase in one image, and words that were joined.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Competition {
    /// Index of the image in the batch.
    pub image: usize,
    /// Standard deviation over the picture of the attention to the phrase, as a share of the loudest word's. 1 is the
    /// loudest word. Below .01 the map is doubtful, below .0001 it is useless.
    pub loudness: f64,
    /// Words that compete with the phrase, the loudest first.
    pub rivals: Vec<String>,
    /// Words that do not compete, each with the word whose map it follows. An excepted word stands with the phrase.
    pub joined: Vec<(String, String)>,
}
