//! The wording of portraits: tags, tags among other tags that show nothing, a sentence, or the prompts of the document
//! that describes color forcing.

use crate::suite::{LABEL, Rng};
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
}

/// A wording of a suite's portraits.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct Wording {
    /// The form of the portraits' prompts.
    #[arg(long = "style", value_enum, default_value_t)]
    pub form: Form,
    /// Number of tags that are added to each portrait and show nothing.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub tags: usize,
    /// Tags from which the additional ones are drawn.
    #[arg(skip)]
    pub pool: Vec<String>,
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
        if self.form == Form::Tags && self.tags == 0 {
            return String::new();
        }
        let pool = if self.tags > 0 { self.pool.join(",") } else { String::new() };
        format!("{:?} {} {pool}", self.form, self.tags)
    }

    /// The prompt in this wording. The prompt determines every random choice.
    pub fn of(&self, prompt: &str) -> String {
        let mut tags: Vec<&str> = prompt.split(", ").collect();
        let who = tags.remove(0);
        let mut rng = Rng::new(&format!("{LABEL}/wording/{prompt}"));
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
