//! The tokens at which attention to a phrase is read, and the other words that the phrase is told apart from.

use super::words::is_unspaced;
use super::{Prompt, TokenSpan, Word, words};
use crate::error::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// English words after which a name is complete: "hair and eyes" names hair, "hair bow" does not.
const FUNCTION_WORDS: [&str; 30] = [
    "a", "an", "and", "are", "as", "at", "before", "behind", "by", "for", "from", "has", "her", "his", "in", "is",
    "its", "of", "on", "or", "that", "the", "their", "to", "under", "wearing", "wears", "while", "who", "with",
];

impl Prompt {
    /// The tokens at which attention to `phrase` is read: the tokens of its last word, such as `bow` in "hair bow".
    ///
    /// If the phrase is a whole name in some of its places, only those places count. A name is whole before
    /// punctuation, before a word such as "and", or at the end. For example, "hair" is not read in "hair bow" if
    /// another "hair" stands before a comma.
    ///
    /// # Errors
    /// The errors of [`Prompt::find`].
    pub fn thing(&self, phrase: &str) -> Result<Vec<TokenSpan>> {
        let own = self.own_thing(phrase);
        let Some(Ok(second)) = self.second.as_ref().map(|second| second.thing(phrase)) else { return own };
        Ok(TokenSpan::union(own.into_iter().flatten().chain(second).collect()))
    }

    fn own_thing(&self, phrase: &str) -> Result<Vec<TokenSpan>> {
        self.thing_at(phrase, &self.places(phrase)?)
    }

    /// The tokens of [`Prompt::thing`] for some of the places of `phrase`.
    pub(crate) fn thing_at(&self, phrase: &str, places: &[Range<usize>]) -> Result<Vec<TokenSpan>> {
        let all = self.find_at(phrase, places)?; // fails if the places are beyond the limit
        let starts: BTreeMap<usize, usize> = places.iter().map(|place| (place.end, place.start)).collect();
        let (mut last, mut whole) = (Vec::new(), Vec::new());
        let words = words(&self.text);
        // True for the last word of a place. In a script without spaces a word may reach beyond the place.
        let ends_place = |word: &Word| starts.get(&word.bytes.end).is_some_and(|start| *start <= word.bytes.start);
        for (at, word) in words.iter().enumerate().filter(|(_, word)| ends_place(word)) {
            let next = words.get(at + 1);
            if ends_name(next) {
                whole.push(word);
            }
            last.push(word);
        }
        let read = if whole.is_empty() { last } else { whole };
        let read: Vec<TokenSpan> = read.iter().filter_map(|word| self.spans(&word.bytes)).flatten().collect();
        Ok(TokenSpan::union(if read.is_empty() { all } else { read }))
    }

    /// The places, in bytes, that are whole names, as in [`Prompt::thing`]; all places if none is whole.
    pub(crate) fn whole(&self, places: Vec<Range<usize>>) -> Vec<Range<usize>> {
        let words = words(&self.text);
        let is_whole = |place: &&Range<usize>| {
            let next = words.iter().find(|word| word.bytes.start >= place.end);
            ends_name(next)
        };
        let whole: Vec<Range<usize>> = places.iter().filter(is_whole).cloned().collect();
        if whole.is_empty() { places } else { whole }
    }

    /// The tokens of other names that share a word with `phrase` in a compound: `bow` for "hair" if the prompt has
    /// "hair bow", and `hair` for "hair bow" if the prompt has "hair" as a name, too.
    pub(crate) fn compounds(&self, phrase: &str) -> Vec<TokenSpan> {
        let own: Vec<String> = words(phrase).into_iter().map(|word| word.lower).collect();
        let Some((head, modifiers)) = own.split_last() else { return Vec::new() };
        let (mut others, mut before): (Vec<TokenSpan>, Vec<String>) = (Vec::new(), Vec::new());
        let words = words(&self.text);
        for (word, next) in words.iter().zip(words.iter().skip(1).map(Some).chain([None])) {
            if is_separate(word) || FUNCTION_WORDS.contains(&word.lower.as_str()) {
                before.clear();
            }
            let is_other = word.lower != *head && (before.contains(head) || modifiers.contains(&word.lower));
            if is_other && ends_name(next) {
                others.extend(self.spans(&word.bytes).unwrap_or_default());
            }
            before.push(word.lower.clone());
        }
        let second = self.second.iter().flat_map(|second| second.compounds(phrase));
        TokenSpan::union(others.into_iter().chain(second).collect())
    }

