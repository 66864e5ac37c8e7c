//! Storages and tensors from the values that a pickle hands to PyTorch's functions.

use super::flaw::Checked;
use super::global::Global;
use super::heap::{Heap, Object, Value};
use super::tensor::{Storage, Tensor, within_bound};

/// Largest number of axes of a tensor.
const MOST_AXES: usize = 8;
/// Largest length of a storage's key in bytes; PyTorch's keys are numbers.
const LONGEST_KEY: usize = 255;

/// Returns the storage that a persistent id names: `("storage", class, key, device, count)`. Returns `None` for an id
/// of something else, and for a class of storages that is not known.
///
/// # Errors
/// A sentence about an id that is not as PyTorch writes it.
pub(super) fn storage(heap: &Heap, id: Value) -> Checked<Option<Storage>> {
    let malformed = || Err("the pickle has an invalid reference to a storage; download the file again".into());
    let Some([what, class, rest @ ..]) = heap.tuple(id) else { return malformed() };
    let Some(what) = heap.text(*what) else { return malformed() };
    let kind = match heap.global(*class) {
        Some(Global::Storage(kind)) if &**what == "storage" => *kind,
        Some(_) => return Ok(None),
        None => return malformed(),
    };
    let (key, count) = match rest {
        &[key, _, Value::Int(count)] | &[key, _, Value::Int(count), Value::None] => (heap.text(key), count),
        &[_, _, Value::Int(_), _] => {
            return Err("the pickle has a storage inside another storage, as PyTorch wrote before version 0.4; save \
                        the file again with a newer PyTorch"
                .into());
        }
        _ => return malformed(),
    };
    match key.filter(|key| key.len() <= LONGEST_KEY) {
        Some(key) => Storage::new(key.clone(), kind, count).map(Some),
        None => malformed(),
    }
}

/// Returns the tensor that PyTorch's function makes of `args`: a storage, an offset, the axes and the strides, then
/// values that do not matter. `of_kind` is true for the function whose seventh argument is the kind. Returns `None` for
/// a storage or a kind that is not known.
///
/// # Errors
/// A sentence about arguments that do not describe a tensor inside its storage.
pub(super) fn tensor(heap: &Heap, args: &[Value], of_kind: bool) -> Checked<Option<Tensor>> {
    let malformed = || Err("the pickle has a tensor with invalid arguments; download the file again".into());
    let &[storage, Value::Int(offset), shape, strides, ..] = args else {
        return if args.first() == Some(&Value::Inert) { Ok(None) } else { malformed() };
    };
    let storage = match heap.get(storage) {
        Some(Object::Storage(storage)) => storage.clone(),
        None if storage == Value::Inert => return Ok(None),
        _ => return malformed(),
    };
    let kind = match (of_kind, args.get(6).and_then(|kind| heap.global(*kind)), storage.kind) {
        (true, Some(&Global::Kind(kind)), _) | (false, _, Some(kind)) => kind,
        (true, Some(Global::Other(_)), _) => return Ok(None),
        _ => return malformed(),
    };
    match (within_bound(offset), axes(heap, shape), axes(heap, strides)) {
        (Some(offset), Some(shape), Some(strides)) if shape.len() == strides.len() => {
            Tensor::new(storage, kind, offset, shape, strides).map(Some)
        }
        _ => malformed(),
    }
}

/// Returns the numbers of a tuple or list of axes.
fn axes(heap: &Heap, value: Value) -> Option<Vec<i64>> {
    let (Object::Tuple(values) | Object::List(values)) = heap.get(value)? else { return None };
    let number = |value: &Value| match value {
        Value::Int(number) => within_bound(*number),
        _ => None,
    };
    if values.len() <= MOST_AXES { values.iter().map(number).collect() } else { None }
}
