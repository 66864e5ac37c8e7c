//! Captions as people write prompts: with extra words that the model does not know.

use super::dice::Dice;
use std::ops::Range;

/// Consonants that an invented syllable begins with.
const ONSETS: [&str; 32] = [
    "b", "br", "c", "ch", "cl", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "pl", "pr", "qu",
    "r", "s", "sh", "sp", "st", "str", "t", "th", "v", "w", "y",
];
/// Vowels of an invented syllable.
const VOWELS: [&str; 12] = ["a", "e", "i", "o", "u", "ai", "ea", "ee", "ie", "oo", "ou", "y"];
/// Endings of an invented word.
const ENDINGS: [&str; 24] = [
    "", "ck", "d", "ft", "l", "ll", "m", "n", "ng", "nt", "p", "r", "rd", "st", "t", "x", "y", "ing", "ed", "er",
    "ful", "ly", "tion", "ness",
];
/// Words that no caption has, although the embedded model's tokenizer has a token for each.
const UNUSED: [&str; 20] = [
    "beside", "cartoon", "color", "detail", "drawing", "face", "has", "head", "next", "over", "photo", "picture",
    "portrait", "ribbon", "scene", "simple", "smile", "style", "the", "water",
];
/// Words between the things of a sentence.
const LINKS: [&str; 5] = ["with", "and", "wearing", "with a", "in front of a"];
/// Maximum number of extra tags.
const MOST_TAGS: u32 = 14;

/// A caption, and the same caption with extra words that show nothing.
///
/// ```
/// use impasto_train::dataset::Cluttered;
/// let caption = Cluttered::of("1girl, red hair, eyes", 7);
/// for (cluttered, plain) in &caption.kept {
///     assert_eq!(caption.text[cluttered.clone()], caption.plain[plain.clone()]);
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluttered {
    /// Caption with the extra words.
    pub text: String,
    /// Caption without the extra words.
    pub plain: String,
    /// Byte ranges of each shared word and comma in `text` and in `plain`, in order.
    pub kept: Vec<(Range<usize>, Range<usize>)>,
}

/// A word, with true if the caption had it.
type Word = (String, bool);

impl Cluttered {
    /// Adds tags and adjectives to a caption, or joins its tags to a sentence.
    ///
    /// Some texts also lack the first tags, which the plain caption still has. The second 75 tokens of a long prompt
    /// lack the first tags in the same way. Four of ten captions stay unchanged. The same caption and seed give the
    /// same result.
    pub fn of(caption: &str, seed: u64) -> Self {
        let mut dice = Dice::seeded(seed ^ 0x636c_7574_7465_7200);
        let mut tags: Vec<Vec<Word>> =
            caption.split(", ").map(|tag| tag.split(' ').map(|word| (word.to_owned(), true)).collect()).collect();
        // Unchanged captions teach the encoder to read plain captions as before.
        if dice.chance(0.4) {
            return Self::written(&tags, 0, false, &mut dice);
        }
        let unread = if dice.chance(0.25) { dice.below(tags.len() as u32) as usize } else { 0 };
        let kind = dice.unit();
        if !(0.3..=0.8).contains(&kind) {
            adjectives(&mut tags, &mut dice);
        }
        let mut first = tags.drain(..unread).collect::<Vec<_>>();
        if kind > 0.25 {
            tags = among_others(tags, &mut dice);
        }
        first.append(&mut tags);
        let is_sentence = dice.chance(0.2);
        Self::written(&first, unread, is_sentence, &mut dice)
    }

    /// Writes tags as a caption. The first `unread` tags are written to the plain caption only.
    fn written(tags: &[Vec<Word>], unread: usize, is_sentence: bool, dice: &mut Dice) -> Self {
        let mut caption = Self { text: String::new(), plain: String::new(), kept: Vec::new() };
        let is_known = |tag: &Vec<Word>| tag.iter().any(|(_, known)| *known);
        let mut comma = false; // true after a comma of the plain caption that still lacks its space
        for (i, tag) in tags.iter().enumerate() {
            if i < unread {
                let known = tag.iter().filter(|(_, known)| *known).map(|(word, _)| word.as_str());
                caption.plain.push_str(&known.collect::<Vec<_>>().join(" "));
                if tags.get(i + 1..).unwrap_or_default().iter().any(is_known) {
                    caption.plain.push(',');
                    comma = true;
                }
                caption.plain.push_str(if comma && i + 1 < unread { " " } else { "" });
                continue;
            }
            if is_known(tag) && comma {
                // The plain caption puts known tags next to each other, without the tags between them.
                caption.plain.push(' ');
                comma = false;
            }
            let mut first = true;
            for (word, known) in tag {
                if !caption.text.is_empty() {
                    caption.text.push(' ');
                }
                let from = caption.text.len();
                caption.text.push_str(word);
                if *known {
                    if !first {
                        caption.plain.push(' ');
                    }
                    first = false;
                    caption.keep(from, word);
                }
            }
            let later = tags.get(i + 1..).unwrap_or_default();
            if later.is_empty() {
                continue;
            }
            if !is_known(tag) || !later.iter().any(is_known) {
                caption.text.push(',');
            } else {
                comma = true;
                if is_sentence && dice.chance(0.7) {
                    caption.text.push(' ');
                    caption.text.push_str(dice.pick(LINKS));
                    caption.plain.push(',');
                } else {
                    let from = caption.text.len();
                    caption.text.push(',');
                    caption.keep(from, ",");
                }
            }
        }
        caption
    }

