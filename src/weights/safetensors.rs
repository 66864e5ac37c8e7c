//! Safetensors files, read without copying: a file is mapped into memory, and its tensors are views of the mappings.
//!
//! Every number of the header is checked before use, so that libtorch only reads ranges inside the file.

use super::mapped::{Storage, Tensors, View, map, views};
use crate::error::{Error, Result};
use crate::files;
use crate::json;
use safetensors::SafeTensorError;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use tch::{Device, Kind, TchError, Tensor};

/// Longest header that is read, in bytes; the format's own limit.
const LONGEST_HEADER: u64 = 100_000_000;
/// Number of bytes, at the start of a file, that hold the length of its header.
const LENGTH: u64 = 8;

/// A result whose error is a sentence about a file.
type Checked<T> = std::result::Result<T, String>;

/// Writes tensors into a `.safetensors` file, whole or not at all: the data goes into a temporary file, which replaces
/// the old file once all data is on the disk.
///
/// # Errors
/// [`Error::Io`] with the path, on a full disk for example; [`Error::Torch`] for tensors of a kind that the format
/// lacks.
pub fn write_safetensors(tensors: &Tensors, path: &Path) -> Result<()> {
    let listed: Vec<(&str, Tensor)> = tensors
        .iter()
        .map(|(name, x)| Ok((name.as_str(), x.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?)))
        .collect::<Result<_>>()?;
    files::write_whole_with(path, |part, _| match Tensor::write_safetensors(&listed, part) {
        Err(TchError::SafeTensorError { err: SafeTensorError::IoError(source), .. }) => Err(Error::io(part, source)),
        written => Ok(written?),
    })
}

/// Reads the tensors of a safetensors file, on the CPU and in their stored kinds.
///
/// The tensors are views of the mapped file, so reading takes no memory for their values. The file must not be
/// shortened while the tensors are used. Tensors that begin in the same 32 MiB of the file share a mapping, which ends
/// when the last of these tensors is dropped.
///
/// # Errors
/// [`Error::Io`], or [`Error::Malformed`] with a description of the file: cut off, an HTML page, a git-lfs pointer.
pub fn read_safetensors(path: &Path) -> Result<Tensors> {
    map(path, &read_entries(path)?.0)
}

/// Reads and checks the tensors and the metadata in the header of a file.
pub(super) fn read_entries(path: &Path) -> Result<(Vec<Storage>, BTreeMap<String, String>)> {
    let io = |source| Error::io(path, source);
    let malformed = |problem| Error::Malformed { file: path.display().to_string(), problem };
    let mut file = files::open(path)?;
    let total = file.metadata().map_err(io)?.len();

    let mut start = Vec::new();
    file.by_ref().take(64).read_to_end(&mut start).map_err(io)?;
    let length = header_length(&start, total).map_err(malformed)?;
    let mut header = Vec::new();
    file.seek(SeekFrom::Start(LENGTH)).map_err(io)?;
    file.take(length).read_to_end(&mut header).map_err(io)?;
    entries(&header, LENGTH + length, total).map_err(malformed)
}

/// Parses a safetensors file that is in memory already; the bytes are copied once. `file` names them in messages.
///
/// # Errors
/// [`Error::Malformed`] in the cases of [`read_safetensors`].
pub fn parse_safetensors(file: &str, bytes: &[u8]) -> Result<Tensors> {
    let malformed = |problem| Error::Malformed { file: file.into(), problem };
    let total = bytes.len() as u64;
    let length = header_length(bytes, total).map_err(malformed)?;
    let header = bytes.get(LENGTH as usize..).and_then(|rest| rest.get(..length as usize)).unwrap_or_default();
    let (entries, _) = entries(header, LENGTH + length, total).map_err(malformed)?;
    let mut tensors = Tensors::new();
    views(&entries, &Tensor::f_from_data_size(bytes, &[total as i64], Kind::Uint8)?, &mut tensors)?;
    Ok(tensors)
}

/// A tensor's entry in the header of a safetensors file, as it was parsed and before it was checked.
#[derive(Deserialize)]
struct Written {
    dtype: String,
    shape: Vec<i64>,
    data_offsets: (u64, u64),
}

