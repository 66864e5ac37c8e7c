//! The wording of portraits: tags, fewer tags, tags among other tags that show nothing, a sentence, or the prompts of
//! the document that describes color forcing.

use crate::random::Rng;
use crate::task::{LABEL, PARTS};
use clap::{Args, ValueEnum};
use std::path::Path;

/// The form of a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Tags with commas between them.
    #[default]
    Tags,
    /// A sentence of English with the same content.
    Sentence,
    /// The prompts of the document that describes color forcing, for eyes, hair bow, hair and skin.
    Document,
    /// The prompts of impasto's own documents that name the part.
    Own,
}

/// A wording of a suite's portraits.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct Wording {
    /// The form of the portraits' prompts.
    #[arg(long = "style", value_enum, default_value_t)]
    pub form: Form,
    /// Number of the six parts that each portrait's prompt names, with the parts that are asked for among them.
    #[arg(long = "name", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=6), default_value_t = 6)]
    #[arg(id = "name")]
    pub named: u8,
    /// Number of tags that are added to each portrait and show nothing.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub tags: usize,
    /// Tags from which the additional ones are drawn.
    #[arg(skip)]
    pub pool: Vec<String>,
}

impl Default for Wording {
    fn default() -> Self {
        Self { form: Form::default(), named: PARTS.len() as u8, tags: 0, pool: Vec::new() }
    }
}

/// The tags that come with the yardstick.
pub fn usual_tags() -> Vec<String> {
    parsed(include_str!("tags.txt"))
}

/// Reads the tags of a file, one a line. Lines that begin with `#` are skipped.
pub fn tags(file: &Path) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    match parsed(&text) {
        tags if tags.is_empty() => Err(format!("{}: the file has no tags; expected one tag per line", file.display())),
        tags => Ok(tags),
    }
}

fn parsed(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

impl Wording {
    /// The name of the wording, empty for a suite's own. The name keeps figures of different wordings apart.
    pub fn name(&self) -> String {
        let all = usize::from(self.named) >= PARTS.len();
        if self.form == Form::Tags && self.tags == 0 && all {
            return String::new();
        }
        let pool = if self.tags > 0 { self.pool.join(",") } else { String::new() };
        let named = if all { String::new() } else { format!(" {} named", self.named) };
        format!("{:?} {} {pool}{named}", self.form, self.tags)
    }

    /// Removes the tags of parts that the prompt is not to name, so that `named` parts are left.
    fn name_fewer(&self, tags: &mut Vec<&str>, asked: &[&str], prompt: &str) {
        let mut others: Vec<&str> = PARTS.into_iter().filter(|part| !asked.contains(part)).collect();
        Rng::new(&format!("{LABEL}/named/{prompt}")).shuffle(&mut others);
        let kept = usize::from(self.named).saturating_sub(asked.len());
        let dropped = &others[kept.min(others.len())..];
        tags.retain(|tag| part_of(tag).is_none_or(|part| !dropped.contains(&part)));
    }

    /// The prompt in this wording. `asked` are the parts that it must name; without them it names all. The prompt
    /// determines every random choice.
    pub fn of(&self, prompt: &str, asked: &[&str]) -> String {
        let mut tags: Vec<&str> = prompt.split(", ").collect();
        let who = tags.remove(0);
        let mut rng = Rng::new(&format!("{LABEL}/wording/{prompt}"));
        if !asked.is_empty() {
            self.name_fewer(&mut tags, asked, prompt);
        }
        let mut pool: Vec<&str> = self.pool.iter().map(String::as_str).filter(|tag| !tags.contains(tag)).collect();
        rng.shuffle(&mut pool);
        pool.truncate(self.tags);
        if self.form == Form::Sentence {
            let sentence = sentence(who, &tags, &mut rng);
            return std::iter::once(sentence.as_str()).chain(pool).collect::<Vec<_>>().join(", ");
        }
        if !pool.is_empty() {
            tags.extend(pool);
            rng.shuffle(&mut tags);
        }
        std::iter::once(who).chain(tags).collect::<Vec<_>>().join(", ")
    }
}

/// The part that a tag names, as "hair" in "gold hair".
fn part_of(tag: &str) -> Option<&'static str> {
    PARTS.into_iter().find(|part| tag == *part || tag.strip_suffix(part).is_some_and(|before| before.ends_with(' ')))
}

/// Writes tags as a sentence. Example: "a portrait of a girl with gold eyes, skin and hair, wearing a shirt and a hair
/// bow, in front of a background".
fn sentence(who: &str, tags: &[&str], rng: &mut Rng) -> String {
    let ends = |tag: &str, names: &[&str]| names.iter().any(|name| tag == *name || tag.ends_with(&format!(" {name}")));
    let (mut worn, mut behind, mut own) = (Vec::new(), Vec::new(), Vec::new());
    for tag in tags {
        match () {
            () if ends(tag, &["hair bow", "shirt"]) => worn.push(format!("a {tag}")),
            () if ends(tag, &["background"]) => behind.push(format!("a {tag}")),
            () if ends(tag, &["mouth", "bob", "ponytail"]) => own.push(format!("a {tag}")),
            () => own.push((*tag).to_owned()),
        }
    }
    let listed = |all: &[String]| match all {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    };
    let begins = ["a portrait of a", "a picture of a young", "a photo of a", "a drawing of a"];
    let places = ["in front of", "before", "standing against"];
    let mut sentence = format!("{} {}", rng.pick(&begins), who.trim_start_matches('1'));
    for (word, all) in [(" with", &own), (", wearing", &worn), (&format!(", {}", rng.pick(&places)), &behind)] {
        if !all.is_empty() {
            sentence += &format!("{word} {}", listed(all));
        }
    }
    sentence
}

/// The prompts of impasto's own documents that name a part without a color.
pub fn own(part: &str) -> Vec<String> {
    let is_named = |prompt: &String| {
        let is_sentence = prompt.starts_with("a ");
        prompt.split(", ").any(|tag| tag == part || is_sentence && tag.contains(&format!(" {part}")))
    };
    parsed(include_str!("documents.txt")).into_iter().filter(is_named).collect()
}

/// The document's prompt for a part; `None` if the document does not force the part.
pub fn document(part: &str) -> Option<String> {
    let begins = "1girl, solo, long hair, ponytail";
    let ends = "looking at viewer, smile, sitting, at table, indoors, breakfast, from front, masterpiece, high score, great score, absurdres";
    match part {
        "eyes" | "hair" => Some(format!("{begins}, brown eyes, {ends}")),
        "hair bow" => Some(format!("{begins}, hair bow, brown eyes, {ends}")),
        "skin" => Some(format!("{begins}, brown eyes, skin, {ends}")),
        _ => None,
    }
}
