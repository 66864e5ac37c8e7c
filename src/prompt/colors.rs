//! Exact colors in a prompt: `#ffd700 eyes, rgb(255, 99, 71) hair, {teal} shirt`.

use super::cursor::{Cursor, looked};
use super::words::{Word, places, words};
use super::{PromptSchedule, PromptSyntax, conjunction, networks};
use crate::color::Rgb;
use crate::error::{Error, Result};
use serde::Serialize;
use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};

/// An exact color in a prompt, and the words that it applies to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PromptColor {
    /// The color as written: `#ffd700`, `{teal}`.
    pub written: String,
    /// The color's value.
    pub color: Rgb,
    /// The words after the color, to which the color applies.
    pub phrase: String,
    /// Index of the phrase's place among all its places in the prompt, from 0; `None` if there is only one.
    pub nth: Option<usize>,
    /// The word that the text encoder reads instead of the color; empty for none.
    pub word: String,
}

/// Functions of CSS that make a color.
const FUNCTIONS: [&str; 9] = ["rgb", "rgba", "hsl", "hsla", "hwb", "oklch", "oklab", "lch", "lab"];
/// Largest number of bytes of a CSS function with its numbers.
const LONGEST_FUNCTION: usize = 128;

/// Words after which the extent of a color's phrase is ambiguous, as in "#ffd700 eyes and hair".
const LINKS: [&str; 14] =
    ["and", "at", "beside", "by", "for", "from", "in", "near", "of", "on", "or", "to", "under", "with"];
/// Words that may stand between a word of [`LINKS`] and the next color: "and a {teal} shirt".
const ARTICLES: [&str; 9] = ["a", "an", "has", "her", "his", "its", "the", "their", "wearing"];
/// Largest number of words that a color applies to.
const LONGEST_PHRASE: usize = 8;

/// First of the letters that mark the places of colors. They are for private use, and no prompt has them.
const MARKS: char = '\u{f0000}';

/// Name of the parameter in errors about a color in a prompt.
const NAME: &str = "color in the prompt";

/// Replaces the colors in a prompt by words. Returns the prompt for the text encoder, and the colors from left to
/// right.
///
/// A color is one of
/// - `#rgb` or `#rrggbb`, unless the digits spell a word;
/// - a function of CSS such as `rgb(…)`, `hsl(…)` or `oklch(…)`;
/// - the name of a color in braces, or `{#rgb}` and `{#rrggbb}`.
///
/// Digits spell a word if they are letters alone: three that are not all equal (`#fab`), or an English word of six
/// (`#decade`). `#fff` and `#ffaacc` are colors, and so is `{#fab}`.
///
/// A backslash before a color makes the color plain text. A color applies to the 1 to 8 words after it, up to
/// punctuation, `BREAK`, `AND` or the next color. Other places of the same words stay without the color. `word` returns
/// the text that replaces a color.
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
/// [`Error::Parameter`]
/// - for text that looks like a color and is none, with the nearest color: `#ffd70`, `#ffd700ff`, `{hotpinc}`,
///   `rgb(12)`;
/// - for a color that is not opaque, or without words after it, or with more than 8;
/// - if the extent of a color's phrase is ambiguous ("#ffd700 eyes and hair"), with the possible readings.
pub fn colors(prompt: &str, word: impl Fn(Rgb) -> String) -> Result<(String, Vec<PromptColor>)> {
    let (mut text, mut found, mut begins, mut done) = (String::new(), Vec::<PromptColor>::new(), Vec::new(), 0);
    let mut cursor = Cursor::new(prompt);
    while cursor.peek().is_some() {
        let begin = cursor.at();
        let color = if is_boundary(&cursor) { color(&mut cursor)? } else { None };
        let Some((written, color)) = color else {
            cursor.next();
            continue;
        };
        let phrase = phrase(cursor.clone(), written)?;
        let word = word(color);
        text.push_str(prompt.get(done..begin).unwrap_or_default());
        text.push_str(&word);
        begins.push(text.len());
        if word.is_empty() {
            cursor.take_while(char::is_whitespace); // without a word, the space is superfluous
        }
        done = cursor.at();
        found.push(PromptColor { written: written.into(), color, phrase, nth: None, word });
    }
    text.push_str(prompt.get(done..).unwrap_or_default());
    number(&text, &mut found, &begins);
    Ok((text, found))
}

