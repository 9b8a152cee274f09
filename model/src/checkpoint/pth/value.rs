//! The content of a pickle as inert data.
//!
//! Values refer to each other by index into one list, so that nesting needs no recursion and cycles are harmless.
//! Strings are shared, so that repetition takes no memory.

use safetensors::Dtype as FileDtype;
use std::sync::Arc;

/// Index of a [`Value`] in [`Pickle::values`].
pub(super) type ValueId = u32;

#[derive(Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Arc<str>),
    Bytes,
    Tuple(Vec<ValueId>),
    List(Vec<ValueId>),
    /// Pairs of key and value. If a key repeats, its last value counts.
    Dict(Vec<(ValueId, ValueId)>),
    /// The name of a class or function, `module.name`; never resolved.
    Global(Arc<str>),
    Storage(Box<StorageRef>),
    Tensor(Box<TensorRef>),
    /// Placeholder for the result of an unknown class or function, with its name.
    Object(Arc<str>),
}

/// A reference to a storage: an array of numbers elsewhere in the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StorageRef {
    pub(super) key: Arc<str>,
    /// Class name, such as `torch.FloatStorage`.
    pub(super) class: Arc<str>,
    /// Number of elements, whose type the class determines.
    pub(super) elements: u64,
    /// Offset of a view into the storage, in elements; legacy files have such views.
    pub(super) offset: u64,
}

/// A tensor as a view of a storage. Offsets, shape and strides are untrusted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TensorRef {
    pub(super) storage: StorageRef,
    /// Offset of the first element, in elements.
    pub(super) offset: u64,
    pub(super) shape: Vec<usize>,
    /// Strides in elements, one per dimension of `shape`.
    pub(super) strides: Vec<u64>,
}

impl StorageRef {
    /// Returns the number format, if the class is known.
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

    /// Returns the size of the whole storage in bytes, or `None` if the class is unknown or the size overflows.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.elements.checked_mul(self.dtype()?.bitsize() as u64 / 8)
    }
}

/// The values of one pickle.
#[derive(Debug)]
pub(super) struct Pickle {
    pub(super) values: Vec<Value>,
    pub(super) root: ValueId,
}

impl Pickle {
    pub(super) fn get(&self, id: ValueId) -> &Value {
        &self.values[id as usize]
    }

    pub(super) fn root(&self) -> &Value {
        self.get(self.root)
    }

    pub(super) fn text(&self, id: ValueId) -> Option<&str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the value of a string key in a dict.
    pub(super) fn entry(&self, dict: &[(ValueId, ValueId)], key: &str) -> Option<&Value> {
        dict.iter().rev().find(|(candidate, _)| self.text(*candidate) == Some(key)).map(|(_, value)| self.get(*value))
    }
}

impl Value {
    /// Describes the kind of value, for error messages.
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
