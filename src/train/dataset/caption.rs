//! Captions: one record is described in many ways.

use super::class::Class;
use super::dice::Dice;
use super::palette::{ALIASES, NamedColor};
use super::record::Record;

/// How much captions leave out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wording {
    /// Probability that a thing is named without its color, 0..=1.
    pub without_color: f64,
    /// Probability that a part of a portrait is not named, 0..=1; for sky and ground it is twice that.
    pub without_part: f64,
    /// The same for mouths, 0..=1; few people name their color.
    pub without_mouth: f64,
    /// Probability of a caption without any color, 0..=1.
    pub plain: f64,
    /// Probability of a caption that leaves nothing out but mouths, 0..=1.
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
        // Not the stream that the picture of this seed was drawn with.
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
    /// `red house`, or `house`.
    fn say(&mut self, class: Class, color: NamedColor) -> String {
        if self.dice.chance(self.wording.without_color) {
            return class.name().to_owned();
        }
        let alias = ALIASES.iter().find(|(name, _)| *name == color.name).map(|(_, alias)| *alias);
        let word = alias.filter(|_| self.dice.chance(0.25)).unwrap_or(color.name);
        format!("{word} {class}")
    }
}

/// `a cup, an orange fish and a star`.
fn listed(things: &[String]) -> String {
    let article = |thing: &String| if thing.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    let things: Vec<String> = things.iter().map(|thing| format!("{} {thing}", article(thing))).collect();
    match things.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => things.concat(),
    }
}
