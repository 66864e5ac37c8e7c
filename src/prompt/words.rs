//! The words of a text, and the places of phrases among them.

use super::cursor::{Cursor, looked};
use std::collections::HashSet;
use std::ops::Range;
use tokenizers::NormalizedString;

/// A run of letters and digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub bytes: Range<usize>,
    /// The word's letters and digits in lower case and in composed form (NFC). Marks that lower case adds, as for `İ`,
    /// are left out.
    pub lower: String,
    /// Characters other than letters, digits, spaces, hyphens and underscores, between the previous word and this word.
    /// All kinds of apostrophes are `'`.
    pub gap: String,
}

/// Returns true for a character without width, which programs insert to control line breaks and ligatures.
const fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

/// Returns true for a mark that combines with the letter before it, such as the accent of a decomposed (NFD) `é`.
const fn is_mark(letter: char) -> bool {
    matches!(letter, '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}'
        | '\u{3099}' | '\u{309a}' | '\u{fe20}'..='\u{fe2f}')
}

/// Returns true for the characters that stand for an apostrophe. Unicode counts the modifier `ʼ` as a letter.
const fn is_apostrophe(letter: char) -> bool {
    matches!(letter, '\'' | '’' | '‘' | 'ʼ' | '＇')
}

fn is_letter(letter: char) -> bool {
    letter.is_alphanumeric() && !is_apostrophe(letter)
}

/// Returns a text as texts are compared: in lower case, in composed form (NFC), and without invisible characters.
pub(crate) fn folded(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let mut text = NormalizedString::from(text);
    text.nfc().get().chars().filter(|letter| !is_invisible(*letter)).collect::<String>().to_lowercase()
}

/// The words of a text, in order.
pub(super) fn words(text: &str) -> Vec<Word> {
    let (mut cursor, mut words) = (Cursor::new(text), Vec::new());
    loop {
        let gap = cursor.take_while(|letter| !is_letter(letter));
        let start = cursor.at();
        let word = cursor.take_while(|letter| is_letter(letter) || is_mark(letter) || is_invisible(letter));
        if word.is_empty() {
            return words;
        }
        let end = start + word.trim_end_matches(is_invisible).len();
        let lower = folded(word).chars().filter(|letter| letter.is_alphanumeric()).collect();
        let joins =
            |letter: &char| letter.is_whitespace() || is_invisible(*letter) || "-_\u{2010}\u{2011}".contains(*letter);
        let gap = gap.chars().filter(|letter| !joins(letter));
        let gap = gap.map(|letter| if is_apostrophe(letter) { '\'' } else { letter }).collect();
        words.push(Word { bytes: start..end, lower, gap });
    }
}

/// The characters of a text as words, for scripts that write words without spaces. A mark belongs to its letter.
pub(super) fn letters(text: &str) -> Vec<Word> {
    let (mut cursor, mut letters) = (Cursor::new(text), Vec::<Word>::new());
    while let Some(letter) = cursor.next() {
        let start = cursor.at() - letter.len_utf8();
        cursor.take_while(is_mark);
        if !is_invisible(letter) {
            let bytes = start..cursor.at();
            let lower = folded(text.get(bytes.clone()).unwrap_or_default());
            letters.push(Word { bytes, lower, gap: String::new() });
        }
    }
    letters
}

/// Every place where the words `wanted` stand among those `present`, as the index of the first. The gaps between words
/// must agree too: "hair bow" is not in "hair, bow". Places may overlap.
///
/// Source: Knuth, Morris, Pratt, "Fast Pattern Matching in Strings" (1977).
pub(super) fn places(wanted: &[Word], present: &[Word]) -> Vec<usize> {
    let agrees = |nth: usize, word: &Word| {
        looked(1);
        wanted.get(nth).is_some_and(|wanted| wanted.lower == word.lower && (nth == 0 || wanted.gap == word.gap))
    };
    // The number of leading words that agree after one more word, if `count` agreed before it.
    let advance = |borders: &[usize], mut count: usize, word: &Word| {
        while count > 0 && !agrees(count, word) {
            count = borders.get(count - 1).copied().unwrap_or_default();
        }
        if agrees(count, word) { count + 1 } else { 0 }
    };
    // For each wanted word, the length of the longest proper prefix of `wanted` that also ends at the word.
    let mut borders = Vec::with_capacity(wanted.len());
    for (nth, word) in wanted.iter().enumerate() {
        let count = match borders.last() {
            Some(&before) => advance(&borders, before, word),
            None => 0,
        };
        debug_assert!(count <= nth);
        borders.push(count);
    }
    let (mut found, mut count) = (Vec::new(), 0);
    for (at, word) in present.iter().enumerate() {
        count = advance(&borders, count, word);
        if count == wanted.len() {
            found.push(at + 1 - count);
        }
    }
    found
}

