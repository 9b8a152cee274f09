//! Import of PyTorch files (.pth, .pt): zip and legacy formats, read without executing the pickle. Export of state dicts.
//!
//! The pickle is parsed into inert data, the state dict is located in it, tensor names are converted to
//! torchvision's, and only then are the values read. Sizes are checked against the file before memory is allocated.
//! This module does not call anything that a file names, does not write files, and does not load whole modules.
//!
//! The crate `pytorch-reader` 0.22, the reader of `burn-store`, was considered. It executes nothing either, and
//! accepts more files: tar archives, compressed entries, whole modules. This implementation stays because its limits
//! are stricter:
//!
//! - Here the values of a pickle, its stack, marks, memo and containers have at most 2^20 entries each. There they
//!   are bounded only by the size of the pickle (100 MiB in a zip archive, the file otherwise): 50 MiB of one-byte
//!   values take 4.5 GB.
//! - Here all tensors together exceed the file by at most 16 MiB, unless they are exactly those of a known network.
//!   There each tensor may expand to 10 GiB.
//! - Here a weight of an unknown class is an error that names it. There it is missing from the result without an error.
//! - There a dict anywhere in the file whose keys are neither text nor integers makes the whole file unreadable, as do
//!   sparse or quantised tensors next to the weights. Here only the weights matter.

pub(crate) mod archive_writer;
mod byte_reader;
mod construct;
mod error;
mod export;
mod gather;
mod legacy;
mod pickle;
mod stack_machine;
mod state_dict;
mod tensor_names;
mod value;
mod zip;

#[cfg(test)]
mod tests;

pub use error::PthError;
pub use export::export;

use super::infer::{TensorShapes, infer_architecture};
use super::tensor::{Elements, StoredTensor};
use super::{Checkpoint, Dtype, Metadata};
use crate::architecture::TensorKind;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use value::{StorageRef, TensorRef};

/// The first bytes of a zip archive.
const ZIP_MAGIC: [u8; 4] = *b"PK\x03\x04";

/// Number of bytes by which the tensors of a file may exceed the file. Batch norms that are a single expanded number
/// are legitimate; thousands of views of one storage are an attack.
const MAX_EXPANSION: u64 = 1 << 24;

/// The state dict of a `.pth` file with torchvision's names, before its architecture is known.
pub struct StateDict {
    container: Container,
    /// Size of the file, in bytes.
    length: u64,
    tensors: BTreeMap<String, TensorRef>,
    classes: Option<Vec<String>>,
}

enum Container {
    Zip(zip::ZipContainer),
    Legacy(legacy::LegacyContainer),
}

/// Imports a `.pth` file as a checkpoint: fp16 matrices stay fp16, everything else becomes fp32. Architecture and
/// number of classes are inferred from the tensors (see [`Checkpoint::assumption`]). A list of strings under the key
/// `classes` next to the weights names the classes, if it has one name per class.
///
/// # Errors
/// Returns an error with the path of the file if its weights cannot be read, or match no known architecture.
pub fn import(path: impl AsRef<Path>) -> Result<Checkpoint, PthError> {
    StateDict::open(&path)?.into_checkpoint().map_err(|error| in_file(path.as_ref(), error))
}

fn in_file(path: &Path, reason: PthError) -> PthError {
    PthError::File { path: path.to_owned(), reason: Box::new(reason) }
}

