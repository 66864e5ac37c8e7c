//! [`shortened`]: a message without the middle of what it quotes.

use std::borrow::Cow;

/// Number of letters at the start and at the end of a long message that are kept.
const SHOWN: (usize, usize) = (150, 350);

/// Cuts the middle out of a message of more than 500 letters. Messages quote the files and requests of strangers, which
/// may be of any length.
///
/// ```
/// use impasto::wording::shortened;
///
/// assert_eq!(shortened("unknown field `promt`"), "unknown field `promt`");
/// let long = format!("unknown field `{}`, expected `prompt`", "a".repeat(10_000));
/// assert!(shortened(&long).starts_with("unknown field `a") && shortened(&long).ends_with("a`, expected `prompt`"));
/// assert_eq!(shortened(&long).chars().count(), 501);
/// ```
pub fn shortened(message: &str) -> Cow<'_, str> {
    let start = message.char_indices().nth(SHOWN.0).map_or(message.len(), |(at, _)| at);
    let end = message.char_indices().rev().nth(SHOWN.1 - 1).map_or(0, |(at, _)| at);
    match (message.get(..start), message.get(end..)) {
        (Some(first), Some(last)) if start < end => format!("{first}…{last}").into(),
        _ => message.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_messages_stay_whole() {
        for length in [0, 1, 499, 500] {
            let message = "é".repeat(length);
            assert_eq!(shortened(&message), message);
        }
        assert_eq!(shortened(&"é".repeat(501)), format!("{}…{}", "é".repeat(150), "é".repeat(350)));
        // A message around a shortened one has one gap, too.
        let inner = "猫".repeat(1000);
        let outer = format!("the request cannot be read: {}", shortened(&inner));
        assert_eq!(shortened(&outer).matches('…').count(), 1);
    }
}
