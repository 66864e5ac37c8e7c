//! The tokenizer of networks that read a text as one sequence: Qwen's byte-level BPE, and T5's unigram model.

use super::Tokens;
use super::definition::{self, check_merges, failed, parse, unreadable};
use crate::error::{Error, Result};
use crate::prompt::check_length;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Pattern by which Qwen cuts a text into words, digits and runs of signs. Words and signs include the space before
/// them.
const QWEN_SPLIT: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Tokens that pad a text if the files do not say: T5's and Qwen's.
const PADS: [&str; 2] = ["<pad>", "<|endoftext|>"];

/// Splits a text into one sequence of tokens, as Qwen3 and T5 read it, without chunks. Cloning is cheap.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let t5 = impasto::text::SequenceTokenizer::from_json(&std::fs::read("tokenizer.json")?)?;
/// assert_eq!(t5.encode("")?.ids, [1], "T5 ends each text with a token");
/// assert_eq!(t5.pad_to("a cat", 256)?.len(), 256);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SequenceTokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    /// Token that ends each text, if any.
    end: Option<i64>,
    pad: i64,
}

impl SequenceTokenizer {
    /// Creates a tokenizer from the content of a `tokenizer.json`.
    ///
    /// The padding token is the token of the file's `padding` section. If the file has no such section, `<pad>` pads,
    /// or else `<|endoftext|>`.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the file is not a tokenizer, or if the tokenizer adds other tokens to a text than one
    /// after it.
    pub fn from_json(tokenizer_json: &[u8]) -> Result<Self> {
        Self::new(parse("tokenizer.json", tokenizer_json)?, None)
    }

