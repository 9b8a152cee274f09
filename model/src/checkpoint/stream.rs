//! Incremental reading of a safetensors checkpoint while its bytes arrive.

use super::header::Header;
use super::infer::{TensorShapes, check_shapes, infer_architecture, is_counter};
use super::tensor::{Elements, StoredTensor, map_chunks};
use super::{Checkpoint, CheckpointError, METADATA_KEY, Metadata};
use crate::architecture::{Architecture, TensorKind};
use safetensors::Dtype as FileDtype;
use safetensors::tensor::TensorInfo;
use std::collections::{BTreeMap, BTreeSet};

/// Suffix of the tensor that holds the scales of an int8 matrix.
pub(super) const SCALE_SUFFIX: &str = ".scale";

/// A partially received checkpoint file. Each tensor is validated, and available, as soon as it is complete. Only
/// complete tensors and the bytes of the next one are kept in memory.
pub struct CheckpointStream {
    /// Size of the whole file, in bytes.
    length: u64,
    /// Size of the parts that are complete, in bytes.
    consumed: u64,
    /// The bytes of the next part received so far.
    pending: Vec<u8>,
    next: NextPart,
}

/// The part of the file that follows the bytes consumed so far.
enum NextPart {
    /// The length of the header.
    Prefix,
    /// The JSON of the header, of this many bytes.
    Header { json: usize },
    /// The remaining tensors, one after the other.
    Tensors(Box<TensorReader>),
}

struct TensorReader {
    metadata: Metadata,
    architecture_inferred: bool,
    shapes: TensorShapes,
    /// The tensors not yet received, the next one last.
    remaining: Vec<(String, TensorInfo)>,
    complete: BTreeMap<String, StoredTensor>,
    /// Int8 values whose scales have not arrived, and scales whose values have not arrived.
    int8: BTreeMap<String, Vec<i8>>,
    scales: BTreeMap<String, Vec<f32>>,
}

impl CheckpointStream {
    /// Starts a file of `length` bytes. Whatever its header declares, memory is allocated only for data that a file of
    /// this length can hold.
    pub fn new(length: u64) -> Self {
        CheckpointStream { length, consumed: 0, pending: Vec::new(), next: NextPart::Prefix }
    }

    /// Appends any number of bytes.
    ///
    /// # Errors
    /// Returns an error as soon as the file is found to be invalid; the stream cannot be continued then. Bytes beyond
    /// the length of the file result in [`CheckpointError::TrailingBytes`].
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), CheckpointError> {
        while let Some(needed) = self.next_part_size()? {
            if self.pending.is_empty() && bytes.len() >= needed {
                let (whole, rest) = bytes.split_at(needed);
                self.push_part(whole)?;
                bytes = rest;
                continue;
            }
            let (more, rest) = bytes.split_at(bytes.len().min(needed - self.pending.len()));
            self.pending.extend_from_slice(more);
            bytes = rest;
            if self.pending.len() < needed {
                return Ok(());
            }
            let mut whole = std::mem::take(&mut self.pending);
            self.push_part(&whole)?;
            whole.clear();
            self.pending = whole;
        }
        match bytes {
            [] => Ok(()),
            more => Err(CheckpointError::TrailingBytes { end: self.length, length: self.length + more.len() as u64 }),
        }
    }

    /// Returns the metadata once the header is complete.
    pub fn metadata(&self) -> Option<&Metadata> {
        match &self.next {
            NextPart::Prefix | NextPart::Header { .. } => None,
            NextPart::Tensors(tensors) => Some(&tensors.metadata),
        }
    }

    /// Returns whether a tensor is complete.
    pub fn has(&self, name: &str) -> bool {
        matches!(&self.next, NextPart::Tensors(tensors) if tensors.complete.contains_key(name))
    }

    /// Returns the values of a complete tensor as f32, as [`Checkpoint::values`] does.
    ///
    /// # Panics
    /// Panics if the tensor is not complete.
    pub fn values(&self, name: &str) -> Vec<f32> {
        match &self.next {
            NextPart::Tensors(tensors) if tensors.complete.contains_key(name) => tensors.complete[name].values(),
            _ => panic!("tensor {name:?} is not complete"),
        }
    }

    /// Returns the checkpoint once the file is complete.
    ///
    /// # Errors
    /// Returns [`CheckpointError::Truncated`] if bytes are missing.
    pub fn finish(self) -> Result<Checkpoint, CheckpointError> {
        match self.next {
            NextPart::Tensors(tensors) if tensors.remaining.is_empty() => {
                let TensorReader { metadata, architecture_inferred, complete: tensors, .. } = *tensors;
                Ok(Checkpoint { metadata, architecture_inferred, tensors })
            }
            _ => {
                // A file that is shorter than the prefix may never have been pushed to.
                self.next_part_size()?;
                let length = self.consumed + self.pending.len() as u64;
                Err(CheckpointError::Truncated { length, needed: self.length })
            }
        }
    }

    /// Returns the size of the next part in bytes, or `None` if the file is complete.
    pub(super) fn next_part_size(&self) -> Result<Option<usize>, CheckpointError> {
        match &self.next {
            NextPart::Prefix => Header::prefix(self.length).map(Some),
            NextPart::Header { json } => Ok(Some(*json)),
            NextPart::Tensors(tensors) => Ok(tensors.remaining.last().map(|(_, info)| byte_count(info))),
        }
    }

    /// Appends the whole next part, of [`next_part_size`](Self::next_part_size) bytes.
    pub(super) fn push_part(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        match &mut self.next {
            NextPart::Prefix => self.next = NextPart::Header { json: Header::json_bytes(bytes, self.length)? },
            NextPart::Header { .. } => {
                self.next = NextPart::Tensors(TensorReader::new(Header::from_json(bytes, self.length)?)?.into())
            }
            NextPart::Tensors(tensors) => tensors.push(bytes)?,
        }
        self.consumed += bytes.len() as u64;
        Ok(())
    }
}

