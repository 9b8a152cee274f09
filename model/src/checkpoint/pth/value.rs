//! What a pickle describes, as inert data.
//!
//! Values refer to each other by index into one list, so that depth costs no recursion and cycles do no harm;
//! text is shared, so that repeating it costs no memory.

use safetensors::Dtype as FileDtype;
use std::sync::Arc;

/// The place of a [`Value`] in [`Pickle::values`].
pub(super) type Id = u32;

#[derive(Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Arc<str>),
    Bytes,
    Tuple(Vec<Id>),
    List(Vec<Id>),
    /// Keys may repeat: the last one counts.
    Dict(Vec<(Id, Id)>),
    /// A class or function, as `module.name`; never looked up.
    Global(Arc<str>),
    Storage(Box<Storage>),
    Tensor(Box<TensorRef>),
    /// What an unknown class or function would have made.
    Object(Arc<str>),
}

/// Numbers kept elsewhere in the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Storage {
    pub(super) key: Arc<str>,
    /// `torch.FloatStorage`
    pub(super) class: Arc<str>,
    /// In elements of the class.
    pub(super) elements: u64,
    /// Where a view of a storage begins, in elements; legacy files have such views.
    pub(super) offset: u64,
}

/// A tensor as a view of a storage; nothing of it has been checked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TensorRef {
    pub(super) storage: Storage,
    /// Of the first element, in elements.
    pub(super) offset: u64,
    pub(super) shape: Vec<usize>,
    /// In elements, one for each side of `shape`.
    pub(super) strides: Vec<u64>,
}

impl Storage {
    /// The format of its numbers, where it is one that we know the size of.
    pub(super) fn dtype(&self) -> Option<FileDtype> {
        Some(match self.class.rsplit('.').next()? {
            "FloatStorage" => FileDtype::F32,
            "HalfStorage" => FileDtype::F16,
            "BFloat16Storage" => FileDtype::BF16,
            "DoubleStorage" => FileDtype::F64,
            "LongStorage" => FileDtype::I64,
            "IntStorage" => FileDtype::I32,
            "ShortStorage" => FileDtype::I16,
            "CharStorage" => FileDtype::I8,
            "ByteStorage" | "UntypedStorage" => FileDtype::U8,
            "BoolStorage" => FileDtype::BOOL,
            "ComplexFloatStorage" => FileDtype::C64,
            _ => return None,
        })
    }

    /// Of the whole storage. `None` for unknown classes and absurd counts.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.elements.checked_mul(self.dtype()?.bitsize() as u64 / 8)
    }
}

/// What one pickle holds.
#[derive(Debug)]
pub(super) struct Pickle {
    pub(super) values: Vec<Value>,
    pub(super) root: Id,
}

impl Pickle {
    pub(super) fn get(&self, id: Id) -> &Value {
        &self.values[id as usize]
    }

    pub(super) fn root(&self) -> &Value {
        self.get(self.root)
    }

    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value under a text key of a dict.
    pub(super) fn entry(&self, dict: &[(Id, Id)], key: &str) -> Option<&Value> {
        dict.iter().rev().find(|(candidate, _)| self.text(*candidate) == Some(key)).map(|(_, value)| self.get(*value))
    }
}

impl Value {
    /// In words, for errors.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::None => "None",
            Value::Bool(_) => "a bool",
            Value::Int(_) => "an int",
            Value::Float(_) => "a float",
            Value::Text(_) => "a string",
            Value::Bytes => "bytes",
            Value::Tuple(_) => "a tuple",
            Value::List(_) => "a list",
            Value::Dict(_) => "a dict",
            Value::Global(_) => "a class or function",
            Value::Storage(_) => "a storage",
            Value::Tensor(_) => "a tensor",
            Value::Object(_) => "an object",
        }
    }
}