    /// Creates Qwen's tokenizer from the contents of `vocab.json`, `merges.txt` and `tokenizer_config.json`. The last
    /// file has the special tokens.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] with the name of the unreadable file, or of a token whose id does not fit the vocabulary.
    pub fn from_vocab(vocab_json: &[u8], merges_txt: &[u8], tokenizer_config: &[u8]) -> Result<Self> {
        let vocab: HashMap<String, u32> = parse("vocab.json", vocab_json)?;
        let merges = std::str::from_utf8(merges_txt).map_err(|error| unreadable("merges.txt", &error))?;
        let merges: Vec<&str> =
            merges.lines().filter(|line| !line.is_empty() && !line.starts_with("#version")).collect();
        let config: Config = parse("tokenizer_config.json", tokenizer_config)?;
        let added: Vec<(u32, &str)> =
            config.added_tokens_decoder.iter().map(|(id, token)| (*id, &*token.content)).collect();
        check_merges(&vocab, &merges, added.iter().map(|(_, content)| *content).collect())?;
        let tokenizer = Self::new(
            json!({
                "version": "1.0",
                "truncation": null,
                "padding": null,
                "added_tokens": config.added_tokens_decoder.iter().map(|(id, token)| token.with_id(*id)).collect::<Vec<_>>(),
                "normalizer": { "type": "NFC" },
                "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
                    { "type": "Split", "pattern": { "Regex": QWEN_SPLIT }, "behavior": "Isolated", "invert": false },
                    { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false },
                ] },
                "post_processor": null,
                "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false },
                "model": {
                    "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
                    "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "vocab": vocab,
                    "merges": merges,
                },
            }),
            config.pad_token.as_ref().and_then(|token| token.as_str().or_else(|| token.get("content")?.as_str())),
        )?;
        for (id, content) in added {
            if tokenizer.inner.token_to_id(content) != Some(id) {
                let message = format!(
                    "tokenizer_config.json has {content:?} with the id {id}, which does not follow the ids of \
                     vocab.json; take the files from one checkpoint"
                );
                return Err(Error::Tokenizer(message));
            }
        }
        Ok(tokenizer)
    }

    /// Creates a tokenizer from a parsed `tokenizer.json`. `pad` is the padding token, if it is known.
    fn new(definition: Value, pad: Option<&str>) -> Result<Self> {
        let (inner, padding) = definition::build(definition)?;
        let id = |token: &str| inner.token_to_id(token);
        let known = || pad.map_or_else(|| PADS.into_iter().find_map(id), id);
        let Some(pad) = padding.or_else(known) else {
            let message = match pad {
                Some(token) => format!("the padding token {token:?} is not in the vocabulary"),
                None => "the tokenizer has no padding token, neither <pad> nor <|endoftext|>".into(),
            };
            return Err(Error::Tokenizer(message + "; use the tokenizer of Qwen3 or T5"));
        };
        let (empty, text) = (inner.encode("", true).map_err(failed)?, inner.encode("a", true).map_err(failed)?);
        let end = match (empty.get_ids(), text.get_ids()) {
            ([], _) => None,
            ([end], [_, .., last]) if end == last => Some(i64::from(*end)),
            _ => {
                let message = "an empty text does not become one end token, or no token at all; use the tokenizer of \
                               Qwen3 or T5";
                return Err(Error::Tokenizer(message.into()));
            }
        };
        Ok(Self { inner: Arc::new(inner), end, pad: pad.into() })
    }

    /// Returns the number of tokens that follow each text: 1 for T5, 0 for Qwen.
    pub(crate) fn ends(&self) -> usize {
        usize::from(self.end.is_some())
    }

    /// Returns the number of ids: one more than the largest id.
    pub(crate) fn ids(&self) -> i64 {
        let known = self.inner.get_vocab(true).into_values().map(i64::from);
        known.chain(self.end).chain([self.pad]).max().map_or(0, |id| id + 1)
    }

    /// Returns all tokens of a text, including the end token, neither padded nor cut.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the vocabulary has no token for a part of the text, and no token for unknown text;
    /// [`Error::Parameter`] if the text has more than [`prompt::LONGEST`](crate::prompt::LONGEST) bytes.
    pub fn encode(&self, text: &str) -> Result<Tokens> {
        check_length(text)?;
        self.encode_any(text)
    }

    /// Returns all tokens of a text as [`encode`](Self::encode) does, however long the text is.
    pub(super) fn encode_any(&self, text: &str) -> Result<Tokens> {
        let encoding = self.inner.encode_char_offsets(text, true).map_err(failed)?;
        Ok(Tokens {
            ids: encoding.get_ids().iter().copied().map(i64::from).collect(),
            offsets: encoding.get_offsets().iter().map(|&(start, end)| start..end).collect(),
            // An unknown letter is a token with another spelling in the encoding.
            tokens: encoding.get_ids().iter().map(|id| self.inner.id_to_token(*id).unwrap_or_default()).collect(),
        })
    }

    /// Returns the ids of a text of exactly `length` tokens. A longer text is cut and then closed by the end token; a
    /// shorter text is padded.
    ///
    /// # Errors
    /// The errors of [`encode`](Self::encode).
    pub fn pad_to(&self, text: &str, length: usize) -> Result<Vec<i64>> {
        Ok(self.pad(self.encode(text)?.ids, length))
    }

    /// Cuts or pads the ids of a text to exactly `length` tokens.
    pub(super) fn pad(&self, ids: Vec<i64>, length: usize) -> Vec<i64> {
        let mut ids = self.cut(ids, length);
        ids.resize(length, self.pad);
        ids
    }

    /// Cuts the ids of a text to at most `length` tokens, the last of which is the end token.
    pub(super) fn cut(&self, mut ids: Vec<i64>, length: usize) -> Vec<i64> {
        if ids.len() > length {
            ids.truncate(length.saturating_sub(self.ends()));
            ids.extend(self.end);
        }
        ids
    }
}

impl std::fmt::Debug for SequenceTokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SequenceTokenizer({} tokens)", self.inner.get_vocab_size(true))
    }
}

/// The fields of `tokenizer_config.json` that a tokenizer is made of.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Config {
    added_tokens_decoder: BTreeMap<u32, Added>,
    pad_token: Option<Value>,
}

/// A special token beside the vocabulary.
#[derive(serde::Deserialize)]
struct Added {
    content: String,
    /// Further fields, which say where the token matches.
    #[serde(flatten)]
    fields: BTreeMap<String, Value>,
}