/// Sets `nth` of each color: the index of the first place of its phrase in `text` from byte `begins` on.
fn number(text: &str, found: &mut [PromptColor], begins: &[usize]) {
    // The words in the form that `words::places` compares; the gap before the first word does not count.
    let key = |words: &[Word]| -> String {
        let first = words.first().map(|word| word.lower.as_str());
        let others = words.iter().skip(1).flat_map(|word| ["\0", word.gap.as_str(), "\0", word.lower.as_str()]);
        first.into_iter().chain(others).collect()
    };
    let phrases: Vec<Vec<Word>> = found.iter().map(|found| words(&found.phrase)).collect();
    let present = words(text);
    let mut places: HashMap<String, Vec<usize>> = phrases.iter().map(|phrase| (key(phrase), Vec::new())).collect();
    let lengths: BTreeSet<usize> = phrases.iter().map(Vec::len).filter(|length| *length > 0).collect();
    for window in lengths.iter().flat_map(|length| present.windows(*length)) {
        looked(window.len());
        if let (Some(places), Some(first)) = (places.get_mut(&key(window)), window.first()) {
            places.push(first.bytes.start);
        }
    }
    for ((found, phrase), begin) in found.iter_mut().zip(&phrases).zip(begins) {
        let places = places.get(&key(phrase)).map(Vec::as_slice).unwrap_or_default();
        let here = places.partition_point(|start| start < begin);
        found.nth = Some(here).filter(|here| places.len() > 1 && *here < places.len());
    }
}

/// Sets `nth` of each color of a prompt that changes during a run, or that `AND` combines with others: the index of the
/// color's phrase in the first text that has the color. `None` if methods do not look up the phrase in this text first.
/// Leaves out the colors whose phrase has another color or none in the texts of the last step, because these texts
/// describe the finished picture.
///
/// # Errors
/// The errors of [`colors`] and of [`PromptSchedule::new`].
pub(crate) fn number_in_texts(
    prompt: &str,
    syntax: PromptSyntax,
    steps: usize,
    found: &mut Vec<PromptColor>,
) -> Result<()> {
    let is_mark = |letter: char| letter >= MARKS;
    if syntax == PromptSyntax::Plain || found.is_empty() || prompt.contains(is_mark) {
        return Ok(());
    }
    let next = Cell::new(MARKS as u32);
    let mark = |_| char::from_u32(next.replace(next.get() + 1)).map(String::from).unwrap_or_default();
    let (marked, _) = colors(prompt, mark)?;
    let parts = conjunction(&networks(&marked).text);
    let parts = parts.iter().map(|part| PromptSchedule::new(&part.text, syntax, steps)).collect::<Result<Vec<_>>>()?;
    if parts.len() == 1 && parts.iter().all(|part| part.entries().count() == 1) {
        return Ok(());
    }
    let plain = |text: &str| text.replace(is_mark, "");
    for (color, mark) in found.iter_mut().zip(MARKS..) {
        let texts = parts.iter().flat_map(|part| part.entries().enumerate().map(|(index, (_, text))| (index, text)));
        let Some((index, text)) = texts.into_iter().find(|(_, text)| text.contains(mark)) else { continue };
        let begin = plain(text.split(mark).next().unwrap_or_default()).len();
        number(&plain(text), std::slice::from_mut(color), &[begin]);
        let has_phrase = |part: &PromptSchedule| !places_of(&plain(part.at(0)), &color.phrase).is_empty();
        let is_first = parts.iter().find(|part| has_phrase(part)).is_some_and(|part| part.at(0) == text);
        color.nth = color.nth.filter(|_| index == 0 && is_first);
    }
    let last: Vec<&str> = parts.iter().map(|part| part.at(steps.saturating_sub(1))).collect();
    let mut marks = MARKS..;
    found.retain(|color| {
        let is_last = marks.next().is_some_and(|mark| last.iter().any(|text| text.contains(mark)));
        is_last || last.iter().all(|text| places_of(&plain(text), &color.phrase).is_empty())
    });
    Ok(())
}

