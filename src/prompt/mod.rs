//! Prompts with their tokens, and the places of phrases in them.

mod brackets;
mod changing;
mod colors;
mod conjunction;
pub(crate) mod cursor;
mod flat;
mod grammar;
mod networks;
mod schedule;
mod syntax;
mod things;
mod unread;
mod words;

pub use colors::{PromptColor, colors};
pub(crate) use colors::{hex_words, number_in_texts, without_colors};
pub use conjunction::{WeightedPrompt, conjunction};
pub(crate) use flat::{all_texts, last_text};
pub use grammar::{Piece, parse};
pub use networks::{LoraTag, NetworkTags, networks};
pub use schedule::PromptSchedule;
pub use syntax::PromptSyntax;
pub(crate) use unread::{unread, unread_against};
pub(crate) use words::folded;

use crate::error::{Error, Result};
use cursor::looked;
use serde::Serialize;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::sync::Arc;
use words::{Word, is_unspaced, letters, nearest, uninflected, words};

/// Largest number of bytes of a prompt, some twenty times as many as people write. The limit keeps an untrusted text,
/// such as a text inside a PNG file, from using up time and memory.
pub const LONGEST: usize = 1 << 16;

/// Checks that a text is short enough for a prompt.
pub(crate) fn check_length(text: &str) -> Result<()> {
    if text.len() <= LONGEST {
        return Ok(());
    }
    let expected = format!("at most {LONGEST} bytes; describe the picture in fewer words");
    Err(Error::parameter("prompt", format!("a text of {} bytes", text.len()), expected))
}

/// Largest weight of words or of a prompt, up or down. With a larger one, the model's numbers overflow.
const MOST_WEIGHT: f64 = 1e4;

/// Checks the weight of words or of a prompt.
pub(crate) fn check_weight(text: &str, weight: f64) -> Result<()> {
    if weight.abs() <= MOST_WEIGHT {
        return Ok(());
    }
    let start: String = text.trim().chars().take(40).collect();
    let expected = format!("a weight of -{MOST_WEIGHT} to {MOST_WEIGHT}; most are between 0.5 and 1.5");
    Err(Error::parameter("prompt", format!("{start:?} with a weight of {weight:e}"), expected))
}

/// Tokens `start..end` of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct TokenSpan {
    /// First token.
    pub start: i64,
    /// One past the last token.
    pub end: i64,
}

/// A name with the tokens at which it is read.
pub(crate) type Named = (String, Vec<TokenSpan>);

impl TokenSpan {
    /// Number of tokens.
    pub const fn len(self) -> i64 {
        self.end - self.start
    }

    /// Returns true for a span without tokens.
    pub const fn is_empty(self) -> bool {
        self.end <= self.start
    }

    /// Merges spans that overlap or touch, so that each token is in one span, in order.
    pub fn union(mut spans: Vec<Self>) -> Vec<Self> {
        spans.sort_by_key(|span| span.start);
        let mut union: Vec<Self> = Vec::with_capacity(spans.len());
        for span in spans {
            match union.last_mut() {
                Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
                _ => union.push(span),
            }
        }
        union
    }
}

/// A prompt as the text encoder sees it.
///
/// Each token has its place in the text, and a phrase is found by its letters. A search for the phrase's tokens could
/// fail, because a phrase tokenized alone may split into other tokens than inside a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// The prompt without markup.
    text: String,
    /// Bytes of `text` that each content token covers, in order; the start token is not among them.
    tokens: Vec<Range<usize>>,
    /// Place of each token in the context; `None` if the token does not reach the text encoder.
    places: Vec<Option<i64>>,
    written: Option<Written>,
    /// The prompt of a second text encoder; its tokens have the same places in the context as the first one's. In a
    /// prompt that changes during a run, the text that follows the first.
    second: Option<Box<Prompt>>,
    /// The texts of a prompt that changes during a run; `None` for a prompt that stays the same.
    changes: Option<Arc<Changes>>,
    /// True if the network reads the places of the tokens too, so that no token may be put at another place.
    is_ordered: bool,
}

/// The texts of a prompt that changes during a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Changes {
    /// The different texts, each with the columns of its tokens, sorted.
    texts: Vec<(Prompt, Vec<i64>)>,
    /// Steps at which the text changes, with the index of the text from then on.
    turns: Vec<(usize, usize)>,
}

impl Changes {
    /// Returns the texts in the order of the run, each with the index of the step at which it begins.
    pub(crate) fn turns(&self) -> impl Iterator<Item = (usize, &Prompt)> {
        self.turns.iter().filter_map(|(from, text)| Some((*from, &self.texts.get(*text)?.0)))
    }

