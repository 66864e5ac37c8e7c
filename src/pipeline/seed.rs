//! Seeds as files and command lines write them.

use serde::{Deserialize, Deserializer, de};
use serde_json::Number;

/// Reads a seed. `null` and -1 are a random one, as in other programs.
pub(super) fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let Some(number) = Option::<Number>::deserialize(from)? else { return Ok(None) };
    let whole = number.as_u64().map(i128::from).or_else(|| number.as_i64().map(i128::from));
    whole.map_or_else(|| Err(format!("the seed is {number}; {EXPECTED}")), checked).map_err(de::Error::custom)
}

/// Expected seeds, for error messages.
const EXPECTED: &str = "expected 0 to 18446744073709551615, or -1 for a random seed";

/// Returns a seed; -1 is a random one.
fn checked(number: i128) -> Result<Option<u64>, String> {
    match u64::try_from(number) {
        Ok(seed) => Ok(Some(seed)),
        Err(_) if number == -1 => Ok(None),
        Err(_) => Err(format!("the seed is {number}; {EXPECTED}")),
    }
}

/// Reads a seed of a command line.
#[cfg(feature = "clap")]
pub(super) fn parse(text: &str) -> Result<Option<u64>, String> {
    let number: Result<i128, _> = text.trim().parse();
    checked(number.map_err(|_| "expected a whole number, or -1 for a random seed".to_owned())?)
}

/// Reads the seed of a variation and its share: `SEED:SHARE`.
#[cfg(feature = "clap")]
pub(super) fn variation(text: &str) -> Result<(u64, f64), String> {
    let parts =
        text.split_once(':').and_then(|(seed, share)| Some((seed.trim().parse().ok()?, share.trim().parse().ok()?)));
    parts.ok_or_else(|| format!("`{text}` has no seed and share; expected SEED:SHARE, such as 7:0.2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_of_minus_one_is_random() {
        let read = |json: &str| read(&mut serde_json::Deserializer::from_str(json)).map_err(|error| error.to_string());
        assert_eq!((read("-1"), read("null"), read("0")), (Ok(None), Ok(None), Ok(Some(0))));
        assert_eq!(read("18446744073709551615"), Ok(Some(u64::MAX)));
        for json in ["-2", "18446744073709551616", "0.5"] {
            assert!(read(json).is_err_and(|error| error.contains("or -1 for a random seed")), "{json}");
        }
    }
}
