//! The ways in which a checkpoint can be wrong.

use super::{Dtype, Metadata};
use crate::architecture::ArchitectureError;

/// Why a checkpoint was not read, made or converted. Every variant names the tensor, the offset or the count at fault.
/// Messages are whole: no part of one waits in a chain of sources.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// What is wrong with a file, with the file's name.
    #[cfg(not(target_arch = "wasm32"))]
    #[error("{}: {reason}", path.display())]
    File { path: std::path::PathBuf, reason: Box<CheckpointError> },
    #[error(transparent)]
    Io(#[from] std::io::Error),

    #[error("the file ends at byte {length}, but its header announces {needed} bytes")]
    Truncated { length: u64, needed: u64 },
    #[error("the header's tensors end at byte {end}, but the file goes on to byte {length}")]
    TrailingBytes { end: u64, length: u64 },
    #[error("this is a file of PyTorch's, not a checkpoint: bring it in with `trainer import` first")]
    PyTorch,
    #[error("a header of {bytes} bytes is announced, at most {max} are possible: is this a safetensors file?")]
    HeaderTooLarge { bytes: u64, max: u64 },
    #[error("the header is no JSON table of tensors: {0}")]
    Header(serde_json::Error),
    #[error("tensor {name:?} is in the header twice")]
    DuplicateTensor { name: String },
    #[error(
        "tensor {name:?} lies at {start}..{end} of the data, but must begin at {expected}, where the one before ends"
    )]
    Offsets { name: String, start: usize, end: usize, expected: usize },
    #[error("tensor {name:?} has the shape {shape:?} of {dtype}, which does not fill the {bytes} bytes at its offsets")]
    ByteCount { name: String, shape: Vec<usize>, dtype: String, bytes: usize },
    #[error("tensor {name:?} is stored as {dtype}; F32, F16, BF16 and F64 can be read, I8 for matrices")]
    UnsupportedDtype { name: String, dtype: String },
    #[error("tensor {name:?}: an int8 matrix of {rows} rows needs finite scales {name}.scale, F32 of shape [{rows}]")]
    Scales { name: String, rows: usize },

    #[error("the metadata is of version {found}; this program understands version {version}", version = Metadata::VERSION)]
    MetadataVersion { found: u64 },
    #[error("the metadata is no description of a checkpoint: {0}")]
    Metadata(serde_json::Error),
    #[error("{found} {what} are named, but the network has {expected} classes")]
    ClassCount { what: &'static str, found: usize, expected: usize },

    #[error("{architecture} needs a tensor {name:?}, which is missing")]
    MissingTensor { name: String, architecture: String },
    #[error("{architecture} has no tensor {name:?}")]
    UnexpectedTensor { name: String, architecture: String },
    #[error("tensor {name:?} has the shape {found:?}, but {architecture} needs {expected:?}")]
    WrongShape { name: String, found: Vec<usize>, expected: Vec<usize>, architecture: String },
    #[error("tensor {name:?} has {found} values, its shape asks for {expected}")]
    ValueCount { name: String, found: usize, expected: usize },
    /// `reason` is the first difference from the nearest architecture.
    #[error("the tensors are those of no known architecture; the nearest differs: {reason}")]
    Unrecognised { reason: Box<CheckpointError> },
    #[error(transparent)]
    Architecture(#[from] ArchitectureError),

    #[error("tensor {name:?} holds {value} at index {index}: weights must be finite, and variances at least zero")]
    Impossible { name: String, index: usize, value: f32 },
    #[error("tensor {name:?} holds {value} at index {index}, which {dtype} cannot store")]
    Unrepresentable { name: String, index: usize, value: f32, dtype: Dtype },
}