/// Largest number of letters that an inflected word adds to the phrase: "eyes" for "eye", "boxes" for "box".
const INFLECTION: usize = 2;

/// The words of a text, with inflected forms of `stem` replaced by `stem`. An inflected form begins with `stem` and is
/// at most two letters longer.
pub(super) fn uninflected(words: &[Word], stem: &str) -> Vec<Word> {
    let length = stem.chars().count();
    let is_inflected = |word: &Word| {
        let rest = word.lower.strip_prefix(stem).map(|rest| rest.chars().take(INFLECTION + 1).count());
        length > 1 && rest.is_some_and(|rest| (1..=INFLECTION).contains(&rest))
    };
    let plain = |word: &Word| match is_inflected(word) {
        true => Word { lower: stem.to_owned(), ..word.clone() },
        false => word.clone(),
    };
    words.iter().map(plain).collect()
}

/// Returns true for text with a letter of a script that writes words without spaces: Chinese, Japanese, Thai, Lao,
/// Khmer or Burmese.
pub(super) fn is_unspaced(text: &str) -> bool {
    let unspaced = |letter: char| {
        matches!(u32::from(letter), 0x0e00..=0x0eff | 0x1000..=0x109f | 0x1780..=0x17ff | 0x3040..=0x30ff | 0x3400..=0x9fff
            | 0xf900..=0xfaff | 0x2_0000..=0x3_ffff)
    };
    text.chars().any(unspaced)
}

/// Longest phrase, in letters, for which similar words are searched: comparing two texts takes the product of their
/// lengths.
const MOST_LETTERS: usize = 80;
/// Largest number of texts that a phrase is compared with.
const MOST_COMPARED: usize = 1000;

/// Up to three runs of about `count` words, the most similar to the phrase first; none for a long phrase. A search for
/// such a run finds it.
pub(super) fn nearest(phrase: &str, count: usize, present: &[Word]) -> Vec<String> {
    let phrase = folded(phrase);
    let length = phrase.chars().count();
    if length > MOST_LETTERS {
        return Vec::new();
    }
    // One word may be written as two, such as "icecream" and "ice cream".
    let count = count.min(present.len());
    let counts = [count, count.saturating_sub(1), count + 1].into_iter().filter(|count| *count > 0);
    let windows = counts.flat_map(|count| present.windows(count));
    let candidates: HashSet<String> = windows
        .filter(|window| window.iter().map(|word| word.lower.len()).sum::<usize>() <= 4 * MOST_LETTERS)
        .take(MOST_COMPARED)
        .map(written)
        .collect();
    let distance = |candidate: String| (strsim::damerau_levenshtein(&phrase, &candidate), candidate);
    let mut ranked: Vec<(usize, String)> = candidates.into_iter().map(distance).collect();
    ranked.sort();
    ranked.into_iter().take(3).map(|(_, word)| word).collect()
}

/// Returns words with the gaps between them as one writes them: "rock'n'roll", "hair, bow".
fn written(words: &[Word]) -> String {
    let mut text = String::new();
    for (nth, word) in words.iter().enumerate() {
        match word.gap.as_str() {
            _ if nth == 0 => {}
            gap @ ("'" | "/" | ".") => text.push_str(gap),
            gap => text.extend([gap, " "]),
        }
        text.push_str(&word.lower);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_equal_those_of_a_naive_search() {
        let naive = |wanted: &[Word], present: &[Word]| -> Vec<usize> {
            let is_here = |window: &[Word]| {
                let pairs = || window.iter().zip(wanted);
                pairs().all(|(a, b)| a.lower == b.lower) && pairs().skip(1).all(|(a, b)| a.gap == b.gap)
            };
            (0..).zip(present.windows(wanted.len())).filter(|(_, window)| is_here(window)).map(|(at, _)| at).collect()
        };
        let mut state = 1u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let mut found = 0;
        for _ in 0..3000 {
            let mut text = |most: u64| {
                let length = random(most);
                words(&(0..=length).map(|_| ["a ", "b ", "a, ", "b, "][random(4) as usize]).collect::<String>())
            };
            let (wanted, present) = (text(5), text(40));
            let places = places(&wanted, &present);
            assert_eq!(places, naive(&wanted, &present));
            found += places.len();
        }
        assert!(found > 3000, "{found}");
    }
}
