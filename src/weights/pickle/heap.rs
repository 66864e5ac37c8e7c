//! [`Heap`]: the values that a pickle builds.

use super::flaw::Checked;
use super::global::Global;
use super::tensor::{Storage, Tensor};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Largest depth of values inside each other. Real checkpoints have up to 10 levels.
pub(super) const DEEPEST: u8 = 100;

/// A value of a pickle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    None,
    Bool,
    Int(i128),
    /// A value that is not read: a number with a fraction, bytes, a set, or an object of a class that is not known.
    Inert,
    /// An object of the [`Heap`], by its index.
    Object(usize),
}

/// An object, which values refer to.
#[derive(Debug)]
pub(super) enum Object {
    Text(Rc<str>),
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dictionary {
        items: Vec<(Value, Value)>,
        /// True for the dictionary of a `ParameterDict`, whose items are set as attributes.
        of_parameters: bool,
    },
    Global(Global),
    Storage(Rc<Storage>),
    Tensor(Rc<Tensor>),
}

/// The objects that a pickle builds. An object stays until the whole pickle is dropped, so objects may refer to each
/// other in any way.
#[derive(Debug, Default)]
pub(super) struct Heap {
    objects: Vec<(Object, u8)>,
    /// Number of items that were added to dictionaries.
    items: u64,
    /// Number of objects of classes that are not known, by the name of the class.
    pub skipped: BTreeMap<Rc<str>, usize>,
}

impl Heap {
    /// Returns the number of items that were added to dictionaries.
    pub(super) const fn items(&self) -> u64 {
        self.items
    }

    /// Returns the one copy of the name of a class that is not known, which counts as named from then on.
    pub(super) fn intern_name(&mut self, name: Rc<str>) -> Rc<str> {
        match self.skipped.get_key_value(&name) {
            Some((known, _)) => known.clone(),
            None => {
                self.skipped.insert(name.clone(), 0);
                name
            }
        }
    }

    /// Adds an object and returns the value that refers to it.
    ///
    /// # Errors
    /// A sentence, if the object contains values that are nested more than [`DEEPEST`] deep.
    pub(super) fn add(&mut self, object: Object) -> Checked<Value> {
        if let Object::Dictionary { items, .. } = &object {
            self.items += items.len() as u64;
        }
        let inside = match &object {
            Object::Tuple(values) | Object::List(values) => self.deepest(values),
            Object::Dictionary { items, .. } => {
                items.iter().map(|item| self.deepest(&[item.0, item.1])).max().flatten()
            }
            _ => None,
        };
        let depth = check_depth(inside.unwrap_or_default())?;
        self.objects.push((object, depth));
        Ok(Value::Object(self.objects.len() - 1))
    }

    /// Adds a text.
    pub(super) fn add_text(&mut self, text: &str) -> Checked<Value> {
        self.add(Object::Text(text.into()))
    }

    /// Returns the object that a value refers to; `None` for other values.
    pub(super) fn get(&self, value: Value) -> Option<&Object> {
        let Value::Object(index) = value else { return None };
        self.objects.get(index).map(|(object, _)| object)
    }

