//! Emphasis markup of prompts: `(word:1.3)`, `((word))`, `[word]`, `\(`, `BREAK`.
//!
//! The grammar is that of the AUTOMATIC1111 web UI, rewritten as a scanner.

use super::cursor::Cursor;
use std::ops::Range;

/// Factor on weights in round brackets without a number; square brackets divide weights by this factor.
const STEP: f64 = 1.1;

/// A part of a prompt as written.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Text of one weight, markup removed.
    Text {
        /// The text that the encoder reads.
        text: String,
        /// Weight of the text; 1 is plain.
        weight: f64,
        /// Bytes of the prompt that the text comes from, in order. All ranges together are as long as the text.
        source: Vec<Range<usize>>,
    },
    /// `BREAK`: the text after it begins a new chunk.
    Break,
}

/// Splits a prompt into pieces, from left to right. Neighboring texts of equal weight are one piece. There is at least
/// one text, and a text, possibly empty, on either side of every break.
///
/// Closing brackets without an opening bracket are text, and so are invalid numbers. Brackets that are never closed
/// reach to the end of the prompt.
///
/// ```
/// use impasto::prompt::{Piece, parse};
/// let pieces = parse(r"(gold:1.3) eyes \(close\)");
/// assert!(matches!(&pieces[0], Piece::Text { text, weight, .. } if text == "gold" && *weight == 1.3));
/// assert!(matches!(&pieces[1], Piece::Text { text, weight, .. } if text == " eyes (close)" && *weight == 1.0));
/// ```
pub fn parse(prompt: &str) -> Vec<Piece> {
    let mut scanner =
        Scanner { cursor: Cursor::new(prompt), tokens: Vec::new(), round: Vec::new(), square: Vec::new() };
    scanner.scan();
    pieces(prompt, &scanner.tokens)
}

/// A token of a prompt's markup.
enum Token {
    /// Bytes of text.
    Text(Range<usize>),
    /// A `BREAK`, and the byte where it begins.
    Break(usize),
    /// An opening bracket, and its factor on weights up to the closing bracket.
    Open(Bracket, f64),
    Close(Bracket),
}

/// The kinds of brackets. A bracket is closed only by a bracket of the same kind, so `(a [b) c]` has two pairs.
#[derive(Clone, Copy)]
enum Bracket {
    Round,
    Square,
}

struct Scanner<'p> {
    cursor: Cursor<'p>,
    tokens: Vec<Token>,
    /// Index in `tokens` of each open round bracket.
    round: Vec<usize>,
    /// Index in `tokens` of each open square bracket.
    square: Vec<usize>,
}

