//! The stack machine that builds the values of a pickle. Nothing in the file is run.

use super::bytes::Bytes;
use super::flaw::{Checked, Flaw};
use super::global::Global;
use super::heap::{Heap, Object, Value};
use super::rebuild;
use std::collections::HashMap;
use std::io::BufRead;
use std::rc::Rc;

/// Largest number of operations in a pickle; a checkpoint of SDXL with the state of its training has 500,000.
const MOST_OPERATIONS: u64 = 1 << 23;
/// Newest protocol of pickles.
const NEWEST: u8 = 5;

/// A pickle that was read: its value, and the objects that the value refers to.
#[derive(Debug)]
pub(super) struct Pickled {
    pub root: Value,
    pub heap: Heap,
}

/// State while a pickle is read.
struct Machine<'s, R> {
    source: &'s mut Bytes<R>,
    heap: Heap,
    stack: Vec<Value>,
    /// Lengths of the stack at the marks that are open.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
}

/// Reads one pickle, up to the end that it states itself.
///
/// # Errors
/// A flaw, for an operation that checkpoints do not use, for one that refers to nothing, and for a name of a function
/// that could do harm in another program.
pub(super) fn read<R: BufRead>(source: &mut Bytes<R>) -> Checked<Pickled> {
    let mut machine =
        Machine { source, heap: Heap::default(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    for _ in 0..MOST_OPERATIONS {
        if let Some(root) = machine.step()? {
            return Ok(Pickled { root, heap: machine.heap });
        }
    }
    Err(format!("the pickle has more than {MOST_OPERATIONS} operations, which no checkpoint needs").into())
}

impl<R: BufRead> Machine<'_, R> {
    /// Reads one operation. Returns the pickle's value at its end.
    fn step(&mut self) -> Checked<Option<Value>> {
        let at = self.source.position();
        let operation = self.source.byte()?;
        let value = match operation {
            0x80 => match self.source.byte()? {
                0..=NEWEST => return Ok(None),
                version => {
                    let problem = format!("the pickle has protocol {version}; expected up to {NEWEST}");
                    return Err(format!("{problem}; save the file again with another version of Python").into());
                }
            },
            0x95 => return self.source.skip(8).map(|()| None), // FRAME
            b'.' => return self.pop().map(Some),
            b'(' => {
                self.marks.push(self.stack.len());
                return Ok(None);
            }
            b'N' => Value::None,
            0x88 | 0x89 => Value::Bool,
            b'J' => Value::Int(i32::from_le_bytes(self.source.array()?).into()),
            b'K' => Value::Int(self.source.byte()?.into()),
            b'M' => Value::Int(u16::from_le_bytes(self.source.array()?).into()),
            0x8a => {
                let length = self.source.byte()?;
                self.long(length.into())?
            }
            0x8b => {
                let length = i32::from_le_bytes(self.source.array()?);
                self.long(u64::try_from(length).map_err(|_| "the pickle has a number of a negative length")?)?
            }
            b'G' => self.source.array::<8>().map(|_| Value::Inert)?,
            b'X' => self.unicode(4)?,
            0x8c => self.unicode(1)?,
            0x8d => self.unicode(8)?,
            b'U' => self.latin(1)?,
            b'T' => self.latin(4)?,
            b'C' => self.bytes(1)?,
            b'B' => self.bytes(4)?,
            0x8e => self.bytes(8)?,
            b'}' => self.heap.add(Object::Dictionary { items: Vec::new(), of_parameters: false })?,
            b']' => self.heap.add(Object::List(Vec::new()))?,
            b')' => self.heap.add(Object::Tuple(Vec::new()))?,
            b't' => {
                let values = self.pop_mark()?;
                self.heap.add(Object::Tuple(values))?
            }
            0x85 => self.tuple::<1>()?,
            0x86 => self.tuple::<2>()?,
            0x87 => self.tuple::<3>()?,
            0x8f => Value::Inert, // EMPTY_SET
            0x91 => {
                self.pop_mark()?; // FROZENSET
                Value::Inert
            }
            b's' => {
                let pair = self.pops::<2>()?;
                let dictionary = self.top()?;
                return self.heap.insert(dictionary, &pair).map(|()| None);
            }
            b'u' | 0x90 | b'e' => {
                let values = self.pop_mark()?;
                let target = self.top()?;
                match operation {
                    b'u' => self.heap.insert(target, &values)?,
                    b'e' => self.heap.append(target, values)?,
                    _ => {} // ADDITEMS to a set
                }
                return Ok(None);
            }
            b'a' => {
                let value = self.pop()?;
                let list = self.top()?;
                return self.heap.append(list, vec![value]).map(|()| None);
            }
            b'q' | b'r' | 0x94 => {
                let place = match operation {
                    b'q' => self.source.byte()?.into(),
                    b'r' => u32::from_le_bytes(self.source.array()?),
                    _ => self.memo.len() as u32,
                };
                let value = self.top()?;
                self.memo.insert(place, value);
                return Ok(None);
            }
            b'h' | b'j' => {
                let place = if operation == b'h' {
                    self.source.byte()?.into()
                } else {
                    u32::from_le_bytes(self.source.array()?)
                };
                *self.memo.get(&place).ok_or_else(|| {
                    format!("the pickle refers to value {place} at byte {at}, which is not there; download it again")
                })?
            }
            b'c' => self.read_global()?,
            0x93 => {
                let [module, name] = self.pops()?;
                let (Some(module), Some(name)) = (self.heap.text(module), self.heap.text(name)) else {
                    return Err("the pickle has a class without a name; download the file again".into());
                };
                let global = Global::of(module, name)?;
                self.add_global(global)?
            }
            b'i' => {
                let class = self.read_global()?;
                self.pop_mark()?;
                self.skip_object(class)
            }
            b'o' => {
                let class = self.pop_mark()?.first().copied().unwrap_or(Value::Inert);
                self.skip_object(class)
            }
            b'R' | 0x81 => {
                let [callee, args] = self.pops()?;
                self.call(callee, args)?
            }
            0x92 => {
                let [callee, args, _] = self.pops()?;
                self.call(callee, args)?
            }
            b'b' => return self.build(),
            b'Q' => {
                let id = self.pop()?;
                match rebuild::storage(&self.heap, id)? {
                    Some(storage) => self.heap.add(Object::Storage(Rc::new(storage)))?,
                    None => {
                        let class = self.heap.tuple(id).and_then(|id| id.get(1).copied()).unwrap_or(Value::Inert);
                        self.skip_object(class)
                    }
                }
            }
            b'0' => {
                if self.pop().is_err() {
                    self.pop_mark()?;
                }
                return Ok(None);
            }
            b'1' => return self.pop_mark().map(|_| None),
            b'2' => self.top()?,
            other => {
                return Err(format!(
                    "the pickle has operation {other:#04x} at byte {at}, which checkpoints do not use; save the file \
                     again as safetensors, or download it again"
                )
                .into());
            }
        };
        self.stack.push(value);
        Ok(None)
    }

    /// Pops the top of the stack, above the last mark.
    fn pop(&mut self) -> Checked<Value> {
        let bottom = self.marks.last().copied().unwrap_or_default();
        let value = if self.stack.len() > bottom { self.stack.pop() } else { None };
        value.ok_or_else(|| self.lacks_value())
    }

    fn pops<const N: usize>(&mut self) -> Checked<[Value; N]> {
        let mut values = [Value::None; N];
        for value in values.iter_mut().rev() {
            *value = self.pop()?;
        }
        Ok(values)
    }

    fn top(&self) -> Checked<Value> {
        let bottom = self.marks.last().copied().unwrap_or_default();
        let value = if self.stack.len() > bottom { self.stack.last().copied() } else { None };
        value.ok_or_else(|| self.lacks_value())
    }

    /// Pops all values above the last mark, and the mark.
    fn pop_mark(&mut self) -> Checked<Vec<Value>> {
        let bottom = self.marks.pop().ok_or_else(|| self.lacks_value())?;
        // A list of the exact length: `split_off` would keep the capacity of the whole stack.
        Ok(self.stack.drain(bottom.min(self.stack.len())..).collect())
    }

    fn lacks_value(&self) -> Flaw {
        let at = self.source.position();
        format!("the pickle takes a value that is not there, before byte {at}; download the file again").into()
    }

    fn tuple<const N: usize>(&mut self) -> Checked<Value> {
        let values = self.pops::<N>()?;
        self.heap.add(Object::Tuple(values.into()))
    }

    /// Skips the bytes of a value that is not read.
    fn skip(&mut self, length: u64) -> Checked<Value> {
        self.source.skip(length).map(|()| Value::Inert)
    }

    /// Reads an integer of `length` bytes. One of more than 16 bytes is not read.
    fn long(&mut self, length: u64) -> Checked<Value> {
        if length > 16 {
            return self.skip(length);
        }
        let bytes = self.source.take(length)?;
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut number = [if negative { 0xff } else { 0 }; 16];
        number.iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
        Ok(Value::Int(i128::from_le_bytes(number)))
    }

    fn unicode(&mut self, bytes_of_length: usize) -> Checked<Value> {
        let length = self.source.length(bytes_of_length)?;
        let bytes = self.source.take(length)?;
        self.heap.add_text(&String::from_utf8_lossy(&bytes))
    }

    /// Reads a text of Python 2, in Latin-1.
    fn latin(&mut self, bytes_of_length: usize) -> Checked<Value> {
        let length = self.source.length(bytes_of_length)?;
        let text: String = self.source.take(length)?.into_iter().map(char::from).collect();
        self.heap.add_text(&text)
    }

    fn bytes(&mut self, bytes_of_length: usize) -> Checked<Value> {
        let length = self.source.length(bytes_of_length)?;
        self.skip(length)
    }

    /// Reads the name of a global from two lines.
    fn read_global(&mut self) -> Checked<Value> {
        let (module, name) = (self.source.line()?, self.source.line()?);
        let global = Global::of(&module, &name)?;
        self.add_global(global)
    }

    fn add_global(&mut self, global: Global) -> Checked<Value> {
        let global = match global {
            Global::Other(name) => Global::Other(self.heap.intern_name(name)),
            global => global,
        };
        self.heap.add(Object::Global(global))
    }

    /// Counts an object of a class that is not known.
    fn skip_object(&mut self, class: Value) -> Value {
        if let Some(Global::Other(name)) = self.heap.global(class) {
            let name = name.clone();
            *self.heap.skipped.entry(name).or_default() += 1;
        }
        Value::Inert
    }

    /// Returns the value that a function or class would make of its arguments.
    fn call(&mut self, callee: Value, args: Value) -> Checked<Value> {
        let Some(args) = self.heap.tuple(args) else {
            return Err("the pickle calls a class without arguments; download the file again".into());
        };
        let first = args.first().copied();
        let Some(global) = self.heap.global(callee) else {
            return match self.heap.get(callee) {
                None | Some(Object::Tensor(_) | Object::Storage(_)) => Ok(Value::Inert),
                Some(_) => Err("the pickle calls a value that is not a class; download the file again".into()),
            };
        };
        match global {
            Global::Tensor | Global::TensorOfKind => {
                let of_kind = matches!(global, Global::TensorOfKind);
                match rebuild::tensor(&self.heap, args, of_kind)? {
                    Some(tensor) => self.heap.add(Object::Tensor(Rc::new(tensor))),
                    None => Ok(Value::Inert),
                }
            }
            Global::Parameter => Ok(first.unwrap_or(Value::Inert)),
            Global::ParameterDict => self.heap.add(Object::Dictionary { items: Vec::new(), of_parameters: true }),
            Global::Dictionary => self.dictionary(first),
            Global::Sequence => match first {
                Some(values) => Ok(values),
                None => self.heap.add(Object::List(Vec::new())),
            },
            Global::Storage(_) | Global::Kind(_) | Global::Plain => Ok(Value::Inert),
            Global::Other(_) => Ok(self.skip_object(callee)),
        }
    }

    /// Returns a dictionary, empty or of the pairs in a list, as Python 2 writes it.
    fn dictionary(&mut self, pairs: Option<Value>) -> Checked<Value> {
        let mut items = Vec::new();
        if let Some(pairs) = pairs {
            match self.heap.take_list(pairs) {
                Some(pairs) => {
                    for pair in pairs {
                        match self.heap.get(pair) {
                            Some(Object::Tuple(pair) | Object::List(pair)) if pair.len() == 2 => {
                                items.extend(pair.first().copied().zip(pair.last().copied()));
                            }
                            _ => return Err("the pickle has a dictionary of values that are not pairs".into()),
                        }
                    }
                }
                None => items = self.heap.take_items(pairs).unwrap_or_default(),
            }
        }
        self.heap.add(Object::Dictionary { items, of_parameters: false })
    }

    /// Sets the attributes of an object. Only those of a `ParameterDict` matter.
    fn build(&mut self) -> Checked<Option<Value>> {
        let state = self.pop()?;
        let object = self.top()?;
        if let Some(Object::Dictionary { of_parameters: true, .. }) = self.heap.get(object) {
            let items = self.heap.dictionary(state).unwrap_or_default();
            if let Some(parameters) = self.heap.item(items, "_parameters")
                && let Some(items) = self.heap.take_items(parameters)
            {
                let flat: Vec<Value> = items.into_iter().flat_map(|(key, value)| [key, value]).collect();
                self.heap.insert(object, &flat)?;
            }
        }
        Ok(None)
    }
}