/// Returns the places of a phrase's words in a text.
fn places_of(text: &str, phrase: &str) -> Vec<usize> {
    places(&words(phrase), &words(text))
}

/// Returns true if a color may begin here: not within a word, and not after a backslash or `#`.
fn is_boundary(cursor: &Cursor) -> bool {
    cursor.before().is_none_or(|before| !before.is_alphanumeric() && before != '\\' && before != '#')
}

/// Reads the color that begins here, as written and as a value, and moves the cursor behind the color. Without a color,
/// the cursor stays.
fn color<'p>(cursor: &mut Cursor<'p>) -> Result<Option<(&'p str, Rgb)>> {
    let (rest, begin) = (cursor.rest(), cursor.at());
    let mut ahead = cursor.clone();
    let color = match ahead.next() {
        Some('#') => match ahead.take_while(char::is_alphanumeric) {
            digits if is_word(digits) => None,
            digits => hexadecimal(digits)?,
        },
        Some('{') => {
            let name = ahead.take_while(|letter| !"{}".contains(letter));
            if ahead.take("}") { named(name)? } else { None }
        }
        Some(first) if first.is_ascii_alphabetic() => function(rest, &mut ahead)?,
        _ => None,
    };
    let Some(color) = color else { return Ok(None) };
    *cursor = ahead;
    Ok(Some((rest.get(..cursor.at() - begin).unwrap_or_default(), color)))
}

/// Words of six letters that could be the digits of a color.
const SIX_LETTERS: [&str; 9] =
    ["accede", "beaded", "bedded", "dabbed", "decade", "deeded", "deface", "efface", "facade"];

/// Returns true for digits of a color that spell a word: `fab`, `cafe`, `decade`. Six letters are rarely a word, and
/// often a light color that a color picker chose.
fn is_word(digits: &str) -> bool {
    let is_letter = |digit: u8| matches!(digit, b'a'..=b'f' | b'A'..=b'F');
    let Some(first) = digits.bytes().next().filter(|_| digits.bytes().all(is_letter)) else { return false };
    match digits.len() {
        _ if digits.bytes().all(|digit| digit.eq_ignore_ascii_case(&first)) => false,
        6 => SIX_LETTERS.iter().any(|word| word.eq_ignore_ascii_case(digits)),
        _ => true,
    }
}

/// Returns the word that begins here and could be a color, such as `#fab`. Words in braces are colors.
fn hex_word<'p>(cursor: &Cursor<'p>) -> Option<&'p str> {
    let rest = cursor.rest();
    let mut ahead = cursor.clone();
    if !is_boundary(cursor) || cursor.before() == Some('{') || !ahead.take("#") {
        return None;
    }
    let digits = ahead.take_while(char::is_alphanumeric);
    rest.get(..=digits.len()).filter(|_| matches!(digits.len(), 3 | 6) && is_word(digits))
}

/// Returns the words of a prompt that could be colors, such as `#fab`.
pub(crate) fn hex_words(prompt: &str) -> Vec<&str> {
    let (mut words, mut cursor) = (Vec::new(), Cursor::new(prompt));
    while cursor.peek().is_some() {
        words.extend(hex_word(&cursor));
        cursor.next();
    }
    words
}

