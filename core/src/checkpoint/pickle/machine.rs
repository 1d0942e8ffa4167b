//! The stack machine: one opcode after the other, values and marks, what was stored for later.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use super::{ALLOWED, Global, Object, Pickle, PickleError, Value, kind, op};

/// The most values on the stack, and the most marks. Torch fills a dict by thousands.
const MAX_STACK: usize = 1 << 20;
/// The most containers and calls, and the most remembered values.
const MAX_OBJECTS: usize = 1 << 21;
/// Protocols with binary opcodes only.
const PROTOCOLS: RangeInclusive<u8> = 2..=5;

/// A stack machine that runs nothing.
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    /// The next byte.
    next: usize,
    /// The opcode being read.
    at: usize,
    stack: Vec<Value>,
    /// Heights of the stack; what lies below the last one is out of reach.
    marks: Vec<usize>,
    memo: HashMap<usize, Value>,
    objects: Vec<Object>,
}

impl<'a> Machine<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            next: 0,
            at: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            objects: Vec::new(),
        }
    }

    /// Reads up to the end mark.
    pub fn run(mut self) -> Result<Pickle<'a>, PickleError> {
        loop {
            if let Some(root) = self.step()? {
                return Ok(Pickle {
                    bytes: self.bytes,
                    objects: self.objects,
                    root,
                });
            }
        }
    }

    /// Reads one opcode; at the last one, returns the value of the pickle.
    fn step(&mut self) -> Result<Option<Value>, PickleError> {
        self.at = self.next;
        match self.byte()? {
            op::STOP => return self.pop().map(Some),
            op::PROTO => {
                let found = self.byte()?;
                if !PROTOCOLS.contains(&found) {
                    return Err(PickleError::Protocol { found });
                }
            }
            op::FRAME => drop(self.take(8)?),
            op::MARK => self.mark()?,
            op::POP => self.pop_or_mark()?,
            op::POP_MARK => drop(self.above_mark()?),
            op::DUP => {
                let top = self.peek()?;
                self.push(top)?;
            }
            opcode => {
                let is_known = self.constant(opcode)?
                    || self.string(opcode)?
                    || self.container(opcode)?
                    || self.memory(opcode)?
                    || self.object(opcode)?;
                if !is_known {
                    return Err(PickleError::Opcode {
                        at: self.at,
                        opcode: op::name(opcode),
                    });
                }
            }
        }
        Ok(None)
    }

    /// Nothing, truth and numbers; whether the opcode is one of them, as for the groups below.
    fn constant(&mut self, opcode: u8) -> Result<bool, PickleError> {
        match opcode {
            op::NONE => self.push(Value::None)?,
            op::NEWTRUE => self.push(Value::Bool(true))?,
            op::NEWFALSE => self.push(Value::Bool(false))?,
            op::BININT1 => {
                let number = self.byte()?;
                self.push(Value::Int(number.into()))?;
            }
            op::BININT2 => {
                let number = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(number.into()))?;
            }
            op::BININT => {
                let number = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(number.into()))?;
            }
            op::LONG1 => {
                let length = self.byte()?;
                self.long(length.into())?;
            }
            op::LONG4 => {
                let length = self.length4()?;
                self.long(length)?;
            }
            op::BINFLOAT => {
                self.take(8)?;
                self.push(Value::Other("a number with a fraction"))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Texts and bytes.
    fn string(&mut self, opcode: u8) -> Result<bool, PickleError> {
        match opcode {
            op::SHORT_BINUNICODE | op::SHORT_BINSTRING => {
                let length = self.byte()?;
                self.text(length.into())?;
            }
            op::BINUNICODE | op::BINSTRING => {
                let length = self.length4()?;
                self.text(length)?;
            }
            op::BINUNICODE8 => {
                let length = self.length8()?;
                self.text(length)?;
            }
            op::SHORT_BINBYTES => {
                let length = self.byte()?;
                self.opaque(length.into())?;
            }
            op::BINBYTES => {
                let length = self.length4()?;
                self.opaque(length)?;
            }
            op::BINBYTES8 | op::BYTEARRAY8 => {
                let length = self.length8()?;
                self.opaque(length)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Tuples, lists, sets and dicts, and what is put into them.
    fn container(&mut self, opcode: u8) -> Result<bool, PickleError> {
        match opcode {
            op::EMPTY_TUPLE => self.push_object(Object::Tuple(Vec::new()))?,
            op::TUPLE1 => self.small_tuple::<1>()?,
            op::TUPLE2 => self.small_tuple::<2>()?,
            op::TUPLE3 => self.small_tuple::<3>()?,
            op::TUPLE | op::FROZENSET => {
                let items = self.above_mark()?;
                self.push_object(Object::Tuple(items))?;
            }
            op::EMPTY_LIST | op::EMPTY_SET => self.push_object(Object::List(Vec::new()))?,
            op::LIST => {
                let items = self.above_mark()?;
                self.push_object(Object::List(items))?;
            }
            op::APPEND => {
                let item = self.pop()?;
                self.top_list()?.push(item);
            }
            op::APPENDS | op::ADDITEMS => {
                let items = self.above_mark()?;
                self.top_list()?.extend(items);
            }
            op::EMPTY_DICT => self.push_object(Object::Dict(Vec::new()))?,
            op::DICT => {
                let pairs = self.pairs()?;
                self.push_object(Object::Dict(pairs))?;
            }
            op::SETITEM => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.top_dict()?.push((key, value));
            }
            op::SETITEMS => {
                let pairs = self.pairs()?;
                self.top_dict()?.extend(pairs);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What is kept for later, and fetched.
    fn memory(&mut self, opcode: u8) -> Result<bool, PickleError> {
        match opcode {
            op::BINPUT => {
                let index = self.byte()?;
                self.remember(index.into())?;
            }
            op::LONG_BINPUT => {
                let index = self.length4()?;
                self.remember(index)?;
            }
            op::MEMOIZE => self.remember(self.memo.len())?,
            op::BINGET => {
                let index = self.byte()?;
                self.recall(index.into())?;
            }
            op::LONG_BINGET => {
                let index = self.length4()?;
                self.recall(index)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Names, what is made by them, and storages.
    fn object(&mut self, opcode: u8) -> Result<bool, PickleError> {
        match opcode {
            op::GLOBAL => {
                let global = self.global()?;
                self.push(global)?;
            }
            op::STACK_GLOBAL => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (module, name) = (self.as_text(module)?, self.as_text(name)?);
                let global = self.allowed(module.as_bytes(), name.as_bytes())?;
                self.push(global)?;
            }
            op::REDUCE | op::NEWOBJ => {
                let (args, callee) = (self.pop()?, self.pop()?);
                self.call(callee, args)?;
            }
            op::NEWOBJ_EX => {
                let (named, args, callee) = (self.pop()?, self.pop()?, self.pop()?);
                self.no_items(named)?;
                self.call(callee, args)?;
            }
            op::OBJ => {
                let items = self.above_mark()?;
                let Some((&callee, args)) = items.split_first() else {
                    return Err(PickleError::Underflow { at: self.at });
                };
                let args = self.add(Object::Tuple(args.to_vec()))?;
                self.call(callee, args)?;
            }
            op::INST => {
                let callee = self.global()?;
                let args = self.above_mark()?;
                let args = self.add(Object::Tuple(args))?;
                self.call(callee, args)?;
            }
            // Python would set attributes from the state; a dict keeps its items whatever they are.
            op::BUILD => {
                self.pop()?;
                self.top_dict()?;
            }
            op::BINPERSID => {
                let name = self.pop()?;
                self.push_object(Object::Persistent(name))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], PickleError> {
        let rest = self.bytes.get(self.next..).unwrap_or_default();
        let taken = rest
            .get(..length)
            .ok_or_else(|| self.truncated("a value goes on behind it"))?;
        self.next += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let taken = self.take(N)?;
        let array = taken.first_chunk::<N>().copied();
        array.ok_or_else(|| self.truncated("a number goes on behind it"))
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        let byte = self.bytes.get(self.next).copied();
        let byte = byte.ok_or_else(|| self.truncated("there is no end mark"))?;
        self.next += 1;
        Ok(byte)
    }

    /// A length or index of four bytes. Files of other machines than this one may have numbers this one cannot hold.
    fn length4(&mut self) -> Result<usize, PickleError> {
        let length = u32::from_le_bytes(self.array()?);
        usize::try_from(length).map_err(|_| self.truncated("a value goes on behind it"))
    }

    fn length8(&mut self) -> Result<usize, PickleError> {
        let length = u64::from_le_bytes(self.array()?);
        usize::try_from(length).map_err(|_| self.truncated("a value goes on behind it"))
    }

    fn line(&mut self) -> Result<&'a [u8], PickleError> {
        let rest = self.bytes.get(self.next..).unwrap_or_default();
        let length = rest.iter().position(|&byte| byte == b'\n');
        let length = length.ok_or_else(|| self.truncated("a name has no end"))?;
        let line = self.take(length)?;
        self.next += 1;
        Ok(line)
    }

    fn truncated(&self, missing: &'static str) -> PickleError {
        PickleError::Truncated {
            length: self.bytes.len(),
            missing,
        }
    }

    /// A little-endian number of any length in two's complement.
    fn long(&mut self, length: usize) -> Result<(), PickleError> {
        let bytes = self.take(length)?;
        let negative = bytes.last().is_some_and(|&last| last >= 0x80);
        let mut number = [if negative { 0xff } else { 0 }; 8];
        let value = match number.get_mut(..length) {
            Some(low) => {
                low.copy_from_slice(bytes);
                Value::Int(i64::from_le_bytes(number))
            }
            None => Value::Other("a number of more than 64 bits"),
        };
        self.push(value)
    }

    fn text(&mut self, length: usize) -> Result<(), PickleError> {
        let text = self.take(length)?;
        if std::str::from_utf8(text).is_err() {
            return Err(PickleError::NotText { at: self.at });
        }
        let end = self.next;
        let (Ok(start), Ok(end)) = (u32::try_from(end - length), u32::try_from(end)) else {
            return Err(self.truncated("a text goes on behind it"));
        };
        self.push(Value::Text { start, end })
    }

    fn opaque(&mut self, length: usize) -> Result<(), PickleError> {
        self.take(length)?;
        self.push(Value::Other("a string of bytes"))
    }

    fn push(&mut self, value: Value) -> Result<(), PickleError> {
        limit("values at once", self.stack.len(), MAX_STACK)?;
        self.stack.push(value);
        Ok(())
    }

    fn mark(&mut self) -> Result<(), PickleError> {
        limit("marks at once", self.marks.len(), MAX_STACK)?;
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// Where the values in reach begin.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Value, PickleError> {
        let popped = if self.stack.len() > self.floor() {
            self.stack.pop()
        } else {
            None
        };
        popped.ok_or(PickleError::Underflow { at: self.at })
    }

    /// Takes a mark away if there is nothing above it, as Python does.
    fn pop_or_mark(&mut self) -> Result<(), PickleError> {
        if self.stack.len() == self.floor() && self.marks.pop().is_some() {
            return Ok(());
        }
        self.pop().map(drop)
    }

    fn peek(&self) -> Result<Value, PickleError> {
        let reach = self.stack.get(self.floor()..).unwrap_or_default();
        let top = reach.last().copied();
        top.ok_or(PickleError::Underflow { at: self.at })
    }

    /// All values above the last mark, which goes away.
    fn above_mark(&mut self) -> Result<Vec<Value>, PickleError> {
        let mark = self.marks.pop();
        let mark = mark.ok_or(PickleError::Underflow { at: self.at })?;
        // The stack never falls below its last mark.
        let height = self.stack.len();
        Ok(self.stack.drain(mark.min(height)..).collect())
    }

    fn pairs(&mut self) -> Result<Vec<(Value, Value)>, PickleError> {
        let items = self.above_mark()?;
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(PickleError::Underflow { at: self.at });
        }
        Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
    }

    fn add(&mut self, object: Object) -> Result<Value, PickleError> {
        limit("objects", self.objects.len(), MAX_OBJECTS)?;
        self.objects.push(object);
        Ok(Value::Object(self.objects.len() - 1))
    }

    fn push_object(&mut self, object: Object) -> Result<(), PickleError> {
        let value = self.add(object)?;
        self.push(value)
    }

    fn small_tuple<const N: usize>(&mut self) -> Result<(), PickleError> {
        let height = self.stack.len();
        let start = height.checked_sub(N).filter(|&start| start >= self.floor());
        let start = start.ok_or(PickleError::Underflow { at: self.at })?;
        let items = self.stack.drain(start..).collect();
        self.push_object(Object::Tuple(items))
    }

    fn top_list(&mut self) -> Result<&mut Vec<Value>, PickleError> {
        let error = self.wrong_top("a list")?;
        match self.top_object() {
            Some(Object::List(items)) => Ok(items),
            _ => Err(error),
        }
    }

    fn top_dict(&mut self) -> Result<&mut Vec<(Value, Value)>, PickleError> {
        let error = self.wrong_top("a dict")?;
        match self.top_object() {
            Some(Object::Dict(items)) => Ok(items),
            _ => Err(error),
        }
    }

    /// What to say should the top of the stack not be what is wanted.
    fn wrong_top(&self, wanted: &'static str) -> Result<PickleError, PickleError> {
        let top = self.peek()?;
        Ok(self.wrong_kind(top, wanted))
    }

    fn top_object(&mut self) -> Option<&mut Object> {
        match self.peek() {
            Ok(Value::Object(index)) => self.objects.get_mut(index),
            _ => None,
        }
    }

    fn wrong_kind(&self, found: Value, wanted: &'static str) -> PickleError {
        PickleError::Kind {
            at: self.at,
            found: kind(&self.objects, found),
            wanted,
        }
    }

    fn remember(&mut self, index: usize) -> Result<(), PickleError> {
        limit("remembered values", self.memo.len(), MAX_OBJECTS)?;
        let top = self.peek()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: usize) -> Result<(), PickleError> {
        let value = self.memo.get(&index).copied();
        let value = value.ok_or(PickleError::Memo { at: self.at, index })?;
        self.push(value)
    }

    fn as_text(&self, value: Value) -> Result<&'a str, PickleError> {
        let Value::Text { start, end } = value else {
            return Err(self.wrong_kind(value, "a text"));
        };
        let text = self.bytes.get(start as usize..end as usize);
        let text = text.and_then(|bytes| std::str::from_utf8(bytes).ok());
        text.ok_or(PickleError::NotText { at: self.at })
    }

    /// A module and a name, each on a line of its own.
    fn global(&mut self) -> Result<Value, PickleError> {
        let (module, name) = (self.line()?, self.line()?);
        self.allowed(module, name)
    }

    fn allowed(&self, module: &[u8], name: &[u8]) -> Result<Value, PickleError> {
        let found = ALLOWED
            .iter()
            .find(|entry| entry.0.as_bytes() == module && entry.1.as_bytes() == name);
        let found = found.map(|entry| Value::Global(entry.2));
        found.ok_or_else(|| PickleError::Refused {
            at: self.at,
            name: format!("{}.{}", shown(module), shown(name)),
        })
    }

    /// Writes a call down; an OrderedDict is a dict from the start.
    fn call(&mut self, callee: Value, args: Value) -> Result<(), PickleError> {
        let Value::Global(global) = callee else {
            return Err(self.wrong_kind(callee, "a function to call"));
        };
        let made = match args {
            Value::Object(index) => self.objects.get(index).zip(Some(index)),
            _ => None,
        };
        let Some((Object::Tuple(items), index)) = made else {
            return Err(self.wrong_kind(args, "a tuple of arguments"));
        };
        let object = match global {
            Global::OrderedDict if items.is_empty() => Object::Dict(Vec::new()),
            Global::OrderedDict => {
                return Err(self.wrong_kind(args, "an empty tuple"));
            }
            Global::Storage(_) => {
                return Err(self.wrong_kind(Value::Other("a storage class"), "a function to call"));
            }
            Global::RebuildTensor | Global::RebuildParameter | Global::Idle => {
                Object::Call(global, index)
            }
        };
        self.push_object(object)
    }

    /// Checks that there are no arguments by name.
    fn no_items(&self, named: Value) -> Result<(), PickleError> {
        let object = match named {
            Value::Object(index) => self.objects.get(index),
            _ => None,
        };
        match object {
            Some(Object::Dict(items)) if items.is_empty() => Ok(()),
            _ => Err(self.wrong_kind(named, "an empty dict")),
        }
    }
}

fn limit(what: &'static str, held: usize, most: usize) -> Result<(), PickleError> {
    if held < most {
        Ok(())
    } else {
        Err(PickleError::Limit { what, most })
    }
}

/// A name as an error shows it: printable and short.
fn shown(name: &[u8]) -> String {
    const SHOWN: usize = 60;
    let start = name.get(..SHOWN).unwrap_or(name);
    let dots = if start.len() < name.len() { "…" } else { "" };
    format!("{}{dots}", String::from_utf8_lossy(start).escape_debug())
}
