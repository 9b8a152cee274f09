//! Weights at rest: one safetensors file that explains itself.
//!
//! Tensor names and shapes are torchvision's, so that PyTorch loads fp32 and fp16 files without a key map;
//! `__metadata__` holds `format` = `pt` and one key `shortcut` with [`Metadata`] as JSON. Equal content gives equal bytes.
//! Pickle is read by [`pth`] only, natively, and never executed.

mod metadata;
#[cfg(not(target_arch = "wasm32"))]
pub mod pth;

pub use metadata::Metadata;

use crate::architecture::Architecture;
use std::collections::BTreeMap;

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    F32,
    F16,
    /// Matrices as symmetric int8 with one fp32 scale an output channel in a tensor `<name>.scale`; the rest as it is.
    I8,
}

/// A validated checkpoint: exactly the tensors of its architecture, with their shapes.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    metadata: Metadata,
    /// By torchvision's name; scales of int8 tensors among them.
    tensors: BTreeMap<String, StoredTensor>,
}

#[derive(Clone, Debug)]
struct StoredTensor {
    shape: Vec<usize>,
    /// Little-endian, row by row.
    data: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("to be refined")]
    Todo,
}

impl Checkpoint {
    /// From a safetensors file of ours, or of anybody's with torchvision's names: without our metadata the
    /// architecture is inferred from the tensors (a bottleneck is taken for v1.5) and classes are named by index.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let _ = bytes;
        todo!()
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
        let _ = name;
        todo!()
    }
}