/// Returns true if a file that begins with `start` has the length of a header and a header at its start, as no other
/// known format has.
pub(super) fn is_header(start: &[u8]) -> bool {
    matches!(start, [_, _, _, _, 0, 0, 0, 0, b'{', ..])
}

/// Returns the length of the header of a file of `total` bytes that begins with `start`.
fn header_length(start: &[u8], total: u64) -> Checked<u64> {
    let length = start.first_chunk().map(|length| u64::from_le_bytes(*length)).filter(|&n| n <= LONGEST_HEADER);
    match length {
        Some(length) if start.get(LENGTH as usize) != Some(&b'{') => Err(not_safetensors(start, Some(length))),
        Some(length) if LENGTH + length <= total => Ok(length),
        Some(_) => Err(format!("the file is cut off inside its header, after {total} bytes; download it again")),
        None => Err(not_safetensors(start, None)),
    }
}

/// Describes a file that is not a safetensors file.
fn not_safetensors(start: &[u8], length: Option<u64>) -> String {
    let text = String::from_utf8_lossy(start).trim_start().to_lowercase();
    let looks = match start {
        [] => "the file is empty; download it again",
        _ if text.starts_with("<!doctype") || text.starts_with("<html") || text.starts_with("<?xml") => {
            "the file is an HTML page, such as a login or error page saved as weights; download it again"
        }
        _ if text.starts_with("version https://git-lfs") => {
            "the file is a git-lfs pointer, not the weights; run `git lfs pull`"
        }
        [b'P', b'K', ..] | [0x80, 2..=5, ..] => {
            "the file is a checkpoint of PyTorch, and here only safetensors is read; name a safetensors file"
        }
        [b'G', b'G', b'U', b'F', ..] => "the file is in GGUF format, which is not supported; name a safetensors file",
        _ if text.starts_with('{') => "the file is JSON, not weights; name a safetensors file",
        _ if length == Some(0) => "the file begins with zeros, as an unfinished download does; download it again",
        _ => {
            "the file is neither a safetensors file nor a checkpoint of PyTorch, because it begins as neither does; name \
             such a file"
        }
    };
    looks.into()
}

