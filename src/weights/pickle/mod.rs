//! Checkpoints of PyTorch (`.ckpt`, `.pt`, `.pth`, `.bin`), which are pickles of Python.
//!
//! A pickle is a program for a small stack machine that can call any Python function. The [machine] here knows the
//! functions that make tensors, and builds values. It runs nothing. Objects of other classes are counted and skipped;
//! a file that names a function for running programs is refused. A file's numbers stand outside of its pickle, so they
//! are mapped as those of safetensors are.

mod bytes;
mod dictionary;
mod flaw;
mod global;
mod heap;
mod legacy;
mod machine;
mod rebuild;
mod tensor;
#[cfg(test)]
pub(super) mod tests;
mod zip;

use super::mapped::{Storage, View};
use dictionary::Named;
use flaw::Checked;
pub(super) use flaw::Flaw;
use legacy::Legacy;
use machine::Pickled;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::rc::Rc;
use zip::Archive;

/// The tensors of a checkpoint of PyTorch, and the values beside them.
#[derive(Debug)]
pub(super) struct Contents {
    /// Storages in the order of their starts, with the tensors inside.
    pub storages: Vec<Storage>,
    /// Texts and integers in the outermost dictionary, such as `epoch`.
    pub metadata: BTreeMap<String, String>,
    /// Number of objects that were skipped, by the name of their class.
    pub skipped: BTreeMap<String, usize>,
}

/// Returns true if a file that begins with `start` (512 bytes or all) is a pickle or an archive of PyTorch.
pub(super) fn is_pickle(start: &[u8]) -> bool {
    start.starts_with(zip::START) || is_tar(start) || matches!(start, [0x80, 2..=5, ..])
}

fn is_tar(start: &[u8]) -> bool {
    start.get(257..).is_some_and(|rest| rest.starts_with(b"ustar"))
}

/// Reads the names, shapes and places of all tensors in a file of `total` bytes, which begins with `start`.
pub(super) fn read(file: File, start: &[u8], total: u64) -> Checked<Contents> {
    if is_tar(start) {
        return Err(
            "the file is a tar archive of PyTorch before 0.1.10, which is not supported; save it again with a \
                    newer PyTorch"
                .into(),
        );
    }
    if start.starts_with(zip::START) {
        let mut archive = Archive::open(file, total)?;
        let (pickled, length) = archive.read_pickle()?;
        let big_endian = archive.big_endian;
        place(&pickled, length, big_endian, |storage| archive.locate(storage))
    } else {
        let (legacy, pickled, length) = Legacy::read(file, total)?;
        place(&pickled, length, false, |storage| legacy.locate(storage))
    }
}

/// Finds the places of all tensors of a pickle of `length` bytes. `locate` returns the offset of a storage in the file.
fn place(
    pickled: &Pickled,
    length: u64,
    big_endian: bool,
    mut locate: impl FnMut(&tensor::Storage) -> Checked<i64>,
) -> Checked<Contents> {
    let Named { tensors, metadata } = Named::of(pickled, length)?;
    let mut starts = BTreeMap::<(Rc<str>, i64), i64>::new();
    let mut storages = BTreeMap::<(i64, i32), Storage>::new();
    for (name, tensor) in tensors {
        let (storage, kind, item) = (&tensor.storage, tensor.kind, tensor::item(tensor.kind));
        let start = match starts.entry((storage.key.clone(), storage.length())) {
            Entry::Occupied(start) => *start.get(),
            Entry::Vacant(place) => *place.insert(locate(storage)?),
        };
        let length = storage.length() / item * item;
        let empty = || Storage { start, length, kind, item, big_endian, views: Vec::new() };
        let storage = storages.entry((start, kind as i32)).or_insert_with(empty);
        storage.length = storage.length.max(length);
        storage.views.push(View { name, shape: tensor.shape.clone(), place: Some(tensor.place.clone()) });
    }
    let storages: Vec<Storage> = storages.into_values().collect();
    check_overlap(&storages)?;
    let skipped = pickled.heap.skipped.iter().map(|(name, count)| (name.to_string(), *count)).collect();
    Ok(Contents { storages, metadata, skipped })
}

/// Checks that storages that begin at different places do not overlap. Storages are copied if their byte order is that
/// of another machine, and the copies together must not be larger than the file.
fn check_overlap(storages: &[Storage]) -> Checked<()> {
    let mut last: Option<(i64, i64)> = None;
    for Storage { start, length, .. } in storages {
        let end = start + length;
        last = match last {
            Some((before, until)) if before == *start => Some((before, until.max(end))),
            Some((_, until)) if *start < until => {
                return Err("two storages of the file overlap; the file is damaged; download it again".into());
            }
            _ => Some((*start, end)),
        };
    }
    Ok(())
}
