//! Parsing of JSON that strangers wrote, within a limit of memory.

use crate::wording::shortened;
use serde::de::{DeserializeOwned, Error};
use serde_json::Value;
use std::borrow::Cow;

/// Limit in bytes of the memory that the values of a text take beside the letters of strings. The recipe of a run takes
/// some hundred kilobytes, and CLIP's `tokenizer.json` takes up to 30 MB.
pub(crate) const MOST: usize = 1 << 26;
/// Memory of a value in a list that grows, or of a field in an object, on a machine of 64 bits.
const VALUE: usize = 128;
/// Memory of the first values of a list, and of the first fields of an object.
const LIST: usize = 128;
const OBJECT: usize = 640;
/// Least memory of a string that is not empty.
const STRING: usize = 32;

/// Parses a JSON text as [`serde_json::from_slice`] does, but refuses a text of too many values.
///
/// A value takes up to a hundred times as much memory as its text. The values of one text may therefore take 64 MiB as
/// a [`serde_json::Value`], beside the letters of strings. That is enough for 500,000 numbers, or for 80,000 objects.
///
/// ```
/// let sizes: Vec<u32> = impasto::json::parse("[256, 512]")?;
/// assert_eq!(sizes, [256, 512]);
/// let lists = format!("[{}[]]", "[],".repeat(1_000_000));
/// let error = impasto::json::parse::<serde_json::Value>(lists).unwrap_err();
/// assert!(error.to_string().contains("too many values"));
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// # Errors
/// The errors of [`serde_json::from_slice`], and an error for a text of too many values. Messages are
/// [`shortened`], however long the values are that they quote.
pub fn parse<T: DeserializeOwned>(text: impl AsRef<[u8]>) -> serde_json::Result<T> {
    let text = text.as_ref();
    if memory(text) > MOST {
        return Err(Error::custom("the text has too many values; expected values of at most 64 MiB; remove some"));
    }
    serde_json::from_slice(text).map_err(short_error)
}

/// Returns an upper bound of the memory that the values of a JSON text take beside the letters of strings, in bytes.
fn memory(text: &[u8]) -> usize {
    let (mut bytes, mut inside, mut escaped) = (0, false, false);
    for byte in text {
        if inside {
            inside = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
            continue;
        }
        bytes += match byte {
            b',' => VALUE,
            b'[' => LIST,
            b'{' => OBJECT,
            b'"' => STRING,
            _ => 0,
        };
        inside = *byte == b'"';
    }
    bytes
}

/// Returns the memory that [`parse`] counts for a value itself, without the values inside, in bytes.
pub(crate) fn own_memory(value: &Value) -> usize {
    let rest = |count: usize| VALUE * count.saturating_sub(1);
    match value {
        Value::String(_) => STRING,
        Value::Array(values) => LIST + rest(values.len()),
        Value::Object(fields) => OBJECT + rest(fields.len()) + STRING * fields.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// Cuts the middle out of a long message, which quotes the text.
pub(crate) fn short_error(error: serde_json::Error) -> serde_json::Error {
    match shortened(&error.to_string()) {
        Cow::Owned(message) => Error::custom(message),
        Cow::Borrowed(_) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_counts_values_outside_of_strings() {
        let counts = [
            ("", 0),
            ("[1,2]", LIST + VALUE),
            (r#"{"a":"b,[{"}"#, OBJECT + 2 * STRING),
            (r#"["a\"],","\\"]"#, LIST + VALUE + 2 * STRING),
            (r#"["a,,"#, LIST + STRING),
        ];
        for (json, count) in counts {
            assert_eq!(memory(json.as_bytes()), count, "{json}");
        }
        for json in ["[1,[2,\"a\"],[],null]", r#"{"a":{"b":[1.5,true],"c":"d,[{"},"e":{}}"#] {
            fn whole(value: &Value) -> usize {
                let inside = match value {
                    Value::Array(values) => values.iter().map(whole).sum(),
                    Value::Object(fields) => fields.values().map(whole).sum(),
                    _ => 0,
                };
                own_memory(value) + inside
            }
            assert_eq!(whole(&serde_json::from_str(json).unwrap()), memory(json.as_bytes()), "{json}");
        }
    }

    #[test]
    fn messages_quote_few_letters() {
        let json = format!("{{\"{}\": 1}}", "猫".repeat(100_000));
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(dead_code)]
        struct Known {
            field: u8,
        }
        let message = parse::<Known>(&json).unwrap_err().to_string();
        assert!(message.chars().count() < 510 && message.contains("expected `field`"), "{message}");
        let short = parse::<Value>("[1,]").unwrap_err();
        assert!(short.line() == 1 && short.to_string().contains("trailing comma"), "{short}");
    }
}
