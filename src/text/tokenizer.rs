//! The tokenizer: splits text into tokens.

use super::definition::{self, check_merges, failed, parse, unreadable};
use crate::error::{Error, Result};
use crate::prompt::check_length;
use crate::weights::vocabulary;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// Number of tokens that CLIP's text encoders read, including the start and end token.
pub(crate) const LENGTH: usize = 77;

/// Pattern by which CLIP cuts a text into words, numbers (digit by digit) and runs of signs.
const SPLIT: &str = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// A text as tokens, including the start and end token, neither padded nor cut.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tokens {
    /// Ids of the tokens: rows of the text encoder's embedding table.
    pub ids: Vec<i64>,
    /// The range of `char`s (Unicode scalar values) of the text that each token covers; `0..0` for the added start and
    /// end token.
    pub offsets: Vec<Range<usize>>,
    /// Spelling of each token in the vocabulary; `</w>` ends a word.
    pub tokens: Vec<String>,
}

/// Largest number of learned words of a tokenizer. The limit exists because every word is compared at every letter of a
/// prompt.
const MOST_WORDS: usize = 1024;

/// Tokens that stay together, with their byte ranges in the text.
type Group = Vec<(i64, Range<usize>)>;

/// Splits text into the tokens that a text encoder was trained on. Cloning is cheap.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    /// Learned words (textual inversion), each with the range of its token ids.
    words: Vec<(String, Range<i64>)>,
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) pad: i64,
}

impl Tokenizer {
    /// Creates a tokenizer from the content of a `tokenizer.json`.
    ///
    /// The padding token is the token of the file's `padding` section. If the file has no such section, `!` pads if `!`
    /// is a special token (SD 2.x, the second tokenizer of SDXL), otherwise the end token pads.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the file is not a tokenizer, or if the tokenizer does not add one token before a text
    /// and one token after it.
    pub fn from_json(tokenizer_json: &[u8]) -> Result<Self> {
        Self::new(parse("tokenizer.json", tokenizer_json)?)
    }