/// Returns a prompt of another program with a backslash before each text that [`colors`] would read as a color or
/// refuse as a mistyped one, and before each word that could be a color.
pub(crate) fn without_colors(prompt: &str) -> String {
    let (mut text, mut cursor) = (String::new(), Cursor::new(prompt));
    while let Some(letter) = cursor.peek() {
        let is_color = || is_boundary(&cursor) && !matches!(color(&mut cursor.clone()), Ok(None));
        if is_color() || hex_word(&cursor).is_some() {
            text.push('\\');
        }
        text.push(letter);
        cursor.next();
    }
    text
}

/// Reads the digits of a color after its `#`, such as `ffd700`. Hashtags and small numbers ("the #1 fan") are no
/// colors.
fn hexadecimal(digits: &str) -> Result<Option<Rgb>> {
    let count = digits.chars().count();
    let hex: String = digits.chars().filter(char::is_ascii_hexdigit).take(9).collect();
    if hex.len() == count && matches!(count, 3 | 6) {
        return format!("#{digits}").parse().map(Some);
    }
    // Mistakes that are reported: one digit too few or too many, an opacity, or a letter like a digit ("#ffd7oo").
    let mistyped = count == 6 && hex.len() >= 4 && hex.bytes().any(|digit| digit.is_ascii_digit());
    let miscounted = hex.len() == count && matches!(count, 4..=8);
    if !(mistyped || miscounted) {
        return Ok(None);
    }
    let nearest = match count {
        4 => hex.chars().take(3).collect::<String>(),
        _ => format!("{hex:0<6}").chars().take(6).collect(),
    };
    let expected = format!("#rgb or #rrggbb, such as #{nearest}; a backslash before the color makes plain text");
    Err(Error::parameter(NAME, format!("#{digits}"), expected))
}

/// Reads a color name between braces, such as `teal` or `hot pink`. Other words between braces are no colors, but words
/// close to a color name are errors.
fn named(written: &str) -> Result<Option<Rgb>> {
    /// Number of letters that are compared: enough for the longest name of a color (`lightgoldenrodyellow`) with
    /// mistakes.
    const MOST: usize = 24;
    let name: String =
        written.chars().filter(|letter| !letter.is_whitespace()).take(MOST).collect::<String>().to_lowercase();
    if let Ok(color) = name.parse() {
        return Ok(Some(color));
    }
    if let Some(digits) = name.strip_prefix('#') {
        return hexadecimal(digits);
    }
    let most_mistakes = (name.chars().count() / 3).min(2);
    // Comparing sets of letters is a quick first test, as a mistake changes at most two letters of the set.
    let letters = |word: &str| word.bytes().fold(0u32, |set, letter| set | 1 << (letter % 32));
    let similar = |known: &&str| (letters(known) ^ letters(&name)).count_ones() as usize <= 2 * most_mistakes;
    let known = palette::named::names().filter(similar).take(if most_mistakes > 0 { usize::MAX } else { 0 });
    match known.map(|known| (strsim::osa_distance(&name, known), known)).min() {
        Some((mistakes, known)) if mistakes <= most_mistakes => {
            let expected =
                format!("the name of a color, such as {{{known}}}; a backslash before the name makes plain text");
            Err(Error::parameter(NAME, format!("{{{written}}}"), expected))
        }
        _ => Ok(None),
    }
}

