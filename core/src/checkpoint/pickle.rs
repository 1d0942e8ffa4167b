//! The pickle inside a torch file, read by a machine that runs nothing.
//!
//! A pickle is a program: its opcodes push values, build containers, and name Python functions to call. Here a name that
//! is not in [`ALLOWED`] ends the reading, and a call of one that is in it is only written down ([`Object::Call`]).
//!
//! Values refer to each other by index into one list, so that nothing recurses, not even dropping: lists may be as deep,
//! shared or circular as they like. What is held grows with the bytes read, never with a number found in them.

mod machine;
mod op;
#[cfg(test)]
pub(super) mod tests;

use safetensors::Dtype;
use thiserror::Error;

use machine::Machine;

/// The most bytes a pickle may have: a hundred thousand tensors' worth.
pub(super) const MAX_PICKLE_BYTES: usize = 16 << 20;

/// What is wrong with a pickle. Bytes are counted from its beginning.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PickleError {
    /// A function or class beyond those a tensor needs.
    #[error(
        "at byte {at} the pickle asks for `{name}`, which a plain tensor does not need: it was refused, and nothing was \
         executed. If you trust the file, save its tensors as safetensors; if not, delete it"
    )]
    Refused {
        /// Where.
        at: usize,
        /// Module and name.
        name: String,
    },
    /// An opcode that files of tensors do without.
    #[error(
        "at byte {at} the pickle has the opcode {opcode}, which files of tensors do without: it was refused, and nothing \
         was executed. Save the tensors again with a newer torch, or as safetensors"
    )]
    Opcode {
        /// Where.
        at: usize,
        /// Its name, or its byte.
        opcode: String,
    },
    /// A pickle of a protocol that does not exist, or of text.
    #[error(
        "the pickle is of protocol {found}, wanted 2 to 5. Save the tensors again with a newer torch"
    )]
    Protocol {
        /// The protocol.
        found: u8,
    },
    /// A pickle that stops before it says so.
    #[error("the pickle ends at byte {length}, in the middle: {missing}. Download the file again")]
    Truncated {
        /// Bytes there are.
        length: usize,
        /// What does not fit.
        missing: &'static str,
    },
    /// An opcode that takes more than the stack has.
    #[error(
        "at byte {at} the pickle takes a value that was never put. The file is damaged: download it again"
    )]
    Underflow {
        /// Where.
        at: usize,
    },
    /// A remembered value that is not.
    #[error(
        "at byte {at} the pickle recalls value {index}, which it never stored. The file is damaged: download it again"
    )]
    Memo {
        /// Where.
        at: usize,
        /// The number it should have been stored under.
        index: usize,
    },
    /// A value of a kind an opcode cannot work on.
    #[error(
        "at byte {at} the pickle has {found}, wanted {wanted}. The file is damaged: download it again"
    )]
    Kind {
        /// Where.
        at: usize,
        /// What there is.
        found: &'static str,
        /// What would have been accepted.
        wanted: &'static str,
    },
    /// A text that is none.
    #[error(
        "at byte {at} the pickle has a text that is not UTF-8. The file is damaged: download it again"
    )]
    NotText {
        /// Where.
        at: usize,
    },
    /// More of something than any checkpoint has.
    #[error(
        "the pickle has more than {most} {what}, more than any checkpoint: it was not read further"
    )]
    Limit {
        /// Of what.
        what: &'static str,
        /// The most that is read.
        most: usize,
    },
}

/// The functions and classes a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    /// `(storage, offset, size, stride, …)`, both versions.
    RebuildTensor,
    /// `(tensor, requires_grad, hooks)`.
    RebuildParameter,
    /// A storage class and what its elements are, if it says.
    Storage(Option<Dtype>),
    /// Something that may stand beside tensors; nothing is made of it.
    Idle,
}

