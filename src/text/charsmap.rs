//! Check of the table by which a tokenizer of SentencePiece's kind replaces letters (`precompiled_charsmap`).

use crate::error::{Error, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

/// Number of units of a block: a node's children differ in one byte of their place.
const BLOCK: usize = 256;
/// Largest number of bytes of what replaces a letter. The longest one of Unicode's compatible letters has 33 bytes.
pub(super) const LONGEST: usize = 48;
/// Bit of a unit that holds a value, which is a place in the replacements.
const VALUE: u32 = 1 << 31;

/// Checks every table in a parsed `tokenizer.json`, because the tokenizer follows its places unchecked.
///
/// # Errors
/// [`Error::Tokenizer`] if a table has places outside of itself, or a replacement of more than 48 bytes.
pub(super) fn check(definition: &Value) -> Result<()> {
    match definition {
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| match value {
            Value::String(table) if name == "precompiled_charsmap" => match fits(table) {
                Some(true) => Ok(()),
                _ => Err(Error::Tokenizer(
                    "tokenizer.json has a broken precompiled_charsmap; fetch it again from its checkpoint".into(),
                )),
            },
            other => check(other),
        }),
        Value::Array(values) => values.iter().try_for_each(check),
        _ => Ok(()),
    }
}

/// Returns true if all places of a table are inside of it; `None` if the table is cut off. A table is the number of
/// bytes of its tree, the tree's units, and the replacements, each of which ends with a zero byte.
fn fits(table: &str) -> Option<bool> {
    let bytes = BASE64_STANDARD.decode(table).ok()?;
    let (size, rest) = bytes.split_first_chunk()?;
    let (tree, replacements) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*size)).ok()?)?;
    let units: Vec<u32> = tree.as_chunks().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
    let replacements = std::str::from_utf8(replacements).ok()?;
    if replacements.split('\0').any(|replacement| replacement.len() > LONGEST) {
        return Some(false);
    }
    let is_inside = |(at, unit): (usize, &u32)| {
        // The root is always read as a node.
        if at > 0 && unit & VALUE != 0 {
            return true;
        }
        let children = at ^ ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize;
        let value = |unit: &u32| replacements.is_char_boundary((unit & !VALUE) as usize);
        let ends_here = unit & (1 << 8) != 0;
        (children | (BLOCK - 1)) < units.len() && (!ends_here || units.get(children).is_some_and(value))
    };
    Some(!units.is_empty() && tree.len() % 4 == 0 && units.iter().enumerate().all(is_inside))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table(change: &[(usize, u32)]) -> Value {
        json!({ "normalizers": [{ "type": "Precompiled", "precompiled_charsmap": encode(change, b"a") }] })
    }

    /// Returns a table that replaces "A" by `replacement`, with the units in `change`.
    fn encode(change: &[(usize, u32)], replacement: &[u8]) -> String {
        let mut units = [0u32; 2 * BLOCK];
        let own = [(0, 256 << 10), (256 ^ 65, (191 << 10) | (1 << 8) | 65), (510, VALUE)];
        for (at, unit) in own.iter().chain(change) {
            units[*at] = *unit;
        }
        let tree: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        BASE64_STANDARD.encode([&(tree.len() as u32).to_le_bytes(), tree.as_slice(), replacement, b"\0"].concat())
    }

    #[test]
    fn tables_with_places_outside_are_errors() {
        assert!(check(&table(&[])).is_ok());
        // Children beyond the units, a value beyond the replacements, and a root that is a value.
        for change in [(0, 512 << 10), (7, 1 << 20), (510, VALUE | 9), (0, VALUE)] {
            let message = check(&table(&[change])).unwrap_err().to_string();
            assert!(message.contains("broken precompiled_charsmap"), "{change:?}: {message}");
        }
        let replaces = |length: usize| json!({ "precompiled_charsmap": encode(&[], "a".repeat(length).as_bytes()) });
        assert!(check(&replaces(LONGEST)).is_ok() && check(&replaces(LONGEST + 1)).is_err());
        for cut in ["", "AAAA", "/////w==", "!"] {
            assert!(check(&json!({ "precompiled_charsmap": cut })).is_err(), "{cut}");
        }
    }
}