impl Checkpoint {
    /// Reads a safetensors file with torchvision's tensor names. If it lacks our metadata, the architecture is
    /// inferred from the tensors (bottlenecks are assumed to be v1.5, see [`Checkpoint::assumption`]) and classes are
    /// named by index.
    ///
    /// # Errors
    /// Returns an error if the file is malformed, its metadata is invalid, or its tensors do not match an architecture.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let mut stream = CheckpointStream::new(bytes.len() as u64);
        stream.push(bytes)?;
        stream.finish()
    }
}

impl TensorReader {
    fn new(header: Header) -> Result<Self, CheckpointError> {
        let described = header.metadata.get(METADATA_KEY).map(|json| Metadata::from_json(json)).transpose()?;
        let shapes = network_shapes(&header);
        let (metadata, architecture_inferred) = match described {
            Some(metadata) => {
                check_shapes(&metadata.architecture, &shapes)?;
                (metadata, false)
            }
            None => (Metadata::new(infer_architecture(&shapes)?), true),
        };
        check_dtypes(&header, &metadata.architecture)?;
        let mut remaining = header.tensors;
        remaining.reverse();
        let (complete, int8, scales) = Default::default();
        Ok(TensorReader { metadata, architecture_inferred, shapes, remaining, complete, int8, scales })
    }

    /// Appends the next tensor, and combines int8 values with their scales once both have arrived.
    fn push(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        let Some((name, info)) = self.remaining.pop() else { return Ok(()) };
        let quantised = if !self.shapes.contains_key(&name) {
            // Scales, or a counter that is not needed.
            let Some(of) = name.strip_suffix(SCALE_SUFFIX) else { return Ok(()) };
            self.scales.insert(of.to_owned(), map_chunks(bytes, f32::from_le_bytes));
            of.to_owned()
        } else if info.dtype == FileDtype::I8 {
            self.int8.insert(name.clone(), map_chunks(bytes, i8::from_le_bytes));
            name
        } else {
            let elements = Elements::from_le_bytes(info.dtype, bytes).expect("the header's dtypes were checked");
            return self.insert(name, StoredTensor::new(info.shape, elements));
        };
        if !(self.int8.contains_key(&quantised) && self.scales.contains_key(&quantised)) {
            return Ok(());
        }
        let (values, scales) =
            self.int8.remove(&quantised).zip(self.scales.remove(&quantised)).expect("both were found above");
        let shape = self.shapes[&quantised].clone();
        if !scales.iter().all(|scale| scale.is_finite()) {
            return Err(CheckpointError::InvalidScales { name: quantised, rows: shape[0] });
        }
        self.insert(quantised, StoredTensor::new(shape, Elements::I8 { values, scales }))
    }

    fn insert(&mut self, name: String, tensor: StoredTensor) -> Result<(), CheckpointError> {
        tensor.check(&name)?;
        self.complete.insert(name, tensor);
        Ok(())
    }
}

fn byte_count(info: &TensorInfo) -> usize {
    info.data_offsets.1 - info.data_offsets.0
}

/// Returns the shapes of the network's tensors: all except counters and the scales of int8 tensors.
fn network_shapes(header: &Header) -> TensorShapes {
    let int8: BTreeSet<&str> =
        header.tensors.iter().filter(|(_, info)| info.dtype == FileDtype::I8).map(|(name, _)| name.as_str()).collect();
    let is_scale = |name: &str| name.strip_suffix(SCALE_SUFFIX).is_some_and(|of| int8.contains(of));
    let tensors = header.tensors.iter().filter(|(name, _)| !is_counter(name) && !is_scale(name));
    tensors.map(|(name, info)| (name.clone(), info.shape.clone())).collect()
}

/// Checks that every tensor holds floats, or is an int8 matrix with its scales.
fn check_dtypes(header: &Header, architecture: &Architecture) -> Result<(), CheckpointError> {
    let infos: BTreeMap<&str, &TensorInfo> = header.tensors.iter().map(|(name, info)| (name.as_str(), info)).collect();
    for spec in architecture.tensors() {
        let name = spec.name;
        match infos[name.as_str()].dtype {
            FileDtype::F32 | FileDtype::F16 | FileDtype::BF16 | FileDtype::F64 => {}
            FileDtype::I8 if spec.kind == TensorKind::Matrix => {
                let rows = spec.shape[0];
                let scales = infos.get(format!("{name}{SCALE_SUFFIX}").as_str());
                if !scales.is_some_and(|info| info.dtype == FileDtype::F32 && info.shape == [rows]) {
                    return Err(CheckpointError::InvalidScales { name, rows });
                }
            }
            dtype => return Err(CheckpointError::UnsupportedDtype { name, dtype: dtype.to_string() }),
        }
    }
    Ok(())
}
