//! What a `torch.save` pickle says about tensors, read without running anything.
//!
//! A pickle is a program for a small stack machine that may name any Python function and call it.
//! This reader knows the opcodes that the pickler of protocol 2 writes for plain data, and the
//! names that tensors need ([`Global`], the same as those of PyTorch's `weights_only` reader).
//! Objects of other classes, such as the callbacks of a trainer, are plain values of no use, and
//! what a file asks to be called is never called; a name that no honest file has ([`globals`]) is an
//! error all the same, and so is every other opcode. Values live in one flat list and refer to
//! each other by index, so that neither deep nesting nor cycles can overflow the stack.

mod globals;
mod tensors;

use std::collections::HashMap;
use std::ops::Range;

use super::StoredType;
use globals::Global;

/// More than any checkpoint's pickle; storages are not part of it.
const LONGEST: usize = 256 << 20;

/// More values than any checkpoint's pickle makes; what they take of memory is bounded by it.
const MOST_VALUES: usize = 1 << 22;

/// PyTorch's own limit.
const MOST_DIMENSIONS: usize = 64;

/// Why a pickle cannot be read.
#[derive(Debug)]
pub(super) enum PickleError {
    /// Names the opcode or the global.
    Forbidden(String),
    Damaged(String),
}

/// A tensor's place in its storage; strides and offset count elements.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StorageView {
    pub(super) dtype: StoredType,
    pub(super) key: String,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

type Id = usize;

#[derive(Clone, Debug)]
enum PickleValue {
    /// None, a number, an inert object: nothing a tensor is built from.
    Plain,
    Int(i64),
    /// Where the text lies in the pickle.
    Text(Range<usize>),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    /// Type, key, and from which element on (files of before PyTorch 0.4).
    Storage(StoredType, Range<usize>, usize),
    Tensor(Box<StorageView>),
}

/// What a pickle of tensors says.
#[derive(Debug)]
pub(super) struct PickledTensors {
    /// By name, in the pickle's order; those of its `state_dict` or `model` where it has one.
    pub(super) tensors: Vec<(String, StorageView)>,
    /// The type of every storage that it names, by key.
    pub(super) storages: HashMap<String, StoredType>,
    /// Bytes of the pickle.
    pub(super) length: usize,
}

/// The tensors of the pickled dict with which `bytes` begins.
///
/// # Errors
/// When an opcode or a global is outside the vocabulary of tensors, or the pickle is damaged.
pub(super) fn read(bytes: &[u8]) -> Result<PickledTensors, PickleError> {
    let mut machine = PickleMachine::new(bytes);
    let root = machine.run()?;
    let storages = machine.values.iter().filter_map(|value| match value {
        PickleValue::Storage(dtype, key, _) => Some((machine.slice(key).to_owned(), *dtype)),
        _ => None,
    });
    Ok(PickledTensors {
        tensors: machine.named_tensors(root)?,
        storages: storages.collect(),
        length: machine.at,
    })
}

/// The texts of the pickled list with which `bytes` begins, and the pickle's length.
///
/// # Errors
/// As for [`read`], or when it is no list of texts.
pub(super) fn texts(bytes: &[u8]) -> Result<(Vec<String>, usize), PickleError> {
    let mut machine = PickleMachine::new(bytes);
    let root = machine.run()?;
    let PickleValue::List(items) = &machine.values[root] else {
        return Err(damaged("its pickle is no list of names"));
    };
    let texts = items
        .iter()
        .map(|&item| machine.as_text(item).map(str::to_owned))
        .collect::<Result<_, PickleError>>()?;
    Ok((texts, machine.at))
}

/// The length of the pickle of plain values with which `bytes` begins.
///
/// # Errors
/// As for [`read`].
pub(super) fn skip(bytes: &[u8]) -> Result<usize, PickleError> {
    let mut machine = PickleMachine::new(bytes);
    machine.run()?;
    Ok(machine.at)
}

fn damaged(reason: impl Into<String>) -> PickleError {
    PickleError::Damaged(reason.into())
}

