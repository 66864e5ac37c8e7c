//! Parser of the text in which paint-with-words-sd, and the programs derived from it, describe the colors of a map.

use super::area::Area;
use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::prompt::cursor::Cursor;

/// Parses `{(7, 9, 182): "aurora,0.5,-1", "#59b0ff": "boat@2.0@7"}` into areas, in order.
///
/// # Errors
/// [`Error::Parameter`] at the first unreadable place, or with a list of all faulty entries.
pub(super) fn parse(text: &str) -> Result<Vec<Area>> {
    let mut reader = Reader::new(text);
    let (mut areas, mut wrong) = (Vec::new(), Vec::new());
    reader.expect("{")?;
    while !reader.take("}") {
        let color = reader.color()?;
        reader.expect(":")?;
        let said = reader.string()?;
        match entry(&said) {
            Ok(entry) => areas.push(entry.area(color)),
            Err(problem) => wrong.push(format!("\"{said}\" of {color}: {problem}")),
        }
        if !reader.take(",") {
            reader.expect("}")?;
            break;
        }
    }
    if reader.0.peek().is_some() {
        return Err(reader.stuck("no text after the last }"));
    }
    if wrong.is_empty() {
        return Ok(areas);
    }
    Err(Error::parameter("context", wrong.join("; "), ENTRY))
}

const ENTRY: &str = "\"phrase,strength\", \"phrase,strength,seed\" or \"phrase,strength,seed,blur\"; \
                     use @ instead of commas if the phrase ends in a number";

/// The content of one color's text.
#[derive(Debug, PartialEq)]
struct Entry {
    phrase: String,
    strength: f64,
    seed: Option<u64>,
    blur: Option<f64>,
}

impl Entry {
    fn area(self, color: Rgb) -> Area {
        let Self { phrase, strength, seed, blur } = self;
        Area { strength, seed, blur, ..Area::color(color, phrase) }
    }
}

/// Parses `phrase,strength[,seed[,blur]]` from the right: up to three numbers, then the phrase, which may contain
/// commas.
fn entry(text: &str) -> std::result::Result<Entry, String> {
    let separator = if text.contains('@') { '@' } else { ',' };
    let (mut phrase, mut numbers) = (text, Vec::new());
    while let Some((rest, last)) = phrase.rsplit_once(separator).filter(|_| numbers.len() < 3) {
        let Ok(number) = last.trim().parse::<f64>() else { break };
        numbers.insert(0, number);
        phrase = rest;
    }
    let phrase = phrase.trim().to_owned();
    let Some(&strength) = numbers.first() else { return Err("the strength is missing".into()) };
    if phrase.is_empty() {
        return Err("the phrase is empty".into());
    }
    if let Some(number) = numbers.iter().find(|number| !number.is_finite()) {
        return Err(format!("{number} is not a finite number"));
    }
    let seed = match numbers.get(1) {
        None | Some(-1.0) => None,
        // Beyond 2^53 an f64 does not represent every whole number.
        Some(&seed) if (0.0..=9_007_199_254_740_992.0).contains(&seed) && seed.fract() == 0.0 => Some(seed as u64),
        Some(seed) => {
            return Err(format!("the seed is {seed}, which is neither a whole number up to 2^53 nor -1 for no seed"));
        }
    };
    let blur = numbers.get(2).copied();
    match blur.filter(|blur| *blur < 0.0) {
        Some(blur) => Err(format!("the blur is {blur}, which is below 0")),
        None => Ok(Entry { phrase, strength, seed, blur }),
    }
}

/// Reader of a Python dictionary's source text, token by token. White space between tokens is skipped.
struct Reader<'t>(Cursor<'t>);

impl<'t> Reader<'t> {
    fn new(text: &'t str) -> Self {
        let mut reader = Self(Cursor::new(text));
        reader.skip();
        reader
    }

    /// Skips white space.
    fn skip(&mut self) {
        self.0.take_while(char::is_whitespace);
    }

    fn take(&mut self, token: &str) -> bool {
        let is_here = self.0.take(token);
        self.skip();
        is_here
    }

    fn expect(&mut self, token: &str) -> Result<()> {
        if self.take(token) { Ok(()) } else { Err(self.stuck(&format!("a {token}"))) }
    }

    /// Reads `(r, g, b)`, or the text of a color.
    fn color(&mut self) -> Result<Rgb> {
        if !self.take("(") {
            return match self.0.peek() {
                Some('"' | '\'') => self.string()?.parse(),
                _ => Err(self.stuck("a color such as (7, 9, 182) or \"#0709b6\"")),
            };
        }
        let red = self.byte()?;
        self.expect(",")?;
        let green = self.byte()?;
        self.expect(",")?;
        let blue = self.byte()?;
        self.take(",");
        self.expect(")")?;
        Ok(Rgb(red, green, blue))
    }

