//! Tensors at known places of a file, which is mapped into memory and not copied.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Tensors by their name in the checkpoint.
pub type Tensors = BTreeMap<String, Tensor>;

/// Length in bytes of a stretch of a file. Storages that begin in the same stretch share a mapping, and the pages that
/// were read stay resident until the last of their tensors is dropped. Building a model therefore takes little more
/// memory than the model.
pub(super) const STRETCH: i64 = 32 << 20;

/// A range of a file that holds numbers of one kind, after its place and its tensors were checked.
#[derive(Debug)]
pub(super) struct Storage {
    /// Offset of the first byte in the file.
    pub start: i64,
    /// Length in bytes.
    pub length: i64,
    /// Kind of the numbers.
    pub kind: Kind,
    /// Size of one number in bytes.
    pub item: i64,
    /// True if the bytes of every number are in the order of a big-endian machine.
    pub big_endian: bool,
    /// Tensors inside the range.
    pub views: Vec<View>,
}

/// A tensor in a [`Storage`].
#[derive(Debug)]
pub(super) struct View {
    /// Name of the tensor.
    pub name: String,
    /// Lengths of the axes.
    pub shape: Vec<i64>,
    /// Place of the tensor's numbers; `None` if they fill the storage in order.
    pub place: Option<Place>,
}

/// Place of a tensor's numbers in a storage, counted in numbers.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Index of the first number.
    pub offset: i64,
    /// Count of numbers from the first one to the last one, both included.
    pub span: i64,
    /// Distance between neighbors along each axis.
    pub strides: Vec<i64>,
}

/// Maps the storages of a file, which are in the order of their starts, and returns their tensors as views.
///
/// # Errors
/// [`Error::Malformed`] for a path that is not UTF-8; [`Error::Torch`] if the file cannot be mapped.
pub(super) fn map(path: &Path, storages: &[Storage]) -> Result<Tensors> {
    let name = path.to_str().ok_or_else(|| Error::Malformed {
        file: path.display().to_string(),
        problem: "the path is not UTF-8, and libtorch opens only paths in UTF-8; rename the file".into(),
    })?;
    let mut tensors = Tensors::new();
    for stretch in storages.chunk_by(|a, b| a.start / STRETCH == b.start / STRETCH) {
        let end = stretch.iter().map(|storage| storage.start + storage.length).max().unwrap_or_default();
        views(stretch, &Tensor::f_from_file(name, false, end, (Kind::Uint8, Device::Cpu))?, &mut tensors)?;
    }
    Ok(tensors)
}

/// Adds the tensors of `storages` to `tensors`. The added tensors share the memory of `file`, which holds the bytes of
/// the whole file or of its beginning. Storages in the other byte order or off their alignment are copied once each.
pub(super) fn views(storages: &[Storage], file: &Tensor, tensors: &mut Tensors) -> Result<()> {
    for Storage { start, length, kind, item, big_endian, views } in storages {
        let bytes = file.f_narrow(0, *start, *length)?;
        let bytes = match *big_endian && *item > 1 {
            true => bytes.f_view([length / item, *item])?.f_flip([1])?.f_flatten(0, -1)?,
            false if start % item == 0 => bytes,
            false => bytes.f_alias_copy()?,
        };
        let numbers = bytes.f_view_dtype(*kind)?;
        for View { name, shape, place } in views {
            let tensor = match place {
                None => numbers.f_view(shape.as_slice())?,
                Some(Place { offset, span, strides }) => {
                    numbers.f_narrow(0, *offset, *span)?.f_as_strided(shape.as_slice(), strides.as_slice(), None)?
                }
            };
            tensors.insert(name.clone(), tensor);
        }
    }
    Ok(())
}
