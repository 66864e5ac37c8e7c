//! Tensors and storages that a pickle names, with checks of every number.

use super::flaw::Checked;
use crate::weights::mapped::Place;
use crate::wording::excerpt;
use std::rc::Rc;
use tch::Kind;

/// Upper bound of every number that describes a tensor.
const BOUND: i64 = 1 << 48;
/// Largest count of a tensor's numbers for each number of its storage; a stride of 0 repeats numbers.
const MOST_REPEATED: i64 = 64;

/// A storage: numbers outside of the pickle, which tensors share.
#[derive(Debug)]
pub(super) struct Storage {
    /// Name of the storage in the file.
    pub key: Rc<str>,
    /// Kind of the numbers; `None` for bytes, whose kind depends on the tensor.
    pub kind: Option<Kind>,
    /// Count of the numbers, or of the bytes.
    elements: i64,
}

impl Storage {
    /// Returns a storage of `elements` numbers.
    ///
    /// # Errors
    /// A sentence, if the count is negative or too large.
    pub(super) fn new(key: Rc<str>, kind: Option<Kind>, elements: i128) -> Checked<Self> {
        match within_bound(elements) {
            Some(elements) => Ok(Self { key, kind, elements }),
            None => Err(format!(
                "storage {} has {elements} elements; expected 0 to {BOUND}; download the file again",
                excerpt(&key, 40)
            )
            .into()),
        }
    }

    /// Returns the size in bytes of an element.
    pub(super) fn item(&self) -> i64 {
        self.kind.map_or(1, item)
    }

    /// Returns the length of the storage in bytes.
    pub(super) fn length(&self) -> i64 {
        self.elements * self.item()
    }
}

/// Returns the size in bytes of a number.
pub(super) fn item(kind: Kind) -> i64 {
    kind.elt_size_in_bytes() as i64
}

/// Returns a number that describes a tensor; `None` if the number is negative or too large.
pub(super) fn within_bound(number: i128) -> Option<i64> {
    i64::try_from(number).ok().filter(|number| (0..BOUND).contains(number))
}

/// A tensor in a storage.
#[derive(Debug)]
pub(super) struct Tensor {
    pub storage: Rc<Storage>,
    pub kind: Kind,
    pub shape: Vec<i64>,
    pub place: Place,
}

impl Tensor {
    /// Returns the tensor whose first number is number `offset` of the storage, which is read as numbers of `kind`.
    /// Offset, shape and strides are within their bound, and there are as many strides as axes.
    ///
    /// # Errors
    /// A sentence, if the tensor does not lie inside its storage, or repeats its numbers too often.
    pub(super) fn new(
        storage: Rc<Storage>,
        kind: Kind,
        offset: i64,
        shape: Vec<i64>,
        strides: Vec<i64>,
    ) -> Checked<Self> {
        let (key, elements) = (&storage.key, storage.length() / item(kind));
        let is_empty = shape.contains(&0);
        let numbers = shape.iter().try_fold(1i64, |numbers, &n| numbers.checked_mul(n));
        if !is_empty && numbers.is_none_or(|numbers| numbers > elements.saturating_mul(MOST_REPEATED)) {
            return Err(format!(
                "a tensor of shape {shape:?} repeats the {elements} numbers of storage {key} more than {MOST_REPEATED} \
                 times, which no checkpoint needs; download the file again"
            )
            .into());
        }
        // index of the last number = offset + Σ (n − 1) · stride
        let steps = shape.iter().zip(&strides).map(|(&n, &stride)| i128::from(n - 1) * i128::from(stride));
        let last = i128::from(offset) + if is_empty { -1 } else { steps.sum() };
        if last >= i128::from(elements) {
            return Err(format!(
                "a tensor of shape {shape:?} with strides {strides:?} ends at number {last} of storage {key}, which has \
                 {elements} numbers; the file is damaged; download it again"
            )
            .into());
        }
        let span = last as i64 + 1 - offset;
        Ok(Self { storage, kind, shape, place: Place { offset, span, strides } })
    }
}
