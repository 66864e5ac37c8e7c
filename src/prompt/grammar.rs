//! Emphasis as people write it: `(word:1.3)`, `((word))`, `[word]`, `\(`, `BREAK`.
//!
//! The grammar is that of the AUTOMATIC1111 web UI, written anew as a scanner.

use std::ops::Range;

/// What a pair of round brackets without a number multiplies by; square ones divide by it.
const STEP: f64 = 1.1;

/// A part of a prompt as it was written.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Text of one weight, markup removed.
    Text {
        /// What the text encoder reads.
        text: String,
        /// How much of it, 1 being plain.
        weight: f64,
        /// Bytes of the prompt that the text comes from, in order; together as long as the text.
        source: Vec<Range<usize>>,
    },
    /// `BREAK`: what follows begins a chunk of its own.
    Break,
}

/// The pieces of a prompt, from left to right. Neighbours of equal weight are one; there is at least one text, and one on
/// either side of every break.
///
/// Brackets that close nothing and numbers that are none are text; brackets that nobody closes end with the prompt.
///
/// ```
/// use impasto::prompt::{Piece, parse};
/// let pieces = parse(r"(gold:1.3) eyes \(close\)");
/// assert!(matches!(&pieces[0], Piece::Text { text, weight, .. } if text == "gold" && *weight == 1.3));
/// assert!(matches!(&pieces[1], Piece::Text { text, weight, .. } if text == " eyes (close)" && *weight == 1.0));
/// ```
pub fn parse(prompt: &str) -> Vec<Piece> {
    let mut scanner = Scanner { prompt, at: 0, runs: Vec::new(), round: Vec::new(), square: Vec::new() };
    scanner.scan();
    scanner.pieces()
}

/// A stretch of the prompt, or a break where it has no bytes of its own.
struct Run {
    bytes: Range<usize>,
    weight: f64,
    breaks: bool,
}

struct Scanner<'p> {
    prompt: &'p str,
    at: usize,
    runs: Vec<Run>,
    /// Number of runs when each open bracket was met.
    round: Vec<usize>,
    square: Vec<usize>,
}

impl Scanner<'_> {
    fn scan(&mut self) {
        while let Some(next) = self.rest().chars().next() {
            let length = next.len_utf8();
            match next {
                '\\' => self.escaped(),
                '(' => self.open(|scanner| &mut scanner.round),
                '[' => self.open(|scanner| &mut scanner.square),
                ')' if !self.round.is_empty() => self.close(|scanner| &mut scanner.round, STEP, 1),
                ']' if !self.square.is_empty() => self.close(|scanner| &mut scanner.square, 1.0 / STEP, 1),
                ':' if !self.round.is_empty() && self.number().is_some() => {
                    let (weight, length) = self.number().unwrap_or((1.0, 1));
                    self.close(|scanner| &mut scanner.round, weight, length);
                }
                _ => match self.breaks() {
                    Some(length) => {
                        self.runs.push(Run { bytes: self.at..self.at, weight: 1.0, breaks: true });
                        self.at += length;
                    }
                    None => self.text(length),
                },
            }
        }
        while !self.round.is_empty() {
            self.close(|scanner| &mut scanner.round, STEP, 0);
        }
        while !self.square.is_empty() {
            self.close(|scanner| &mut scanner.square, 1.0 / STEP, 0);
        }
    }

    fn rest(&self) -> &str {
        self.prompt.get(self.at..).unwrap_or_default()
    }

    /// `length` bytes of text.
    fn text(&mut self, length: usize) {
        self.runs.push(Run { bytes: self.at..self.at + length, weight: 1.0, breaks: false });
        self.at += length;
    }

    /// A backslash makes the next sign a letter; before anything else it disappears.
    fn escaped(&mut self) {
        self.at += 1;
        if let Some(sign) = self.rest().chars().next().filter(|next| r"\()[]".contains(*next)) {
            self.text(sign.len_utf8());
        }
    }

    fn open(&mut self, stack: fn(&mut Self) -> &mut Vec<usize>) {
        let begun = self.runs.len();
        stack(self).push(begun);
        self.at += 1;
    }

    /// Ends the innermost bracket of a kind; the signs that end it are `length` bytes long.
    fn close(&mut self, stack: fn(&mut Self) -> &mut Vec<usize>, factor: f64, length: usize) {
        let begun = stack(self).pop().unwrap_or(self.runs.len());
        for run in self.runs.iter_mut().skip(begun) {
            run.weight *= factor;
        }
        self.at += length;
    }

    /// `:1.3)` with white space around the number: its value, and the length of all of it.
    fn number(&self) -> Option<(f64, usize)> {
        let (inside, _) = self.rest().strip_prefix(':')?.split_once(')')?;
        let number = inside.trim();
        let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
        let plain = digits.chars().all(|c| c == '.' || c.is_ascii_digit());
        let value = number.parse().ok().filter(|_| plain && !digits.is_empty())?;
        Some((value, inside.len() + 2))
    }

    /// Length of a `BREAK` that stands by itself, with the white space around it.
    fn breaks(&self) -> Option<usize> {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let rest = self.rest();
        let space = rest.len() - rest.trim_start().len();
        let before = self.prompt.get(..self.at).and_then(|before| before.chars().next_back());
        if space == 0 && before.is_some_and(word) {
            return None;
        }
        let after = rest.trim_start().strip_prefix("BREAK")?;
        if after.starts_with(word) {
            return None;
        }
        Some(rest.len() - after.trim_start().len())
    }

    fn pieces(self) -> Vec<Piece> {
        let empty =
            |at: usize| Piece::Text { text: String::new(), weight: 1.0, source: std::iter::once(at..at).collect() };
        let mut pieces: Vec<Piece> = Vec::new();
        for Run { bytes, weight, breaks } in self.runs {
            if breaks {
                if !matches!(pieces.last(), Some(Piece::Text { .. })) {
                    pieces.push(empty(bytes.start));
                }
                pieces.push(Piece::Break);
                continue;
            }
            let new = self.prompt.get(bytes.clone()).unwrap_or_default();
            match pieces.last_mut() {
                Some(Piece::Text { text, weight: same, source }) if *same == weight => {
                    text.push_str(new);
                    match source.last_mut() {
                        Some(last) if last.end == bytes.start => last.end = bytes.end,
                        _ => source.push(bytes),
                    }
                }
                _ => pieces.push(Piece::Text { text: new.into(), weight, source: vec![bytes] }),
            }
        }
        if !matches!(pieces.last(), Some(Piece::Text { .. })) {
            pieces.push(empty(self.prompt.len()));
        }
        pieces
    }
}