const ALLOWED: [(&str, &str, Global); 28] = {
    const fn storage(dtype: Dtype) -> Global {
        Global::Storage(Some(dtype))
    }
    [
        ("collections", "OrderedDict", Global::OrderedDict),
        ("torch._utils", "_rebuild_tensor", Global::RebuildTensor),
        ("torch._utils", "_rebuild_tensor_v2", Global::RebuildTensor),
        (
            "torch._utils",
            "_rebuild_parameter",
            Global::RebuildParameter,
        ),
        ("torch", "FloatStorage", storage(Dtype::F32)),
        ("torch", "HalfStorage", storage(Dtype::F16)),
        ("torch", "BFloat16Storage", storage(Dtype::BF16)),
        ("torch", "DoubleStorage", storage(Dtype::F64)),
        ("torch", "LongStorage", storage(Dtype::I64)),
        ("torch", "IntStorage", storage(Dtype::I32)),
        ("torch", "ShortStorage", storage(Dtype::I16)),
        ("torch", "CharStorage", storage(Dtype::I8)),
        ("torch", "ByteStorage", storage(Dtype::U8)),
        ("torch", "BoolStorage", storage(Dtype::BOOL)),
        ("torch.storage", "UntypedStorage", Global::Storage(None)),
        ("torch.storage", "TypedStorage", Global::Storage(None)),
        ("torch", "float32", Global::Idle),
        ("torch", "float16", Global::Idle),
        ("torch", "bfloat16", Global::Idle),
        ("torch", "float64", Global::Idle),
        ("torch", "int64", Global::Idle),
        ("torch", "int32", Global::Idle),
        ("torch", "int16", Global::Idle),
        ("torch", "int8", Global::Idle),
        ("torch", "uint8", Global::Idle),
        ("torch", "bool", Global::Idle),
        ("torch", "Size", Global::Idle),
        ("torch", "device", Global::Idle),
    ]
};

/// A value, small enough to copy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// Bytes of the pickle, known to be UTF-8.
    Text {
        start: u32,
        end: u32,
    },
    Global(Global),
    /// Index of an [`Object`].
    Object(usize),
    /// A value nobody asks for: what it is.
    Other(&'static str),
}

/// A value made of others.
#[derive(Debug)]
enum Object {
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    /// A function that Python would call, and the tuple of its arguments.
    Call(Global, usize),
    /// Something kept outside of the pickle, by its name there.
    Persistent(Value),
}

/// All values of a pickle.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    bytes: &'a [u8],
    objects: Vec<Object>,
    root: Value,
}

impl Pickle<'_> {
    /// The value the pickle is of.
    pub fn root(&self) -> Value {
        self.root
    }

    pub fn text(&self, value: Value) -> Option<&str> {
        let Value::Text { start, end } = value else {
            return None;
        };
        let bytes = self.bytes.get(start as usize..end as usize)?;
        std::str::from_utf8(bytes).ok()
    }

    pub fn tuple(&self, value: Value) -> Option<&[Value]> {
        match self.object(value)? {
            Object::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// Keys and values as they were put: a key may be there twice.
    pub fn dict(&self, value: Value) -> Option<&[(Value, Value)]> {
        match self.object(value)? {
            Object::Dict(items) => Some(items),
            _ => None,
        }
    }

    /// A call that Python would make: the function and its arguments.
    pub fn call(&self, value: Value) -> Option<(Global, &[Value])> {
        match self.object(value)? {
            Object::Call(callee, args) => Some((*callee, self.tuple(Value::Object(*args))?)),
            _ => None,
        }
    }

    /// The name of something outside.
    pub fn persistent(&self, value: Value) -> Option<Value> {
        match self.object(value)? {
            Object::Persistent(name) => Some(*name),
            _ => None,
        }
    }

    /// What a value is, for errors.
    pub fn kind(&self, value: Value) -> &'static str {
        kind(&self.objects, value)
    }

    fn object(&self, value: Value) -> Option<&Object> {
        match value {
            Value::Object(index) => self.objects.get(index),
            _ => None,
        }
    }
}

fn kind(objects: &[Object], value: Value) -> &'static str {
    match value {
        Value::None => "None",
        Value::Bool(_) => "a truth value",
        Value::Int(_) => "a whole number",
        Value::Text { .. } => "a text",
        Value::Global(_) => "a function or class",
        Value::Other(kind) => kind,
        Value::Object(index) => match objects.get(index) {
            Some(Object::Tuple(_)) => "a tuple",
            Some(Object::List(_)) => "a list",
            Some(Object::Dict(_)) => "a dict",
            Some(Object::Call(Global::RebuildTensor | Global::RebuildParameter, _)) => "a tensor",
            Some(Object::Call(..)) => "a made object",
            Some(Object::Persistent(_)) => "a storage",
            None => "nothing",
        },
    }
}

/// Reads a pickle up to its end mark; what follows is not looked at.
///
/// # Errors
/// When it names something that is not allowed, is damaged, or is larger than any checkpoint's.
pub(super) fn read(bytes: &[u8]) -> Result<Pickle<'_>, PickleError> {
    if bytes.len() > MAX_PICKLE_BYTES {
        return Err(PickleError::Limit {
            what: "bytes",
            most: MAX_PICKLE_BYTES,
        });
    }
    Machine::new(bytes).run()
}
