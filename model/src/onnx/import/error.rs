//! Errors of importing ONNX files.

use crate::checkpoint::CheckpointError;
use std::path::PathBuf;

/// Error of importing an ONNX file. Each variant names the node, tensor or value at fault. Messages are complete: none
/// relies on a chain of sources.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// An error in a file, with its path.
    #[error("{}: {reason}", path.display())]
    File { path: PathBuf, reason: Box<OnnxError> },
    #[error(transparent)]
    Io(#[from] std::io::Error),

    #[error("not an ONNX file: it has no graph")]
    NotOnnx,
    #[error("not an ONNX file: {0}")]
    Protobuf(#[from] prost::DecodeError),
    #[error("the protobuf message is malformed at byte {offset}")]
    Malformed { offset: usize },
    #[error("the file is too large for a residual network: more than {limit} {what}")]
    TooLarge { what: &'static str, limit: u64 },
    #[error("the file uses operator set {found}; export it with operator set {oldest} or later")]
    Opset { found: i64, oldest: i64 },

    #[error("two nodes or tensors write the value {name:?}")]
    DuplicateValue { name: String },
    #[error("the graph has {found} inputs, but a network has one, the images")]
    InputCount { found: usize },
    #[error("value {value:?} is read by {found}, expected {expected}; only residual networks can be imported")]
    Consumers { value: String, found: String, expected: &'static str },
    #[error("node {node:?} ({op_type}) {reason}")]
    Node { node: String, op_type: String, reason: String },
    #[error(
        "the network matches no known architecture; first difference from the closest one, {closest}: {difference}"
    )]
    UnknownArchitecture { closest: String, difference: String },
    #[error("the metadata describes {metadata}, but the graph is {graph}")]
    OtherArchitecture { metadata: String, graph: String },

    #[error("tensor {name:?} has the data type {data_type}; only floats of 16, 32 and 64 bits are supported")]
    UnsupportedDataType { name: String, data_type: i32 },
    #[error("tensor {name:?} has the shape {found:?}, expected {expected:?}")]
    WrongShape { name: String, found: Vec<i64>, expected: Vec<usize> },
    #[error("tensor {name:?} has {found} bytes or values, but its shape requires {expected}")]
    ValueCount { name: String, found: usize, expected: usize },
    #[error("tensor {name:?} is stored in {location:?}, which is not a file in the folder of the model")]
    ExternalLocation { name: String, location: String },
    #[error("tensor {name:?} cannot be read from {location:?}: {reason}")]
    ExternalFile { name: String, location: String, reason: std::io::Error },
    #[error("tensor {name:?}: the entry {key:?} of its external data is invalid")]
    ExternalEntry { name: String, key: String },

    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}