impl Scanner<'_> {
    fn scan(&mut self) {
        while let Some(next) = self.cursor.peek() {
            let begin = self.cursor.at();
            match next {
                '\\' => self.escape(),
                '(' => self.open(Bracket::Round),
                '[' => self.open(Bracket::Square),
                ')' if !self.round.is_empty() => self.close(Bracket::Round, STEP),
                ']' if !self.square.is_empty() => self.close(Bracket::Square, 1.0 / STEP),
                ':' if !self.round.is_empty() => match self.number() {
                    Some(weight) => self.close(Bracket::Round, weight),
                    None => self.text(begin),
                },
                'B' if !self.cursor.before().is_some_and(is_word) => self.text_or_break(begin),
                space if space.is_whitespace() => {
                    self.cursor.take_while(char::is_whitespace);
                    self.text_or_break(begin);
                }
                _ => self.text(begin),
            }
        }
    }

    /// Adds the text from byte `begin` to the cursor, or the next letter if that text is empty.
    fn text(&mut self, begin: usize) {
        if self.cursor.at() == begin {
            self.cursor.next();
        }
        let end = self.cursor.at();
        match self.tokens.last_mut() {
            Some(Token::Text(last)) if last.end == begin => last.end = end,
            _ => self.tokens.push(Token::Text(begin..end)),
        }
    }

    /// Drops a backslash; a bracket or backslash after it becomes text.
    fn escape(&mut self) {
        self.cursor.next();
        if self.cursor.peek().is_some_and(|next| r"\()[]".contains(next)) {
            self.text(self.cursor.at());
        }
    }

    fn open(&mut self, bracket: Bracket) {
        self.cursor.next();
        let at = self.tokens.len();
        // A bracket that is never closed keeps this factor up to the end of the prompt.
        match bracket {
            Bracket::Round => self.round.push(at),
            Bracket::Square => self.square.push(at),
        }
        let factor = if matches!(bracket, Bracket::Round) { STEP } else { 1.0 / STEP };
        self.tokens.push(Token::Open(bracket, factor));
    }

    /// Closes the innermost bracket of a kind and sets its factor.
    fn close(&mut self, bracket: Bracket, factor: f64) {
        self.cursor.next();
        let opened = match bracket {
            Bracket::Round => self.round.pop(),
            Bracket::Square => self.square.pop(),
        };
        if let Some(Token::Open(_, by)) = opened.and_then(|at| self.tokens.get_mut(at)) {
            *by = factor;
        }
        self.tokens.push(Token::Close(bracket));
    }

    /// Reads `:1.3)` with white space around the number: moves to the closing bracket and returns the number. Without a
    /// number, the scanner stays.
    fn number(&mut self) -> Option<f64> {
        let mut ahead = self.cursor.clone();
        ahead.next();
        ahead.take_while(char::is_whitespace);
        let signed = ahead.rest();
        let sign = usize::from(ahead.take("+") || ahead.take("-"));
        let digits = ahead.take_while(|letter| letter == '.' || letter.is_ascii_digit()).len();
        ahead.take_while(char::is_whitespace);
        let number = signed.get(..sign + digits).filter(|_| digits > 0 && ahead.peek() == Some(')'))?.parse().ok()?;
        self.cursor = ahead;
        Some(number)
    }

    /// Adds a `BREAK` that stands by itself, with the white space around it. Without a `BREAK`, adds the text from byte
    /// `begin` to the cursor.
    fn text_or_break(&mut self, begin: usize) {
        let mut ahead = self.cursor.clone();
        if !ahead.take("BREAK") || ahead.peek().is_some_and(is_word) {
            return self.text(begin);
        }
        ahead.take_while(char::is_whitespace);
        self.cursor = ahead;
        self.tokens.push(Token::Break(begin));
    }
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// The pieces of a prompt with these tokens.
fn pieces(prompt: &str, tokens: &[Token]) -> Vec<Piece> {
    let empty = |at: usize| Piece::Text { text: String::new(), weight: 1.0, source: std::iter::once(at..at).collect() };
    let mut pieces: Vec<Piece> = Vec::new();
    // The products of the factors of open brackets, from the outermost to each bracket.
    let (mut round, mut square) = (vec![1.0], vec![1.0]);
    let product = |factors: &[f64]| factors.last().copied().unwrap_or(1.0);
    for token in tokens {
        match token {
            // Hundreds of brackets would overflow to infinity, and infinity times 0 is NaN.
            Token::Open(Bracket::Round, by) => round.push((product(&round) * by).clamp(f64::MIN, f64::MAX)),
            Token::Open(Bracket::Square, by) => square.push(product(&square) * by),
            Token::Close(Bracket::Round) => drop(round.pop()),
            Token::Close(Bracket::Square) => drop(square.pop()),
            Token::Break(at) => {
                if !matches!(pieces.last(), Some(Piece::Text { .. })) {
                    pieces.push(empty(*at));
                }
                pieces.push(Piece::Break);
            }
            Token::Text(bytes) => {
                let weight = product(&round) * product(&square);
                let new = prompt.get(bytes.clone()).unwrap_or_default();
                match pieces.last_mut() {
                    Some(Piece::Text { text, weight: same, source }) if *same == weight => {
                        text.push_str(new);
                        match source.last_mut() {
                            Some(last) if last.end == bytes.start => last.end = bytes.end,
                            _ => source.push(bytes.clone()),
                        }
                    }
                    _ => pieces.push(Piece::Text { text: new.into(), weight, source: vec![bytes.clone()] }),
                }
            }
        }
    }
    if !matches!(pieces.last(), Some(Piece::Text { .. })) {
        pieces.push(empty(prompt.len()));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::cursor::count::assert_linear;

    #[test]
    fn deep_brackets_have_finite_weights() {
        let deep = format!("{}a{}", "(".repeat(100_000), ":0)".repeat(3));
        for prompt in [deep, format!("({}a{}:9{})", "(".repeat(9999), ")".repeat(9999), "9".repeat(400))] {
            let weights: Vec<f64> = parse(&prompt)
                .into_iter()
                .map(|piece| match piece {
                    Piece::Text { weight, .. } => weight,
                    Piece::Break => 1.0,
                })
                .collect();
            assert!(weights.iter().all(|weight| weight.is_finite()), "{weights:?}");
        }
    }

    #[test]
    fn parse_looks_at_each_letter_a_few_times() {
        let pieces = [
            " ", "(", "((a))", "(a", "[", ":", "(:", ": ", ":1", "(a: 1", "\\", "BREAK", " BREAK ", "B", "é", "{", "a ",
        ];
        assert_linear("parse", &pieces, |text| drop(parse(text)));
    }
}