/// Reads a function such as `rgb(255, 215, 0)` at the beginning of `rest`. The cursor `ahead` has already passed the
/// first letter.
fn function(rest: &str, ahead: &mut Cursor<'_>) -> Result<Option<Rgb>> {
    let name = 1 + ahead.take_while(|letter| letter.is_ascii_alphabetic()).len();
    if !ahead.take("(") || !rest.get(..name).is_some_and(is_function) {
        return Ok(None);
    }
    let mut left = LONGEST_FUNCTION;
    let inside = ahead.take_while(|letter| {
        left = left.saturating_sub(1);
        left > 0 && letter != ')'
    });
    let inside = inside.len();
    let closed = usize::from(ahead.take(")"));
    let written = rest.get(..name + 1 + inside + closed).unwrap_or_default();
    let bad = |expected: &'static str| {
        let shown: String = written.chars().take(LONGEST_FUNCTION).collect();
        Err(Error::parameter(NAME, shown, expected))
    };
    match csscolorparser::parse(written).ok().filter(|_| written.len() <= LONGEST_FUNCTION) {
        None => bad("a color of CSS such as rgb(255, 215, 0), hsl(51, 100%, 50%) or oklch(0.88 0.18 95)"),
        Some(color) if color.a < 1.0 => bad("an opaque color; leave out the alpha"),
        Some(color) => {
            let [red, green, blue, _] = color.to_rgba8();
            Ok(Some(Rgb(red, green, blue)))
        }
    }
}

fn is_function(name: &str) -> bool {
    FUNCTIONS.iter().any(|function| function.eq_ignore_ascii_case(name))
}

