//! Checks of a tokenizer's files before a tokenizer is built of them. What the files say is followed unchecked by the
//! library that splits texts: without these checks, a broken file would panic there, or would make a text grow until
//! memory is full.

use super::charsmap;
use crate::error::{Error, Result};
use crate::json;
use crate::wording::shortened;
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// Limit in bytes of the memory that the values of a file take. Qwen's `tokenizer.json` takes 92 MB by this count.
const MEMORY: usize = 1 << 27;
/// Largest number of bytes of a token. Qwen's longest ones are 128 spaces of two bytes each.
const LONGEST_TOKEN: usize = 512;
/// Largest number of steps that change and cut a text. CLIP has five.
const MOST_STEPS: usize = 8;
/// Largest number of times by which the steps of a tokenizer may make a text longer. T5's may do so by 720.
const MOST_GROWTH: usize = 1024;
/// Largest number of bytes of the added tokens after the steps that change a text.
const ADDED: usize = 1 << 24;
/// Largest number of bytes of a pattern by which a text is cut. Qwen's has 114.
const LONGEST_PATTERN: usize = 256;
/// Patterns of what a step may replace, beside a fixed text, and the largest number of bytes of what takes its place.
/// Patterns that match between two letters end in a panic in a later step.
const REPLACED: ([&str; 4], usize) = ([r"\s+", r"\s", " {2,}", " +"], 4);

/// Builds a tokenizer of a parsed `tokenizer.json`, which neither pads nor cuts a text. Also returns the id of the
/// token that pads, if the file says it.
///
/// # Errors
/// [`Error::Tokenizer`] if the file is not a tokenizer, or is one that cannot be used safely.
pub(super) fn build(mut definition: Value) -> Result<(tokenizers::Tokenizer, Option<u32>)> {
    charsmap::check(&definition)?;
    let part = |name: &str| definition.get(name).unwrap_or(&Value::Null);
    let mut splits = steps(part("normalizer"), "normalizers");
    splits.extend(steps(part("pre_tokenizer"), "pretokenizers"));
    let growth = growth(&splits)?;
    check_ends(&steps(part("post_processor"), "processors"))?;
    check_model(part("model"))?;
    if let Some(Value::Array(added)) = definition.get_mut("added_tokens") {
        check_added(added, growth)?;
    }
    let mut built: tokenizers::Tokenizer =
        serde_json::from_value(definition).map_err(|error| unreadable("the tokenizer", &error))?;
    let pad = built.get_padding().map(|padding| padding.pad_id);
    built.with_padding(None).with_truncation(None).map_err(failed)?;
    Ok((built, pad))
}

/// Returns the steps of a part of a tokenizer, which is one step, or a sequence of steps in the field `list`, at any
/// depth.
fn steps<'a>(part: &'a Value, list: &str) -> Vec<&'a Value> {
    match (kind(part), part.get(list)) {
        (Some("Sequence"), Some(Value::Array(parts))) => parts.iter().flat_map(|part| steps(part, list)).collect(),
        _ if part.is_null() => Vec::new(),
        _ => vec![part],
    }
}

fn kind(step: &Value) -> Option<&str> {
    step.get("type").and_then(Value::as_str)
}

/// Returns the largest number of times by which the steps that change and cut a text make it longer.
fn growth(steps: &[&Value]) -> Result<usize> {
    if steps.len() > MOST_STEPS {
        let has = steps.len();
        return Err(unfit(&format!("changes a text in {has} steps; expected at most {MOST_STEPS} steps")));
    }
    let mut growth = 1usize;
    for step in steps {
        let by = match kind(step) {
            Some("Precompiled") if step.get("precompiled_charsmap").is_some_and(Value::is_string) => charsmap::LONGEST,
            Some("Replace") => replacement(step)?,
            Some("Split") => check_pattern(step).map(|()| 1)?,
            Some("NFKC") => 11,
            Some("NFC") => 3,
            Some("Lowercase") => 2,
            // A byte becomes a letter of up to two bytes, and a space may be added.
            Some("ByteLevel") => 4,
            // A space becomes one letter, and a letter may be added.
            Some("Metaspace") => 5,
            Some("Strip" | "WhitespaceSplit") => 1,
            _ => return Err(unfit(&format!("has a step that is not known, {}", shortened(&step.to_string())))),
        };
        growth = growth.saturating_mul(by);
    }
    if growth > MOST_GROWTH {
        let problem = format!("could make a text {growth} times as long; expected at most {MOST_GROWTH} times");
        return Err(unfit(&problem));
    }
    Ok(growth)
}

