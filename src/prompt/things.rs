//! What a prompt names, so that the names can be told apart in a picture.

use super::{Prompt, TokenSpan, Word, joined, words};
use crate::error::Result;
use std::collections::BTreeSet;
use std::ops::Range;

/// Words between commas that are still a name, not a sentence.
const NAME: usize = 3;

/// Words that stand for nothing to be seen.
const UNSEEN: [&str; 24] = [
    "a", "an", "and", "are", "as", "at", "by", "for", "from", "has", "her", "his", "in", "is", "its", "of", "on", "or",
    "that", "the", "their", "to", "wearing", "with",
];

/// Words for all of a figure or a picture, which other things are parts of.
const WHOLES: [&str; 16] = [
    "1boy",
    "1girl",
    "boy",
    "drawing",
    "girl",
    "illustration",
    "man",
    "painting",
    "people",
    "person",
    "photo",
    "photograph",
    "picture",
    "portrait",
    "solo",
    "woman",
];

impl Prompt {
    /// The things that the prompt names, in lower case and in the order of their first places, each with the tokens it is
    /// read at.
    ///
    /// Up to three words between commas are a name, read at its last word: the `bow` of "hair bow". More are a sentence, and
    /// each of its words is a thing, but for words such as "the" and the names of colors. Words for all of a figure or a picture,
    /// such as "girl" or "portrait", are left out: everything else is a part of them.
    pub fn things(&self) -> Vec<(String, Vec<TokenSpan>)> {
        let heads = self.heads().into_iter().filter(|word| !WHOLES.contains(&word.lower.as_str()));
        let own = heads.filter_map(|word| Some((word.lower, self.spans(&word.bytes)?)));
        let second = self.second.iter().flat_map(|second| second.things());
        joined(own.chain(second)).into_iter().map(|(name, spans)| (name, TokenSpan::union(spans))).collect()
    }

    /// The tokens that `phrase` is read at as a thing: its last word's, at the places where that is what a name is about,
    /// if there are such places. "hair" is not read in "hair bow" if it also stands by itself.
    ///
    /// # Errors
    /// As [`Prompt::find`].
    pub fn thing(&self, phrase: &str) -> Result<Vec<TokenSpan>> {
        let own = self.own_thing(phrase);
        let Some(Ok(second)) = self.second.as_ref().map(|second| second.thing(phrase)) else { return own };
        Ok(TokenSpan::union(own.into_iter().flatten().chain(second).collect()))
    }

    fn own_thing(&self, phrase: &str) -> Result<Vec<TokenSpan>> {
        self.thing_at(phrase, &self.places(phrase)?)
    }

    /// The same, of some of the places of `phrase`.
    pub(crate) fn thing_at(&self, phrase: &str, places: &[Range<usize>]) -> Result<Vec<TokenSpan>> {
        self.find_at(phrase, places)?; // says what is wrong
        let ends: BTreeSet<usize> = places.iter().map(|place| place.end).collect();
        let last = words(&self.text).into_iter().filter(|word| ends.contains(&word.bytes.end));
        let last: Vec<Word> = last.collect();
        let heads: BTreeSet<usize> = self.heads().into_iter().map(|head| head.bytes.start).collect();
        let named: Vec<&Word> = last.iter().filter(|word| heads.contains(&word.bytes.start)).collect();
        let read = if named.is_empty() { last.iter().collect() } else { named };
        Ok(TokenSpan::union(read.iter().filter_map(|word| self.spans(&word.bytes)).flatten().collect()))
    }

    /// The words that names and sentences are about, in order.
    fn heads(&self) -> Vec<Word> {
        let mut heads = Vec::new();
        for part in parts(words(&self.text)) {
            let mut seen: Vec<Word> = part.into_iter().filter(|word| !UNSEEN.contains(&word.lower.as_str())).collect();
            if seen.len() <= NAME {
                heads.extend(seen.pop());
            } else {
                heads.extend(seen.into_iter().filter(|word| palette::named::from_str(&word.lower).is_none()));
            }
        }
        heads
    }
}

/// Words between punctuation that separates; hyphens and apostrophes do not.
fn parts(words: Vec<Word>) -> Vec<Vec<Word>> {
    let mut parts: Vec<Vec<Word>> = Vec::new();
    for word in words {
        let separate = word.gap.chars().any(|mark| !"-'’_/".contains(mark));
        match parts.last_mut().filter(|_| !separate) {
            Some(part) => part.push(word),
            None => parts.push(vec![word]),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn prompt(text: &str) -> Prompt {
        Prompt::new(text, words(text).into_iter().map(|word| word.bytes).collect(), 75)
    }

    fn names(text: &str) -> Vec<String> {
        prompt(text).things().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn names_are_read_at_their_last_word_and_sentences_at_all() {
        assert_eq!(names("1girl, gold eyes, hair bow, hair"), ["eyes", "bow", "hair"]);
        assert_eq!(names("a girl with blue eyes and long hair"), ["eyes", "long", "hair"]);
        assert_eq!(names("a red-haired girl"), [""; 0], "a whole has no competition");
        assert_eq!(names("hair, the hair"), ["hair"]);
    }

    #[test]
    fn a_phrase_is_read_where_it_is_what_is_meant() -> Result<()> {
        let span = |at| TokenSpan { start: at, end: at + 1 };
        let tags = prompt("1girl, eyes, hair bow, hair");
        assert_eq!(tags.thing("hair")?, [span(5)]);
        assert_eq!(tags.thing("hair bow")?, [span(4)]);
        assert_eq!(prompt("1girl, hair bow").thing("hair")?, [span(2)]);
        assert!(matches!(tags.thing("ear"), Err(Error::PhraseNotFound { .. })));
        let both = tags.beside(prompt("a hat, hair"));
        assert_eq!(both.thing("hair")?, [span(3), span(5)]);
        assert_eq!(both.things().last().map(|(name, _)| name.clone()), Some("hat".into()));
        Ok(())
    }
}
