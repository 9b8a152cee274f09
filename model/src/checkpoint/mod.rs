//! Weights at rest: one safetensors file that explains itself.
//!
//! Tensor names and shapes are torchvision's, so that PyTorch loads fp32 and fp16 files without a key map;
//! `__metadata__` holds `format` = `pt` and one key `shortcut` with [`Metadata`] as JSON. Equal content gives equal bytes.
//! Counters (`num_batches_tracked`) may be in a file that is read, and are not kept.
//! Pickle is read by [`pth`] only, natively, and never executed.

mod dtype;
mod error;
#[cfg(not(target_arch = "wasm32"))]
mod file;
mod header;
mod incoming;
mod metadata;
#[cfg(not(target_arch = "wasm32"))]
pub mod pth;
mod recognise;
mod tensor;
#[cfg(test)]
mod tests;
mod write;

pub use dtype::{Dtype, UnknownDtype};
pub use error::CheckpointError;
#[cfg(not(target_arch = "wasm32"))]
pub use file::write_atomically;
pub use incoming::Incoming;
pub use metadata::Metadata;

use crate::architecture::{Architecture, Block, TensorKind, TensorSpec};
use recognise::{Shapes, check};
use std::collections::BTreeMap;
use tensor::{Elements, StoredTensor};

/// The key of our document in a safetensors file's `__metadata__`.
const METADATA_KEY: &str = "shortcut";

/// A validated checkpoint: exactly the tensors of its architecture, with their shapes.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    metadata: Metadata,
    /// Whether the architecture was read off the tensors, because nothing described it.
    inferred: bool,
    /// By torchvision's name.
    tensors: BTreeMap<String, StoredTensor>,
}

/// A tensor as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry<'a> {
    pub name: &'a str,
    pub shape: &'a [usize],
    pub dtype: Dtype,
    /// In a file, the scales of int8 included.
    pub bytes: usize,
}

impl Checkpoint {
    /// From fp32 values, row by row, by torchvision's names: exactly those of the architecture that `metadata` names.
    pub fn new(metadata: Metadata, tensors: BTreeMap<String, Vec<f32>>) -> Result<Self, CheckpointError> {
        metadata.validate()?;
        let architecture = metadata.architecture.name();
        let mut tensors = tensors;
        let mut stored = BTreeMap::new();
        for TensorSpec { name, shape, .. } in metadata.architecture.tensors() {
            let Some(values) = tensors.remove(&name) else {
                return Err(CheckpointError::MissingTensor { name, architecture });
            };
            let expected = shape.iter().product();
            if values.len() != expected {
                return Err(CheckpointError::ValueCount { name, found: values.len(), expected });
            }
            stored.insert(name, StoredTensor::new(shape, Elements::F32(values)));
        }
        if let Some((name, _)) = tensors.pop_first() {
            return Err(CheckpointError::UnexpectedTensor { name, architecture });
        }
        for (name, tensor) in &stored {
            tensor.check(name)?;
        }
        Ok(Checkpoint { metadata, inferred: false, tensors: stored })
    }