impl StateDict {
    /// Opens a file and reads its pickle, but no values yet.
    ///
    /// # Errors
    /// Returns an error with the path of the file if no state dict can be found in it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PthError> {
        Self::open_file(path.as_ref()).map_err(|error| in_file(path.as_ref(), error))
    }

    fn open_file(path: &Path) -> Result<Self, PthError> {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(std::io::Error::other("not a file").into());
        }
        let length = metadata.len();
        let mut magic = Vec::new();
        file.by_ref().take(ZIP_MAGIC.len() as u64).read_to_end(&mut magic)?;
        file.rewind()?;
        let (container, pickle) = if magic == ZIP_MAGIC {
            let (archive, pickle) = zip::ZipContainer::open(file, length)?;
            (Container::Zip(archive), pickle)
        } else {
            let (legacy, pickle) = legacy::LegacyContainer::open(file, length)?;
            (Container::Legacy(legacy), pickle)
        };
        let state_dict::Entries { tensors, classes } = state_dict::find(&pickle)?;
        Ok(StateDict { container, length, tensors, classes })
    }

    /// Iterates over the names and shapes of the tensors.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.shape.as_slice()))
    }

    /// Returns the strings under `classes`, if the file has such a list.
    pub fn classes(&self) -> Option<&[String]> {
        self.classes.as_deref()
    }

    /// Reads the values of all tensors as f32, in row-major order.
    ///
    /// # Errors
    /// Returns an error if a tensor is not of floats or reaches beyond its storage, or if the tensors together are much
    /// larger than the file.
    pub fn values(&mut self) -> Result<BTreeMap<String, Vec<f32>>, PthError> {
        let limit = self.length.saturating_add(MAX_EXPANSION);
        Ok(self.read(limit)?.into_iter().map(|(name, tensor)| (name, tensor.values())).collect())
    }

    /// Converts the state dict to a checkpoint, see [`import`].
    ///
    /// # Errors
    /// Returns an error if the tensors match no known architecture, or if their values cannot be read.
    pub fn into_checkpoint(mut self) -> Result<Checkpoint, PthError> {
        let shapes: TensorShapes = self.shapes().map(|(name, shape)| (name.to_owned(), shape.to_vec())).collect();
        // Inferred before reading: the shapes of a known network bound the memory of the values.
        let architecture = infer_architecture(&shapes)?;
        let mut metadata = Metadata::new(architecture);
        if let Some(classes) = self.classes.take_if(|classes| classes.len() == architecture.classes) {
            (metadata.classes, metadata.labels) = (classes.clone(), classes);
        }
        let mut tensors = self.read(u64::MAX)?;
        for spec in architecture.tensors().into_iter().filter(|spec| spec.kind != TensorKind::Matrix) {
            let wide = tensors[&spec.name].convert(&spec.name, Dtype::F32)?;
            tensors.insert(spec.name, wide);
        }
        for (name, tensor) in &tensors {
            tensor.check(name)?;
        }
        Ok(Checkpoint { metadata, architecture_inferred: true, tensors })
    }

    /// Reads all tensors, storage by storage, so that a shared storage is read once. `limit` bounds the total size of
    /// the tensors in bytes, for state dicts in which nothing else bounds the number of views.
    fn read(&mut self, limit: u64) -> Result<BTreeMap<String, StoredTensor>, PthError> {
        let mut by_storage: BTreeMap<&str, Vec<(&String, &TensorRef)>> = BTreeMap::new();
        for (name, tensor) in &self.tensors {
            by_storage.entry(&tensor.storage.key).or_default().push((name, tensor));
        }
        let mut total_bytes = 0;
        let mut read = BTreeMap::new();
        for tensors in by_storage.into_values() {
            // Tensors may declare different sizes of the same storage; the largest one must be present.
            let mut needed = 0;
            for (name, tensor) in &tensors {
                needed = needed.max(storage_bytes(name, &tensor.storage)?);
            }
            let storage = self.container.read(&tensors[0].1.storage, needed)?;
            for (name, tensor) in tensors {
                let unsupported = || unsupported_dtype(name, &tensor.storage);
                let dtype = tensor.storage.dtype().ok_or_else(unsupported)?;
                let bytes = gather::gather_elements(name, tensor, &storage, dtype.bitsize() / 8)?;
                total_bytes += bytes.len() as u64;
                if total_bytes > limit {
                    return Err(PthError::TensorsTooLarge { length: self.length, limit });
                }
                let elements = Elements::from_le_bytes(dtype, &bytes).ok_or_else(unsupported)?;
                read.insert(name.clone(), StoredTensor::new(tensor.shape.clone(), elements));
            }
        }
        Ok(read)
    }
}

fn storage_bytes(name: &str, storage: &StorageRef) -> Result<u64, PthError> {
    storage.bytes().ok_or_else(|| unsupported_dtype(name, storage))
}

fn unsupported_dtype(name: &str, storage: &StorageRef) -> PthError {
    PthError::UnsupportedDtype { name: name.to_owned(), class: storage.class.to_string() }
}

impl Container {
    /// Returns the bytes of a storage, at least `needed`.
    fn read(&mut self, storage: &StorageRef, needed: u64) -> Result<Vec<u8>, PthError> {
        match self {
            Container::Zip(archive) => archive.read(storage, needed),
            Container::Legacy(legacy) => legacy.read(storage, needed),
        }
    }
}
