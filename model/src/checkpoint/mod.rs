//! Checkpoints: weights in one self-describing safetensors file.
//!
//! Tensor names and shapes are torchvision's, so that PyTorch loads fp32 and fp16 files without a key map.
//! `__metadata__` holds `format` = `pt` and the key `shortcut` with [`Metadata`] as JSON. Equal content gives equal
//! bytes. Counters (`num_batches_tracked`) are accepted in files, and dropped. Pickles are read by [`pth`] only, on
//! native targets only, and are never executed.

mod dtype;
mod error;
#[cfg(not(target_arch = "wasm32"))]
mod file;
mod header;
mod infer;
mod metadata;
#[cfg(not(target_arch = "wasm32"))]
pub mod pth;
mod stream;
mod tensor;
#[cfg(test)]
mod tests;
mod write;

pub use dtype::{Dtype, UnknownDtype};
pub use error::CheckpointError;
#[cfg(not(target_arch = "wasm32"))]
pub use file::write_atomically;
pub use metadata::Metadata;
pub use stream::CheckpointStream;

use crate::architecture::{Architecture, Block, TensorKind, TensorSpec};
use infer::{TensorShapes, check_shapes};
use std::collections::BTreeMap;
use tensor::{Elements, StoredTensor};

/// The key of [`Metadata`] in a safetensors file's `__metadata__`.
const METADATA_KEY: &str = "shortcut";

/// A validated checkpoint: exactly the tensors of its architecture, with their shapes.
///
/// ```
/// use model::architecture::Architecture;
/// use model::checkpoint::{Checkpoint, Dtype};
/// use model::random;
///
/// let checkpoint = random::checkpoint(Architecture::new("resnet18", 10)?);
/// let bytes = checkpoint.convert(Dtype::F16)?.to_bytes();
///
/// let checkpoint = Checkpoint::from_bytes(&bytes)?;
/// assert_eq!(checkpoint.metadata().labels.len(), 10);
/// assert_eq!(checkpoint.values("fc.bias").len(), 10);
/// # Ok::<(), model::checkpoint::CheckpointError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Checkpoint {
    metadata: Metadata,
    /// Whether the architecture was inferred from the tensors, because the file had no metadata.
    architecture_inferred: bool,
    /// Tensors by torchvision's name.
    tensors: BTreeMap<String, StoredTensor>,
}

/// A description of a tensor as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry<'a> {
    pub name: &'a str,
    pub shape: &'a [usize],
    pub dtype: Dtype,
    /// Size in a file, in bytes, including the scales of int8.
    pub bytes: usize,
}

impl Checkpoint {
    /// Creates a checkpoint from fp32 values in row-major order, by torchvision's names.
    ///
    /// # Errors
    /// Returns an error if the metadata is invalid, if the tensors are not exactly those of its architecture, or if a
    /// value is not finite or a variance negative.
    pub fn new(metadata: Metadata, tensors: BTreeMap<String, Vec<f32>>) -> Result<Self, CheckpointError> {
        let metadata = metadata.validated()?;
        let architecture = metadata.architecture.to_string();
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
        Ok(Checkpoint { metadata, architecture_inferred: false, tensors: stored })
    }

    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    pub fn architecture(&self) -> Architecture {
        self.metadata.architecture
    }

    /// Returns the values of a tensor as f32 (fp16 widened, int8 multiplied by its scales) in row-major order.
    ///
    /// # Panics
    /// Panics if the architecture has no tensor of this name.
    pub fn values(&self, name: &str) -> Vec<f32> {
        match self.tensors.get(name) {
            Some(tensor) => tensor.values(),
            None => panic!("{} has no tensor {name:?}", self.architecture()),
        }
    }

    /// Returns all tensors as f32, by name.
    pub fn into_values(self) -> BTreeMap<String, Vec<f32>> {
        self.tensors.into_iter().map(|(name, tensor)| (name, tensor.into_values())).collect()
    }

    /// Describes every tensor as it is stored, in the order of names.
    pub fn entries(&self) -> impl Iterator<Item = TensorEntry<'_>> {
        self.tensors.iter().map(|(name, tensor)| TensorEntry {
            name,
            shape: tensor.shape(),
            dtype: tensor.dtype(),
            bytes: tensor.byte_count(),
        })
    }

    /// Converts all matrices to `dtype` and everything else to fp32. Tensors that already have that format are
    /// unchanged.
    ///
    /// # Errors
    /// Returns an error for a value that `dtype` cannot represent, such as one beyond 65,504 in fp16.
    pub fn convert(&self, dtype: Dtype) -> Result<Self, CheckpointError> {
        self.convert_each(|_| dtype)
    }

    /// Converts like [`Checkpoint::convert`], but to a dtype for each matrix, so that a stem can stay fp16 while the
    /// rest becomes int8.
    ///
    /// # Errors
    /// Returns an error for a value that its dtype cannot represent.
    pub fn convert_each(&self, dtype_of: impl Fn(&TensorSpec) -> Dtype) -> Result<Self, CheckpointError> {
        let convert = |spec: TensorSpec| {
            let dtype = if spec.kind == TensorKind::Matrix { dtype_of(&spec) } else { Dtype::F32 };
            let tensor = self.tensors[&spec.name].convert(&spec.name, dtype)?;
            Ok((spec.name, tensor))
        };
        let tensors = self.architecture().tensors().into_iter().map(convert).collect::<Result<_, CheckpointError>>()?;
        Ok(Checkpoint { metadata: self.metadata.clone(), architecture_inferred: self.architecture_inferred, tensors })
    }

    /// Replaces the metadata.
    ///
    /// # Errors
    /// Returns an error if the metadata is invalid, or if its architecture has other tensors.
    pub fn with_metadata(self, metadata: Metadata) -> Result<Self, CheckpointError> {
        let metadata = metadata.validated()?;
        let shapes: TensorShapes =
            self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape().to_vec())).collect();
        check_shapes(&metadata.architecture, &shapes)?;
        // Metadata with the same architecture says nothing about the placement of strides, so that remains inferred.
        let architecture_inferred = self.architecture_inferred && metadata.architecture == self.architecture();
        Ok(Checkpoint { metadata, architecture_inferred, tensors: self.tensors })
    }

    /// Changes the architecture to another one with the same tensors, such as from `resnet50` to `resnet50_v1`. Stem,
    /// classes and widths stay.
    ///
    /// # Errors
    /// Returns an error if the name is unknown, or if the architecture has other tensors.
    pub fn with_architecture(self, name: &str) -> Result<Self, CheckpointError> {
        let Architecture { stem, classes, widths, .. } = self.architecture();
        let mut architecture = Architecture { stem, ..Architecture::new(name, classes)? };
        if let Some(widths) = widths.filter(|_| architecture.variant == self.architecture().variant) {
            architecture = architecture.with_widths(widths)?;
        }
        let metadata = Metadata { architecture, ..self.metadata.clone() };
        Ok(Checkpoint { architecture_inferred: false, ..self.with_metadata(metadata)? })
    }

    /// Returns a message for the user about what was assumed of weights without metadata, or `None` if nothing was
    /// assumed.
    pub fn assumption(&self) -> Option<String> {
        let Architecture { variant, .. } = self.architecture();
        (self.architecture_inferred && variant.block == Block::Bottleneck).then(|| {
            format!(
                "the tensors match both {name} and {name}_v1; assuming {name} (v1.5, as in torchvision: the stride is on the \
                 3x3 convolution). For weights from Caffe, Keras or the original paper, choose {name}_v1",
                name = variant.name
            )
        })
    }
}