/// Returns the number of bytes that take the place of a byte in a step that replaces.
fn replacement(step: &Value) -> Result<usize> {
    let text = |value: Option<&'_ Value>| value.and_then(Value::as_str).map(ToOwned::to_owned);
    let pattern = step.get("pattern");
    let regex = text(pattern.and_then(|pattern| pattern.get("Regex")));
    let fixed = text(pattern.and_then(|pattern| pattern.get("String")));
    let content = text(step.get("content")).unwrap_or_default();
    let is_known = match (&regex, &fixed) {
        (Some(regex), None) => REPLACED.0.contains(&regex.as_str()),
        (None, Some(fixed)) => !fixed.is_empty(),
        _ => false,
    };
    if is_known && content.len() <= REPLACED.1 {
        return Ok(content.len().max(1));
    }
    Err(unfit(&format!("replaces {:?} by {:?}", regex.or(fixed).unwrap_or_default(), shortened(&content))))
}

/// Checks the pattern by which a text is cut.
fn check_pattern(step: &Value) -> Result<()> {
    let pattern = step.get("pattern").and_then(|pattern| pattern.get("Regex").or_else(|| pattern.get("String")));
    match pattern.and_then(Value::as_str).map_or(0, str::len) {
        0 => Err(unfit("cuts a text without a pattern")),
        1..=LONGEST_PATTERN => Ok(()),
        has => {
            let most = LONGEST_PATTERN;
            Err(unfit(&format!("cuts a text by a pattern of {has} bytes; expected at most {most} bytes")))
        }
    }
}

/// Checks the steps that add tokens before and after a text.
fn check_ends(steps: &[&Value]) -> Result<()> {
    let mut adding = 0;
    for step in steps {
        adding += match kind(step) {
            Some("TemplateProcessing") => check_template(step).map(|()| 1)?,
            Some("RobertaProcessing" | "BertProcessing") => 1,
            Some("ByteLevel") => 0,
            _ => return Err(unfit(&format!("has a step that is not known, {}", shortened(&step.to_string())))),
        };
    }
    if adding > 1 { Err(unfit(&format!("adds tokens to a text in {adding} steps; expected one step"))) } else { Ok(()) }
}

/// Checks that a template adds tokens with known ids, and has the text once.
fn check_template(step: &Value) -> Result<()> {
    let pieces = step.get("single").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut texts = 0;
    for piece in pieces {
        let id = |kind: &str| piece.get(kind)?.get("id")?.as_str();
        if let Some(name) = id("SpecialToken") {
            let token = step.get("special_tokens").and_then(|tokens| tokens.get(name));
            let length = |field: &str| Some(token?.get(field)?.as_array()?.len());
            if length("ids").is_none() || length("ids") != length("tokens") {
                return Err(unfit(&format!("adds the token {name:?} to a text, and does not say its id")));
            }
        } else if id("Sequence") == Some("A") {
            texts += 1;
        } else {
            return Err(unfit("adds a second text to a text"));
        }
    }
    if texts == 1 { Ok(()) } else { Err(unfit(&format!("repeats a text {texts} times; expected once"))) }
}