    /// Appends `word` to the plain caption and records that the word is at byte `from` of the text.
    fn keep(&mut self, from: usize, word: &str) {
        let plain = self.plain.len();
        self.plain.push_str(word);
        self.kept.push((from..from + word.len(), plain..plain + word.len()));
    }
}

/// Puts one or two extra words before some tags or into them.
fn adjectives(tags: &mut [Vec<Word>], dice: &mut Dice) {
    let share = 0.6 * dice.unit();
    for tag in tags {
        if dice.chance(share) {
            let at = if dice.chance(0.3) { dice.below(tag.len() as u32 + 1) as usize } else { 0 };
            let count = dice.pick([1, 1, 2]);
            tag.splice(at..at, (0..count).map(|_| (word(dice), false)));
        }
    }
}

/// Puts extra tags between the caption's tags, after all of them or before all of them.
fn among_others(tags: Vec<Vec<Word>>, dice: &mut Dice) -> Vec<Vec<Word>> {
    let count = 1 + dice.below(MOST_TAGS);
    let others: Vec<Vec<Word>> = (0..count)
        .map(|_| {
            let words = dice.pick([1, 1, 1, 2, 2, 3]);
            (0..words).map(|_| (word(dice), false)).collect()
        })
        .collect();
    let place = dice.unit();
    // Half of all prompts keep the caption's first tag in front.
    let fixed = usize::from(place < 0.5);
    let places: Vec<usize> = match place {
        ..0.7 => others.iter().map(|_| fixed + dice.below((tags.len() - fixed + 1) as u32) as usize).collect(),
        ..0.85 => vec![tags.len(); others.len()],
        _ => vec![0; others.len()],
    };
    let mut mixed: Vec<(usize, Vec<Word>)> = places.into_iter().zip(others).collect();
    mixed.extend(tags.into_iter().enumerate());
    // The sort is stable: an extra tag stays in front of the caption's tag at the same place.
    mixed.sort_by_key(|(place, _)| *place);
    mixed.into_iter().map(|(_, tag)| tag).collect()
}

/// Returns an extra word. Most extra words are invented, because tokenizers split unknown words.
fn word(dice: &mut Dice) -> String {
    match dice.unit() {
        ..0.12 => dice.pick(UNUSED).to_owned(),
        ..0.17 => dice.pick(["a", "of", "in", "on", "at", "to", "by", "and", "is", "her", "his"]).to_owned(),
        ..0.23 => dice.below(10_000).to_string(),
        _ => {
            let syllables = dice.pick([1, 1, 2, 2, 2, 3, 3, 4]);
            let mut word: String = (0..syllables)
                .map(|_| {
                    let onset = if dice.chance(0.85) { dice.pick(ONSETS) } else { "" };
                    format!("{onset}{}", dice.pick(VOWELS))
                })
                .collect();
            word.push_str(dice.pick(ENDINGS));
            // An odd ending sometimes makes the word differ from caption words such as "tan" or "hair".
            if dice.chance(0.1) { word + dice.pick(["4", "8", "z", "ix"]) } else { word }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPTION: &str = "1girl, red hair, pink hair bow, eyes, green background";

    fn all() -> impl Iterator<Item = Cluttered> {
        (0..400).map(|seed| Cluttered::of(CAPTION, seed))
    }

    #[test]
    fn kept_words_are_those_of_the_plain_caption() {
        for caption in all() {
            let mut end = 0;
            for (text, plain) in &caption.kept {
                assert_eq!(caption.text[text.clone()], caption.plain[plain.clone()], "{caption:?}");
                assert!(text.start >= end, "{caption:?}");
                end = text.end;
            }
            // From the first kept word on, every word of the plain caption is kept.
            let first = caption.kept.first().map_or(0, |(_, plain)| plain.start);
            let words = caption.plain[first..].split([' ', ',']).filter(|word| !word.is_empty());
            let kept = caption.kept.iter().map(|(_, plain)| &caption.plain[plain.clone()]).filter(|word| *word != ",");
            assert!(words.eq(kept), "{caption:?}");
        }
    }

    #[test]
    fn plain_captions_are_whole() {
        for caption in all() {
            assert_eq!(caption.plain, CAPTION, "{caption:?}");
        }
        let without_first = all().filter(|caption| !caption.text.contains("1girl")).count();
        assert!((30..=70).contains(&without_first), "{without_first} of 400 lack the first tag");
    }

    #[test]
    fn captions_are_cluttered_in_many_ways() {
        let count = |is: &dyn Fn(&Cluttered) -> bool| all().filter(|caption| is(caption)).count();
        assert!((140..=190).contains(&count(&|caption| caption.text == caption.plain)));
        assert!(count(&|caption| caption.text.split(", ").count() > 12) > 60);
        assert!(count(&|caption| LINKS.iter().any(|link| caption.text.contains(&format!(" {link} ")))) > 40);
        assert_eq!(Cluttered::of(CAPTION, 3), Cluttered::of(CAPTION, 3));
    }
}