    pub(super) fn text(&self, value: Value) -> Option<&Rc<str>> {
        match self.get(value) {
            Some(Object::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn tuple(&self, value: Value) -> Option<&[Value]> {
        match self.get(value) {
            Some(Object::Tuple(values)) => Some(values),
            _ => None,
        }
    }

    pub(super) fn dictionary(&self, value: Value) -> Option<&[(Value, Value)]> {
        match self.get(value) {
            Some(Object::Dictionary { items, .. }) => Some(items),
            _ => None,
        }
    }

    /// Returns the storages that the pickle names.
    pub(super) fn storages(&self) -> impl Iterator<Item = &Storage> {
        self.objects.iter().filter_map(|(object, _)| match object {
            Object::Storage(storage) => Some(&**storage),
            _ => None,
        })
    }

    pub(super) fn global(&self, value: Value) -> Option<&Global> {
        match self.get(value) {
            Some(Object::Global(global)) => Some(global),
            _ => None,
        }
    }

    /// Returns the last item of a dictionary whose key is the text `key`.
    pub(super) fn item(&self, items: &[(Value, Value)], key: &str) -> Option<Value> {
        let is_key = |item: &&(Value, Value)| self.text(item.0).is_some_and(|text| &**text == key);
        items.iter().rev().find(is_key).map(|(_, value)| *value)
    }

    /// Takes the values out of a list, which is empty then.
    pub(super) fn take_list(&mut self, value: Value) -> Option<Vec<Value>> {
        let Value::Object(index) = value else { return None };
        match self.objects.get_mut(index) {
            Some((Object::List(values), _)) => Some(std::mem::take(values)),
            _ => None,
        }
    }

    /// Takes the items out of a dictionary, which is empty then.
    pub(super) fn take_items(&mut self, value: Value) -> Option<Vec<(Value, Value)>> {
        let Value::Object(index) = value else { return None };
        match self.objects.get_mut(index) {
            Some((Object::Dictionary { items, .. }, _)) => Some(std::mem::take(items)),
            _ => None,
        }
    }

    /// Appends values to a list. Values that are not read take anything.
    ///
    /// # Errors
    /// A sentence, if `list` is a value of another kind, or the values are nested too deep.
    pub(super) fn append(&mut self, list: Value, values: Vec<Value>) -> Checked<()> {
        let inside = self.deepest(&values).unwrap_or_default();
        match self.get_mut(list) {
            None => Ok(()),
            Some((Object::List(all), depth)) => {
                *depth = check_depth(inside)?.max(*depth);
                all.extend(values);
                Ok(())
            }
            Some(_) => Err("the pickle appends to a value that is not a list; download the file again".into()),
        }
    }

    /// Adds items to a dictionary, as keys and values in turn. Values that are not read take anything.
    ///
    /// # Errors
    /// A sentence, if `dictionary` is a value of another kind, a key has no value, or the values are nested too deep.
    pub(super) fn insert(&mut self, dictionary: Value, values: &[Value]) -> Checked<()> {
        let inside = self.deepest(values).unwrap_or_default();
        let (pairs, []) = values.as_chunks::<2>() else {
            return Err("the pickle has a dictionary with a key without a value; download the file again".into());
        };
        match self.get_mut(dictionary) {
            None => Ok(()),
            Some((Object::Dictionary { items, .. }, depth)) => {
                *depth = check_depth(inside)?.max(*depth);
                items.extend(pairs.iter().map(|[key, value]| (*key, *value)));
                self.items += pairs.len() as u64;
                Ok(())
            }
            Some(_) => Err("the pickle adds items to a value that is not a dictionary; download the file again".into()),
        }
    }

    /// Returns a mutable object and its depth; `None` for values that are not read.
    fn get_mut(&mut self, value: Value) -> Option<&mut (Object, u8)> {
        let Value::Object(index) = value else { return None };
        let is_other = matches!(self.objects.get(index), Some((Object::Global(_) | Object::Tensor(_), _)));
        self.objects.get_mut(index).filter(|_| !is_other)
    }

    /// Returns the greatest depth of the objects among `values`.
    fn deepest(&self, values: &[Value]) -> Option<u8> {
        let depth = |value: &Value| match value {
            Value::Object(index) => self.objects.get(*index).map(|(_, depth)| *depth),
            _ => None,
        };
        values.iter().filter_map(depth).max()
    }
}

/// Returns the depth of an object around objects of the depth `inside`.
fn check_depth(inside: u8) -> Checked<u8> {
    match inside {
        0..DEEPEST => Ok(inside + 1),
        _ => Err(format!("the pickle nests values more than {DEEPEST} deep; download the file again").into()),
    }
}
