//! [`Legacy`]: the layout of PyTorch before 1.6: five pickles in a row, then the storages.

use super::bytes::Bytes;
use super::flaw::Checked;
use super::heap::{Object, Value};
use super::machine::{self, Pickled};
use super::tensor::Storage;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::rc::Rc;

/// The first pickle of a file.
const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
/// The second pickle of a file.
const VERSION: i128 = 1001;

/// Places of the storages in a file: offset and length of each in bytes, by key.
pub(super) struct Legacy(HashMap<Rc<str>, (u64, i64)>);

impl Legacy {
    /// Reads a file of `total` bytes. Also returns the pickle of the tensors, and its length in bytes.
    ///
    /// # Errors
    /// A flaw, if the file is not a checkpoint of PyTorch in this layout.
    pub(super) fn read(file: File, total: u64) -> Checked<(Self, Pickled, u64)> {
        let mut bytes = Bytes::new(BufReader::new(file), total);
        if machine::read(&mut bytes)?.root != Value::Int(MAGIC) {
            return Err(
                "the file is a pickle of Python, but not a checkpoint of PyTorch; name a file of weights".into()
            );
        }
        if machine::read(&mut bytes)?.root != Value::Int(VERSION) {
            return Err(
                "the file has an unknown version of PyTorch's format; save it again with a newer PyTorch".into()
            );
        }
        machine::read(&mut bytes)?; // About the machine that wrote the file. Storages are little-endian on any machine.
        let before = bytes.position();
        let pickled = machine::read(&mut bytes)?;
        let length = bytes.position() - before;
        let keys = machine::read(&mut bytes)?;
        let mut next = bytes.position();
        let mut file = bytes.into_source().into_inner();

        let items: HashMap<&str, i64> =
            pickled.heap.storages().map(|storage| (&*storage.key, storage.item())).collect();
        let Some(Object::List(listed)) = keys.heap.get(keys.root) else {
            return Err("the list of storages is missing; the file is damaged; download it again".into());
        };
        let mut places = HashMap::new();
        for key in listed {
            let key = keys.heap.text(*key).ok_or("the list of storages is damaged; download the file again")?;
            let item =
                items.get(&**key).ok_or_else(|| format!("no tensor uses storage {key}; download the file again"))?;
            file.seek(SeekFrom::Start(next))?;
            let mut count = Vec::new();
            file.by_ref().take(8).read_to_end(&mut count)?;
            let count = count.first_chunk().map(|count| i64::from_le_bytes(*count));
            let size = count.and_then(|count| count.checked_mul(*item)).filter(|size| *size >= 0);
            let end = size.and_then(|size| (next + 8).checked_add(size.unsigned_abs())).filter(|end| *end <= total);
            let (Some(size), Some(end)) = (size, end) else {
                return Err(format!("the file is cut off inside storage {key}; download it again").into());
            };
            places.insert(key.clone(), (next + 8, size));
            next = end;
        }
        Ok((Self(places), pickled, length))
    }

    /// Returns the offset of a storage's first byte in the file.
    ///
    /// # Errors
    /// A sentence, if the storage is missing or shorter than its tensors say.
    pub(super) fn locate(&self, storage: &Storage) -> Checked<i64> {
        let (key, length) = (&storage.key, storage.length());
        match self.0.get(key) {
            Some((start, size)) if *size >= length => Ok(*start as i64),
            Some((_, size)) => Err(format!(
                "storage {key} has {size} bytes, and the pickle says {length}; the file is damaged; download it again"
            )
            .into()),
            None => Err(format!("storage {key} is missing; download the file again").into()),
        }
    }
}
