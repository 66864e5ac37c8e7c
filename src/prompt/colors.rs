//! Exact colors in a prompt: `#ffd700 eyes, rgb(255, 99, 71) hair, {teal} shirt`.

use super::Prompt;
use crate::color::Rgb;
use crate::error::{Error, Result};
use serde::Serialize;
use std::ops::Range;

/// A color that a prompt says exactly, and what is to have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PromptColor {
    /// As it was written: `#ffd700`, `{teal}`.
    pub written: String,
    /// What that is.
    pub color: Rgb,
    /// What is to have it: the words after it.
    pub phrase: String,
    /// Which of the places where the phrase stands in the prompt, from 0; `None` where it stands once.
    pub nth: Option<usize>,
    /// What the text encoder reads in its place; empty for nothing.
    pub word: String,
}

/// Functions of CSS that make a color.
const FUNCTIONS: [&str; 9] = ["rgb", "rgba", "hsl", "hsla", "hwb", "oklch", "oklab", "lch", "lab"];

/// Words after which it is not clear whether the color goes on.
const LINKS: [&str; 14] =
    ["and", "at", "beside", "by", "for", "from", "in", "near", "of", "on", "or", "to", "under", "with"];

/// What is wrong with a color in a prompt is this parameter's fault.
const NAME: &str = "color in the prompt";

/// The prompt as the text encoder shall read it, and the colors it says, from left to right.
///
/// A color is `#rgb` or `#rrggbb`, a function of CSS such as `rgb(…)`, `hsl(…)` or `oklch(…)`, or the name of a color in braces; a
/// backslash before it makes it text. The words after it, up to punctuation or `BREAK`, are what it is for, at that place. `word` says what is read in its
/// place.
///
/// ```
/// use impasto::{Rgb, prompt::colors};
/// let (text, found) = colors("1girl, #ffd700 eyes, ({teal} shirt:1.2)", |_| "yellow".into())?;
/// assert_eq!(text, "1girl, yellow eyes, (yellow shirt:1.2)");
/// assert_eq!((found[0].color, &*found[0].phrase), (Rgb(255, 215, 0), "eyes"));
/// assert_eq!((found[1].color, &*found[1].phrase), (Rgb(0, 128, 128), "shirt"));
/// # Ok::<(), impasto::Error>(())
/// ```
///
/// # Errors
/// [`Error::Parameter`] for a function that makes no color, a color that is not opaque, one that nothing follows, and one of which it
/// is not clear how far it goes ("#ffd700 eyes and hair"), with the readings.
pub fn colors(prompt: &str, word: impl Fn(Rgb) -> String) -> Result<(String, Vec<PromptColor>)> {
    let (mut text, mut found, mut begins, mut done) = (String::new(), Vec::<PromptColor>::new(), Vec::new(), 0);
    let starts = prompt.char_indices().map(|(at, _)| at);
    for at in starts {
        if at < done || !is_boundary(prompt, at) {
            continue;
        }
        let Some((range, color)) = color_at(prompt, at)? else { continue };
        let before = prompt.get(done..at).unwrap_or_default();
        let written = prompt.get(range.clone()).unwrap_or_default().to_owned();
        let after = prompt.get(range.end..).unwrap_or_default();
        let phrase = phrase(after, &written)?;
        let word = word(color);
        text.push_str(before);
        text.push_str(&word);
        begins.push(text.len());
        // Without a word there is nothing to keep the space for.
        done = range.end + if word.is_empty() { after.len() - after.trim_start().len() } else { 0 };
        found.push(PromptColor { written, color, phrase, nth: None, word });
    }
    text.push_str(prompt.get(done..).unwrap_or_default());
    let whole = Prompt::new(text.as_str(), Vec::new(), 0);
    for (found, begin) in found.iter_mut().zip(begins) {
        let places = whole.places(&found.phrase).unwrap_or_default();
        let here = places.iter().position(|place| place.start >= begin);
        found.nth = here.filter(|_| places.len() > 1);
    }
    Ok((text, found))
}

/// May a color begin here: not within a word, and not after a backslash?
fn is_boundary(prompt: &str, at: usize) -> bool {
    let before = prompt.get(..at).and_then(|before| before.chars().next_back());
    before.is_none_or(|before| !before.is_alphanumeric() && before != '\\' && before != '#')
}

/// The color that begins at `at`, and its bytes.
fn color_at(prompt: &str, at: usize) -> Result<Option<(Range<usize>, Rgb)>> {
    let rest = prompt.get(at..).unwrap_or_default();
    if let Some(digits) = rest.strip_prefix('#') {
        let length = digits.find(|c: char| !c.is_alphanumeric()).unwrap_or(digits.len());
        let hex = rest.get(..=length).unwrap_or_default();
        return Ok(hex.parse().ok().map(|color| (at..at + hex.len(), color)));
    }
    if let Some(named) = rest.strip_prefix('{') {
        let name = named.find('}').and_then(|end| named.get(..end));
        let color = name.and_then(|name| Some((name, name.parse::<Rgb>().ok()?)));
        return Ok(color.map(|(name, color)| (at..at + name.len() + 2, color)));
    }
    let Some(open) = rest.find('(') else { return Ok(None) };
    let function = rest.get(..open).unwrap_or_default().to_ascii_lowercase();
    if !FUNCTIONS.contains(&function.as_str()) {
        return Ok(None);
    }
    let written = rest.find(')').and_then(|close| rest.get(..=close)).unwrap_or(rest);
    let bad = |expected: &'static str| Error::parameter(NAME, written, expected);
    let color = csscolorparser::parse(written)
        .map_err(|_| bad("a color of CSS such as rgb(255, 215, 0), hsl(51, 100%, 50%) or oklch(0.88 0.18 95)"))?;
    if color.a < 1.0 {
        return Err(bad("an opaque color; how strong it is, the force says"));
    }
    let [r, g, b, _] = color.to_rgba8();
    Ok(Some((at..at + written.len(), Rgb(r, g, b))))
}

