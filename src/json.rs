//! Parsing of JSON that strangers wrote, within a limit of memory.

use crate::wording::shortened;
use serde::de::value::StringDeserializer;
use serde::de::{DeserializeOwned, Deserializer, Error, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;

/// Limit in bytes of the memory that the values of a text take beside the letters of strings. The recipe of a run takes
/// some hundred kilobytes.
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
    parse_within(text, MOST)
}

/// Parses a JSON text as [`parse`] does, within `most` bytes of memory.
pub(crate) fn parse_within<T: DeserializeOwned>(text: impl AsRef<[u8]>, most: usize) -> serde_json::Result<T> {
    let text = text.as_ref();
    if memory(text) > most {
        let most = most >> 20;
        let message = format!("the text has too many values; expected values of at most {most} MiB; remove some");
        return Err(Error::custom(message));
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

/// Reads the name of a variant in CamelCase, snake_case or kebab-case.
pub(crate) fn any_case<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    T::deserialize(StringDeserializer::new(camel(&String::deserialize(from)?)))
}

/// Reads the name of a variant as [`any_case`] does, or null.
pub(crate) fn any_case_or_none<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let name = Option::<String>::deserialize(from)?;
    name.map(|name| T::deserialize(StringDeserializer::new(camel(&name)))).transpose()
}

/// Returns a name whose words begin with capitals, without characters between them.
fn camel(name: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_uppercase().chain(letters).collect::<String>()).unwrap_or_default()
    };
    name.split(['_', '-']).map(capital).collect()
}

/// Returns the names of the fields that serde reads of a struct.
pub(crate) fn fields<T: DeserializeOwned>() -> &'static [&'static str] {
    match T::deserialize(NamesOnly) {
        Err(Names(names)) => names,
        Ok(_) => &[],
    }
}

/// A deserializer that ends with the names of the fields that it is asked for.
struct NamesOnly;

/// The names of fields, as an error.
#[derive(Debug)]
struct Names(&'static [&'static str]);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the fields {:?}", self.0)
    }
}

impl std::error::Error for Names {}

impl Error for Names {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(&[])
    }
}

impl<'de> Deserializer<'de> for NamesOnly {
    type Error = Names;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Names> {
        Err(Names(&[]))
    }

    fn deserialize_struct<V>(self, _: &'static str, names: &'static [&'static str], _: V) -> Result<V::Value, Names>
    where
        V: Visitor<'de>,
    {
        Err(Names(names))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// Lets serde read values from their text forms too. The types parse text, and derive `Serialize` and `Deserialize`
/// with `#[serde(remote = "Self")]`.
macro_rules! read_as_text_too {
    ($($value:ty),*) => { $(
        impl<'de> serde::Deserialize<'de> for $value {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
                struct Form;
                impl<'de> serde::de::Visitor<'de> for Form {
                    type Value = $value;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a text or an object")
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Self::Value, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> std::result::Result<Self::Value, A::Error> {
                        <$value>::deserialize(serde::de::value::MapAccessDeserializer::new(map))
                    }
                }
                from.deserialize_any(Form)
            }
        }
        impl serde::Serialize for $value {
            fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
                <$value>::serialize(self, to)
            }
        }
    )* };
}
pub(crate) use read_as_text_too;

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
    fn variants_are_read_in_any_case() {
        use crate::diffusion::Spacing;
        for name in ["SgmUniform", "sgm_uniform", "sgm-uniform"] {
            let read: Result<Spacing, serde_json::Error> = any_case(Value::from(name));
            assert_eq!(read.ok(), Some(Spacing::SgmUniform), "{name}");
        }
        assert!(any_case::<_, Spacing>(Value::from("even")).unwrap_err().to_string().contains("SgmUniform"));
        assert_eq!(any_case_or_none::<_, Spacing>(Value::Null).ok(), Some(None));
    }

    #[test]
    fn names_of_fields_are_those_of_serde() {
        #[derive(Deserialize)]
        #[allow(dead_code)]
        struct Boat {
            sail: u8,
            #[serde(rename = "keel")]
            fin: u8,
        }
        assert_eq!(fields::<Boat>(), ["sail", "keel"]);
        assert!(fields::<u8>().is_empty());
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
