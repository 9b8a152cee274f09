//! The ways in which a file of PyTorch's can be wrong, or be none of those that are read.

use super::super::CheckpointError;
use std::path::PathBuf;

/// Why the weights of a `.pth` file were not imported. Every variant names the tensor, the class or the offset at fault.
/// Messages are whole: no part of one waits in a chain of sources.
#[derive(Debug, thiserror::Error)]
pub enum PthError {
    /// What is wrong with a file, with the file's name.
    #[error("{}: {reason}", path.display())]
    File { path: PathBuf, reason: Box<PthError> },
    #[error(transparent)]
    Io(#[from] std::io::Error),

    #[error("neither a zip archive nor a pickle as torch.save writes them")]
    NotTorch,
    #[error("the zip archive cannot be read: {0}")]
    Zip(zip::result::ZipError),
    #[error("the archive has no entry {name:?}")]
    MissingEntry { name: String },
    #[error("the archive's entry {name:?} cannot be read: {reason}")]
    Entry { name: String, reason: std::io::Error },
    #[error("the archive's entry {name:?} is compressed; torch.save stores entries as they are")]
    Compressed { name: String },
    #[error("this is a TorchScript program, not weights: save model.state_dict() with torch.save instead")]
    TorchScript,
    #[error("the numbers are big-endian; only little-endian files are read")]
    BigEndian,

    #[error("the pickle ends in the middle, at byte {offset}")]
    PickleTruncated { offset: u64 },
    #[error("pickle opcode {opcode:#04x} at byte {offset} is none that torch.save writes")]
    Opcode { opcode: u8, offset: u64 },
    #[error("the pickle is malformed at byte {offset}: {reason}")]
    Pickle { offset: u64, reason: &'static str },
    #[error("the pickle is larger than any description of weights: more than {limit} {what}")]
    PickleTooLarge { what: &'static str, limit: u64 },

    #[error(
        "no state dict, which is tensors by name, is in the file, neither plain nor under \"state_dict\", \
         \"model_state_dict\" or \"model\"; found {found}"
    )]
    NoStateDict { found: String },
    #[error(
        "the file holds an object of the class {class} instead of a dict of tensors; it was not executed. If it is a \
         model that you trust, save its state_dict() with torch.save instead"
    )]
    WholeModule { class: String },
    #[error("{name:?} in the weights is an object of the class {class}, which is not known and was not executed")]
    UnknownClass { name: String, class: String },
    #[error("{name:?} in the weights is {found}, not a tensor")]
    NotATensor { name: String, found: &'static str },
    #[error("two tensors of the weights are called {name:?} once prefixes are gone")]
    DuplicateName { name: String },

    #[error("tensor {name:?} is a {class}; floats of 16, 32 and 64 bits can be read")]
    UnsupportedDtype { name: String, class: String },
    #[error("tensor {name:?} reaches beyond its storage {key:?} of {elements} elements")]
    OutOfBounds { name: String, key: String, elements: u64 },
    #[error("the tensors have more than {limit} bytes together, in a file of {length}")]
    TensorsTooLarge { length: u64, limit: u64 },
    #[error("storage {key:?} is in the file with {found} bytes, {needed} were announced")]
    Storage { key: String, found: u64, needed: u64 },

    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}
