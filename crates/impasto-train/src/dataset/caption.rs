//! Captions: one record is described in many ways.

use super::class::Class;
use super::dice::Dice;
use super::palette::{ALIASES, NamedColor};
use super::record::Record;

/// Probabilities of what captions leave out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wording {
    /// Probability that a thing is named without its color, 0..=1.
    pub without_color: f64,
    /// Probability that a part of a portrait is not named, 0..=1. The probability is doubled for sky and ground.
    pub without_part: f64,
    /// Probability that a mouth is not named, 0..=1. Few people name the color of mouths.
    pub without_mouth: f64,
    /// Probability of a caption without any color, 0..=1.
    pub plain: f64,
    /// Probability of a caption that leaves out nothing but mouths, 0..=1.
    pub full: f64,
}

impl Default for Wording {
    fn default() -> Self {
        Self { without_color: 0.4, without_part: 0.15, without_mouth: 0.6, plain: 0.06, full: 0.12 }
    }
}

impl Wording {
    /// Names every part and every color.
    pub const FULL: Self = Self { without_color: 0.0, without_part: 0.0, without_mouth: 0.0, plain: 0.0, full: 1.0 };
}

impl Record {
    /// Describes the picture. The same record, wording and seed give the same caption.
    ///
    /// Portraits are tags after `1girl` or `1boy`; scenes are a phrase such as `a red house and a yellow moon, green
    /// ground`, or tags in any order. Words stay within the vocabulary of the tiny model.
    pub fn caption(&self, wording: Wording, seed: u64) -> String {
        // Captions use another random stream than the picture of the same seed.
        let mut speaker = Speaker { dice: Dice::seeded(seed ^ 0x6361_7074_696f_6e73), wording };
        let plain = speaker.dice.chance(wording.plain);
        if speaker.dice.chance(wording.full) {
            speaker.wording = Wording { without_color: 0.0, without_part: 0.0, ..wording };
        }
        if plain {
            speaker.wording.without_color = 1.0;
        }
        match self {
            Self::Portrait { who, style, parts } => {
                let mut tags = Vec::new();
                for part in parts {
                    let left_out = match part.class {
                        Class::Mouth => speaker.wording.without_mouth,
                        _ => speaker.wording.without_part,
                    };
                    if !speaker.dice.chance(left_out) {
                        tags.push(speaker.say(part.class, part.color));
                    }
                }
                if speaker.dice.chance(0.35) {
                    tags.push(style.name().to_owned());
                }
                speaker.dice.shuffle(&mut tags);
                tags.insert(0, who.name().to_owned());
                tags.join(", ")
            }
            Self::Scene { objects, parts } => {
                let mut objects = objects.clone();
                speaker.dice.shuffle(&mut objects);
                let mut things: Vec<String> =
                    objects.iter().map(|object| speaker.say(object.class, object.color)).collect();
                let mut places = Vec::new();
                for part in parts {
                    if !speaker.dice.chance(2.0 * speaker.wording.without_part) {
                        places.push(speaker.say(part.class, part.color));
                    }
                }
                speaker.dice.shuffle(&mut places);
                if speaker.dice.chance(0.25) {
                    things.append(&mut places);
                    speaker.dice.shuffle(&mut things);
                    return things.join(", ");
                }
                places.insert(0, listed(&things));
                places.join(", ")
            }
        }
    }
}

struct Speaker {
    dice: Dice,
    wording: Wording,
}

impl Speaker {
    /// Returns the name of a thing with or without its color: `red house` or `house`.
    fn say(&mut self, class: Class, color: NamedColor) -> String {
        if self.dice.chance(self.wording.without_color) {
            return class.name().to_owned();
        }
        let alias = ALIASES.iter().find(|(name, _)| *name == color.name).map(|(_, alias)| *alias);
        let word = alias.filter(|_| self.dice.chance(0.25)).unwrap_or(color.name);
        format!("{word} {class}")
    }
}