    fn byte(&mut self) -> Result<u8> {
        let begin = self.0.clone();
        let byte = self.0.take_while(|letter| letter.is_ascii_digit()).parse();
        let byte = byte.map_err(|_| Self(begin).stuck("a number of 0 to 255"))?;
        self.skip();
        Ok(byte)
    }

    /// Reads a text in either kind of quotes. A backslash escapes the next character.
    fn string(&mut self) -> Result<String> {
        let begin = self.0.clone();
        let quote = match self.0.next() {
            Some(quote @ ('"' | '\'')) => quote,
            _ => return Err(Self(begin).stuck("a text in quotes")),
        };
        let mut text = String::new();
        while let Some(letter) = self.0.next() {
            match letter {
                '\\' => text.extend(self.0.next()),
                letter if letter == quote => {
                    self.skip();
                    return Ok(text);
                }
                letter => text.push(letter),
            }
        }
        Err(Self(begin).stuck("a text with the same quote at both ends"))
    }

    fn stuck(&self, expected: &str) -> Error {
        let here: String = self.0.rest().chars().take(24).collect();
        let here = if here.is_empty() { "at the end".into() } else { format!("at {here:?}") };
        Error::parameter("context", format!("unreadable {here}"), expected.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::cursor::count::assert_linear;
    use serde_json::Value;

    fn golden(section: &str) -> Vec<Value> {
        let file = include_str!("../../../tests/golden/specs/paint_with_words.json");
        let golden: Value = serde_json::from_str(file).unwrap();
        golden[section].as_array().unwrap().clone()
    }

    fn is(entry: &Entry, want: &Value) {
        assert_eq!(entry.phrase, want["label"]);
        assert_eq!(entry.strength, want["strength"]);
        assert_eq!(entry.seed, want["seed"].as_u64());
        assert_eq!(entry.blur, want["blur"].as_f64());
    }

    #[test]
    fn entries_equal_the_reference() {
        let cases = golden("context_text");
        assert_eq!(cases.len(), 15);
        for case in cases {
            let read = entry(case["text"].as_str().unwrap());
            match case["ours"]["error"].as_str() {
                None => is(&read.unwrap(), &case["ours"]),
                Some(error) => {
                    let key = match error {
                        "missing strength" => "strength is missing",
                        "empty label" => "phrase is empty",
                        "not finite" => "not a finite number",
                        other => other,
                    };
                    let message = read.unwrap_err();
                    assert!(message.contains(key), "{case}: {message}");
                }
            }
        }
    }

    #[test]
    fn whole_texts_equal_the_reference() {
        for case in golden("context_dict") {
            let areas = parse(case["text"].as_str().unwrap()).unwrap();
            let wanted = case["regions"].as_array().unwrap();
            assert_eq!(areas.len(), wanted.len());
            for (area, want) in areas.iter().zip(wanted) {
                let Rgb(red, green, blue) = area.rgb().unwrap();
                assert_eq!(serde_json::json!([red, green, blue]), want["rgb"]);
                let Area { phrase, strength, seed, blur, .. } = area;
                is(&Entry { phrase: phrase.clone(), strength: *strength, seed: *seed, blur: *blur }, want);
            }
        }
    }

    #[test]
    fn parse_reports_all_faults_with_their_places() {
        let message = |text: &str| parse(text).unwrap_err().to_string();
        let all = message("{(1, 2, 3): \"boat\", 'teal': ',1.0', (4, 5, 6): \"sky,0.5\"}");
        for words in ["\"boat\" of #010203: the strength is missing", "\",1.0\" of #008080", "phrase,strength,seed"] {
            assert!(all.contains(words), "{all}");
        }
        for (text, words) in [
            ("", "unreadable at the end; expected a {"),
            ("{(1, 2): \"sky,1\"}", "unreadable at \"): "),
            ("{(1, 2, 300): \"sky,1\"}", "a number of 0 to 255"),
            ("{\"nocolor\": \"sky,1\"}", "CSS name"),
            ("{(1, 2, 3) \"sky,1\"}", "expected a :"),
            ("{(1, 2, 3): \"sky,1}", "the same quote at both ends"),
            ("{(1, 2, 3): \"sky,1\" (4, 5, 6): \"sea,1\"}", "expected a }"),
            ("{} and more", "no text after the last }"),
            ("{7: \"sky,1\"}", "a color such as"),
        ] {
            let message = message(text);
            assert!(message.contains(words), "{text}: {message}");
        }
        assert_eq!(parse("{(0, 0, 0): 'it\\'s, so,1'}").unwrap()[0].phrase, "it's, so");
    }

    #[test]
    fn context_looks_at_each_letter_a_few_times() {
        let pieces = ["(1,2,3): \"a,1\",", "\"", "{", " ", "\\", "'#fff': 'a,1',", "(", "1", "\"a\": \"b\","];
        assert_linear("context", &pieces, |text| drop(parse(&format!("{{{text}"))));
    }
}