    /// Creates a tokenizer from the contents of `vocab.json` and `merges.txt` and, if a checkpoint has them, of
    /// `special_tokens_map.json` and `tokenizer_config.json`. `special_tokens_map.json` takes precedence for a token
    /// that both files name. Tokens that `tokenizer_config.json` adds to the vocabulary become learned words.
    ///
    /// A special token that neither file names is the same as in SD 1.x, which pads with its end token.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] with the name of the unreadable file, or of the token that is not in the vocabulary.
    pub fn from_vocab(
        vocab_json: &[u8],
        merges_txt: &[u8],
        special_tokens_map: Option<&[u8]>,
        tokenizer_config: Option<&[u8]>,
    ) -> Result<Self> {
        let vocab: HashMap<String, u32> = parse("vocab.json", vocab_json)?;
        let merges = std::str::from_utf8(merges_txt).map_err(|error| unreadable("merges.txt", &error))?;
        let merges: Vec<&str> =
            merges.lines().filter(|line| !line.is_empty() && !line.starts_with("#version")).collect();

        let named = [("special_tokens_map.json", special_tokens_map), ("tokenizer_config.json", tokenizer_config)]
            .into_iter()
            .filter_map(|(file, content)| content.map(|content| parse::<Value>(file, content)))
            .collect::<Result<Vec<Value>>>()?;
        let special = |role: &str, usual: Value| {
            let given = named.iter().filter_map(|file| file.get(role)).find(|token| !token.is_null());
            Special::new(role, given.unwrap_or(&usual), &vocab)
        };
        let start = special("bos_token", json!({ "content": "<|startoftext|>", "normalized": true }))?;
        let end = special("eos_token", json!({ "content": "<|endoftext|>", "normalized": true }))?;
        let unknown = special("unk_token", end.fields.clone())?;
        let pad = special("pad_token", json!(end.content))?;
        // A token with several roles gets the properties of its last role. In SD 1.x, the last role of the end token is
        // padding, given as a bare string.
        let by_id: BTreeMap<u32, &Special> = [&start, &end, &unknown, &pad].map(|token| (token.id, token)).into();
        let added: Vec<Value> = by_id.values().map(|token| token.added()).collect();

        let described = || named.iter().filter_map(|file| file.get("added_tokens_decoder")?.as_object()).flatten();
        let words = described().filter_map(|(_, token)| token.get("content")?.as_str());
        check_merges(&vocab, &merges, by_id.values().map(|token| token.content.as_str()).chain(words).collect())?;

        let tokenizer = Self::new(json!({
            "version": "1.0",
            "truncation": null,
            "padding": {
                "strategy": { "Fixed": LENGTH }, "direction": "Right", "pad_to_multiple_of": null,
                "pad_id": pad.id, "pad_type_id": 0, "pad_token": pad.content,
            },
            "added_tokens": added,
            "normalizer": { "type": "Sequence", "normalizers": [
                { "type": "NFC" },
                { "type": "Replace", "pattern": { "Regex": r"\s+" }, "content": " " },
                { "type": "Lowercase" },
            ] },
            "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
                { "type": "Split", "pattern": { "Regex": SPLIT }, "behavior": "Removed", "invert": true },
                { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
            ] },
            "post_processor": {
                "type": "RobertaProcessing", "sep": [end.content, end.id], "cls": [start.content, start.id],
                "trim_offsets": false, "add_prefix_space": false,
            },
            "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
            "model": {
                "type": "BPE", "unk_token": unknown.content, "continuing_subword_prefix": "",
                "end_of_word_suffix": "</w>", "vocab": vocab, "merges": merges,
            },
        }))?;
        described()
            .filter_map(|(id, token)| Some((token.get("content")?.as_str()?, id.parse().ok()?)))
            .try_fold(tokenizer, |tokenizer, (word, id)| tokenizer.and_word(word, id))
    }

    /// Creates a tokenizer with CLIP's published vocabulary of 49,408 tokens, as SD 1.x uses it.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] or [`Error::Io`] if the vocabulary inside this crate is broken, which is a bug.
    pub fn clip() -> Result<Self> {
        Self::from_vocab(&vocabulary::vocab()?, &vocabulary::merges()?, None, None)
    }

    /// Creates a tokenizer from a parsed `tokenizer.json`.
    fn new(definition: Value) -> Result<Self> {
        let (inner, padding) = definition::build(definition)?;
        let ends = inner.encode("", true).map_err(failed)?;
        let &[start, end] = ends.get_ids() else {
            let message = "an empty text does not become one start token and one end token; use the tokenizer of a \
                           CLIP text encoder";
            return Err(Error::Tokenizer(message.into()));
        };
        let exclamation = || {
            let added = inner.get_added_tokens_decoder();
            added.into_iter().find(|(_, token)| token.special && token.content == "!").map(|(id, _)| id)
        };
        let pad = padding.or_else(exclamation).unwrap_or(end);
        Ok(Self { start: start.into(), end: end.into(), pad: pad.into(), inner: Arc::new(inner), words: Vec::new() })
    }

    /// Returns this tokenizer with a learned word (textual inversion), which becomes the tokens `ids` wherever the word
    /// stands by itself. The ids are rows that were added to the text encoder's embedding table. Letter case is
    /// ignored. If several learned words match, the longest word is used.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the word is empty or already known, or if there are already 1024 learned words.
    pub fn with_word(&self, word: &str, ids: Range<i64>) -> Result<Self> {
        if self.words.len() >= MOST_WORDS {
            let problem = format!(
                "no room for the learned word \"{word}\"; expected at most {MOST_WORDS} learned words; add fewer"
            );
            return Err(Error::Tokenizer(problem));
        }
        let lower = word.trim().to_lowercase();
        let known = self.words.iter().any(|(other, _)| *other == lower)
            || [format!("{lower}</w>"), lower.clone()].iter().any(|token| self.inner.token_to_id(token).is_some());
        if lower.is_empty() || known {
            let problem = if known { "is a word of this tokenizer already" } else { "is not a word" };
            return Err(Error::Tokenizer(format!("\"{word}\" {problem}; give the learned word another name")));
        }
        let mut tokenizer = self.clone();
        tokenizer.words.push((lower, ids));
        Ok(tokenizer)
    }

    /// Returns this tokenizer with the learned words of an `added_tokens.json`, such as `{"<cat-toy>": 49408}`. Learned
    /// words are saved in such a file.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the file does not have this form.
    pub(crate) fn with_added(&self, added_tokens: &[u8]) -> Result<Self> {
        let added: BTreeMap<String, i64> = parse("added_tokens.json", added_tokens)?;
        added.iter().try_fold(self.clone(), |tokenizer, (word, id)| tokenizer.and_word(word, *id))
    }

    /// Returns this tokenizer with a learned word of one token, or unchanged if the word is already known.
    fn and_word(self, word: &str, id: i64) -> Result<Self> {
        let lower = word.trim().to_lowercase();
        let known = self.inner.token_to_id(word).is_some() || self.words.iter().any(|(other, _)| *other == lower);
        if known {
            return Ok(self);
        }
        if !(0..=i64::from(u32::MAX)).contains(&id) {
            let problem = format!(
                "the learned word \"{word}\" has the id {id}, which is no row of a text encoder; fetch the tokenizer's \
                 files again"
            );
            return Err(Error::Tokenizer(problem));
        }
        self.with_word(word, id..id + 1)
    }

    /// Returns the id of the end token.
    pub(crate) const fn end(&self) -> i64 {
        self.end
    }

    /// Returns the id of the padding token.
    pub(crate) const fn pad(&self) -> i64 {
        self.pad
    }

    /// Cuts a text before and after learned words. Returns the byte range of every piece, with the token ids if the
    /// piece is a learned word.
    fn pieces(&self, text: &str) -> Vec<(Range<usize>, Option<&Range<i64>>)> {
        let (mut pieces, mut begun, mut at) = (Vec::new(), 0, 0);
        while let Some(next) = text.get(at..).and_then(|rest| rest.chars().next()) {
            let found = self.words.iter().filter_map(|(word, ids)| Some((standing(text, at, word)?, ids)));
            match found.max_by_key(|(end, _)| *end) {
                Some((end, ids)) => {
                    pieces.extend([(begun..at, None), (at..end, Some(ids))]);
                    (begun, at) = (end, end);
                }
                None => at += next.len_utf8(),
            }
        }
        pieces.push((begun..text.len(), None));
        pieces.retain(|(bytes, _)| !bytes.is_empty());
        pieces
    }

    /// Returns every token with its byte range and spelling, including the start and end token.
    fn spans(&self, text: &str) -> Result<Vec<(i64, Range<usize>, String)>> {
        let special = |id: i64| (id, 0..0, self.inner.id_to_token(id as u32).unwrap_or_default());
        let mut spans = vec![special(self.start)];
        for (bytes, word) in self.pieces(text) {
            let piece = text.get(bytes.clone()).unwrap_or_default();
            match word {
                Some(ids) => spans.extend(ids.clone().map(|id| (id, bytes.clone(), piece.to_lowercase()))),
                None => {
                    let encoding = self.inner.encode(piece, false).map_err(failed)?; // offsets in bytes
                    let places = encoding.get_offsets().iter().map(|&(a, b)| bytes.start + a..bytes.start + b);
                    let ids = encoding.get_ids().iter().copied().map(i64::from);
                    let tokens = encoding.get_tokens().iter().cloned();
                    spans.extend(ids.zip(places).zip(tokens).map(|((id, place), token)| (id, place, token)));
                }
            }
        }
        spans.push(special(self.end));
        Ok(spans)
    }

    /// Returns all tokens of a text, including the start and end token.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the vocabulary has no token for a part of the text, and no token for unknown text;
    /// [`Error::Parameter`] if the text has more than [`prompt::LONGEST`](crate::prompt::LONGEST) bytes.
    pub fn encode(&self, text: &str) -> Result<Tokens> {
        check_length(text)?;
        if !self.words.is_empty() {
            let spans = self.spans(text)?;
            // Number of letters that begin before each byte.
            let begins = text.bytes().map(|byte| usize::from(byte & 0xc0 != 0x80));
            let letters: Vec<usize> =
                begins.scan(0, |count, begins| Some(std::mem::replace(count, *count + begins))).collect();
            let chars = |byte: usize| letters.get(byte).copied().unwrap_or_else(|| text.chars().count());
            return Ok(Tokens {
                ids: spans.iter().map(|(id, ..)| *id).collect(),
                offsets: spans.iter().map(|(_, bytes, _)| chars(bytes.start)..chars(bytes.end)).collect(),
                tokens: spans.into_iter().map(|(.., token)| token).collect(),
            });
        }
        let encoding = self.inner.encode_char_offsets(text, true).map_err(failed)?;
        Ok(Tokens {
            ids: encoding.get_ids().iter().copied().map(i64::from).collect(),
            offsets: encoding.get_offsets().iter().map(|&(start, end)| start..end).collect(),
            tokens: encoding.get_tokens().to_vec(),
        })
    }

    /// Returns the ids that a text encoder of `length` tokens reads, at least 2; CLIP's text encoders read 77. A longer
    /// text is cut and then closed by the end token; a shorter text is padded.
    ///
    /// # Errors
    /// The errors of [`encode`](Self::encode).
    pub fn padded_to(&self, text: &str, length: usize) -> Result<Vec<i64>> {
        let mut ids = self.encode(text)?.ids;
        if ids.len() > length {
            ids.truncate(length.saturating_sub(1));
            ids.push(self.end);
        }
        ids.resize(length, self.pad);
        Ok(ids)
    }

    /// Returns the tokens of a text with their byte ranges; the tokens of a learned word form one group.
    pub(super) fn groups(&self, text: &str) -> Result<Vec<Group>> {
        let mut groups = Vec::new();
        for (bytes, word) in self.pieces(text) {
            match word {
                Some(ids) => groups.push(ids.clone().map(|id| (id, bytes.clone())).collect()),
                None => {
                    let piece = text.get(bytes.clone()).unwrap_or_default();
                    let encoding = self.inner.encode(piece, false).map_err(failed)?; // offsets in bytes
                    let places = encoding.get_offsets().iter().map(|&(a, b)| bytes.start + a..bytes.start + b);
                    groups
                        .extend(encoding.get_ids().iter().zip(places).map(|(&id, place)| vec![(i64::from(id), place)]));
                }
            }
        }
        Ok(groups)
    }

    /// Returns the id of a token by its spelling in the vocabulary.
    pub(super) fn id(&self, token: &str) -> Option<i64> {
        self.inner.token_to_id(token).map(i64::from)
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({} tokens)", self.inner.get_vocab_size(true))
    }
}

