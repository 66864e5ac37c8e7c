//! [`Note`]: a text for a reader, and a way out of what the text tells.

use super::{Library, Remedy, Wording};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::fmt;

/// Largest number of letters of a text that a note quotes.
pub(crate) const QUOTED: usize = 60;
/// Largest number of letters of a quoted text that the note is about, such as the unread end of a prompt.
pub(crate) const LONG_QUOTE: usize = 400;
/// Largest number of letters of a note that is read from a file.
const LONGEST: usize = 1000;

/// A text for a reader, with the guidance method that it is from and a way out of what it tells. The `Display` text is
/// in the words of this library; [`Note::worded`] uses those of another program.
///
/// A note without a remedy is a string in files, other notes are objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// Name of the guidance method that the note is from; `None` for a note of the model or the run.
    pub origin: Option<&'static str>,
    /// The text, without the remedy.
    pub text: Cow<'static, str>,
    /// Way out for the reader.
    pub remedy: Option<Remedy>,
}

impl Note {
    /// Returns the note as a text in the words of a program: `origin: text; remedy`.
    pub fn worded(&self, words: &dyn Wording) -> String {
        let origin = self.origin.map_or_else(String::new, |origin| format!("{}: ", words.name(origin)));
        let remedy = self.remedy.and_then(|remedy| words.remedy(remedy));
        let remedy = remedy.map_or_else(String::new, |remedy| format!("; {remedy}"));
        format!("{origin}{}{remedy}", self.text)
    }
}

/// Returns the beginning of a text in one line, of at most `most` letters.
pub(crate) fn excerpt(text: &str, most: usize) -> String {
    let line = || {
        let words = text.split_whitespace().enumerate();
        words.flat_map(|(index, word)| (index > 0).then_some(' ').into_iter().chain(word.chars()))
    };
    let start: String = line().take(most).collect();
    let ellipsis = if line().nth(most).is_some() { "…" } else { "" };
    format!("{}{ellipsis}", start.trim_end())
}

impl Remedy {
    /// Returns a note with this remedy after `text`.
    pub(crate) fn after(self, text: impl Into<Cow<'static, str>>) -> Note {
        Note { remedy: Some(self), ..Note::from(text) }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.worded(&Library))
    }
}

impl<T: Into<Cow<'static, str>>> From<T> for Note {
    fn from(text: T) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
}

impl Serialize for Note {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let text = Self { remedy: None, ..self.clone() }.to_string();
        match self.remedy {
            None => text.serialize(to),
            Some(remedy) => json!({ "text": text, "remedy": remedy }).serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Note {
    /// Reads a string or an object. A remedy that this version does not know is left out, and a long text is cut.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Whole { text: String, remedy: Value },
        }
        let (text, remedy) = match Form::deserialize(from)? {
            Form::Text(text) => (text, None),
            Form::Whole { text, remedy } => (text, Remedy::deserialize(remedy).ok()),
        };
        Ok(Self { remedy, ..excerpt(&text, LONGEST).into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_is_shortened_to_one_line() {
        for (text, short) in
            [("a  red\nboat ", "a red boat"), ("a red boats", "a red boat…"), ("", ""), ("äöüäöüäöüäö", "äöüäöüäöüä…")]
        {
            assert_eq!(excerpt(text, 10), short);
        }
        let read = serde_json::from_value::<Note>(json!("a ".repeat(1 << 20))).expect("a note");
        assert!(read.text.chars().count() <= LONGEST + 1);
    }

    #[test]
    fn note_survives_in_a_file() {
        let text = Note::from("the run had a mask");
        let whole = Note { remedy: Some(Remedy::Mask), ..text.clone() };
        assert_eq!(json!(text), json!("the run had a mask"));
        assert_eq!(json!(whole), json!({ "text": "the run had a mask", "remedy": "Mask" }));
        for note in [text.clone(), whole] {
            assert_eq!(serde_json::from_value::<Note>(json!(note)).expect("a note"), note);
        }
        let later = json!({ "text": "the run had a mask", "remedy": "Unheard" });
        assert_eq!(serde_json::from_value::<Note>(later).expect("a note of a later version"), text);
    }
}
