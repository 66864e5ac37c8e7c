//! [`Form`]: the fields and files of a body of the type `multipart/form-data`.
//!
//! Source: RFC 7578 and RFC 2046, section 5.1.

use crate::refusal::Refusal;

/// Largest number of parts of a form.
const MOST_PARTS: usize = 64;
/// Longest head of a part in bytes.
const LONGEST_HEAD: usize = 4096;

/// A part of a form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part<'b> {
    pub(super) name: String,
    /// True if the part is a file.
    pub(super) is_file: bool,
    pub(super) bytes: &'b [u8],
}

/// Reads the parts of a body with the type `kind`.
///
/// # Errors
/// A refusal of a body without a boundary, or with broken or too many parts.
pub(super) fn read<'b>(kind: &str, body: &'b [u8]) -> Result<Vec<Part<'b>>, Refusal> {
    let broken = |what: &str| Refusal::wrong(format!("the form {what}; expected multipart/form-data of RFC 7578"));
    let boundary = parameters(kind).find(|(name, _)| name == "boundary").map(|(_, value)| value);
    let boundary = boundary.filter(|boundary| (1..=70).contains(&boundary.len()));
    let boundary = boundary.ok_or_else(|| broken("has no boundary, or one of more than 70 letters"))?;
    let (first, between) = (format!("--{boundary}"), format!("\r\n--{boundary}"));
    let at = if body.starts_with(first.as_bytes()) { Some(0) } else { find(body, between.as_bytes()).map(|at| at + 2) };
    let mut rest = at.and_then(|at| body.get(at + first.len()..)).ok_or_else(|| broken("has no part"))?;
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") {
        if parts.len() == MOST_PARTS {
            return Err(broken(&format!("has more than {MOST_PARTS} parts")));
        }
        let line = find(rest.get(..LONGEST_HEAD).unwrap_or(rest), b"\r\n").ok_or_else(|| broken("ends early"))?;
        rest = rest.get(line..).unwrap_or_default();
        let head = find(rest.get(..LONGEST_HEAD).unwrap_or(rest), b"\r\n\r\n");
        let head = head.ok_or_else(|| broken("has a part whose head is missing or too long"))?;
        let (name, is_file) =
            name(rest.get(..head).unwrap_or_default()).ok_or_else(|| broken("has a part without a name"))?;
        rest = rest.get(head + 4..).unwrap_or_default();
        let end = find(rest, between.as_bytes()).ok_or_else(|| broken("ends early"))?;
        parts.push(Part { name, is_file, bytes: rest.get(..end).unwrap_or_default() });
        rest = rest.get(end + between.len()..).unwrap_or_default();
    }
    Ok(parts)
}

/// Returns the name of a part, and true if the part is a file.
fn name(head: &[u8]) -> Option<(String, bool)> {
    let head = std::str::from_utf8(head).ok()?;
    let lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let mut values = lines.filter(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"));
    let (_, disposition) = values.next()?;
    let is_file = parameters(disposition).any(|(name, _)| name == "filename" || name == "filename*");
    let name = parameters(disposition).find(|(name, _)| name == "name").map(|(_, value)| value);
    name.map(|name| (name, is_file))
}

/// Returns the parameters of a header's value, such as `boundary=x`. A value may be in quotes.
fn parameters(header: &str) -> impl Iterator<Item = (String, String)> {
    let (mut pieces, mut piece, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for letter in header.chars() {
        match letter {
            _ if escaped => {
                piece.push(letter);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ';' if !quoted => pieces.push(std::mem::take(&mut piece)),
            letter => piece.push(letter),
        }
    }
    pieces.push(piece);
    pieces.into_iter().skip(1).filter_map(|piece| {
        let (name, value) = piece.split_once('=')?;
        Some((name.trim().to_lowercase(), value.trim().to_owned()))
    })
}

/// Returns the place of `wanted` in `bytes`.
fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    let mut from = 0;
    loop {
        from += bytes.get(from..)?.iter().position(|byte| *byte == first)?;
        if bytes.get(from..)?.starts_with(wanted) {
            return Some(from);
        }
        from += 1;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const KIND: &str = "multipart/form-data; boundary=\"x y\"";

    fn refused(kind: &str, body: &str) -> String {
        read(kind, body.as_bytes()).unwrap_err().sentence
    }

    #[test]
    fn fields_and_files_are_read() {
        let body = "preamble\r\n--x y\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\na \r\nboat\r\n--x y  \r\n\
                    content-type: image/png\r\ncontent-disposition: form-data; filename=\"a;\\\"b.png\"; name=image\r\n\r\n\
                    --x\r\n\r\n--x y--\r\nrest";
        let parts = read(KIND, body.as_bytes()).unwrap();
        let part = |name: &str, is_file, bytes| Part { name: name.into(), is_file, bytes };
        assert_eq!(parts, [part("prompt", false, &b"a \r\nboat"[..]), part("image", true, b"--x\r\n")]);
        assert_eq!(read("multipart/form-data; boundary=a", b"--a--").unwrap(), []);
    }

    #[test]
    fn broken_forms_are_explained() {
        assert!(refused("multipart/form-data", "").contains("has no boundary"));
        assert!(refused(KIND, "").contains("has no part"));
        assert!(refused(KIND, "--x y\r\n").contains("head is missing"));
        assert!(refused(KIND, "--x y\r\nA: b\r\n\r\n\r\n--x y--").contains("without a name"));
        let head = "--x y\r\nContent-Disposition: form-data; name=a\r\n\r\n";
        assert!(refused(KIND, &format!("{head}text")).contains("ends early"));
        assert!(refused(KIND, &format!("{head}\r\n{}", head.repeat(64))).contains("ends early"));
        let many = format!("{}--x y--", "--x y\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n".repeat(65));
        assert!(refused(KIND, &many).contains("more than 64 parts"));
    }
}