/// Reads the words after a color, to which the color applies.
fn phrase(mut after: Cursor<'_>, written: &str) -> Result<String> {
    let said = after.take_while(|c| c.is_alphanumeric() || c.is_whitespace() || "-'’_/".contains(c));
    let mut words: Vec<&str> =
        said.split_whitespace().take_while(|word| !["BREAK", "AND"].contains(word)).take(LONGEST_PHRASE + 4).collect();
    let lower = |word: &str| word.to_lowercase();
    // Words that link to the next color are not part of the phrase: "eyes and a {teal} shirt".
    let next = after.peek();
    let is_last = words.last().is_some_and(|word| said.ends_with(word));
    let to_function = next == Some('(') && is_last && words.last().is_some_and(|word| is_function(word));
    if to_function {
        words.pop();
    }
    if to_function || matches!(next, Some('#' | '{')) {
        let is_link = |word: &&str| LINKS.contains(&&*lower(word)) || ARTICLES.contains(&&*lower(word));
        let kept = words.iter().rposition(|word| !is_link(word)).map_or(0, |last| last + 1);
        words.truncate(kept);
    }
    let long = || words.join(" ");
    if words.is_empty() {
        let expected = "the name of the colored thing right after the color, such as #ffd700 eyes";
        return Err(Error::parameter(NAME, written, expected));
    }
    if let Some(link) = words.iter().position(|word| LINKS.contains(&&*lower(word))) {
        let (short, long) = (words.get(..link).unwrap_or_default().join(" "), long());
        let readings = match short.as_str() {
            "" => format!("the name of the colored thing right after the color, not \"{long}\""),
            _ => format!("a comma after the name of the colored thing: \"{short}\", or \"{long}\""),
        };
        return Err(Error::parameter(NAME, format!("{written} {long}"), readings));
    }
    if words.len() > LONGEST_PHRASE {
        let expected = format!("a comma after the name of the colored thing, which has {LONGEST_PHRASE} words at most");
        return Err(Error::parameter(NAME, format!("{written} {} …", long()), expected));
    }
    Ok(long())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::cursor::count::assert_linear;

    #[test]
    fn color_applies_to_the_place_after_it() -> Result<()> {
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
    fn colors_are_read_in_every_notation() -> Result<()> {
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
    fn text_without_a_color_stays_unchanged() -> Result<()> {
        for prompt in [
            "the #1 fan",
            "{red|blue} hair",
            "a rug (old)",
            r"\#bad hair",
            "##fff",
            "{nothing} here",
            "{{masterpiece}}, {best quality}",
            "#1st place, #sunset, #nofilter",
            "#fab fanart, #ADD, #bad hands, a #cafe, #faded, the #decade, #Facade, #effaced",
            r"\#ffd70 eyes, \{hotpinc} hair",
            "{",
            "#",
            "rgb",
            "€ 1girl",
        ] {
            assert_eq!(read(prompt)?, (prompt.to_owned(), vec![]));
        }
        Ok(())
    }

    #[test]
    fn letters_are_colors_where_they_are_no_word() -> Result<()> {
        let white = Rgb(255, 255, 255);
        for (written, color) in [
            ("#fff", white),
            ("#FFF", white),
            ("#ffffff", white),
            ("#ffaacc", Rgb(255, 170, 204)),
            ("#ffeeda", Rgb(255, 238, 218)),
            ("{#fab}", Rgb(255, 170, 187)),
            ("{#decade}", Rgb(222, 202, 222)),
        ] {
            assert_eq!(read(&format!("{written} eyes"))?.1, [(color, "eyes".to_owned())], "{written}");
        }
        assert!(read("#ffff eyes").is_err(), "a mistyped color");
        let prompt = r"#fab eyes, {#bad} hair, #decade, #cafe, \#add, x#fee, #fff hat, (#Ace:1.2)";
        assert_eq!(hex_words(prompt), ["#fab", "#decade", "#Ace"]);
        Ok(())
    }

    #[test]
    fn prompts_without_colors_are_plain_text() -> Result<()> {
        for (prompt, text) in [
            ("#fab fanart, {red} dress, #f00 hat", r"\#fab fanart, \{red} dress, \#f00 hat"),
            ("rgb(1, 2, 3) a, ({teal} shirt:1.2), {#bad} b", r"\rgb(1, 2, 3) a, (\{teal} shirt:1.2), \{#bad} b"),
            ("#ffd70 eyes, {hotpinc} hair, rgb(12", r"\#ffd70 eyes, \{hotpinc} hair, \rgb(12"),
            ("{{masterpiece}}, {a|b}, ##fff, #1", "{{masterpiece}}, {a|b}, ##fff, #1"),
            (r"\#f00 hat", r"\#f00 hat"),
        ] {
            let plain = without_colors(prompt);
            assert_eq!(plain, text);
            assert_eq!(read(&plain)?, (plain.clone(), vec![]));
            assert_eq!(without_colors(&plain), plain);
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
    fn ambiguous_phrase_is_an_error_with_the_readings() {
        let message = |prompt| read(prompt).expect_err(prompt).to_string();
        let both = message("#ffd700 eyes and hair, shirt");
        assert!(both.contains("after the name of the colored thing: \"eyes\", or \"eyes and hair\""), "{both}");
        assert!(message("eyes, #ffd700, hair").contains("right after the color, such as #ffd700 eyes"));
        assert!(message("#ffd700 of eyes").contains("not \"of eyes\""));
        assert!(message("rgb(12) eyes").contains("rgb(12)"));
        assert!(message("rgb(0 0 0 / 50%) eyes").contains("opaque"));
        assert!(message("hsl(1, 2").contains("a color of CSS"));
    }

    #[test]
    fn mistyped_color_is_an_error_with_the_nearest() {
        for (prompt, nearest) in [
            ("1girl, #ffd70 eyes", "#ffd700"),
            ("1girl, #ffd700ff eyes", "#ffd700"),
            ("1girl, #ffd7oo eyes", "#ffd700"),
            ("1girl, #fd08 eyes", "#fd0;"),
            ("1girl, {hotpinc} hair", "{hotpink}"),
            ("1girl, {Hot  Pinkk} hair", "{hotpink}"),
            ("1girl, {#ffd70} eyes", "#ffd700"),
            ("1girl, {rde} hair", "{red}"),
        ] {
            let message = read(prompt).expect_err(prompt).to_string();
            assert!(message.contains(nearest) && message.contains("a backslash before the "), "{prompt}: {message}");
        }
        assert_eq!(read("{hot pink} hair").unwrap().1, [(Rgb(255, 105, 180), "hair".to_owned())]);
    }

    #[test]
    fn sentence_with_several_colors_is_understood() -> Result<()> {
        let gold = (Rgb(255, 215, 0), "eyes".to_owned());
        let teal = (Rgb(0, 128, 128), "shirt".to_owned());
        for prompt in [
            "a girl with #ffd700 eyes and {teal} shirt",
            "a girl with #ffd700 eyes and a {teal} shirt",
            "a girl with #ffd700 eyes wearing a rgb(0, 128, 128) shirt",
            "a girl with #ffd700 eyes in her #008080 shirt",
        ] {
            assert_eq!(read(prompt)?.1, [gold.clone(), teal.clone()], "{prompt}");
        }
        assert!(read("#ffd700 and {teal} shirt").is_err());
        assert!(read("#ffd700 eyes and hair and {teal} shirt").is_err());
        assert!(read("#ffd700 a b c d e f g h i").unwrap_err().to_string().contains("8 words at most"));
        Ok(())
    }

    #[test]
    fn colors_looks_at_each_letter_a_few_times() {
        let pieces = [
            "#f00 a,",
            "#f00 a b,",
            "{teal} x,",
            "{",
            ", ",
            "(",
            "rgb(1,2,3) a, ",
            "rgb (",
            "a(",
            "{a} ",
            "#",
            "a ",
            "{hotpin}",
            "#f00 a a a a a a a a,",
            "- ",
            "rgb",
            "{ ",
            "é",
        ];
        assert_linear("colors", &pieces, |text| drop(colors(text, |_| String::new())));
        assert_linear("colors", &pieces, |text| drop(colors(text, |_| "red".into())));
        assert_linear("hex_words", &pieces, |text| drop(hex_words(text)));
        assert_linear("without_colors", &pieces, |text| drop(without_colors(text)));
    }

    #[test]
    fn places_are_counted_in_the_text_of_a_step() -> Result<()> {
        let nth = |prompt: &str| -> Result<Vec<Option<usize>>> {
            let (_, mut found) = colors(prompt, |_| "gold".into())?;
            number_in_texts(prompt, PromptSyntax::WebUi, 10, &mut found)?;
            Ok(found.into_iter().map(|color| color.nth).collect())
        };
        assert_eq!(nth("[black eyes:#ffd700 eyes:0.4], hair")?, [None]);
        assert_eq!(nth("eyes, [a|b] #ffd700 eyes, eyes")?, [Some(1)]);
        assert_eq!(nth("[eyes, :3] #ffd700 eyes, eyes")?, [Some(0)]);
        assert_eq!(nth("eyes, #ffd700 eyes, hair")?, [Some(1)], "a prompt that stays");
        assert_eq!(nth("eyes, eyes AND #ffd700 eyes, eyes")?, [None], "the first prompt has the phrase too");
        assert_eq!(nth("hair AND eyes, #ffd700 eyes")?, [Some(1)]);
        assert_eq!(nth("[a|#ff0000 hat] [b|eyes, #ffd700 eyes]")?, [None, None]);
        Ok(())
    }

    #[test]
    fn colors_are_those_of_the_finished_picture() -> Result<()> {
        let left = |prompt: &str| -> Result<Vec<Rgb>> {
            let (_, mut found) = colors(prompt, |_| "gold".into())?;
            number_in_texts(prompt, PromptSyntax::WebUi, 10, &mut found)?;
            Ok(found.into_iter().map(|color| color.color).collect())
        };
        let (gold, blue) = (Rgb(255, 215, 0), Rgb(30, 90, 255));
        assert_eq!(left("[#ffd700 eyes:#1e5aff eyes:0.3], #ffd700 hair")?, [blue, gold]);
        assert_eq!(left("[#ffd700 eyes:blue eyes:0.3], #1e5aff hair")?, [blue]);
        assert_eq!(left("[#ffd700 eyes::0.3] 1girl")?, [gold], "no later text has the phrase");
        assert_eq!(left("#ffd700 eyes, [day:night:0.5]")?, [gold]);
        Ok(())
    }
}