/// Returns the byte position after `word` if `word` stands at byte `at` of `text` as a separate word, in any letter
/// case. `word` is given in lower case. A letter or digit at either end of `word` must not touch another letter or
/// digit.
fn standing(text: &str, at: usize, word: &str) -> Option<usize> {
    let mut wanted = word.chars();
    let mut end = at;
    for letter in text.get(at..)?.chars() {
        if wanted.as_str().is_empty() {
            break;
        }
        for lower in letter.to_lowercase() {
            if wanted.next() != Some(lower) {
                return None;
            }
        }
        end += letter.len_utf8();
    }
    let joins =
        |a: Option<char>, b: Option<char>| a.zip(b).is_some_and(|(a, b)| a.is_alphanumeric() && b.is_alphanumeric());
    let before = text.get(..at)?.chars().next_back();
    let after = text.get(end..)?.chars().next();
    let whole = wanted.as_str().is_empty();
    (whole && !joins(before, word.chars().next()) && !joins(word.chars().next_back(), after)).then_some(end)
}

/// A token with a role, as described in `special_tokens_map.json`.
struct Special {
    content: String,
    id: u32,
    /// Description of the token: an object with further fields, or a bare string.
    fields: Value,
}

impl Special {
    fn new(role: &str, token: &Value, vocab: &HashMap<String, u32>) -> Result<Self> {
        let Some(content) = token.as_str().or_else(|| token.get("content")?.as_str()) else {
            let message =
                format!("{role} is {token}; expected a string, or an object with the token's text in \"content\"");
            return Err(Error::Tokenizer(message));
        };
        let Some(&id) = vocab.get(content) else {
            let message = format!("{role} \"{content}\" is not in vocab.json; take the files from one checkpoint");
            return Err(Error::Tokenizer(message));
        };
        Ok(Self { content: content.into(), id, fields: token.clone() })
    }