    /// Returns the index of the text of a step, by the index of the step.
    pub(crate) fn text_at(&self, step: usize) -> usize {
        let turn = self.turns.iter().rev().find(|(from, _)| *from <= step);
        turn.map_or(0, |(_, text)| *text)
    }

    /// Returns the columns of each text's tokens, sorted.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &[i64]> {
        self.texts.iter().map(|(_, columns)| columns.as_slice())
    }
}

/// A prompt with its markup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub text: String,
    /// Byte of `text` that each byte of the prompt without markup comes from; `None` for a byte that stands for markup.
    pub source: Vec<Option<usize>>,
}

impl Prompt {
    /// Creates a prompt without markup.
    ///
    /// `tokens` are the bytes of `text` that each token covers, without start and end tokens. `limit` is the number of
    /// tokens that the text encoder reads (75 for CLIP).
    pub fn new(text: impl Into<String>, tokens: Vec<Range<usize>>, limit: usize) -> Self {
        let places = (0..tokens.len()).map(|at| (at < limit).then_some(at as i64 + 1)).collect();
        Self { text: text.into(), tokens, places, written: None, second: None, changes: None, is_ordered: false }
    }

    /// Creates a prompt for a network that reads something other than words. Each name is some bytes of `text` with
    /// places in the context, such as the patches of a reference picture that show the named thing. Names are in the
    /// order of the text.
    pub(crate) fn naming(text: &str, names: &[(Range<usize>, Vec<i64>)]) -> Self {
        let each =
            names.iter().flat_map(|(bytes, places)| places.iter().map(move |place| (bytes.clone(), Some(*place))));
        let (tokens, places) = each.unzip();
        Self { text: text.into(), tokens, places, written: None, second: None, changes: None, is_ordered: false }
    }

    /// Declares that the network reads the places of the tokens too, as by a rotary position.
    #[must_use]
    pub(crate) fn keep_order(self) -> Self {
        Self { is_ordered: true, ..self }
    }

    /// Adds the prompt of a second text encoder (SDXL); phrases are found in both prompts.
    #[must_use]
    pub(crate) fn beside(self, second: Self) -> Self {
        Self { second: Some(Box::new(second)), ..self }
    }

    /// Creates a prompt with markup. `tokens` are bytes of `text`, which has no markup; `places` are the places of the
    /// tokens in the context.
    pub(crate) const fn written(
        written: Written,
        text: String,
        tokens: Vec<Range<usize>>,
        places: Vec<Option<i64>>,
    ) -> Self {
        Self { text, tokens, places, written: Some(written), second: None, changes: None, is_ordered: false }
    }

    /// The text that the text encoder reads, without brackets, weights and backslashes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Bytes of the text that each content token covers, in order, including tokens that are cut off.
    pub fn tokens(&self) -> &[Range<usize>] {
        &self.tokens
    }

    /// The spans of tokens that stand for words, without start, end and padding: a span for each chunk of a long
    /// prompt.
    pub fn content(&self) -> Vec<TokenSpan> {
        let second = self.second.iter().flat_map(|second| second.content());
        TokenSpan::union(runs(self.places.iter().copied().flatten()).into_iter().chain(second).collect())
    }

    /// The distinct words of the prompt in lower case, in the order of their first places. Each word has the tokens of
    /// all its places that the text encoder reads.
    pub fn words(&self) -> Vec<(String, Vec<TokenSpan>)> {
        let own = words(&self.text);
        let own = own.into_iter().filter_map(|word| Some((word.lower, self.spans(&word.bytes)?)));
        let second = self.second.iter().flat_map(|second| second.words());
        let mut distinct = join(own.chain(second));
        if self.second.is_some() {
            distinct.iter_mut().for_each(|(_, spans)| *spans = TokenSpan::union(std::mem::take(spans)));
        }
        distinct
    }

    /// The part of the prompt that is cut off because the text encoder reads no further, if any.
    pub fn cut(&self) -> Option<&str> {
        let unseen = self.places.iter().position(Option::is_none);
        let own = unseen.and_then(|unseen| self.text.get(self.tokens.get(unseen)?.start..));
        own.or_else(|| self.second.as_ref()?.cut())
    }