/// The words after a color that are to have it.
fn phrase(after: &str, written: &str) -> Result<String> {
    let end = after.find(|c: char| !c.is_alphanumeric() && !c.is_whitespace() && !"-'’_/".contains(c));
    let words = after.get(..end.unwrap_or(after.len())).unwrap_or_default().split_whitespace();
    let words: Vec<&str> = words.take_while(|word| *word != "BREAK").collect();
    if words.is_empty() {
        return Err(Error::parameter(NAME, written, "what is to have it right after it: #ffd700 eyes"));
    }
    match words.iter().position(|word| LINKS.contains(&word.to_lowercase().as_str())) {
        Some(link) => {
            let (short, long) = (words.get(..link).unwrap_or_default().join(" "), words.join(" "));
            let readings = match short.as_str() {
                "" => format!("what is to have it right after it, not \"{long}\""),
                _ => format!("a comma after what is to have it: \"{short}\", or \"{long}\"?"),
            };
            Err(Error::parameter(NAME, format!("{written} {long}"), readings))
        }
        None => Ok(words.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_color_is_for_the_place_that_it_stands_before() -> Result<()> {
        let nth = |prompt: &str| -> Result<Vec<Option<usize>>> {
            Ok(colors(prompt, |_| "red".into())?.1.into_iter().map(|found| found.nth).collect())
        };
        assert_eq!(nth("#f00 hat, #00f hat")?, [Some(0), Some(1)]);
        assert_eq!(nth("hat, (#f00 hat:1.2), #0f0 eyes, hats")?, [Some(1), None]);
        assert_eq!(nth("a hair bow, #f00 hair")?, [Some(1)]);
        assert_eq!(read("#f00 eyes BREAK blue sky")?.1[0].1, "eyes");
        assert!(read("#f00 BREAK eyes").is_err());
        Ok(())
    }

    fn read(prompt: &str) -> Result<(String, Vec<(Rgb, String)>)> {
        let (text, found) = colors(prompt, |_| String::new())?;
        Ok((text, found.into_iter().map(|found| (found.color, found.phrase)).collect()))
    }

    #[test]
    fn colors_are_read_in_every_way_they_are_written() -> Result<()> {
        let prompt = "1girl, #ffd700 eyes, #F0A hair bow, rgb(255, 99, 71) hair, hsl(180 100% 25.1%) shirt, {RebeccaPurple} long skirt";
        let (text, found) = read(prompt)?;
        assert_eq!(text, "1girl, eyes, hair bow, hair, shirt, long skirt");
        let expected = [
            (Rgb(255, 215, 0), "eyes"),
            (Rgb(255, 0, 170), "hair bow"),
            (Rgb(255, 99, 71), "hair"),
            (Rgb(0, 128, 128), "shirt"),
            (Rgb(102, 51, 153), "long skirt"),
        ];
        assert_eq!(found, expected.map(|(color, phrase)| (color, phrase.to_owned())));
        let (_, found) = read("oklch(0.7 0.15 60) sky")?;
        assert_eq!(found[0].0, Rgb(225, 133, 40));
        Ok(())
    }

    #[test]
    fn what_is_no_color_stays_text() -> Result<()> {
        for prompt in [
            "the #1 fan",
            "{red|blue} hair",
            "a rug (old)",
            r"\#bad hair",
            "##fff",
            "{nothing} here",
            "#ffd70080 x",
            "€ 1girl",
        ] {
            assert_eq!(read(prompt)?, (prompt.to_owned(), vec![]));
        }
        Ok(())
    }

    #[test]
    fn brackets_and_weights_stay() -> Result<()> {
        let (text, found) =
            colors(
                "((#ff0000 hat:1.3)), [{blue} sky]",
                |color| if color.0 > 0 { "red".into() } else { "blue".into() },
            )?;
        assert_eq!(text, "((red hat:1.3)), [blue sky]");
        assert_eq!(found.iter().map(|found| found.phrase.as_str()).collect::<Vec<_>>(), ["hat", "sky"]);
        Ok(())
    }

    #[test]
    fn what_is_not_clear_is_an_error_with_the_readings() {
        let message = |prompt| read(prompt).expect_err(prompt).to_string();
        let both = message("#ffd700 eyes and hair, shirt");
        assert!(both.contains("\"eyes\", or \"eyes and hair\"?"), "{both}");
        assert!(message("eyes, #ffd700, hair").contains("right after it: #ffd700 eyes"));
        assert!(message("#ffd700 of eyes").contains("not \"of eyes\""));
        assert!(message("rgb(12) eyes").contains("rgb(12)"));
        assert!(message("rgb(0 0 0 / 50%) eyes").contains("opaque"));
        assert!(message("hsl(1, 2").contains("a color of CSS"));
    }
}
