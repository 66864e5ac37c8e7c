//! [`Cursor`]: reads a text once, from its beginning to its end.

/// A place in a text that only moves forward. Parsers of prompts read text through a cursor alone, so tests can count
/// how often each letter is read. Such tests find a parser that looks ahead to the end at every letter, which takes
/// minutes for a megabyte.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Cursor<'t> {
    pub(crate) const fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// Number of bytes before this place.
    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    /// The text from this place on.
    pub(crate) fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The letter before this place.
    pub(crate) fn before(&self) -> Option<char> {
        self.text.get(..self.at)?.chars().next_back()
    }

    /// The letter at this place.
    pub(crate) fn peek(&self) -> Option<char> {
        looked(1);
        self.rest().chars().next()
    }

    /// Moves over the letter at this place and returns it.
    pub(crate) fn next(&mut self) -> Option<char> {
        let letter = self.peek()?;
        self.at += letter.len_utf8();
        Some(letter)
    }

    /// Moves over `token` and returns true if the text goes on with `token`.
    pub(crate) fn take(&mut self, token: &str) -> bool {
        looked(token.len());
        let is_here = self.rest().starts_with(token);
        self.at += if is_here { token.len() } else { 0 };
        is_here
    }

    /// Moves over letters as long as they are `wanted`, and returns them.
    pub(crate) fn take_while(&mut self, mut wanted: impl FnMut(char) -> bool) -> &'t str {
        let rest = self.rest();
        let length = rest.find(|letter| !wanted(letter)).unwrap_or(rest.len());
        looked(length + 1);
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }
}

/// Counts letters that a parser reads, or parts of its text that it compares. Counts nothing outside of tests.
#[cfg(not(test))]
pub(crate) const fn looked(_letters: usize) {}

#[cfg(test)]
pub(crate) use count::looked;

#[cfg(test)]
pub(crate) mod count {
    use std::cell::Cell;

    thread_local!(static LOOKED: Cell<usize> = const { Cell::new(0) });

    pub(crate) fn looked(letters: usize) {
        LOOKED.set(LOOKED.get() + letters);
    }

    /// The number of letters that `read` looks at.
    pub(crate) fn of(read: impl FnOnce()) -> usize {
        let before = LOOKED.get();
        read();
        LOOKED.get() - before
    }

    /// Fails unless `read` looks at each letter a few times at most, for texts that repeat each of `pieces`.
    pub(crate) fn assert_linear(name: &str, pieces: &[&str], read: impl Fn(&str)) {
        for piece in pieces {
            for closing in ["", ")", "}", "]", " x", ":1.2)"] {
                let text = piece.repeat(6_000 / piece.len()) + closing;
                let looks = of(|| read(&text)) as f64 / text.len() as f64;
                assert!(
                    looks > 0.0 && looks < 100.0,
                    "{name} looks {looks} times at each letter of {piece:?}×n{closing}"
                );
            }
        }
    }
}
