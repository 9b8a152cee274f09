//! Errors of importing PyTorch files.

use super::super::CheckpointError;
use std::path::PathBuf;

/// Error of importing the weights of a `.pth` file. Each variant names the tensor, class or offset at fault.
/// Messages are complete: none relies on a chain of sources.
#[derive(Debug, thiserror::Error)]
pub enum PthError {
    /// An error in a file, with its path.
    #[error("{}: {reason}", path.display())]
    File { path: PathBuf, reason: Box<PthError> },
    #[error(transparent)]
    Io(#[from] std::io::Error),

    #[error("not a PyTorch file: neither a zip archive nor a legacy pickle as torch.save writes them")]
    NotTorch,
    #[error("the zip archive cannot be read: {0}")]
    Zip(zip::result::ZipError),
    #[error("the archive has no entry {name:?}")]
    MissingEntry { name: String },
    #[error("entry {name:?} of the archive cannot be read: {reason}")]
    Entry { name: String, reason: std::io::Error },
    #[error("entry {name:?} of the archive is compressed; torch.save writes uncompressed entries")]
    Compressed { name: String },
    #[error("this is a TorchScript program, not a state dict; save model.state_dict() with torch.save instead")]
    TorchScript,
    #[error("the file is big-endian; only little-endian files are supported")]
    BigEndian,

    #[error("the pickle is truncated at byte {offset}")]
    PickleTruncated { offset: u64 },
    #[error("unsupported pickle opcode {opcode:#04x} at byte {offset}; torch.save does not write it")]
    Opcode { opcode: u8, offset: u64 },
    #[error("the pickle is malformed at byte {offset}: {reason}")]
    Pickle { offset: u64, reason: &'static str },
    #[error("the pickle is too large for a state dict: more than {limit} {what}")]
    PickleTooLarge { what: &'static str, limit: u64 },

    #[error(
        "the file has no state dict (a dict of tensors by name), neither at its root nor under \"state_dict\", \
         \"model_state_dict\" or \"model\"; found {found}"
    )]
    NoStateDict { found: String },
    #[error(
        "the file holds an object of the class {class} instead of a dict of tensors; it was not executed. If it is a \
         model that you trust, load it in PyTorch and save its state_dict() with torch.save"
    )]
    WholeModule { class: String },
    #[error("{name:?} in the state dict is an object of the unknown class {class}, which was not executed")]
    UnknownClass { name: String, class: String },
    #[error("{name:?} in the state dict is {found}, not a tensor")]
    NotATensor { name: String, found: &'static str },
    #[error("two tensors of the state dict have the name {name:?} after prefixes such as \"module.\" are removed")]
    DuplicateName { name: String },

    #[error("tensor {name:?} is stored as {class}; only floats of 16, 32 and 64 bits are supported")]
    UnsupportedDtype { name: String, class: String },
    #[error("tensor {name:?} reaches beyond its storage {key:?} of {elements} elements")]
    OutOfBounds { name: String, key: String, elements: u64 },
    #[error("the tensors have more than {limit} bytes in total, in a file of {length} bytes")]
    TensorsTooLarge { length: u64, limit: u64 },
    #[error("storage {key:?} has {found} bytes in the file, but {needed} are declared")]
    StorageTooShort { key: String, found: u64, needed: u64 },

    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}
