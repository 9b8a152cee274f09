//! Import of PyTorch files (.pth, .pt): zip and legacy formats, read without executing pickle.
//!
//! What a pickle describes becomes inert data; the state dict is looked for in it, names become torchvision's, and only
//! then are the numbers read. Sizes are checked against the file before memory is taken. Nothing here calls anything
//! that a file names, writes anything, or loads whole modules.

mod construct;
mod error;
mod legacy;
mod machine;
mod names;
mod pickle;
mod source;
mod state_dict;
mod tensor;
mod value;
mod zip;

#[cfg(test)]
mod tests;

pub use error::PthError;

use super::recognise::{Shapes, recognise};
use super::tensor::{Elements, StoredTensor};
use super::{Checkpoint, Dtype, Metadata};
use crate::architecture::TensorKind;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use value::{Storage, TensorRef};

/// The first bytes of a zip archive.
const ZIP_MAGIC: [u8; 4] = *b"PK\x03\x04";

/// Bytes that the tensors of a file may have together beyond the file's own: where batch norms are a single number expanded.
/// Thousands of views of one storage are an attack.
const MAX_BEYOND_FILE: u64 = 1 << 24;

/// The weights of a `.pth` file by torchvision's names, before anything is known of the network.
pub struct StateDict {
    container: Container,
    /// Of the file, in bytes.
    length: u64,
    tensors: BTreeMap<String, TensorRef>,
    classes: Option<Vec<String>>,
}

enum Container {
    Zip(zip::Archive),
    Legacy(legacy::Legacy),
}

/// A checkpoint from a `.pth` file: fp16 matrices stay fp16, everything else becomes fp32. Architecture and number of
/// classes are inferred from the tensors ([`Checkpoint::assumption`]); a list of texts under `classes` beside the
/// weights names the classes, if there are as many. Errors name the file.
pub fn import(path: impl AsRef<Path>) -> Result<Checkpoint, PthError> {
    StateDict::open(&path)?.into_checkpoint().map_err(|error| in_file(path.as_ref(), error))
}

fn in_file(path: &Path, reason: PthError) -> PthError {
    PthError::File { path: path.to_owned(), reason: Box::new(reason) }
}

impl StateDict {
    /// Reads a file's pickle, and no numbers yet. Errors name the file.
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
            let (archive, pickle) = zip::Archive::open(file, length)?;
            (Container::Zip(archive), pickle)
        } else {
            let (legacy, pickle) = legacy::Legacy::open(file, length)?;
            (Container::Legacy(legacy), pickle)
        };
        let state_dict::Weights { tensors, classes } = state_dict::find(&pickle)?;
        Ok(StateDict { container, length, tensors, classes })
    }

    /// Names and shapes.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.shape.as_slice()))
    }

    /// The texts under `classes`, if the file has such a list.
    pub fn classes(&self) -> Option<&[String]> {
        self.classes.as_deref()
    }

    /// The values of every tensor as f32, row by row.
    pub fn values(&mut self) -> Result<BTreeMap<String, Vec<f32>>, PthError> {
        let limit = self.length.saturating_add(MAX_BEYOND_FILE);
        Ok(self.read(limit)?.into_iter().map(|(name, tensor)| (name, tensor.values())).collect())
    }

    /// See [`import`].
    pub fn into_checkpoint(mut self) -> Result<Checkpoint, PthError> {
        let shapes: Shapes = self.shapes().map(|(name, shape)| (name.to_owned(), shape.to_vec())).collect();
        // Recognised first: the shapes of a known network bound the memory that the numbers take.
        let architecture = recognise(&shapes)?;
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
        Ok(Checkpoint { metadata, inferred: true, tensors })
    }

    /// Storage by storage, so that one that many tensors share is read once.
    /// Of no more bytes together than `limit`, where nothing else bounds how many views there are.
    fn read(&mut self, limit: u64) -> Result<BTreeMap<String, StoredTensor>, PthError> {
        let mut by_storage: BTreeMap<&str, Vec<(&String, &TensorRef)>> = BTreeMap::new();
        for (name, tensor) in &self.tensors {
            by_storage.entry(&tensor.storage.key).or_default().push((name, tensor));
        }
        let mut together = 0;
        let mut read = BTreeMap::new();
        for tensors in by_storage.into_values() {
            // Two views of one storage may disagree about its size; each gets what it announces.
            let mut needed = 0;
            for (name, tensor) in &tensors {
                needed = needed.max(bytes_of(name, &tensor.storage)?);
            }
            let storage = self.container.read(&tensors[0].1.storage, needed)?;
            for (name, tensor) in tensors {
                let unsupported = || unsupported(name, &tensor.storage);
                let dtype = tensor.storage.dtype().ok_or_else(unsupported)?;
                let bytes = tensor::gather(name, tensor, &storage, dtype.bitsize() / 8)?;
                together += bytes.len() as u64;
                if together > limit {
                    return Err(PthError::TensorsTooLarge { length: self.length, limit });
                }
                let elements = Elements::from_le_bytes(dtype, &bytes).ok_or_else(unsupported)?;
                read.insert(name.clone(), StoredTensor::new(tensor.shape.clone(), elements));
            }
        }
        Ok(read)
    }
}

fn bytes_of(name: &str, storage: &Storage) -> Result<u64, PthError> {
    storage.bytes().ok_or_else(|| unsupported(name, storage))
}

fn unsupported(name: &str, storage: &Storage) -> PthError {
    PthError::UnsupportedDtype { name: name.to_owned(), class: storage.class.to_string() }
}

impl Container {
    /// The bytes of a storage, at least as many as `needed`.
    fn read(&mut self, storage: &Storage, needed: u64) -> Result<Vec<u8>, PthError> {
        match self {
            Container::Zip(archive) => archive.read(storage, needed),
            Container::Legacy(legacy) => legacy.read(storage, needed),
        }
    }
}