    /// The words of the prompt that have no token in `own`, with their tokens, in order. A repeated word is listed once
    /// for each place. A word in a script without spaces is listed token by token.
    pub fn rivals(&self, own: &[TokenSpan]) -> Vec<(String, Vec<TokenSpan>)> {
        let mut rivals: Vec<(String, Vec<TokenSpan>)> = Vec::new();
        for word in words(&self.text) {
            if is_unspaced(&word.lower) {
                let first = self.tokens.partition_point(|token| token.end <= word.bytes.start);
                let here = self.tokens.iter().skip(first).take_while(|token| token.start < word.bytes.end);
                let named =
                    here.filter_map(|token| Some((self.text.get(token.clone())?.to_owned(), self.spans(token)?)));
                rivals.extend(named);
            } else if let Some(spans) = self.spans(&word.bytes) {
                rivals.push((word.lower, spans));
            }
        }
        // Both lists are in order, so each word is compared with one span.
        let own = TokenSpan::union(own.to_vec());
        let apart = |span: &TokenSpan| {
            let next = own.partition_point(|own| own.end <= span.start);
            own.get(next).is_none_or(|own| span.end <= own.start)
        };
        let second = self.second.iter().flat_map(|second| second.rivals(&own));
        let known: BTreeSet<(i64, i64)> =
            rivals.iter().flat_map(|(_, spans)| spans).map(|span| (span.start, span.end)).collect();
        let other =
            |(_, spans): &(String, Vec<TokenSpan>)| !spans.iter().all(|span| known.contains(&(span.start, span.end)));
        let second: Vec<_> = second.filter(other).collect();
        rivals.into_iter().chain(second).filter(|(_, spans)| spans.iter().all(apart)).collect()
    }
}

/// Returns true if a name is complete before the word `next`.
fn ends_name(next: Option<&Word>) -> bool {
    next.is_none_or(|next| is_separate(next) || FUNCTION_WORDS.contains(&next.lower.as_str()))
}

/// Returns true if punctuation separates a word from the previous one. Hyphens, apostrophes, underscores and slashes do
/// not separate words.
fn is_separate(word: &Word) -> bool {
    word.gap.chars().any(|mark| !"-'’_/".contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn prompt(text: &str) -> Prompt {
        Prompt::new(text, words(text).into_iter().map(|word| word.bytes).collect(), 75)
    }

    fn names(text: &str, phrase: &str) -> Vec<String> {
        let prompt = prompt(text);
        prompt.rivals(&prompt.thing(phrase).unwrap()).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn every_other_word_is_a_rival() {
        assert_eq!(names("1girl, gold eyes, hair bow, hair", "hair bow"), ["1girl", "gold", "eyes", "hair", "hair"]);
        assert_eq!(names("a girl with blue eyes", "eyes"), ["a", "girl", "with", "blue"]);
        assert_eq!(names("hat, coat, hat", "hat"), ["coat"]);
    }

    #[test]
    fn compounds_share_a_word_with_the_phrase() {
        let compounds = |text: &str, phrase: &str| -> Vec<i64> {
            prompt(text).compounds(phrase).iter().flat_map(|span| span.start..span.end).collect()
        };
        // Tokens are numbered from 1: 1girl, long, hair, a, red, hair, bow, eyes.
        let tags = "1girl, long hair, a red hair bow, eyes";
        assert_eq!(compounds(tags, "hair"), [7], "the bow");
        assert_eq!(compounds(tags, "hair bow"), [3], "the hair");
        assert_eq!(compounds(tags, "red hair bow"), [3]);
        assert_eq!(compounds(tags, "eyes"), [0i64; 0]);
        assert_eq!(compounds("a girl with hair, a bow in her hair", "hair"), [0i64; 0]);
        assert_eq!(compounds("1girl, hair bow", "hair bow"), [0i64; 0]);
    }

    #[test]
    fn unspaced_scripts_compete_by_token() -> Result<()> {
        // Tokens: 少女 (a girl), 金色 (golden), 的, 眼睛 (eyes); each has two characters, except 的.
        let tokens = vec![0..6, 6..9, 9..15, 15..18, 18..24];
        let prompt = Prompt::new("少女，金色的眼睛", tokens, 75);
        let own = prompt.thing("眼睛")?;
        assert_eq!(own, [TokenSpan { start: 5, end: 6 }]);
        let rivals: Vec<String> = prompt.rivals(&own).into_iter().map(|(name, _)| name).collect();
        assert_eq!(rivals, ["少女", "金色", "的"]);
        assert_eq!(prompt.find("金色")?, [TokenSpan { start: 3, end: 4 }]);
        // A character within a token is read at that token.
        assert_eq!(prompt.find("睛")?, [TokenSpan { start: 5, end: 6 }]);
        Ok(())
    }

    #[test]
    fn phrase_is_read_where_it_is_a_whole_name() -> Result<()> {
        let span = |at| TokenSpan { start: at, end: at + 1 };
        let tags = prompt("1girl, eyes, hair bow, hair");
        assert_eq!(tags.thing("hair")?, [span(5)]);
        assert_eq!(tags.thing("hair bow")?, [span(4)]);
        assert_eq!(prompt("1girl, hair bow").thing("hair")?, [span(2)]);
        assert_eq!(prompt("a girl with hair and a hair bow on it").thing("hair")?, [span(4)]);
        assert!(matches!(tags.thing("ear"), Err(Error::PhraseNotFound { .. })));
        let both = tags.beside(prompt("a hat, hair"));
        assert_eq!(both.thing("hair")?, [span(3), span(5)]);
        // The second prompt's tokens have the same places as the first prompt's; only tokens beyond these add rivals.
        let longer = prompt("1girl, eyes").beside(prompt("a hat, a small boat"));
        let rivals: Vec<String> = longer.rivals(&longer.thing("eyes")?).into_iter().map(|(name, _)| name).collect();
        assert_eq!(rivals, ["1girl", "a", "small", "boat"]);
        Ok(())
    }
}