/// Checks the vocabulary and the merges.
fn check_model(model: &Value) -> Result<()> {
    let text = |name: &str| model.get(name).and_then(Value::as_str).unwrap_or_default();
    let vocab = model.get("vocab");
    // Files of older libraries do not say the type.
    let lengths: Vec<usize> = match (text("type"), vocab) {
        ("BPE" | "", Some(Value::Object(tokens))) if model.get("merges").is_some() => {
            tokens.keys().map(String::len).collect()
        }
        ("Unigram" | "", Some(Value::Array(tokens))) => {
            tokens.iter().filter_map(|token| token.get(0)?.as_str()).map(str::len).collect()
        }
        (_, None) => return Err(unfit("has no vocabulary")),
        (other, _) => return Err(unfit(&format!("is of the type {other:?}; expected BPE or Unigram"))),
    };
    let longest = lengths.into_iter().max().unwrap_or(0);
    if longest > LONGEST_TOKEN {
        return Err(unfit(&format!("has a token of {longest} bytes; expected at most {LONGEST_TOKEN} bytes")));
    }
    if !text("continuing_subword_prefix").is_empty() {
        return Err(unfit("marks the letters within a word (continuing_subword_prefix)"));
    }
    if model.get("dropout").and_then(Value::as_f64).is_some_and(|dropout| dropout != 0.0) {
        return Err(unfit("splits a text at random (dropout)"));
    }
    let merges = model.get("merges").and_then(Value::as_array).into_iter().flatten();
    for merge in merges {
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        let made: Option<String> = match merge {
            Value::Array(pair) => pair.iter().map(text).collect(),
            other => text(other).map(|pair| pair.replace(' ', "")),
        };
        if let Some(made) = made.filter(|made| made.len() > longest) {
            return Err(unfit(&format!("has a merge to {made:?}, which is no token of its vocabulary")));
        }
    }
    Ok(())
}

/// Checks the added tokens, which may be made longer by `growth` times. The space before a token and behind another
/// token may belong to them. The space between both would be taken twice, which ends in a panic, so that then no token
/// takes the space behind it.
fn check_added(added: &mut [Value], growth: usize) -> Result<()> {
    let is = |token: &Value, flag: &str| token.get(flag).and_then(Value::as_bool) == Some(true);
    let length = |token: &Value| token.get("content").and_then(Value::as_str).map_or(0, str::len);
    let changed: usize = added.iter().filter(|token| is(token, "normalized")).map(length).sum();
    let longest = added.iter().map(length).max().unwrap_or(0);
    if longest > LONGEST_TOKEN || changed.saturating_mul(growth) > ADDED {
        return Err(unfit(&format!("adds a token of {longest} bytes, or tokens of {changed} bytes that it changes")));
    }
    if added.iter().any(|token| is(token, "lstrip")) {
        added.iter_mut().filter_map(|token| token.get_mut("rstrip")).for_each(|flag| *flag = Value::Bool(false));
    }
    Ok(())
}

/// Checks that merges produce every token of several letters, except the tokens in `added`. Without this check, words
/// would silently become other tokens if `merges.txt` is cut off.
pub(super) fn check_merges(vocab: &HashMap<String, u32>, merges: &[&str], added: HashSet<&str>) -> Result<()> {
    let made: HashSet<String> = merges.iter().map(|pair| pair.split(' ').collect()).collect();
    let is_letter = |token: &str| token.strip_suffix("</w>").unwrap_or(token).chars().nth(1).is_none();
    let lacks = |token: &&String| !is_letter(token) && !made.contains(*token) && !added.contains(token.as_str());
    let lacking: Vec<&String> = vocab.keys().filter(lacks).collect();
    let Some(first) = lacking.iter().min() else { return Ok(()) };
    Err(Error::Tokenizer(format!(
        "merges.txt has {} merges, none of which makes {} tokens of vocab.json, such as \"{first}\"; merges.txt is \
         empty or cut off; fetch it again from its checkpoint",
        merges.len(),
        lacking.len()
    )))
}

/// Parses a file of a tokenizer.
pub(super) fn parse<T: serde::de::DeserializeOwned>(file: &str, content: &[u8]) -> Result<T> {
    json::parse_within(content, MEMORY).map_err(|error| unreadable(file, &error))
}

pub(super) fn unreadable(file: &str, error: &dyn std::error::Error) -> Error {
    Error::Tokenizer(format!("{file} cannot be read: {error}; fetch it again from its checkpoint"))
}

pub(super) fn failed(error: tokenizers::Error) -> Error {
    Error::Tokenizer(format!("{error}; check that the vocabulary and the merges come from one checkpoint"))
}