    /// Finds every place of `phrase` at word boundaries, ignoring case, as spans of the context. A place that reaches
    /// from one chunk into the next is two spans. Places in the prompt of a second text encoder are included.
    ///
    /// A space, a hyphen and an underscore between words count as equal, and so do all kinds of apostrophes. Composed
    /// and decomposed accents are equal, and characters without width do not count.
    ///
    /// A phrase that is nowhere in the prompt as whole words is found with an ending of up to two letters ("eye" in
    /// "eyes", not in "eyelash"). In scripts without spaces, a phrase is found anywhere, at the tokens that it touches.
    ///
    /// # Errors
    /// - [`Error::EmptyPhrase`] for a phrase without words;
    /// - [`Error::PhraseNotFound`] with the nearest words;
    /// - [`Error::PhraseTruncated`] if all places of the phrase, or parts of them, are beyond the text encoder's limit.
    pub fn find(&self, phrase: &str) -> Result<Vec<TokenSpan>> {
        let own = self.find_own(phrase);
        let Some(Ok(second)) = self.second.as_ref().map(|second| second.find(phrase)) else { return own };
        Ok(TokenSpan::union(own.into_iter().flatten().chain(second).collect()))
    }

    fn find_own(&self, phrase: &str) -> Result<Vec<TokenSpan>> {
        self.find_at(phrase, &self.places(phrase)?)
    }

    /// The spans of some of the [`places`](Self::places) of `phrase`.
    pub(crate) fn find_at(&self, phrase: &str, places: &[Range<usize>]) -> Result<Vec<TokenSpan>> {
        let spans: Vec<TokenSpan> = places.iter().filter_map(|place| self.spans(place)).flatten().collect();
        if spans.is_empty() {
            let limit = self.places.iter().flatten().count();
            return Err(Error::PhraseTruncated { phrase: phrase.into(), limit });
        }
        Ok(spans)
    }

    /// The prompt as written, with its markup.
    pub(crate) fn as_written(&self) -> &str {
        self.written.as_ref().map_or(&self.text, |written| &written.text)
    }

    /// The prompt as written, with its markup, and with a word inserted before every place of a phrase, at the phrase's
    /// weight. The prompt of a second text encoder is neither changed nor searched.
    ///
    /// # Errors
    /// The errors of [`Prompt::find`].
    pub fn with_word_before(&self, phrase: &str, word: &str) -> Result<String> {
        self.find_own(phrase)?;
        Ok(self.with_word_at(&self.places(phrase)?, word))
    }

    /// The prompt as written, with a word inserted before some places, in bytes and in order.
    pub(crate) fn with_word_at(&self, places: &[Range<usize>], word: &str) -> String {
        let before = self.as_written();
        let (mut text, mut copied) = (String::with_capacity(before.len()), 0);
        for place in places {
            let at = match &self.written {
                Some(written) => written.source.get(place.start).copied().flatten().unwrap_or(before.len()),
                None => place.start,
            };
            text.push_str(before.get(copied..at).unwrap_or_default());
            text.extend([word, " "]);
            copied = at;
        }
        text.push_str(before.get(copied..).unwrap_or_default());
        text
    }

    /// The bytes of every place of `phrase`; the prompt of a second text encoder is not searched.
    pub(crate) fn places(&self, phrase: &str) -> Result<Vec<Range<usize>>> {
        let (wanted, present) = (words(phrase), words(&self.text));
        let Some(last) = wanted.last() else { return Err(Error::EmptyPhrase) };
        let places_of = |wanted: &[Word], present: &[Word]| -> Vec<Range<usize>> {
            let last = wanted.len().saturating_sub(1);
            let bytes = |at: usize| Some(present.get(at)?.bytes.start..present.get(at + last)?.bytes.end);
            words::places(wanted, present).into_iter().filter_map(bytes).collect()
        };
        let mut places = places_of(&wanted, &present);
        if places.is_empty() && is_unspaced(phrase) {
            // Words of these scripts have no visible ends, so any place counts, at the tokens that it touches.
            places = places_of(&letters(phrase.trim()), &letters(&self.text));
        }
        if places.is_empty() {
            places = places_of(&wanted, &uninflected(&present, &last.lower));
        }
        if places.is_empty() {
            let (phrase, prompt) = (phrase.to_owned(), self.text.clone());
            return Err(Error::PhraseNotFound { nearest: nearest(&phrase, wanted.len(), &present), phrase, prompt });
        }
        Ok(places)
    }

    /// The tokens that cover some bytes of the text; `None` if there are none, or if one of them does not reach the
    /// text encoder.
    fn spans(&self, bytes: &Range<usize>) -> Option<Vec<TokenSpan>> {
        let first = self.tokens.partition_point(|token| token.end <= bytes.start); // tokens are in order
        let from_first = self.tokens.iter().zip(&self.places).skip(first);
        let covering = from_first.take_while(|(token, _)| token.start < bytes.end);
        let places: Vec<i64> = covering.map(|(_, place)| *place).collect::<Option<_>>()?;
        looked(1 + places.len());
        (!places.is_empty()).then(|| runs(places))
    }
}