impl Added {
    /// Returns the token as an entry of `added_tokens`.
    fn with_id(&self, id: u32) -> Value {
        let flag = |name: &str| self.fields.get(name).and_then(Value::as_bool).unwrap_or(false);
        json!({
            "id": id, "content": self.content, "special": flag("special"), "single_word": flag("single_word"),
            "lstrip": flag("lstrip"), "rstrip": flag("rstrip"), "normalized": flag("normalized"),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const MERGES: &str = "c a\nca t\nĠ cat\n";

    /// Returns a tokenizer of Qwen's kind for letters and signs, with the tokens "cat" and "Ġcat".
    pub(in crate::text) fn qwen() -> Result<SequenceTokenizer> {
        from_vocab(MERGES, r#"{ "100": { "content": "<|endoftext|>", "special": true } }"#)
    }

    /// Returns a tokenizer as [`qwen`] does, with line breaks and the tokens around the messages of a chat.
    pub(in crate::text) fn qwen_in_chats() -> Result<SequenceTokenizer> {
        let added = r#"{ "101": { "content": "<|endoftext|>", "special": true },
                         "102": { "content": "<|im_start|>", "special": true },
                         "103": { "content": "<|im_end|>", "special": true } }"#;
        from_letters(&["Ċ"], MERGES, added)
    }

    fn from_vocab(merges: &str, added: &str) -> Result<SequenceTokenizer> {
        from_letters(&[], merges, added)
    }

    /// Returns a tokenizer with the vocabulary of these tests and `more` letters.
    fn from_letters(more: &[&str], merges: &str, added: &str) -> Result<SequenceTokenizer> {
        let letters = ('!'..='~').map(String::from).chain(["Ġ", "Ã", "©", "ca", "cat", "Ġcat"].map(String::from));
        let letters = letters.chain(more.iter().map(|letter| (*letter).to_owned()));
        let vocab: HashMap<String, usize> = letters.enumerate().map(|(id, token)| (token, id)).collect();
        let config = format!(r#"{{ "added_tokens_decoder": {added}, "pad_token": "<|endoftext|>" }}"#);
        SequenceTokenizer::from_vocab(
            serde_json::to_string(&vocab).unwrap().as_bytes(),
            merges.as_bytes(),
            config.as_bytes(),
        )
    }

    /// Returns a tokenizer of T5's kind for letters and signs, with the tokens "▁cat" and "▁".
    pub(in crate::text) fn t5() -> Result<SequenceTokenizer> {
        unigram(&json!({ "type": "TemplateProcessing", "single": [
            { "Sequence": { "id": "A", "type_id": 0 } }, { "SpecialToken": { "id": "</s>", "type_id": 0 } },
        ], "pair": [], "special_tokens": { "</s>": { "id": "</s>", "ids": [1], "tokens": ["</s>"] } } }))
    }

    fn unigram(post_processor: &Value) -> Result<SequenceTokenizer> {
        let words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), ("▁cat", -3.0)];
        let letters = ('!'..='~').map(|letter| json!([letter.to_string(), -5.0]));
        let vocab: Vec<Value> = words.iter().map(|word| json!(word)).chain(letters).collect();
        let json = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
                { "type": "WhitespaceSplit" },
                { "type": "Metaspace", "replacement": "▁", "add_prefix_space": true },
            ] },
            "post_processor": post_processor, "decoder": null, "model": { "unk_id": 2, "vocab": vocab },
        });
        SequenceTokenizer::from_json(json.to_string().as_bytes())
    }

    #[test]
    fn cut_texts_keep_the_end_token() -> Result<()> {
        let (qwen, t5) = (qwen()?, t5()?);
        assert_eq!(t5.pad_to("cat cat", 4)?, [4, 4, 1, 0]);
        assert_eq!(t5.pad_to("cat cat cat", 2)?, [4, 1]);
        assert_eq!(qwen.pad_to("cat", 2)?, [98, 100]);
        assert_eq!(qwen.pad_to("catcatcat", 2)?, [98, 98]);
        assert_eq!((qwen.encode("")?.ids, t5.encode("")?.ids), (vec![], vec![1]));
        Ok(())
    }

    #[test]
    fn offsets_count_chars() -> Result<()> {
        assert_eq!(qwen()?.encode("é cat")?.offsets, [0..1, 0..1, 1..5]);
        assert_eq!(t5()?.encode("é  cat")?.offsets, [0..1, 0..1, 3..6, 0..0]);
        Ok(())
    }

    #[test]
    fn files_that_do_not_fit_are_errors() {
        let message = |result: Result<SequenceTokenizer>| result.expect_err("broken").to_string();
        assert!(message(from_vocab("", "{}")).contains("merges.txt is empty or cut off"));
        assert!(message(from_vocab(MERGES, "{}")).contains("the padding token \"<|endoftext|>\" is not in"));
        let far = message(from_vocab(MERGES, r#"{ "500": { "content": "<|endoftext|>" } }"#));
        assert!(far.contains("has \"<|endoftext|>\" with the id 500, which does not follow"), "{far}");
        assert!(message(SequenceTokenizer::from_json(b"{}")).contains("the tokenizer has no vocabulary"));
        let both = json!({ "type": "BertProcessing", "sep": ["</s>", 1], "cls": ["<pad>", 0] });
        assert!(message(unigram(&both)).contains("use the tokenizer of Qwen3 or T5"));
    }
}