struct PickleMachine<'a> {
    pickle: &'a [u8],
    at: usize,
    values: Vec<PickleValue>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> PickleMachine<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            pickle: &bytes[..bytes.len().min(LONGEST)],
            at: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        }
    }

    /// Runs to the end; the value that is left.
    fn run(&mut self) -> Result<Id, PickleError> {
        loop {
            let held = [
                self.values.len(),
                self.stack.len(),
                self.marks.len(),
                self.memo.len(),
            ];
            if held.iter().any(|held| *held > MOST_VALUES) {
                return Err(damaged("its pickle holds more than any checkpoint does"));
            }
            let opcode = self.bytes(1)?[0];
            match opcode {
                b'.' => return self.pop(),
                0x80 => {
                    self.bytes(1)?;
                }
                0x95 => {
                    self.bytes(8)?;
                }
                b'(' => self.marks.push(self.stack.len()),
                b'N' | 0x88 | 0x89 => self.push(PickleValue::Plain),
                b'G' => {
                    self.bytes(8)?;
                    self.push(PickleValue::Plain);
                }
                b'J' => {
                    let number = self.u32()?.cast_signed();
                    self.push(PickleValue::Int(number.into()));
                }
                b'K' => {
                    let number = self.bytes(1)?[0];
                    self.push(PickleValue::Int(number.into()));
                }
                b'M' => {
                    let bytes = self.bytes(2)?;
                    let number = u16::from_le_bytes([bytes[0], bytes[1]]);
                    self.push(PickleValue::Int(number.into()));
                }
                0x8a => self.long()?,
                b'X' => {
                    let length = self.u32()? as usize;
                    self.text(length)?;
                }
                0x8c => {
                    let length = self.bytes(1)?[0];
                    self.text(length.into())?;
                }
                b')' => self.push(PickleValue::Tuple(Vec::new())),
                b']' => self.push(PickleValue::List(Vec::new())),
                b'}' => self.push(PickleValue::Dict(Vec::new())),
                b't' => {
                    let items = self.pop_mark()?;
                    self.push(PickleValue::Tuple(items));
                }
                0x85..=0x87 => {
                    let count = usize::from(opcode - 0x84);
                    let items = self.pop_many(count)?;
                    self.push(PickleValue::Tuple(items));
                }
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' => {
                    let items = self.pop_mark()?;
                    self.append(items)?;
                }
                // What objects of other classes are written with.
                b'0' => {
                    self.pop()?;
                }
                b'B' => {
                    let length = self.u32()? as usize;
                    self.bytes(length)?;
                    self.push(PickleValue::Plain);
                }
                b'C' => {
                    let length = self.bytes(1)?[0];
                    self.bytes(length.into())?;
                    self.push(PickleValue::Plain);
                }
                b'U' => {
                    let length = self.bytes(1)?[0];
                    self.text(length.into())?;
                }
                0x81 => {
                    self.pop_many(2)?;
                    self.push(PickleValue::Plain);
                }
                0x8f => self.push(PickleValue::Plain),
                0x90 => {
                    self.pop_mark()?;
                    self.top()?;
                }
                0x91 => {
                    self.pop_mark()?;
                    self.push(PickleValue::Plain);
                }
                b's' => {
                    let pair = self.pop_many(2)?;
                    self.set_items(&pair)?;
                }
                b'u' => {
                    let items = self.pop_mark()?;
                    self.set_items(&items)?;
                }
                b'q' => {
                    let slot = self.bytes(1)?[0];
                    self.keep(slot.into())?;
                }
                b'r' => {
                    let slot = self.u32()?;
                    self.keep(slot)?;
                }
                0x94 => {
                    let slot = u32::try_from(self.memo.len()).unwrap_or(u32::MAX);
                    self.keep(slot)?;
                }
                b'h' => {
                    let slot = self.bytes(1)?[0];
                    self.recall(slot.into())?;
                }
                b'j' => {
                    let slot = self.u32()?;
                    self.recall(slot)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.global(&module, &name)?;
                }
                0x93 => {
                    let names = self.pop_many(2)?;
                    let name = |id| self.as_text(id).map(str::to_owned);
                    let (module, name) = (name(names[0])?, name(names[1])?);
                    self.global(&module, &name)?;
                }
                b'R' => self.reduce()?,
                b'b' => self.build()?,
                b'Q' => self.persistent()?,
                _ => {
                    let name = opcode_name(opcode);
                    let what = format!("the pickle opcode {name} (0x{opcode:02x})");
                    return Err(PickleError::Forbidden(what));
                }
            }
        }
    }

    fn bytes(&mut self, count: usize) -> Result<&[u8], PickleError> {
        let end = self.at.checked_add(count);
        let found = end.and_then(|end| self.pickle.get(self.at..end));
        let found = found.ok_or_else(|| damaged("its pickle is cut short"))?;
        self.at += count;
        Ok(found)
    }

    fn u32(&mut self) -> Result<u32, PickleError> {
        let bytes = self.bytes(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// A number of any length; those that do not fit are no size of a tensor.
    fn long(&mut self) -> Result<(), PickleError> {
        let length = usize::from(self.bytes(1)?[0]);
        let bytes = self.bytes(length)?;
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let value = (length <= 8).then(|| {
            let mut number = if negative { [0xff; 8] } else { [0; 8] };
            number[..length].copy_from_slice(bytes);
            i64::from_le_bytes(number)
        });
        self.push(value.map_or(PickleValue::Plain, PickleValue::Int));
        Ok(())
    }

    fn text(&mut self, length: usize) -> Result<(), PickleError> {
        let text = self.bytes(length)?;
        if std::str::from_utf8(text).is_err() {
            return Err(damaged("its pickle has a text that is not UTF-8"));
        }
        self.push(PickleValue::Text(self.at - length..self.at));
        Ok(())
    }

    fn line(&mut self) -> Result<String, PickleError> {
        let rest = &self.pickle[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n');
        let line = &rest[..end.ok_or_else(|| damaged("its pickle is cut short"))?];
        self.at += line.len() + 1;
        Ok(String::from_utf8_lossy(line).into_owned())
    }

    fn push(&mut self, value: PickleValue) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn pop(&mut self) -> Result<Id, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let top = (self.stack.len() > floor).then(|| self.stack.pop());
        top.flatten()
            .ok_or_else(|| damaged("its pickle takes more than it gave"))
    }

    fn top(&self) -> Result<Id, PickleError> {
        let top = self.stack.last().copied();
        top.ok_or_else(|| damaged("its pickle takes more than it gave"))
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, PickleError> {
        let mut items = (0..count)
            .map(|_| self.pop())
            .collect::<Result<Vec<Id>, PickleError>>()?;
        items.reverse();
        Ok(items)
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, PickleError> {
        let mark = self.marks.pop();
        let mark = mark.ok_or_else(|| damaged("its pickle ends a list it did not begin"))?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn keep(&mut self, slot: u32) -> Result<(), PickleError> {
        let top = self.top()?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<(), PickleError> {
        let known = self.memo.get(&slot);
        let known = known.ok_or_else(|| damaged("its pickle recalls what it never said"))?;
        self.stack.push(*known);
        Ok(())
    }

    fn append(&mut self, more: Vec<Id>) -> Result<(), PickleError> {
        let top = self.top()?;
        match &mut self.values[top] {
            PickleValue::List(items) => items.extend(more),
            PickleValue::Plain => {}
            _ => return Err(damaged("its pickle appends to what is no list")),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), PickleError> {
        let top = self.top()?;
        let (pairs, rest) = items.as_chunks::<2>();
        match &mut self.values[top] {
            PickleValue::Dict(entries) if rest.is_empty() => {
                entries.extend(pairs.iter().map(|&[key, value]| (key, value)));
                Ok(())
            }
            PickleValue::Plain if rest.is_empty() => Ok(()),
            _ => Err(damaged("its pickle sets an item of what is no dict")),
        }
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), PickleError> {
        let global = Global::find(module, name);
        let forbidden = || PickleError::Forbidden(format!("the Python object {module}.{name}"));
        self.push(PickleValue::Global(global.ok_or_else(forbidden)?));
        Ok(())
    }

    /// A call, of which only those that build tensors and ordered dicts have a meaning.
    fn reduce(&mut self) -> Result<(), PickleError> {
        let arguments = self.pop()?;
        let function = self.pop()?;
        let PickleValue::Tuple(arguments) = &self.values[arguments] else {
            return Err(damaged("its pickle calls with what is no tuple"));
        };
        let value = match self.values[function] {
            PickleValue::Global(Global::OrderedDict) if arguments.is_empty() => {
                PickleValue::Dict(Vec::new())
            }
            PickleValue::Global(Global::RebuildTensor) => self.tensor(arguments)?,
            PickleValue::Global(Global::RebuildParameter) => {
                let tensor = arguments.first().map(|&id| &self.values[id]);
                match tensor {
                    Some(PickleValue::Tensor(view)) => PickleValue::Tensor(view.clone()),
                    _ => return Err(damaged("its pickle has a parameter without a tensor")),
                }
            }
            PickleValue::Global(Global::Inert) => PickleValue::Plain,
            _ => return Err(damaged("its pickle calls what cannot be called")),
        };
        self.push(value);
        Ok(())
    }

    /// The attributes of an object, such as the `_metadata` of a state dict: of no use here.
    fn build(&mut self) -> Result<(), PickleError> {
        self.pop()?;
        match self.values[self.top()?] {
            PickleValue::Dict(_) | PickleValue::Tensor(_) | PickleValue::Plain => Ok(()),
            _ => Err(damaged("its pickle gives attributes to a plain value")),
        }
    }

    /// `('storage', type, key, location, count)`; files of before PyTorch 1.6 add which part of
    /// another storage it is, `(key, offset, count)`, or none.
    fn persistent(&mut self) -> Result<(), PickleError> {
        let id = self.pop()?;
        let wrong = || damaged("its pickle refers to what is no storage");
        let PickleValue::Tuple(parts) = &self.values[id] else {
            return Err(wrong());
        };
        let [tag, kind, key, ..] = parts[..] else {
            return Err(wrong());
        };
        if self.as_text(tag)? != "storage" {
            return Err(wrong());
        }
        let offset = match parts.get(5).map(|&part| &self.values[part]) {
            Some(PickleValue::Tuple(part)) => self.size(*part.get(1).ok_or_else(wrong)?)?,
            _ => 0,
        };
        let dtype = match &self.values[kind] {
            PickleValue::Global(Global::Storage(dtype)) => *dtype,
            PickleValue::Global(Global::Inert) => StoredType::Other,
            _ => return Err(wrong()),
        };
        match &self.values[key] {
            PickleValue::Text(key) => {
                let storage = PickleValue::Storage(dtype, key.clone(), offset);
                self.push(storage);
                Ok(())
            }
            _ => Err(wrong()),
        }
    }
}

/// What Python's `pickletools` calls the opcodes that this reader refuses.
fn opcode_name(opcode: u8) -> &'static str {
    match opcode {
        b'1' => "POP_MARK",
        b'2' => "DUP",
        b'F' => "FLOAT",
        b'I' => "INT",
        b'L' => "LONG",
        b'P' => "PERSID",
        b'S' => "STRING",
        b'T' => "BINSTRING",
        b'V' => "UNICODE",
        b'd' => "DICT",
        b'g' => "GET",
        b'i' => "INST",
        b'l' => "LIST",
        b'o' => "OBJ",
        b'p' => "PUT",
        0x82..=0x84 => "EXT",
        0x8b => "LONG4",
        0x8d => "BINUNICODE8",
        0x8e => "BINBYTES8",
        0x92 => "NEWOBJ_EX",
        0x96 => "BYTEARRAY8",
        0x97 => "NEXT_BUFFER",
        0x98 => "READONLY_BUFFER",
        _ => "of no known name",
    }
}