/// Merges entries of the same name at its first place, with the tokens of all.
fn join(named: impl Iterator<Item = (String, Vec<TokenSpan>)>) -> Vec<(String, Vec<TokenSpan>)> {
    let (mut joined, mut known) = (Vec::<(String, Vec<TokenSpan>)>::new(), BTreeMap::new());
    for (name, here) in named {
        match known.entry(name.clone()) {
            Entry::Vacant(new) => {
                new.insert(joined.len());
                joined.push((name, here));
            }
            Entry::Occupied(at) => joined.get_mut(*at.get()).into_iter().for_each(|(_, spans)| spans.extend(&here)),
        }
    }
    joined
}

/// Converts token places in rising order to spans.
fn runs(places: impl IntoIterator<Item = i64>) -> Vec<TokenSpan> {
    let mut runs: Vec<TokenSpan> = Vec::new();
    for place in places {
        match runs.last_mut() {
            Some(last) if last.end == place => last.end += 1,
            _ => runs.push(TokenSpan { start: place, end: place + 1 }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::cursor::count;
    use super::*;

    /// A prompt with one token per word, as in the tiny vocabulary.
    fn prompt(text: &str, limit: usize) -> Prompt {
        Prompt::new(text, words(text).into_iter().map(|word| word.bytes).collect(), limit)
    }

    #[test]
    fn phrase_is_found_in_other_spellings() {
        let same = [
            ("1girl, blue_eyes, hair", "blue eyes"),
            ("1girl, blue-eyes, hair", "blue eyes"),
            ("1girl, blue eyes, hair", "blue_eyes"),
            ("an ice-cream, sky", "ice cream"),
            ("an ice cream, sky", "ice\u{2011}cream"),
            ("a cat’s eyes", "cat's eyes"),
            ("a catʼs eyes", "cat‘s eyes"),
            ("a caf\u{e9}, sky", "cafe\u{301}"),
            ("a cafe\u{301}, sky", "CAF\u{c9}"),
            ("1girl, ey\u{200b}es, hair", "eyes"),
            ("1girl, eyes\u{feff}, hair", "eyes"),
            ("1girl, heart\u{fe0f}, hair", "heart"),
            ("1girl, blue\u{a0}eyes", "blue eyes"),
            ("か\u{3099}ある猫", "\u{304c}ある"),
        ];
        for (text, phrase) in same {
            let prompt = prompt(text, usize::MAX);
            assert_eq!(prompt.places(phrase).unwrap().len(), 1, "{phrase:?} in {text:?}");
        }
        // Words between which a comma stands are apart.
        assert!(prompt("hair, bow", usize::MAX).places("hair bow").is_err());
    }

    #[test]
    fn suggested_phrase_is_found() {
        let texts = [
            ("rock'n'roll, guitar", "rock n roll"),
            ("an ice cream, sky", "icecream"),
            ("an icecream, sky", "ice cream"),
            ("a girl's eyes", "girls eyes"),
            ("blue\u{200b}eyes, hair", "blue eyes"),
            ("hair, bow", "hair bow"),
            ("a caf\u{e9}, sky", "kafé"),
            ("and/or, this", "and or"),
            ("hair, bow", "a long hair bow"),
        ];
        for (text, phrase) in texts {
            let prompt = prompt(text, usize::MAX);
            let Err(Error::PhraseNotFound { nearest, .. }) = prompt.find(phrase) else { panic!("{phrase} in {text}") };
            assert!(!nearest.is_empty(), "{phrase} in {text}");
            for near in nearest {
                assert!(prompt.find(&near).is_ok(), "{near:?} was suggested for {phrase:?} in {text:?}");
            }
        }
    }

    #[test]
    fn find_ignores_case_but_not_word_boundaries() -> Result<()> {
        let prompt = prompt("Eyelash and EYES, hair bow, hair", 75);
        assert_eq!(prompt.find("eyes")?, [TokenSpan { start: 3, end: 4 }]);
        assert_eq!(prompt.find("hair")?, [TokenSpan { start: 4, end: 5 }, TokenSpan { start: 6, end: 7 }]);
        assert_eq!(prompt.find("hair  bow")?, [TokenSpan { start: 4, end: 6 }]);
        assert!(matches!(prompt.find("bow hair"), Err(Error::PhraseNotFound { .. })));
        assert_eq!(prompt.find("bow, hair")?, [TokenSpan { start: 5, end: 7 }]);
        assert_eq!(prompt.find("eye")?, prompt.find("eyes")?);
        assert!(matches!(prompt.find("lash"), Err(Error::PhraseNotFound { .. })));
        assert!(matches!(prompt.find("h"), Err(Error::PhraseNotFound { .. })));
        Ok(())
    }

    #[test]
    fn words_are_found_for_every_letter_of_unicode() {
        // The letter ʼ is read as an apostrophe.
        let is_letter = |letter: &char| letter.is_alphanumeric() && *letter != 'ʼ';
        let letters = (0..=u32::from(char::MAX)).filter_map(char::from_u32).filter(is_letter);
        let mut count = 0;
        for letter in letters {
            let prompt = prompt(&format!("{letter}, {letter}x, x{letter}"), 75);
            for (word, spans) in prompt.words() {
                assert_eq!(prompt.find(&word).unwrap(), spans, "{letter} ({:x}) as {word:?}", u32::from(letter));
            }
            for phrase in [letter.to_string(), letter.to_lowercase().to_string()] {
                assert!(prompt.find(&phrase).is_ok(), "{phrase} ({:x})", u32::from(letter));
            }
            count += 1;
        }
        assert!(count > 100_000, "{count}");
    }

    #[test]
    fn searches_look_at_each_letter_a_few_times() {
        let texts = ["a ", "a b, ", "hair bow, ", "é", "#f00 a,", "- ", "a", "long ", "girl with a "];
        count::assert_linear("words", &texts, |text| drop(prompt(text, usize::MAX).words()));
        count::assert_linear("rivals", &texts, |text| drop(prompt(text, usize::MAX).rivals(&[])));
        for phrase in ["a", "a b", "hair bow, hair bow, a", &"a ".repeat(9_999)] {
            count::assert_linear("find", &texts, |text| drop(prompt(text, usize::MAX).find(phrase)));
            count::assert_linear("thing", &texts, |text| drop(prompt(text, usize::MAX).thing(phrase)));
        }
    }

    #[test]
    fn overlapping_places_have_each_token_once() -> Result<()> {
        let places = prompt("a a a, b, a a", 75).find("a a")?;
        assert_eq!(places.len(), 3);
        assert_eq!(TokenSpan::union(places), [TokenSpan { start: 1, end: 4 }, TokenSpan { start: 5, end: 7 }]);
        Ok(())
    }

    #[test]
    fn phrase_is_found_in_the_second_encoders_prompt() -> Result<()> {
        let both = prompt("a red hat, blue sky", 75).beside(prompt("an old red hat and boots", 75));
        let span = |start, end| TokenSpan { start, end };
        assert_eq!(both.find("boots")?, [span(6, 7)]);
        assert_eq!(both.find("sky")?, [span(5, 6)]);
        assert_eq!(both.find("red hat")?, [span(2, 5)], "2..4 in the first, 3..5 in the second");
        assert!(matches!(both.find("cat"), Err(Error::PhraseNotFound { prompt, .. }) if prompt.starts_with("a red")));
        let words = both.words();
        assert_eq!(words[2], ("hat".to_owned(), vec![span(3, 5)]));
        assert_eq!(words.last().unwrap().0, "boots");
        assert_eq!(both.content(), [span(1, 7)]);
        assert_eq!(both.with_word_before("hat", "wide")?, "a red wide hat, blue sky");
        Ok(())
    }

    #[test]
    fn word_of_several_tokens_is_found_with_all() -> Result<()> {
        // "1girl" is "1" + "girl".
        let prompt = Prompt::new("1girl, eyes", vec![0..1, 1..5, 5..6, 7..11], 75);
        assert_eq!(prompt.find("1girl")?, [TokenSpan { start: 1, end: 3 }]);
        assert_eq!(prompt.find("eyes")?, [TokenSpan { start: 4, end: 5 }]);
        Ok(())
    }

    #[test]
    fn an_absent_phrase_names_the_nearest_words() {
        let error = prompt("girl with gold eyes", 75).find("ears").expect_err("not there").to_string();
        assert!(error.contains("\"ears\" is not in the prompt") && error.contains("did you mean \"eyes\""), "{error}");
    }

    #[test]
    fn phrases_beyond_the_limit_are_cut_and_refused() {
        let prompt = prompt("a b c d", 2);
        assert_eq!(prompt.cut(), Some("c d"));
        assert!(matches!(prompt.find("c"), Err(Error::PhraseTruncated { limit: 2, .. })));
        assert!(matches!(prompt.find(" , "), Err(Error::EmptyPhrase)));
        assert_eq!(prompt.content(), [TokenSpan { start: 1, end: 3 }]);
    }
}
