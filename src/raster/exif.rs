//! Texts in the EXIF metadata of pictures.

use std::cmp::Ordering;

/// Tags that hold texts about a run, with their names.
const TAGS: [(u16, &str); 5] = [
    (0x010e, "ImageDescription"),
    (0x010f, "Make"),
    (0x0110, "Model"),
    (0x0131, "Software"),
    (USER_COMMENT, "UserComment"),
];
const USER_COMMENT: u16 = 0x9286;
/// Tag with the place of the list that usually holds the user comment.
const EXIF_LIST: u16 = 0x8769;
/// Number of bytes of an entry in a list of tags.
const ENTRY: usize = 12;
/// Number of entries of one tag that are read.
const MOST_TRIES: usize = 2;

/// Returns the texts with `wanted` names among EXIF metadata. The names are those of tags. Broken entries are left out.
/// `None` if the texts have more than `left` bytes in all, because many entries may name the same bytes.
///
/// Source: "Exchangeable image file format for digital still cameras" (CIPA DC-008), sections 4.6.2 and 4.6.6.
pub(super) fn texts(
    exif: &[u8],
    mut left: usize,
    wanted: impl Fn(&str) -> bool,
) -> Option<Vec<(&'static str, String)>> {
    let bytes = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    let is_big_endian = match bytes.get(..4) {
        Some(b"MM\0*") => true,
        Some(b"II*\0") => false,
        _ => return Some(Vec::new()),
    };
    let tiff = Tiff { bytes, is_big_endian };
    let mut entries = tiff.list(tiff.number(4));
    let inner = entries.iter().find(|entry| entry.tag == EXIF_LIST).and_then(|entry| tiff.number(entry.at + 8));
    entries.extend(tiff.list(inner));
    let mut texts = Vec::new();
    for (tag, name) in TAGS.into_iter().filter(|(_, name)| wanted(name)) {
        let values = entries.iter().filter(|entry| entry.tag == tag).filter_map(|entry| tiff.value(entry));
        for value in values.take(MOST_TRIES) {
            let text = (value.len() <= left).then(|| tiff.text(tag, value))?;
            left = left.checked_sub(text.len())?;
            if !text.is_empty() {
                texts.push((name, text));
                break;
            }
        }
    }
    Some(texts)
}

/// Metadata in the layout of TIFF: lists of tags with their values.
struct Tiff<'b> {
    bytes: &'b [u8],
    is_big_endian: bool,
}

/// An entry in a list of tags.
struct Entry {
    tag: u16,
    /// Place of the entry: tag, type, number of values, and the values or their place.
    at: usize,
}

