//! [`Plain`]: a prompt without its markup, with the weights of its letters.

use crate::error::Result;
use crate::prompt::{Piece, check_length, check_weight, parse};
use std::ops::Range;

/// Splits a prompt into its pieces; without `markup`, all of it is one piece of the weight 1.
///
/// # Errors
/// [`Error::Parameter`](crate::Error::Parameter) for a text that is too long, or a weight that is too large.
pub(super) fn pieces(text: &str, markup: bool) -> Result<Vec<Piece>> {
    check_length(text)?;
    if !markup {
        let source = std::iter::once(0..text.len()).collect();
        return Ok(vec![Piece::Text { text: text.into(), weight: 1.0, source }]);
    }
    let pieces = parse(text);
    for piece in &pieces {
        if let Piece::Text { text, weight, .. } = piece {
            check_weight(text, *weight)?;
        }
    }
    Ok(pieces)
}

/// A prompt without its markup.
pub(super) struct Plain {
    pub text: String,
    /// Byte of the prompt that each byte of the text comes from.
    pub source: Vec<Option<usize>>,
    /// Weight of each letter of the text.
    weights: Vec<f64>,
}

impl Plain {
    /// Removes the markup from a prompt, if there is any.
    ///
    /// # Errors
    /// The errors of [`pieces`].
    pub(super) fn new(prompt: &str, markup: bool) -> Result<Self> {
        let mut plain = Self { text: String::new(), source: Vec::new(), weights: Vec::new() };
        for piece in pieces(prompt, markup)? {
            match piece {
                Piece::Text { text, weight, source } => {
                    plain.weights.extend(text.chars().map(|_| weight));
                    plain.text.push_str(&text);
                    plain.source.extend(source.into_iter().flatten().map(Some));
                }
                Piece::Break => {
                    plain.text.push(' '); // a break separates the words on both sides
                    plain.source.push(None);
                    plain.weights.push(1.0);
                }
            }
        }
        Ok(plain)
    }

    /// Returns the mean weight of some letters; 1 for no letters.
    pub(super) fn weight(&self, letters: &Range<usize>) -> f32 {
        match self.weights.get(letters.clone()) {
            Some(own) if !own.is_empty() => (own.iter().sum::<f64>() / own.len() as f64) as f32,
            _ => 1.0,
        }
    }

    /// Converts ranges of letters to ranges of bytes.
    pub(super) fn bytes(&self, ranges: &[Range<usize>]) -> Vec<Range<usize>> {
        let bytes: Vec<usize> = self.text.char_indices().map(|(byte, _)| byte).collect();
        let byte = |letter: usize| bytes.get(letter).copied().unwrap_or(self.text.len());
        ranges.iter().map(|letters| byte(letters.start)..byte(letters.end)).collect()
    }
}