fn unfit(problem: &str) -> Error {
    Error::Tokenizer(format!("the tokenizer {problem}; take the tokenizer from the checkpoint of its text encoder"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Returns a tokenizer that has `value` in the place of its part `part`.
    fn with(part: &str, value: Value) -> Result<Vec<u32>> {
        let mut definition = json!({
            "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null, "post_processor": null,
            "model": { "type": "BPE", "vocab": { "a": 0, "b": 1, "ab": 2 }, "merges": ["a b"] },
        });
        definition[part] = value;
        let (tokenizer, _) = build(definition)?;
        let encoding = tokenizer.encode("ab", true).map_err(failed)?;
        Ok(encoding.get_ids().to_vec())
    }

    fn message(part: &str, value: Value) -> String {
        with(part, value).unwrap_err().to_string()
    }

    #[test]
    fn steps_that_multiply_a_text_are_errors() -> Result<()> {
        let replace = json!({ "type": "Replace", "pattern": { "String": "a" }, "content": "aaaa" });
        let some = |count: usize| json!({ "type": "Sequence", "normalizers": vec![replace.clone(); count] });
        // 4³ letters `a` and a `b`, the last two of which are one token.
        assert_eq!(with("normalizer", some(3))?.len(), 4 * 4 * 4);
        let nested = json!({ "type": "Sequence", "normalizers": [some(3), some(3)] });
        assert!(message("normalizer", nested).contains("could make a text 4096 times as long"));
        assert!(message("normalizer", some(9)).contains("changes a text in 9 steps; expected at most 8 steps"));
        let level = json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true });
        let levels = json!({ "type": "Sequence", "pretokenizers": vec![level; 6] });
        assert!(message("pre_tokenizer", levels).contains("could make a text 4096 times as long"));
        let added = json!([{ "id": 3, "content": "c".repeat(500), "normalized": true, "special": false,
                             "single_word": false, "lstrip": false, "rstrip": false }]);
        assert_eq!(with("added_tokens", added.clone())?, [2]);
        let error = check_added(&mut vec![added[0].clone(); 100], 1000).unwrap_err().to_string();
        assert!(error.contains("tokens of 50000 bytes that it changes"), "{error}");
        let mut longer = added;
        longer[0]["content"] = json!("c".repeat(513));
        assert!(message("added_tokens", longer).contains("adds a token of 513 bytes"));
        Ok(())
    }

    #[test]
    fn steps_of_other_kinds_are_errors() {
        let cut = |pattern: &str| json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated" });
        let long = cut(&"a".repeat(300));
        assert!(message("pre_tokenizer", long).contains("by a pattern of 300 bytes; expected at most 256 bytes"));
        assert!(message("pre_tokenizer", cut("")).contains("cuts a text without a pattern"));
        let replace =
            |pattern: Value, content: &str| json!({ "type": "Replace", "pattern": pattern, "content": content });
        let between = replace(json!({ "Regex": "^" }), "a");
        assert!(message("normalizer", between).contains("replaces \"^\" by \"a\""));
        assert!(message("normalizer", replace(json!({ "String": "" }), "a")).contains("replaces \"\""));
        assert!(message("normalizer", replace(json!({ "String": "a" }), "aaaaa")).contains("by \"aaaaa\""));
        for (part, step) in [
            ("pre_tokenizer", json!({ "type": "FixedLength", "length": 0 })),
            // A list of steps beside the type of another step hides it from no check.
            ("pre_tokenizer", json!({ "type": "FixedLength", "length": 0, "pretokenizers": [] })),
            ("normalizer", json!({ "prepend": "a" })),
            ("normalizer", json!({ "type": "Precompiled" })),
            ("normalizer", json!({ "type": "Precompiled", "precompiled_charsmap": null })),
            ("post_processor", json!({ "single": [], "pair": [], "special_tokens": {} })),
        ] {
            let message = message(part, step.clone());
            assert!(message.contains("has a step that is not known"), "{step}: {message}");
        }
    }

    #[test]
    fn ends_that_are_not_there_are_errors() -> Result<()> {
        let text = json!({ "Sequence": { "id": "A", "type_id": 0 } });
        let end = json!({ "SpecialToken": { "id": "b", "type_id": 0 } });
        let known = json!({ "b": { "id": "b", "ids": [1], "tokens": ["b"] } });
        let template = |single: &[&Value], tokens: &Value| json!({ "type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": tokens });
        let fine = template(&[&text, &end], &known);
        assert_eq!(with("post_processor", fine.clone())?, [2, 1]);
        let unknown = message("post_processor", template(&[&text, &end], &json!({})));
        assert!(unknown.contains("adds the token \"b\" to a text, and does not say its id"), "{unknown}");
        let uneven = template(&[&text, &end], &json!({ "b": { "id": "b", "ids": [1, 1], "tokens": ["b"] } }));
        assert!(message("post_processor", uneven).contains("does not say its id"));
        let second = json!({ "Sequence": { "id": "B", "type_id": 0 } });
        assert!(message("post_processor", template(&[&second], &known)).contains("adds a second text"));
        let twice = message("post_processor", template(&[&text, &text], &known));
        assert!(twice.contains("repeats a text 2 times"), "{twice}");
        let two = json!({ "type": "Sequence", "processors": [fine.clone(), fine] });
        assert!(message("post_processor", two).contains("in 2 steps; expected one step"));
        Ok(())
    }

    #[test]
    fn merges_beyond_the_vocabulary_are_errors() -> Result<()> {
        let model = |merges: Value| json!({ "vocab": { "a": 0, "b": 1, "ab": 2 }, "merges": merges });
        assert_eq!(with("model", model(json!([["a", "b"]])))?, [2]);
        for merges in [json!(["a b", "ab ab"]), json!([["a", "b"], ["ab", "ab"]])] {
            assert!(message("model", model(merges)).contains("a merge to \"abab\", which is no token"));
        }
        let mut prefixed = model(json!([]));
        prefixed["continuing_subword_prefix"] = json!("##");
        assert!(message("model", prefixed).contains("continuing_subword_prefix"));
        let long = json!({ "vocab": { ("a".repeat(600)): 0 }, "merges": [] });
        assert!(message("model", long).contains("a token of 600 bytes; expected at most 512 bytes"));
        let unigram = json!({ "vocab": [["a".repeat(600), 0.0]], "unk_id": 0 });
        assert!(message("model", unigram).contains("a token of 600 bytes"));
        let mut random = model(json!([]));
        random["dropout"] = json!(0.5);
        assert!(message("model", random).contains("splits a text at random (dropout)"));
        let words = json!({ "type": "WordPiece", "vocab": { "a": 0 }, "unk_token": "a" });
        assert!(message("model", words).contains("is of the type \"WordPiece\""));
        Ok(())
    }

    #[test]
    fn space_between_added_tokens_is_taken_once() -> Result<()> {
        let token = |id: u32, content: &str| {
            json!({ "id": id, "content": content, "normalized": false, "special": true, "single_word": false,
                    "lstrip": true, "rstrip": true })
        };
        let definition = json!({
            "version": "1.0", "added_tokens": [token(3, "<x>"), token(4, "<y>")], "normalizer": null,
            "pre_tokenizer": null, "post_processor": null,
            "model": { "vocab": { "a": 0, "b": 1, "ab": 2 }, "merges": ["a b"] },
        });
        let (tokenizer, _) = build(definition)?;
        let ids = |text: &str| Ok::<_, Error>(tokenizer.encode(text, true).map_err(failed)?.get_ids().to_vec());
        assert_eq!(ids("a  <x>  <y>")?, [0, 3, 4]);
        Ok(())
    }

    #[test]
    fn a_file_as_large_as_that_of_qwen_is_read() -> Result<()> {
        let letter = |at: usize| char::from_u32(0x4E00 + at as u32).unwrap_or('a').to_string();
        let letters = (0..400).map(letter);
        let pairs: Vec<(String, String)> = (0..152_000).map(|at| (letter(at / 400), letter(at % 400))).collect();
        let tokens = letters.chain(pairs.iter().map(|(a, b)| format!("{a}{b}")));
        let vocab: HashMap<String, usize> = tokens.enumerate().map(|(id, token)| (token, id)).collect();
        let text = json!({
            "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null, "post_processor": null,
            "model": { "type": "BPE", "vocab": vocab, "merges": pairs },
        });
        let (tokenizer, _) = build(parse("tokenizer.json", text.to_string().as_bytes())?)?;
        assert_eq!(tokenizer.encode(letter(379) + &letter(399), true).map_err(failed)?.get_ids(), [152_399]);
        Ok(())
    }
}