impl Tiff<'_> {
    fn short(&self, at: usize) -> Option<u16> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.is_big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn number(&self, at: usize) -> Option<usize> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        let number = if self.is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
        usize::try_from(number).ok()
    }

    /// Returns the list of tags at a place; empty without a list.
    fn list(&self, at: Option<usize>) -> Vec<Entry> {
        let Some((begin, count)) = at.and_then(|begin| Some((begin, self.short(begin)?))) else { return Vec::new() };
        let places = (0..usize::from(count)).map(|index| begin + 2 + ENTRY * index);
        places.map_while(|at| Some(Entry { tag: self.short(at)?, at })).collect()
    }

    /// Returns the bytes of an entry; `None` if its values are no bytes, or are not in the metadata.
    fn value(&self, entry: &Entry) -> Option<&[u8]> {
        let (kind, count) = (self.short(entry.at + 2)?, self.number(entry.at + 4)?);
        let is_bytes = matches!(kind, 1 | 2 | 7); // bytes, ASCII, undefined
        let place = if count <= 4 { entry.at + 8 } else { self.number(entry.at + 8)? };
        self.bytes.get(place..place.checked_add(count)?).filter(|_| is_bytes)
    }

    /// Decodes the text of a tag.
    fn text(&self, tag: u16, bytes: &[u8]) -> String {
        let text = match bytes.split_first_chunk::<8>() {
            Some((b"UNICODE\0", text)) if tag == USER_COMMENT => self.utf16(text),
            Some((b"ASCII\0\0\0" | [0, ..], text)) if tag == USER_COMMENT => String::from_utf8_lossy(text).into(),
            _ => String::from_utf8_lossy(bytes).into_owned(),
        };
        text.trim_matches('\0').to_owned()
    }

    /// Decodes UTF-16. Programs disagree about the order of the bytes, so the text decides: most letters of a run's
    /// settings have one byte that is 0.
    fn utf16(&self, text: &[u8]) -> String {
        let (pairs, _) = text.as_chunks::<2>();
        let zeros = |index: usize| pairs.iter().filter(|pair| pair.get(index) == Some(&0)).count();
        let is_big_endian = match zeros(0).cmp(&zeros(1)) {
            Ordering::Greater => true,
            Ordering::Less => false,
            Ordering::Equal => self.is_big_endian,
        };
        let unit = |pair: &[u8; 2]| if is_big_endian { u16::from_be_bytes(*pair) } else { u16::from_le_bytes(*pair) };
        let letters = char::decode_utf16(pairs.iter().map(unit));
        let text: String = letters.map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
        text.trim_start_matches('\u{feff}').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns EXIF metadata with a user comment in the inner list and a model in the outer list, in an order of bytes.
    fn exif(comment: &[u8], is_big_endian: bool) -> Vec<u8> {
        let short = |value: u16| if is_big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
        let long =
            |value: usize| if is_big_endian { (value as u32).to_be_bytes() } else { (value as u32).to_le_bytes() };
        let entry = |tag: u16, kind: u16, count: usize, value: [u8; 4]| {
            [short(tag).as_slice(), &short(kind), &long(count), &value].concat()
        };
        let mut bytes = if is_big_endian { b"MM\0*".to_vec() } else { b"II*\0".to_vec() };
        bytes.extend(long(8));
        bytes.extend(short(2));
        bytes.extend(entry(0x0110, 2, 3, *b"sd\0\0"));
        bytes.extend(entry(EXIF_LIST, 4, 1, long(38))); // 8 + 2 + 2·12 + 4
        bytes.extend(long(0));
        bytes.extend(short(1));
        bytes.extend(entry(USER_COMMENT, 7, comment.len(), long(56))); // 38 + 2 + 12 + 4
        bytes.extend(long(0));
        bytes.extend(comment);
        bytes
    }

    /// Returns all texts.
    fn texts(exif: &[u8]) -> Vec<(&'static str, String)> {
        super::texts(exif, usize::MAX, |_| true).expect("short texts")
    }

    /// Returns the user comment among the texts.
    fn comment(exif: &[u8]) -> Option<String> {
        texts(exif).into_iter().find_map(|(name, text)| (name == "UserComment").then_some(text))
    }

    #[test]
    fn user_comment_is_read_in_every_encoding() {
        let said = "1girl, naïve 猫 \u{1f431}\nSteps: 12";
        let big: Vec<u8> = said.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let little: Vec<u8> = said.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for is_big_endian in [true, false] {
            for text in [&big, &little] {
                for mark in [&b""[..], if text == &big { b"\xfe\xff" } else { b"\xff\xfe" }] {
                    let bytes = exif(&[b"UNICODE\0", mark, text].concat(), is_big_endian);
                    assert_eq!(comment(&bytes).as_deref(), Some(said));
                }
            }
            for start in [&b"ASCII\0\0\0"[..], &[0; 8], b""] {
                let bytes = exif(&[start, said.as_bytes(), b"\0"].concat(), is_big_endian);
                assert_eq!(comment(&bytes).as_deref(), Some(said));
            }
            let bytes = [b"Exif\0\0".to_vec(), exif(b"a cat", is_big_endian)].concat();
            assert_eq!(texts(&bytes), [("Model", "sd".to_owned()), ("UserComment", "a cat".to_owned())]);
        }
    }

    #[test]
    fn broken_metadata_gives_no_text() {
        let whole = exif(b"ASCII\0\0\0a cat", true);
        for end in 0..whole.len() {
            assert_eq!(comment(&whole[..end]), None, "{end}");
        }
        let mut far = whole.clone();
        far[44..48].copy_from_slice(&[0xff; 4]); // the number of bytes
        assert_eq!(comment(&far), None);
        let mut circle = whole;
        circle[30..34].copy_from_slice(&[0, 0, 0, 8]); // the inner list is the outer list
        assert_eq!(texts(&circle), [("Model", "sd".to_owned())]);
        assert_eq!(texts(b"PNG"), []);
    }

    #[test]
    fn entries_of_the_same_bytes_count_each() {
        // Two tags name all of the metadata behind the list of tags.
        let long = [0xff; 600];
        let mut bytes = b"II*\0\x08\0\0\0\x02\0".to_vec();
        for tag in [0x010f_u16, 0x0110] {
            bytes.extend(
                [&tag.to_le_bytes()[..], &2u16.to_le_bytes(), &600u32.to_le_bytes(), &34u32.to_le_bytes()].concat(),
            );
        }
        bytes.extend(long);
        let within = |left: usize, name: &str| super::texts(&bytes, left, |known| name.contains(known));
        // Each byte becomes a letter of three bytes, which stands for one that cannot be read.
        assert_eq!(within(3600, "Make Model").map(|texts| texts.len()), Some(2));
        assert_eq!(within(3599, "Make Model"), None);
        assert_eq!(within(1800, "Model").map(|texts| texts.len()), Some(1));
        assert_eq!(within(599, "Model"), None);
        assert_eq!(within(0, "Software"), Some(Vec::new()));
    }
}