/// A JSON object with its fields in order; a repeated name is an error.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Fields;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> std::result::Result<Fields, M::Error> {
                let (mut fields, mut names) = (Vec::new(), std::collections::HashSet::new());
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if !names.insert(name.clone()) {
                        return Err(serde::de::Error::custom(format_args!("{name} occurs twice")));
                    }
                    fields.push((name, value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// Returns the tensors that `header` lists, in the order of their bytes, and the metadata. The bytes of the tensors
/// must fill the file from byte `start` to its length `total`, without gaps.
fn entries(header: &[u8], start: u64, total: u64) -> Checked<(Vec<Storage>, BTreeMap<String, String>)> {
    let Fields(fields) =
        json::parse(header).map_err(|error| format!("the file's header is not valid safetensors JSON: {error}"))?;
    let mut metadata = BTreeMap::new();
    let mut written = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        let wrong = |error| format!("the file's header has an invalid entry for {name}: {error}");
        if name == "__metadata__" {
            metadata = serde_json::from_value(value).map_err(wrong)?;
        } else {
            let entry: Written = serde_json::from_value(value).map_err(wrong)?;
            written.push((name, entry));
        }
    }
    written.sort_by_key(|(_, entry)| entry.data_offsets);

    let room = total.saturating_sub(start);
    let mut entries = Vec::with_capacity(written.len());
    let mut end = 0;
    for (name, Written { dtype, shape, data_offsets: (from, to) }) in written {
        let (kind, item) = kind(&dtype).ok_or_else(|| {
            format!("tensor {name} is stored as {dtype}, which is not supported; convert the file to F32, F16 or BF16")
        })?;
        if from != end || to < from {
            return Err(format!(
                "tensor {name} has bytes {from}..{to}, expected to begin at {end}; the file has an overlap, gap or \
                 damage; download it again"
            ));
        }
        if to > room {
            return Err(format!(
                "the file is cut off: tensor {name} ends at byte {to}, but only {room} bytes are there; download it \
                 again"
            ));
        }
        let size = shape.iter().try_fold(item, |size, &n| size.checked_mul(n).filter(|_| n >= 0));
        if size.and_then(|size| u64::try_from(size).ok()) != Some(to - from) {
            return Err(format!(
                "tensor {name} has shape {shape:?} of {dtype}, which does not fit into its {} bytes; download the file \
                 again",
                to - from
            ));
        }
        end = to;
        let (start, length) = ((start + from) as i64, (to - from) as i64);
        let views = vec![View { name, shape, place: None }];
        entries.push(Storage { start, length, kind, item, big_endian: false, views });
    }
    if end != room {
        return Err(format!(
            "the file has {} bytes behind its last tensor, expected none; download it again",
            room - end
        ));
    }
    Ok((entries, metadata))
}

/// Returns the kind that the format calls `dtype`, and the size of one number in bytes; `None` for other types.
fn kind(dtype: &str) -> Option<(Kind, i64)> {
    Some(match dtype {
        "F64" => (Kind::Double, 8),
        "F32" => (Kind::Float, 4),
        "F16" => (Kind::Half, 2),
        "BF16" => (Kind::BFloat16, 2),
        "F8_E4M3" => (Kind::Float8e4m3fn, 1),
        "F8_E5M2" => (Kind::Float8e5m2, 1),
        "I64" => (Kind::Int64, 8),
        "I32" => (Kind::Int, 4),
        "I16" => (Kind::Int16, 2),
        "I8" => (Kind::Int8, 1),
        "U8" => (Kind::Uint8, 1),
        "BOOL" => (Kind::Bool, 1),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::mapped::STRETCH;
    use super::*;
    use std::io::Write;

    /// Builds a file of `header` and the numbers 1.0, 2.0, … as f32.
    fn file(header: &str, numbers: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.bytes());
        bytes.extend((1..=numbers).flat_map(|i| (i as f32).to_le_bytes()));
        bytes
    }

    const PAIR: &str = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1,1],"data_offsets":[8,12]}}"#;

    /// Returns the problem that both ways of reading report for `bytes`; the two must agree.
    fn problem(bytes: &[u8]) -> String {
        let mut stored = tempfile::NamedTempFile::new().unwrap();
        stored.write_all(bytes).unwrap();
        let problems = [read_safetensors(stored.path()), parse_safetensors("bytes", bytes)].map(|read| match read {
            Err(Error::Malformed { problem, .. }) => problem,
            other => panic!("{other:?}"),
        });
        assert_eq!(problems[0], problems[1]);
        problems[0].clone()
    }

    #[test]
    fn files_written_by_torch_are_read_in_every_kind() -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("all.safetensors");
        let kinds = [Kind::Float, Kind::Half, Kind::BFloat16, Kind::Double, Kind::Int64, Kind::Uint8, Kind::Bool];
        let mut tensors: Vec<_> = kinds
            .map(|kind| (format!("{kind:?}"), Tensor::from_slice(&[0i64, 1, 1, 0, 1, 1]).reshape([2, 3]).to_kind(kind)))
            .into();
        tensors.push(("scalar".into(), Tensor::from(2.5f32)));
        tensors.push(("empty".into(), Tensor::zeros([0, 3], (Kind::Float, Device::Cpu))));
        Tensor::write_safetensors(&tensors, &path)?;
        let bytes = std::fs::read(&path).unwrap();
        for read in [read_safetensors(&path)?, parse_safetensors("bytes", &bytes)?] {
            assert_eq!(read.len(), tensors.len());
            for (name, tensor) in &tensors {
                assert_eq!((read[name].kind(), read[name].size()), (tensor.kind(), tensor.size()));
                assert_eq!(&read[name], tensor, "{name}");
            }
        }
        Ok(())
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn dropped_tensors_release_their_mapping() -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large.safetensors");
        let bytes = |value: i64| Tensor::full([STRETCH + 5], value, (Kind::Uint8, Device::Cpu));
        Tensor::write_safetensors(&[("a", bytes(1)), ("b", bytes(2)), ("c", bytes(3))], &path)?;
        let mut tensors = read_safetensors(&path)?;
        assert_eq!(["a", "b", "c"].map(|name| tensors[name].int64_value(&[STRETCH + 4])), [1, 2, 3]);
        let mappings = || {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            maps.lines().filter(|line| line.ends_with("large.safetensors")).count()
        };
        for left in [2, 1, 0] {
            drop(tensors.pop_first());
            assert_eq!(mappings(), left);
        }
        Ok(())
    }

    #[test]
    fn header_without_padding_is_read() -> Result<()> {
        for spaces in 0..8 {
            let bytes = file(&format!("{PAIR}{}", " ".repeat(spaces)), 3);
            let read = parse_safetensors("bytes", &bytes)?;
            assert_eq!(read["a"], Tensor::from_slice(&[1f32, 2.0]));
            assert_eq!(read["b"], Tensor::from_slice(&[3f32]).reshape([1, 1]));
        }
        Ok(())
    }

    #[test]
    fn file_cut_off_anywhere_is_an_error() {
        let bytes = file(PAIR, 3);
        for length in 0..bytes.len() {
            problem(&bytes[..length]);
        }
        assert!(problem(&bytes[..40]).contains("cut off inside its header"));
        assert!(
            problem(&bytes[..bytes.len() - 1])
                .contains("cut off: tensor b ends at byte 12, but only 11 bytes are there")
        );
        assert!(problem(&file(PAIR, 4)).contains("has 4 bytes behind its last tensor"));
    }

    #[test]
    fn invalid_header_entries_are_errors() {
        let of = |dtype: &str, shape: &str, offsets: &str| {
            problem(&file(&format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#), 2))
        };
        assert!(of("F33", "[2]", "[0,8]").contains("a is stored as F33, which is not supported"));
        assert!(of("F32", "[3]", "[0,8]").contains("a has shape [3] of F32, which does not fit into its 8 bytes"));
        assert!(of("F32", "[-2]", "[0,8]").contains("shape [-2]"));
        assert!(of("F32", "[4611686018427387905,4]", "[0,8]").contains("into its 8 bytes"));
        assert!(of("F32", "[2]", "[8,0]").contains("overlap, gap or damage"));
        assert!(of("F32", "[1]", "[4,8]").contains("expected to begin at 0"));
        assert!(of("F32", "[2]", "[0,18446744073709551615]").contains("cut off"));
        assert!(of("F32", "2", "[0,8]").contains("has an invalid entry for a"));
        assert!(
            problem(&file(&PAIR.replace("[8,12]", "[4,8]"), 3)).contains("b has bytes 4..8, expected to begin at 8")
        );
        assert!(problem(&file("{\"a\":", 3)).contains("header is not valid safetensors JSON"));
        let twice = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
        assert!(problem(&file(twice, 1)).contains("a occurs twice"));
        assert!(problem(&file(r#"{"__metadata__":{"n":1}}"#, 0)).contains("has an invalid entry for __metadata__"));
    }

    #[test]
    fn error_names_the_format_of_other_files() {
        let page = "\n<!DOCTYPE html>\n<html><head><title>404</title></head></html>";
        assert!(problem(page.as_bytes()).contains("is an HTML page"));
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
        assert!(problem(pointer.as_bytes()).contains("git lfs pull"));
        assert!(problem(b"PK\x03\x04 archive/data.pkl").contains("is a checkpoint of PyTorch"));
        assert!(problem(br#"{"error": "Repository not found"}"#).contains("is JSON"));
        assert!(problem(&[0; 1000]).contains("unfinished download"));
        assert!(problem(b"").contains("is empty"));
        assert!(matches!(read_safetensors(Path::new("/nowhere/at/all")), Err(Error::Io { .. })));
    }

    #[test]
    fn damaged_headers_never_panic() {
        let whole = file(PAIR, 3);
        let mut state = 7u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % below
        };
        for _ in 0..20_000 {
            let mut bytes = whole.clone();
            for _ in 0..=random(3) {
                let at = random(bytes.len());
                match random(3) {
                    0 => bytes[at] = random(256) as u8,
                    1 => bytes.truncate(at + 1),
                    _ => bytes.insert(at, b"0123456789[]{}\",:-"[random(18)]),
                }
            }
            let _ = parse_safetensors("bytes", &bytes); // a result or an error, but no panic
        }
        // A false header length is an error before any memory of that length is reserved.
        for claimed in [1, 2, 99_999_999, 100_000_001, u64::MAX - 7, u64::MAX] {
            let bytes = [claimed.to_le_bytes().as_slice(), b"{\"a\":1}"].concat();
            problem(&bytes);
        }
    }
}
