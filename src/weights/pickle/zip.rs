//! [`Archive`]: the zip layout of PyTorch's files. Every record is stored as it is, so its bytes can be mapped.

use super::bytes::{Bytes, LONGEST};
use super::flaw::{Checked, Flaw};
use super::machine::{self, Pickled};
use super::tensor::Storage;
use crate::wording::excerpt;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

/// Beginning of a zip file, and of each record.
pub(super) const START: &[u8] = b"PK\x03\x04";
/// Longest directory of a zip file that is read, in bytes.
const LONGEST_DIRECTORY: u64 = 256 << 20;
/// Length of the entry at a directory's end, without its comment.
const END: usize = 22;
/// Longest comment of a zip file.
const LONGEST_COMMENT: u64 = 0xffff;

/// A zip file of PyTorch.
pub(super) struct Archive {
    file: File,
    /// Length of the file in bytes.
    total: u64,
    /// Folder of all records, with a slash at its end.
    root: String,
    records: BTreeMap<String, Record>,
    /// True if storages have the byte order of a big-endian machine.
    pub big_endian: bool,
}

/// A record, as the directory describes it.
#[derive(Clone, Copy)]
struct Record {
    /// Offset of the record's header.
    header: u64,
    /// Length of the contents in bytes.
    size: u64,
    is_compressed: bool,
}

impl Archive {
    /// Reads the directory of a file of `total` bytes.
    ///
    /// # Errors
    /// A flaw, if the file is not a checkpoint of PyTorch in this layout.
    pub(super) fn open(mut file: File, total: u64) -> Checked<Self> {
        let directory = read_directory(&mut file, total)?;
        let (records, first) = parse_directory(&directory)?;
        let root = first.split_once('/').map_or(String::new(), |(root, _)| format!("{root}/"));
        let has = |name: &str| records.contains_key(&format!("{root}{name}"));
        if !has("data.pkl") || root.is_empty() {
            return Err("the zip file has no folder with data.pkl, so it is not a checkpoint of PyTorch; name a file \
                        of weights"
                .into());
        }
        if has("constants.pkl") {
            return Err("the file is a TorchScript program (it has constants.pkl), which is not supported; save the \
                        tensors of its state_dict() instead"
                .into());
        }
        if let Some((name, _)) = records.iter().find(|(_, record)| record.is_compressed) {
            return Err(format!(
                "the record {} of the zip file is compressed or encrypted, which PyTorch never does; take the file \
                 from its original source",
                excerpt(name, 100)
            )
            .into());
        }
        let mut archive = Self { file, total, root, records, big_endian: false };
        archive.big_endian = archive.reads_big_endian()?;
        Ok(archive)
    }

    /// Reads the byte order. Files of PyTorch before 2.1 do not name it.
    fn reads_big_endian(&mut self) -> Checked<bool> {
        let Some((start, size)) = self.find("byteorder")? else { return Ok(false) };
        match read_at(&mut self.file, start, size.min(16))?.trim_ascii() {
            b"little" => Ok(false),
            b"big" => Ok(true),
            _ => Err("the record byteorder is neither little nor big; download the file again".into()),
        }
    }

    /// Reads the pickle of the tensors' names and shapes. Also returns its length in bytes.
    ///
    /// # Errors
    /// The flaws of [`machine::read`].
    pub(super) fn read_pickle(&mut self) -> Checked<(Pickled, u64)> {
        let (start, size) = self.find("data.pkl")?.unwrap_or_default();
        if size > LONGEST {
            return Err(format!("the record data.pkl has {size} bytes; expected {LONGEST} at most").into());
        }
        self.file.seek(SeekFrom::Start(start))?;
        let mut bytes = Bytes::new(BufReader::new((&mut self.file).take(size)), size);
        let pickled = machine::read(&mut bytes)?;
        Ok((pickled, bytes.position()))
    }

    /// Returns the offset of a storage's first byte in the file.
    ///
    /// # Errors
    /// A sentence, if the record is missing or shorter than the storage.
    pub(super) fn locate(&mut self, storage: &Storage) -> Checked<i64> {
        let name = format!("data/{}", storage.key);
        let length = storage.length();
        match self.find(&name)? {
            Some((start, size)) if size >= length as u64 => Ok(start as i64),
            Some((_, size)) => Err(format!(
                "the record {name} has {size} bytes, and the pickle says {length}; the file is damaged; download it \
                 again"
            )
            .into()),
            None => Err(format!("the record {name} is missing; download the file again").into()),
        }
    }

    /// Returns the offset and the length of a record's contents; `None` if there is no such record.
    fn find(&mut self, name: &str) -> Checked<Option<(u64, u64)>> {
        let Some(&Record { header, size, .. }) = self.records.get(&format!("{}{name}", self.root)) else {
            return Ok(None);
        };
        let bytes = read_at(&mut self.file, header, 30)?;
        let start = match (bytes.starts_with(START), u16_at(&bytes, 26), u16_at(&bytes, 28)) {
            (true, Some(name), Some(extra)) => header + 30 + u64::from(name) + u64::from(extra),
            _ => return Err(damage()),
        };
        match start.checked_add(size) {
            Some(end) if end <= self.total => Ok(Some((start, size))),
            _ => Err(format!("the record {name} ends behind the end of the file; download it again").into()),
        }
    }
}

