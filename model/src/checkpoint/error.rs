//! Errors of reading, creating and converting checkpoints.

use super::dtype::Dtype;
use crate::architecture::ArchitectureError;
use std::ops::RangeInclusive;

/// Error of reading, creating or converting a checkpoint. Each variant names the tensor, offset or count at fault.
/// Messages are complete: none relies on a chain of sources.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// An error in a file, with its path.
    #[cfg(not(target_arch = "wasm32"))]
    #[error("{}: {reason}", path.display())]
    File { path: std::path::PathBuf, reason: Box<CheckpointError> },
    #[error(transparent)]
    Io(#[from] std::io::Error),

    #[error("the file is truncated: it has {length} bytes, but at least {needed} are required")]
    Truncated { length: u64, needed: u64 },
    #[error("unexpected trailing bytes: the tensors end at byte {end}, but the file has {length} bytes")]
    TrailingBytes { end: u64, length: u64 },
    #[error("this is a PyTorch file, not a checkpoint; convert it with `trainer import`")]
    PyTorchFile,
    #[error("the header declares {bytes} bytes, more than the maximum of {max}; is this a safetensors file?")]
    HeaderTooLarge { bytes: u64, max: u64 },
    #[error("the header is not a valid JSON table of tensors: {0}")]
    InvalidHeader(serde_json::Error),
    #[error("duplicate tensor {name:?} in the header")]
    DuplicateTensor { name: String },
    #[error(
        "tensor {name:?} has the data offsets {start}..{end}, but must start at {expected}, where the previous one ends"
    )]
    InvalidOffsets { name: String, start: usize, end: usize, expected: usize },
    #[error(
        "tensor {name:?} has the shape {shape:?} of {dtype}, which does not match the {bytes} bytes of its data offsets"
    )]
    ByteCount { name: String, shape: Vec<usize>, dtype: String, bytes: usize },
    #[error("tensor {name:?} is stored as {dtype}; supported are F32, F16, BF16 and F64, and I8 for matrices")]
    UnsupportedDtype { name: String, dtype: String },
    #[error("tensor {name:?}: an int8 matrix of {rows} rows needs finite scales {name}.scale, F32 of shape [{rows}]")]
    InvalidScales { name: String, rows: usize },

    #[error("unsupported metadata version {found}; this program reads versions 1 to {newest}")]
    MetadataVersion { found: u64, newest: u32 },
    #[error("unknown metadata field {name:?}; a newer version of this program is needed to read this checkpoint")]
    UnknownMetadataField { name: String },
    #[error("metadata field {name:?} must be a number from {} to {}", range.start(), range.end())]
    MetadataRange { name: String, range: RangeInclusive<f32> },
    #[error("the metadata is invalid: {0}")]
    InvalidMetadata(serde_json::Error),
    #[error("the metadata lists {found} {what}, but the network has {expected} classes")]
    ClassCount { what: &'static str, found: usize, expected: usize },

    #[error("{architecture} needs a tensor {name:?}, which is missing")]
    MissingTensor { name: String, architecture: String },
    #[error("{architecture} has no tensor {name:?}")]
    UnexpectedTensor { name: String, architecture: String },
    #[error("tensor {name:?} has the shape {found:?}, but {architecture} needs {expected:?}")]
    WrongShape { name: String, found: Vec<usize>, expected: Vec<usize>, architecture: String },
    #[error("tensor {name:?} has {found} values, but its shape requires {expected}")]
    ValueCount { name: String, found: usize, expected: usize },
    /// The tensors match no architecture. `reason` is the first difference from the closest one.
    #[error("the tensors match no known architecture; first difference from the closest one: {reason}")]
    UnknownArchitecture { reason: Box<CheckpointError> },
    #[error(transparent)]
    Architecture(#[from] ArchitectureError),

    #[error("tensor {name:?} holds {value} at index {index}: weights must be finite, and variances not negative")]
    InvalidValue { name: String, index: usize, value: f32 },
    #[error("tensor {name:?} holds {value} at index {index}, which {dtype} cannot represent")]
    Unrepresentable { name: String, index: usize, value: f32, dtype: Dtype },
}