    /// From a safetensors file of ours, or of anybody's with torchvision's names: without our metadata the
    /// architecture is inferred from the tensors (a bottleneck is taken for v1.5: see [`Checkpoint::assumption`]) and
    /// classes are named by index.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let mut incoming = Incoming::new(bytes.len() as u64);
        incoming.push(bytes)?;
        incoming.finish()
    }

    /// The same from a file; errors name it. Its header is judged before memory is taken for the tensors.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_path(path: impl AsRef<std::path::Path>) -> Result<Self, CheckpointError> {
        file::from_path(path.as_ref())
    }

    /// As a safetensors file. Equal content gives equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        write::to_bytes(self)
    }

    /// Writes [`Checkpoint::to_bytes`] to a file beside `path`, brings it to the disk, and renames it to `path`.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn save(&self, path: impl AsRef<std::path::Path>) -> Result<(), CheckpointError> {
        file::save(self, path.as_ref())
    }

    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    pub fn architecture(&self) -> Architecture {
        self.metadata.architecture
    }

    /// The values of a tensor as f32 (fp16 widened, int8 times its scale), row by row; empty shapes do not occur.
    ///
    /// # Panics
    /// If the architecture has no tensor of this name.
    pub fn values(&self, name: &str) -> Vec<f32> {
        match self.tensors.get(name) {
            Some(tensor) => tensor.values(),
            None => panic!("{} has no tensor {name:?}", self.architecture()),
        }
    }

    /// All tensors as f32, by name.
    pub fn into_values(self) -> BTreeMap<String, Vec<f32>> {
        self.tensors.into_iter().map(|(name, tensor)| (name, tensor.into_values())).collect()
    }

    /// Every tensor as it is stored, by name.
    pub fn entries(&self) -> impl Iterator<Item = TensorEntry<'_>> {
        self.tensors.iter().map(|(name, tensor)| TensorEntry {
            name,
            shape: tensor.shape(),
            dtype: tensor.dtype(),
            bytes: tensor.byte_count(),
        })
    }

    /// All matrices stored as `dtype`, the rest as fp32. What is stored so already stays as it is, bit by bit.
    ///
    /// Fails for values that `dtype` cannot hold: not finite, or beyond 65,504 for fp16.
    pub fn convert(&self, dtype: Dtype) -> Result<Self, CheckpointError> {
        self.convert_each(|_| dtype)
    }

    /// The same with a choice for each matrix, so that a stem can stay fp16 where the rest is int8.
    pub fn convert_each(&self, dtype_of: impl Fn(&TensorSpec) -> Dtype) -> Result<Self, CheckpointError> {
        let convert = |spec: TensorSpec| {
            let dtype = if spec.kind == TensorKind::Matrix { dtype_of(&spec) } else { Dtype::F32 };
            let tensor = self.tensors[&spec.name].convert(&spec.name, dtype)?;
            Ok((spec.name, tensor))
        };
        let tensors = self.architecture().tensors().into_iter().map(convert).collect::<Result<_, CheckpointError>>()?;
        Ok(Checkpoint { metadata: self.metadata.clone(), inferred: self.inferred, tensors })
    }

    /// The same weights under another description; its architecture must have the same tensors.
    pub fn with_metadata(self, metadata: Metadata) -> Result<Self, CheckpointError> {
        metadata.validate()?;
        let shapes: Shapes =
            self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape().to_vec())).collect();
        check(&metadata.architecture, &shapes)?;
        // Who describes weights without naming another architecture has decided nothing about strides.
        let inferred = self.inferred && metadata.architecture == self.architecture();
        Ok(Checkpoint { metadata, inferred, tensors: self.tensors })
    }

    /// The same weights as those of `name`, where the tensors cannot tell: `resnet50_v1` instead of `resnet50`.
    /// Stem and classes stay.
    pub fn with_architecture(self, name: &str) -> Result<Self, CheckpointError> {
        let Architecture { stem, classes, .. } = self.architecture();
        let architecture = Architecture { stem, ..Architecture::new(name, classes)? };
        let metadata = Metadata { architecture, ..self.metadata.clone() };
        Ok(Checkpoint { inferred: false, ..self.with_metadata(metadata)? })
    }

    /// What was taken for granted about weights that nothing described, in a sentence to be said aloud; `None` if
    /// there was nothing to guess.
    pub fn assumption(&self) -> Option<String> {
        let Architecture { variant, .. } = self.architecture();
        (self.inferred && variant.block == Block::Bottleneck).then(|| {
            format!(
                "the tensors are those of {name} and of {name}_v1; taken for {name} (v1.5, torchvision's: the stride is \
                 on the 3x3 convolution). If they come from Caffe, Keras or the paper, ask for {name}_v1",
                name = variant.name
            )
        })
    }
}