/// Joins things to a list: `a cup, an orange fish and a star`.
fn listed(things: &[String]) -> String {
    let article = |thing: &String| if thing.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    let things: Vec<String> = things.iter().map(|thing| format!("{} {thing}", article(thing))).collect();
    match things.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => things.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Class, Dataset, PALETTE};
    use super::*;
    use impasto::text::Tokenizer;
    use std::collections::HashSet;

    fn records() -> Vec<Record> {
        let dataset = Dataset::new(64).unwrap();
        (0..200).map(|seed| dataset.draw(seed).unwrap().record).collect()
    }

    fn captions(wording: Wording) -> Vec<(Record, String)> {
        let described = |(index, record): (u64, Record)| {
            (20 * index..20 * (index + 1)).map(move |seed| (record.clone(), record.caption(wording, seed)))
        };
        (0..).zip(records()).flat_map(described).collect()
    }

    #[test]
    fn every_word_is_one_token_of_the_tiny_model() {
        let vocabulary = impasto_tiny::file("tokenizer/vocab.json").unwrap();
        let merges = impasto_tiny::file("tokenizer/merges.txt").unwrap();
        let tokenizer = Tokenizer::from_vocab(vocabulary, merges, None, None).unwrap();
        let mut words: HashSet<String> = HashSet::new();
        for (_, caption) in captions(Wording::default()) {
            words.extend(caption.split([',', ' ']).filter(|word| !word.is_empty()).map(str::to_owned));
        }
        let spelled =
            Class::OF_PORTRAITS.iter().chain(&Class::OF_SCENES).chain(&Class::OBJECTS).map(|class| class.name());
        let spelled = spelled.chain(PALETTE.iter().map(|color| color.name)).chain(ALIASES.map(|(_, alias)| alias));
        words.extend(spelled.flat_map(|name| name.split(' ')).map(str::to_owned));
        for word in words {
            let tokens = tokenizer.encode(&word).unwrap().tokens;
            // Tokens between start and end. Numbers are words of their own: `1girl` is `1` and `girl`.
            let pieces = tokens[1..tokens.len() - 1].iter().map(String::as_str);
            let digits = word.chars().filter(char::is_ascii_digit).count();
            assert!(
                pieces.clone().count() == 1 + digits && pieces.clone().all(|piece| piece.ends_with("</w>")),
                "{tokens:?}"
            );
        }
    }

    #[test]
    fn full_wording_names_everything_in_its_color() {
        for (record, caption) in captions(Wording::FULL) {
            for (class, color) in record.colors() {
                let alias = ALIASES.iter().find(|(name, _)| *name == color.name).map_or("-", |(_, alias)| alias);
                let named = [color.name, alias].iter().any(|name| caption.contains(&format!("{name} {class}")));
                assert!(named, "{caption}: {} {class}", color.name);
            }
        }
    }

    #[test]
    fn probabilities_are_those_of_the_wording() {
        let captions = captions(Wording::default());
        let share = |of: &dyn Fn(&Record, &str) -> Option<bool>| {
            let answers: Vec<bool> = captions.iter().filter_map(|(record, caption)| of(record, caption)).collect();
            answers.iter().filter(|answer| **answer).count() as f64 / answers.len() as f64
        };
        let portrait = |record: &Record| matches!(record, Record::Portrait { .. });
        let near = |got: f64, want: f64, what: &str| assert!((got - want).abs() < 0.03, "{what}: {got}, not {want}");
        let named =
            |word: &'static str| share(&move |record, caption| portrait(record).then(|| caption.contains(word)));
        near(named("mouth"), 0.4, "mouth");
        near(named("shirt"), 0.12 + 0.88 * 0.85, "shirt");
        let styled = |record: &Record, caption: &str| match record {
            Record::Portrait { style, .. } => Some(caption.split(", ").any(|tag| tag == style.name())),
            Record::Scene { .. } => None,
        };
        near(share(&styled), 0.35, "hair style");
        let colored = share(&|record, caption| {
            let tag = caption.split(", ").find(|tag| *tag == "shirt" || tag.ends_with(" shirt"))?;
            portrait(record).then_some(tag != "shirt")
        });
        // The share is a mean over full and usual captions, weighted by how often they name shirts. Plain captions have
        // no colors.
        let (full, usual) = (0.12 * 0.94, 0.88 * 0.85);
        near(colored, (full + usual * 0.94 * 0.6) / (0.12 + usual), "color of the shirt");
        let ground = share(&|record, caption| (!portrait(record)).then(|| caption.contains("ground")));
        near(ground, 0.12 + 0.88 * 0.7, "ground");
        let phrase = share(&|record, caption| {
            (!portrait(record)).then(|| caption.starts_with("a ") || caption.starts_with("an "))
        });
        near(phrase, 0.75, "phrases");
    }

    #[test]
    fn lists_are_english() {
        let listed = |things: &[&str]| listed(&things.iter().map(|thing| (*thing).to_owned()).collect::<Vec<_>>());
        assert_eq!(listed(&["cup"]), "a cup");
        assert_eq!(listed(&["cup", "orange fish", "star"]), "a cup, an orange fish and a star");
    }
}
