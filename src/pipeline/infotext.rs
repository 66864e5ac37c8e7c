//! [`Infotext`]: the text about a run that the AUTOMATIC1111 web UI writes into its pictures.

use crate::prompt::cursor::Cursor;
use std::fmt;

/// Text about a run that the AUTOMATIC1111 web UI writes into a PNG under `parameters`. The text consists of the
/// prompt, the negative prompt and a line of fields. Many programs read this text.
///
/// ```
/// use impasto::pipeline::Infotext;
///
/// let text = "1girl, gold eyes\nNegative prompt: blurry\n\
///     Steps: 28, Sampler: Euler a, CFG scale: 7.5, Seed: 7, Size: 512x512";
/// let info = Infotext::parse(text);
/// assert_eq!((info.prompt.as_str(), info.field("Sampler")), ("1girl, gold eyes", Some("Euler a")));
/// assert_eq!(info.to_string(), text);
/// ```
///
/// Source: `modules/infotext_utils.py` and `modules/processing.py` of stable-diffusion-webui.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Infotext {
    /// The prompt, which may have several lines.
    pub prompt: String,
    /// The negative prompt; empty if there is none.
    pub negative: String,
    /// Names and values of the fields, in their order in the text.
    pub fields: Vec<(String, String)>,
}

/// Smallest number of fields in a line of fields. A last line with fewer fields belongs to the prompt.
const LEAST: usize = 3;
const NEGATIVE: &str = "Negative prompt:";

impl Infotext {
    /// Parses a text in the web UI's format. Parsing never fails: a text without a line of fields is a prompt.
    pub fn parse(text: &str) -> Self {
        let mut lines: Vec<&str> = text.trim().lines().collect();
        let fields = lines.last().map(|line| fields(line)).filter(|fields| fields.len() >= LEAST);
        if fields.is_some() {
            lines.pop();
        }
        let (mut prompt, mut negative, mut is_negative) = (Vec::new(), Vec::new(), false);
        for line in lines {
            let line = line.trim();
            let rest = line.strip_prefix(NEGATIVE);
            is_negative |= rest.is_some();
            let part = if is_negative { &mut negative } else { &mut prompt };
            part.push(rest.unwrap_or(line).trim());
        }
        Self { prompt: prompt.join("\n"), negative: negative.join("\n"), fields: fields.unwrap_or_default() }
    }

    /// Returns the value of the field `name`; `None` if the text has no such field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Adds a field.
    pub(super) fn push(&mut self, name: &str, value: impl fmt::Display) {
        self.fields.push((name.into(), value.to_string()));
    }
}

impl fmt::Display for Infotext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.prompt)?;
        if !self.negative.is_empty() {
            write!(f, "\n{NEGATIVE} {}", self.negative)?;
        }
        let fields: Vec<String> =
            self.fields.iter().map(|(name, value)| format!("{name}: {}", quoted(value))).collect();
        write!(f, "\n{}", fields.join(", "))
    }
}

/// Puts a value in quotes if it contains a comma, a colon or a line break, which would end the value early.
fn quoted(value: &str) -> String {
    if value.contains([',', '\n', ':']) { serde_json::Value::from(value).to_string() } else { value.into() }
}

/// Returns the fields of a line: every match of `\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)`.
fn fields(line: &str) -> Vec<(String, String)> {
    let (mut fields, mut cursor) = (Vec::new(), Cursor::new(line));
    while cursor.peek().is_some() {
        cursor.take_while(char::is_whitespace); // consumed here, so that no space is read again
        match field(cursor.clone()) {
            Some((name, value, after)) => {
                fields.push((name, value));
                cursor = after;
            }
            None => drop(cursor.next()),
        }
    }
    fields
}

/// Upper bound of the number of letters in a field's name.
const LONGEST_NAME: usize = 64;

/// Returns the field that begins at the cursor: its name, its value and the place after it.
fn field(mut cursor: Cursor<'_>) -> Option<(String, String, Cursor<'_>)> {
    let word = |letter: char| letter.is_alphanumeric() || letter == '_';
    // The bound keeps time linear: a text without colons would otherwise be scanned to its end from each letter.
    let mut left = LONGEST_NAME;
    let name = cursor.take_while(|letter| {
        left -= 1;
        left > 0 && (word(letter) || " -/".contains(letter))
    });
    if !name.starts_with(word) || name.chars().nth(1).is_none() || !cursor.take(":") {
        return None;
    }
    cursor.take_while(char::is_whitespace);
    let mut quoted = cursor.clone();
    if let Some(value) = in_quotes(&mut quoted) {
        return Some((name.into(), value, quoted));
    }
    let value = cursor.take_while(|letter| letter != ',').to_owned();
    cursor.take(",");
    Some((name.into(), value, cursor))
}