fn damage() -> Flaw {
    "the directory of the zip file is damaged; download the file again".into()
}

/// Reads `length` bytes at `offset`, or the bytes that are there.
fn read_at(file: &mut File, offset: u64, length: u64) -> Checked<Vec<u8>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

/// Reads the directory at the end of a zip file of `total` bytes.
fn read_directory(file: &mut File, total: u64) -> Checked<Vec<u8>> {
    let longest = LONGEST_COMMENT + END as u64;
    let before = total.saturating_sub(longest);
    let tail = read_at(file, before, longest)?;
    let is_end = |at: &usize| {
        let rest = tail.get(*at..).unwrap_or_default();
        rest.starts_with(b"PK\x05\x06")
            && u16_at(rest, 20).is_some_and(|comment| END + usize::from(comment) == rest.len())
    };
    let at = (0..(tail.len() + 1).saturating_sub(END))
        .rev()
        .find(is_end)
        .ok_or("the zip file has no directory at its end, because the file is cut off or damaged; download it again")?;
    let end = tail.get(at..).unwrap_or_default();
    let (Some(count), Some(size), Some(offset)) = (u16_at(end, 10), u32_at(end, 12), u32_at(end, 16)) else {
        return Err(damage());
    };
    let (mut size, mut offset) = (u64::from(size), u64::from(offset));
    if count == u16::MAX || size == u64::from(u32::MAX) || offset == u64::from(u32::MAX) {
        // The larger numbers of zip64 are in a record of their own, whose offset stands right before the end.
        let locator = (before + at as u64).checked_sub(20).ok_or_else(damage)?;
        let locator = read_at(file, locator, 20)?;
        if locator.starts_with(b"PK\x06\x07") {
            let record = read_at(file, u64_at(&locator, 8).ok_or_else(damage)?, 56)?;
            match (record.starts_with(b"PK\x06\x06"), u64_at(&record, 40), u64_at(&record, 48)) {
                (true, Some(large_size), Some(large_offset)) => (size, offset) = (large_size, large_offset),
                _ => return Err(damage()),
            }
        }
    }
    if offset.checked_add(size).is_none_or(|end| end > total) {
        return Err(damage());
    }
    if size > LONGEST_DIRECTORY {
        return Err(format!("the zip file's directory has {size} bytes; expected {LONGEST_DIRECTORY} at most").into());
    }
    read_at(file, offset, size)
}

/// Returns the records of a directory by their names, and the name of the first record.
fn parse_directory(directory: &[u8]) -> Checked<(BTreeMap<String, Record>, String)> {
    let (mut records, mut first, mut rest) = (BTreeMap::new(), None, directory);
    while !rest.is_empty() {
        let (name, record, length) = parse_record(rest).ok_or_else(damage)?;
        rest = rest.get(length..).unwrap_or_default();
        first.get_or_insert_with(|| name.clone());
        if let Some(name) = records.insert(name.clone(), record).map(|_| name) {
            return Err(format!(
                "the zip file has several records named {}; download the file again",
                excerpt(&name, 100)
            )
            .into());
        }
    }
    Ok((records, first.unwrap_or_default()))
}

/// Parses the first entry of a directory: its name, its record and its own length.
fn parse_record(entry: &[u8]) -> Option<(String, Record, usize)> {
    entry.starts_with(b"PK\x01\x02").then_some(())?;
    let length = |at| u16_at(entry, at).map(usize::from);
    let (name_length, extra_length, comment_length) = (length(28)?, length(30)?, length(32)?);
    let name = entry.get(46..46 + name_length)?;
    let extra = entry.get(46 + name_length..46 + name_length + extra_length)?;
    let end = 46 + name_length + extra_length + comment_length;
    entry.get(..end)?;
    // A number that does not fit into 32 bits is in the extra field, in this order.
    let mut large = zip64(extra);
    let mut number = |at| match u32_at(entry, at)? {
        u32::MAX => {
            let number = u64_at(large, 0)?;
            large = large.get(8..)?;
            Some(number)
        }
        small => Some(u64::from(small)),
    };
    let (size, stored, header) = (number(24)?, number(20)?, number(42)?);
    let is_encrypted = u16_at(entry, 8)? & 1 != 0;
    let is_compressed = u16_at(entry, 10)? != 0 || stored != size || is_encrypted;
    Some((String::from_utf8_lossy(name).into_owned(), Record { header, size, is_compressed }, end))
}

/// Returns the numbers of zip64 in a record's extra field, 8 bytes each; empty if there are none.
fn zip64(mut extra: &[u8]) -> &[u8] {
    while let (Some(id), Some(length)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let end = 4 + usize::from(length);
        if id == 1 {
            return extra.get(4..end).unwrap_or_default();
        }
        extra = extra.get(end..).unwrap_or_default();
    }
    &[]
}