    /// Returns the token as an entry of `added_tokens`. A token given as a bare string is matched before the text is
    /// normalized, and so only in the token's own letter case.
    fn added(&self) -> Value {
        let flag = |name: &str| self.fields.get(name).and_then(Value::as_bool).unwrap_or(false);
        json!({
            "id": self.id, "content": self.content, "special": true, "single_word": flag("single_word"),
            "lstrip": flag("lstrip"), "rstrip": flag("rstrip"), "normalized": flag("normalized"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Long;
    use super::*;
    use crate::prompt::{LONGEST, TokenSpan};

    const MERGES: &str = "#version: 0.2\ne y\ney e\neye s</w>\nc a\nca t</w>\n";

    /// Returns a vocabulary of letters and signs, the results of the merges above, and the two bytes of é.
    fn vocab() -> String {
        let letters = ('!'..='~').map(String::from).chain(('!'..='~').map(|letter| format!("{letter}</w>")));
        let words = ["ey", "eye", "eyes</w>", "ca", "cat</w>", "<|startoftext|>", "<|endoftext|>", "Ã", "©</w>"];
        let ids: HashMap<String, usize> =
            letters.chain(words.map(String::from)).enumerate().map(|(id, token)| (token, id)).collect();
        serde_json::to_string(&ids).unwrap()
    }

    fn tokenizer(special_tokens: Option<&str>) -> Result<Tokenizer> {
        Tokenizer::from_vocab(vocab().as_bytes(), MERGES.as_bytes(), special_tokens.map(str::as_bytes), None)
    }

    #[test]
    fn offsets_of_tokens_count_chars() -> Result<()> {
        let tokens = tokenizer(None)?.encode("Eyes  é cat")?;
        assert_eq!(tokens.tokens.first().map(String::as_str), Some("<|startoftext|>"));
        assert_eq!(tokens.offsets[1], 0..4);
        assert_eq!(*tokens.offsets.iter().rev().nth(1).unwrap(), 8..11, "counted in chars");
        Ok(())
    }

    #[test]
    fn padding_keeps_the_end_token_last_in_a_long_text() -> Result<()> {
        let tokenizer = tokenizer(Some(r#"{ "pad_token": "!" }"#))?;
        let (end, short, long) =
            (194, tokenizer.padded_to("cat", LENGTH)?, tokenizer.padded_to(&"cat ".repeat(90), LENGTH)?);
        assert_eq!((short.len(), long.len()), (77, 77));
        assert_eq!(short[2..4], [end, 0]);
        assert_eq!((long[75], long[76]), (192, end));
        assert_eq!(tokenizer.encode("!!")?.ids[1..3], [0, 0], "a padding token in the text is a token by itself");
        Ok(())
    }

    #[test]
    fn saved_learned_words_become_tokens() -> Result<()> {
        let config =
            r#"{ "added_tokens_decoder": { "192": { "content": "cat</w>" }, "500": { "content": "<Cat-toy>" } } }"#;
        let vocab = tokenizer(Some(config))?;
        let added = tokenizer(None)?.with_added(br#"{ "<Cat-toy>": 500, "<|endoftext|>": 194 }"#)?;
        for tokenizer in [vocab, added] {
            assert_eq!(tokenizer.encode("cat <cat-toy> cat")?.ids, [193, 192, 500, 192, 194]);
            assert_eq!(tokenizer.end(), 194);
        }
        assert!(tokenizer(None)?.with_added(b"[]").is_err());
        for id in [-1, i64::MAX] {
            let added = format!(r#"{{ "<Cat-toy>": {id} }}"#);
            let message = tokenizer(None)?.with_added(added.as_bytes()).unwrap_err().to_string();
            assert!(message.contains("\"<Cat-toy>\" has the id") && message.contains("which is no row"), "{message}");
        }
        Ok(())
    }

    #[test]
    fn prompt_finds_phrases_by_their_bytes() -> Result<()> {
        let tokenizer = tokenizer(None)?;
        assert_eq!(tokenizer.prompt("a cat's EYES")?.find("eyes")?, [TokenSpan { start: 5, end: 6 }]);
        let long = tokenizer.prompt(&format!("{}cat", "eyes ".repeat(75)))?;
        assert_eq!(long.cut(), Some("cat"));
        Ok(())
    }

    #[test]
    fn byte_and_char_offsets_cover_the_same_letters() -> Result<()> {
        let tokenizer = tokenizer(None)?;
        for text in
            ["naïve  Eyes — “cat”", "赤い目 cat", "👩‍🚀cat 🎨", "e\u{301}yes ﬁ İ ẞ", "<|startoftext|> é<|endoftext|>cat"]
        {
            let chars: Vec<usize> = text.char_indices().map(|(byte, _)| byte).chain([text.len()]).collect();
            let tokens = tokenizer.encode(text)?;
            let bytes = tokenizer.inner.encode(text, true).map_err(failed)?;
            let expected: Vec<(usize, usize)> =
                tokens.offsets.iter().map(|offsets| (chars[offsets.start], chars[offsets.end])).collect();
            assert_eq!(bytes.get_offsets(), expected, "{text}");
        }
        assert_eq!(tokenizer.encode("é")?.offsets[1..3], [0..1, 0..1], "both tokens of é cover the letter");
        Ok(())
    }

    #[test]
    fn special_tokens_in_a_text_match_as_configured() -> Result<()> {
        // The end token is also the padding token, given as a bare string, so only its own letter case matches.
        let ids = |text: &str| Ok::<_, Error>(tokenizer(None)?.encode(text)?.ids);
        assert_eq!(ids("<|startoftext|>cat<|endoftext|>")?, [193, 193, 192, 194, 194]);
        assert_eq!(ids("<|STARTOFTEXT|>")?, [193, 193, 194]);
        assert!(ids("<|ENDOFTEXT|>")?.len() > 3);
        Ok(())
    }

    #[test]
    fn tokenizer_json_gives_the_same_tokenizer() -> Result<()> {
        for pad in ["!", "<|endoftext|>"] {
            let tokenizer = tokenizer(Some(&json!({ "pad_token": pad }).to_string()))?;
            let same = Tokenizer::from_json(tokenizer.inner.to_string(false).map_err(failed)?.as_bytes())?;
            for text in ["a cat!! eyes", "<|startoftext|>", ""] {
                assert_eq!(same.encode(text)?, tokenizer.encode(text)?);
                assert_eq!(same.padded_to(text, LENGTH)?, tokenizer.padded_to(text, LENGTH)?);
            }
        }
        Ok(())
    }

    #[test]
    fn learned_word_becomes_its_tokens_in_place() -> Result<()> {
        let tokenizer = tokenizer(None)?.with_word("BadEyes", 300..302)?.with_word("<x>", 302..303)?;
        let (start, cat, end) = (193, 192, 194);
        assert_eq!(tokenizer.encode("cat badeyes <X>cat")?.ids, [start, cat, 300, 301, 302, cat, end]);
        let within = tokenizer.encode("badeyesight")?.ids;
        assert!(!within.contains(&300), "inside a longer word, a learned word is plain letters: {within:?}");
        let prompt = tokenizer.prompt("é BADEYES cat")?;
        assert_eq!(prompt.find("badeyes")?, [TokenSpan { start: 3, end: 5 }]);
        assert_eq!(tokenizer.encode("é BADEYES")?.offsets[3..5], [2..9, 2..9]);
        assert_eq!(tokenizer.encode("cat's eyes")?, super::tests::tokenizer(None)?.encode("cat's eyes")?);
        let taken = |word: &str| tokenizer.with_word(word, 0..1).map(drop).unwrap_err().to_string();
        assert!(taken("cat").contains("\"cat\" is a word") && taken("badeyes").contains("already"));
        assert!(taken(" ").contains("is not a word"));
        Ok(())
    }

    #[test]
    fn cut_off_merges_are_an_error() {
        let message = |merges: &str| {
            Tokenizer::from_vocab(vocab().as_bytes(), merges.as_bytes(), None, None).expect_err("cut off").to_string()
        };
        let empty = message("");
        assert!(
            empty.contains("merges.txt has 0 merges, none of which makes 5 tokens of vocab.json, such as \"ca\""),
            "{empty}"
        );
        let lines: Vec<&str> = MERGES.lines().collect();
        for kept in 0..lines.len() {
            assert!(
                message(&lines[..kept].join("\n")).contains("merges.txt is empty or cut off; fetch it again"),
                "{kept}"
            );
        }
    }

    #[test]
    fn prompt_over_the_limit_is_an_error() -> Result<()> {
        let tokenizer = tokenizer(None)?;
        let longest = "a ".repeat(LONGEST / 2);
        assert_eq!(tokenizer.encode(&longest)?.ids.len(), LONGEST / 2 + 2);
        let message = |error: Error| error.to_string();
        let long = message(tokenizer.encode(&(longest.clone() + "a")).unwrap_err());
        assert!(long.contains("a text of 65537 bytes; expected at most 65536 bytes"), "{long}");
        let chunks = message(tokenizer.chunks(&longest, true, Long::Chunks).unwrap_err());
        assert!(chunks.contains("chunks of 75 tokens; expected at most 64 chunks"), "{chunks}");
        assert_eq!(tokenizer.chunks(&longest, true, Long::Truncate)?.ids.len(), 1);
        assert_eq!(tokenizer.chunks(&"a ".repeat(64 * 75), true, Long::Chunks)?.ids.len(), 64);
        Ok(())
    }

    #[test]
    fn learned_words_are_counted_and_limited() -> Result<()> {
        let mut words = tokenizer(None)?;
        for nth in 0..MOST_WORDS as i64 {
            words = words.with_word(&format!("<{nth}>"), 1000 + nth..1001 + nth)?;
        }
        assert!(
            words
                .with_word("<one more>", 0..1)
                .unwrap_err()
                .to_string()
                .contains("expected at most 1024 learned words")
        );
        assert_eq!(words.encode("é<7> é <8>")?.offsets, [0..0, 0..1, 0..1, 1..4, 5..6, 5..6, 7..10, 0..0]);
        Ok(())
    }

    #[test]
    fn broken_files_are_named_in_the_error() {
        let message = |result: Result<Tokenizer>| result.expect_err("broken").to_string();
        assert!(message(Tokenizer::from_json(b"{}")).contains("the tokenizer has no vocabulary"));
        assert!(message(Tokenizer::from_vocab(b"[", b"", None, None)).contains("vocab.json cannot be read"));
        assert!(message(tokenizer(Some(r#"{ "eos_token": "</s>" }"#))).contains("\"</s>\" is not in vocab.json"));
        assert!(message(tokenizer(Some(r#"{ "eos_token": 3 }"#))).contains("eos_token is 3"));
    }
}