/// Returns the quoted value that begins at the cursor and ends at a comma or at the end of the text.
fn in_quotes(cursor: &mut Cursor<'_>) -> Option<String> {
    let text = cursor.rest();
    if !cursor.take("\"") {
        return None;
    }
    let mut escaped = false;
    let inside = cursor.take_while(|letter| {
        let ends = letter == '"' && !escaped;
        escaped = letter == '\\' && !escaped;
        !ends
    });
    let is_whole = cursor.take("\"") && (cursor.take(",") || cursor.peek().is_none());
    let quoted = text.get(..inside.len() + 2).filter(|_| is_whole)?; // both quotes
    Some(serde_json::from_str(quoted).unwrap_or_else(|_| quoted.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::cursor::count::assert_linear;

    fn field<'a>(info: &'a Infotext, name: &str) -> &'a str {
        info.field(name).unwrap_or_else(|| panic!("{name} in {info:?}"))
    }

    #[test]
    fn text_of_the_web_ui_is_parsed() {
        let info = Infotext::parse(
            "masterpiece, best quality, 1girl, (gold eyes:1.3), <lora:add_detail:0.8>\n\
             Negative prompt: (worst quality, low quality:1.4), bad hands\n\
             Steps: 28, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 2870305590, Size: 512x768, Model hash: 7f96a1a9ca, \
             Model: AnythingV5, Denoising strength: 0.55, Clip skip: 2, Hires upscale: 2, Version: v1.6.0",
        );
        assert_eq!(info.prompt, "masterpiece, best quality, 1girl, (gold eyes:1.3), <lora:add_detail:0.8>");
        assert_eq!(info.negative, "(worst quality, low quality:1.4), bad hands");
        assert_eq!((field(&info, "Sampler"), field(&info, "Size")), ("DPM++ 2M Karras", "512x768"));
        assert_eq!((info.fields.len(), field(&info, "Version")), (11, "v1.6.0"));
    }

    #[test]
    fn parsing_takes_linear_time() {
        let pieces = ["x ", " ", "a: ", "aa: ", "aa: \"", "aa: \"x\",", "aa: \"b,", "\"", "\\\"", ",", "ab", "-/", "é"];
        assert_linear("infotext", &pieces, |text| {
            let line = format!("a\nSteps: 2, Seed: 1, Size: 8x8, {text}");
            assert!(Infotext::parse(&line).fields.len() >= 3);
        });
    }

    #[test]
    fn prompt_keeps_its_line_breaks() {
        let info = Infotext::parse(
            "a house,\n  by the sea\n\nBREAK red roof\nNegative prompt: people,\ncars\nSteps: 20, Sampler: Euler, Seed: 1\n",
        );
        assert_eq!(info.prompt, "a house,\nby the sea\n\nBREAK red roof");
        assert_eq!(info.negative, "people,\ncars");
        assert_eq!(info.fields.len(), 3);
    }

    #[test]
    fn quoted_values_may_contain_commas_and_colons() {
        let text = "a cat\nSteps: 20, Sampler: Euler a, Lora hashes: \"add_detail: 7c6bad76eb54, more: \\\"x\\\"\", TI hashes: \"\", \
                    Seed: 5, Hires prompt: \"two\\nlines\", RNG: CPU";
        let info = Infotext::parse(text);
        assert_eq!(field(&info, "Lora hashes"), "add_detail: 7c6bad76eb54, more: \"x\"");
        assert_eq!((field(&info, "Hires prompt"), field(&info, "TI hashes")), ("two\nlines", ""));
        assert_eq!((field(&info, "Seed"), field(&info, "RNG"), info.negative.as_str()), ("5", "CPU", ""));
        let again = Infotext::parse(&info.to_string());
        assert_eq!(again, info);
    }

    #[test]
    fn a_text_without_fields_is_a_prompt() {
        let info = Infotext::parse("colors: gold, eyes: blue");
        assert_eq!((info.prompt.as_str(), info.fields.len()), ("colors: gold, eyes: blue", 0));
        assert_eq!(Infotext::parse(""), Infotext::default());
        let info = Infotext::parse("Negative prompt: everything");
        assert_eq!((info.prompt.as_str(), info.negative.as_str()), ("", "everything"));
        // An open quote, and fields without values.
        let info = Infotext::parse("x\nSteps: , Sampler: \"Euler, Seed: é, Size:");
        assert_eq!((field(&info, "Sampler"), field(&info, "Seed"), field(&info, "Size")), ("\"Euler", "é", ""));
    }
}
