//! The standard output and the standard error. Control characters are written escaped, because a text from a file may
//! hold sequences that change a terminal's title, colors or clipboard.

use crate::failure::Failure;
use std::fmt::Display;
use std::io::{self, Write};

/// Prints a text and a line break to the standard output.
///
/// # Errors
/// [`Failure::Closed`] if the reader has closed the pipe; [`Failure::Message`] for other faults, such as a full disk.
pub fn print(text: impl Display) -> Result<(), Failure> {
    write(&mut io::stdout().lock(), text).map_err(Failure::output)
}

/// Prints a text and a line break to the standard error. A fault is ignored, because no place is left to report it.
pub fn tell(text: impl Display) {
    write(&mut io::stderr().lock(), text).ok();
}

fn write(to: &mut impl Write, text: impl Display) -> io::Result<()> {
    to.write_all(escaped(&format!("{text}\n")).as_bytes())?;
    to.flush()
}

/// Escapes the control characters of a text as JSON does, such as `\u001b`, and so the characters that reverse the
/// direction of writing. Line breaks and tabs stay.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\t' => escaped.push(letter),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => push_escaped(&mut escaped, letter),
            _ if letter.is_control() => push_escaped(&mut escaped, letter),
            _ => escaped.push(letter),
        }
    }
    escaped
}

fn push_escaped(text: &mut String, letter: char) {
    text.push_str(&format!("\\u{:04x}", u32::from(letter)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_as_in_json() {
        assert_eq!(escaped("a\u{1b}]0;owned\u{7}\r\n\tb\u{9b}2J"), "a\\u001b]0;owned\\u0007\\u000d\n\tb\\u009b2J");
        assert_eq!(escaped("\u{202e}gnp.a"), "\\u202egnp.a");
        assert_eq!(escaped("ΔE 1.2, 64×64, 笑 🎨 \\u001b"), "ΔE 1.2, 64×64, 笑 🎨 \\u001b");
        let line = serde_json::to_string("\u{1b}\u{7f}\u{9b}\u{2066}").unwrap();
        assert_eq!(serde_json::from_str::<String>(&escaped(&line)).unwrap(), "\u{1b}\u{7f}\u{9b}\u{2066}");
    }
}
