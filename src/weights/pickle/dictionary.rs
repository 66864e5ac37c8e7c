//! Names of the tensors in a pickle's dictionaries.

use super::flaw::Checked;
use super::heap::{DEEPEST, Heap, Object, Value};
use super::machine::Pickled;
use super::tensor::Tensor;
use crate::wording::excerpt;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Keys of the dictionary of a network's tensors, in the dictionaries of training programs.
const WRAPPERS: [&str; 3] = ["state_dict", "model_state_dict", "module"];
/// Largest number of texts and integers that are read beside the tensors.
const MOST_METADATA: usize = 100;
/// Longest key that is a part of a tensor's name, in bytes.
const LONGEST_KEY: usize = 512;
/// Number of times that an item of a dictionary may be looked at, on average. A dictionary in several places gives its
/// tensors several names.
const REPEATS: u64 = 4;
/// Largest length of all names together in bytes, for each byte of the pickle, and for a pickle of any length.
const NAMES: (u64, u64) = (4, 1 << 16);
/// The problem of a pickle with more levels or names.
const REPEATED: &str = "the dictionaries of the pickle contain each other too often; download the file again";

/// The tensors of a pickle by their names, and the texts and integers beside them.
#[derive(Default)]
pub(super) struct Named {
    pub tensors: BTreeMap<String, Rc<Tensor>>,
    pub metadata: BTreeMap<String, String>,
}

impl Named {
    /// Names the tensors of a pickle of `length` bytes. The keys of dictionaries inside each other are joined by dots.
    ///
    /// # Errors
    /// A sentence, if the pickle is not a dictionary of tensors.
    pub(super) fn of(pickled: &Pickled, length: u64) -> Checked<Self> {
        let heap = &pickled.heap;
        let Some(mut items) = heap.dictionary(pickled.root) else {
            return Err(format!(
                "the file holds {}; expected a dictionary of tensors; save the state_dict() of the network instead",
                describe(heap, pickled.root)
            )
            .into());
        };
        let is_sequence = |value| matches!(heap.get(value), Some(Object::Tuple(_) | Object::List(_)));
        if items.iter().any(|(key, value)| matches!(key, Value::Int(_)) && is_sequence(*value)) {
            return Err("the file is a hypernetwork, which is not supported; use a LoRA or an embedding instead".into());
        }
        let mut named = Self { metadata: metadata(heap, items), ..Self::default() };
        for _ in 0..DEEPEST {
            let inner = WRAPPERS.iter().find_map(|wrapper| heap.dictionary(heap.item(items, wrapper)?));
            match inner {
                Some(inner) => items = inner,
                None => break,
            }
        }
        let mut left = Left { items: REPEATS * heap.items(), bytes: NAMES.0 * length + NAMES.1 };
        named.add(heap, items, "", DEEPEST, &mut left)?;
        if named.tensors.is_empty() {
            return Err("the file holds a dictionary without tensors; name a file of weights".into());
        }
        Ok(named)
    }

    /// Adds the tensors of a dictionary, whose names begin with `start`. `depth` is the number of levels that are left.
    fn add(&mut self, heap: &Heap, items: &[(Value, Value)], start: &str, depth: u8, left: &mut Left) -> Checked<()> {
        let depth = depth.checked_sub(1).ok_or(REPEATED)?;
        let by_key: BTreeMap<Cow<'_, str>, Value> =
            items.iter().filter_map(|(key, value)| Some((key_text(heap, *key)?, *value))).collect();
        for (key, value) in by_key {
            left.items = left.items.checked_sub(1).ok_or(REPEATED)?;
            let Some(object @ (Object::Tensor(_) | Object::Dictionary { .. })) = heap.get(value) else { continue };
            let length = start.len() + key.len() + 1;
            left.bytes = left.bytes.checked_sub(length as u64).ok_or(REPEATED)?;
            let name = if start.is_empty() { key.into_owned() } else { format!("{start}.{key}") };
            match object {
                Object::Tensor(tensor) => {
                    if self.tensors.contains_key(&name) {
                        let name = excerpt(&name, 100);
                        return Err(format!("the file has several tensors named {name}; download it again").into());
                    }
                    self.tensors.insert(name, tensor.clone());
                }
                Object::Dictionary { items, .. } => self.add(heap, items, &name, depth, left)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Bounds of the work on dictionaries.
struct Left {
    /// Number of items that may still be looked at.
    items: u64,
    /// Length in bytes that further names may have.
    bytes: u64,
}

/// Returns the text of a key, or the digits of a key that is an integer; `None` for longer texts, and for other keys,
/// such as classes.
fn key_text(heap: &Heap, key: Value) -> Option<Cow<'_, str>> {
    match key {
        Value::Int(number) => Some(number.to_string().into()),
        key => heap.text(key).map(|text| Cow::Borrowed(&**text)).filter(|text| text.len() <= LONGEST_KEY),
    }
}

/// Returns the short texts and the integers of a dictionary.
fn metadata(heap: &Heap, items: &[(Value, Value)]) -> BTreeMap<String, String> {
    let entries = items.iter().filter_map(|(key, value)| Some((heap.text(*key)?, key_text(heap, *value)?)));
    let short = entries.filter(|(key, _)| key.len() <= LONGEST_KEY);
    short.take(MOST_METADATA).map(|(key, text)| (String::from(&**key), text.into_owned())).collect()
}

fn describe(heap: &Heap, root: Value) -> &'static str {
    match heap.get(root) {
        Some(Object::Tensor(_)) => "a tensor without a name",
        Some(Object::List(_) | Object::Tuple(_)) => "a list",
        Some(Object::Text(_)) => "a text",
        _ if root == Value::Inert => "an object of Python, such as a whole network",
        _ => "a value of Python",
    }
}
