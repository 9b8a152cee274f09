//! A checkpoint out of the bytes of a safetensors file, while they are still coming.

use super::header::Header;
use super::recognise::{Shapes, check, is_counter, recognise};
use super::tensor::{Elements, StoredTensor, map_chunks};
use super::{Checkpoint, CheckpointError, METADATA_KEY, Metadata};
use crate::architecture::{Architecture, TensorKind};
use safetensors::Dtype as FileDtype;
use safetensors::tensor::TensorInfo;
use std::collections::{BTreeMap, BTreeSet};

/// Behind the name of an int8 matrix: the tensor with its scales.
pub(super) const SCALE_SUFFIX: &str = ".scale";

/// A file of which a part has come. Every tensor is checked and can be had as soon as it is whole; nothing but these and
/// the bytes of the next one are held.
pub struct Incoming {
    length: u64,
    /// Bytes of what has come whole.
    taken: u64,
    /// Bytes of what is not whole yet.
    pending: Vec<u8>,
    stage: Stage,
}

/// What comes next.
enum Stage {
    /// The length of the header, then its JSON.
    Prefix,
    Header {
        json: usize,
    },
    Tensors(Box<Tensors>),
}

struct Tensors {
    metadata: Metadata,
    inferred: bool,
    shapes: Shapes,
    /// Those that have not come, the next one last.
    remaining: Vec<(String, TensorInfo)>,
    whole: BTreeMap<String, StoredTensor>,
    /// Values without their scales, and scales without their values.
    int8: BTreeMap<String, Vec<i8>>,
    scales: BTreeMap<String, Vec<f32>>,
}

impl Incoming {
    /// Of a file of so many bytes, which is trusted no further than that: no more memory is taken than it can fill.
    pub fn new(length: u64) -> Self {
        Incoming { length, taken: 0, pending: Vec::new(), stage: Stage::Prefix }
    }

    /// Takes the bytes that come next, however many.
    ///
    /// # Errors
    /// What is wrong with the file, as soon as it can be told; nothing can be done with the rest then. Bytes beyond the
    /// announced length are [`CheckpointError::TrailingBytes`].
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), CheckpointError> {
        while let Some(needed) = self.needed()? {
            if self.pending.is_empty() && bytes.len() >= needed {
                let (whole, rest) = bytes.split_at(needed);
                self.take(whole)?;
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
            self.take(&whole)?;
            whole.clear();
            self.pending = whole;
        }
        match bytes {
            [] => Ok(()),
            more => Err(CheckpointError::TrailingBytes { end: self.length, length: self.length + more.len() as u64 }),
        }
    }

    /// What the header says, once it has come.
    pub fn metadata(&self) -> Option<&Metadata> {
        match &self.stage {
            Stage::Prefix | Stage::Header { .. } => None,
            Stage::Tensors(tensors) => Some(&tensors.metadata),
        }
    }

    /// Whether a tensor has come as a whole.
    pub fn has(&self, name: &str) -> bool {
        matches!(&self.stage, Stage::Tensors(tensors) if tensors.whole.contains_key(name))
    }

    /// As [`Checkpoint::values`].
    ///
    /// # Panics
    /// If the tensor has not come.
    pub fn values(&self, name: &str) -> Vec<f32> {
        match &self.stage {
            Stage::Tensors(tensors) if tensors.whole.contains_key(name) => tensors.whole[name].values(),
            _ => panic!("the tensor {name:?} has not come"),
        }
    }

    /// The checkpoint, if all has come.
    ///
    /// # Errors
    /// [`CheckpointError::Truncated`] otherwise.
    pub fn finish(self) -> Result<Checkpoint, CheckpointError> {
        match self.stage {
            Stage::Tensors(tensors) if tensors.remaining.is_empty() => {
                let Tensors { metadata, inferred, whole: tensors, .. } = *tensors;
                Ok(Checkpoint { metadata, inferred, tensors })
            }
            _ => {
                // Of a file that is too short to begin, nothing may ever have come.
                self.needed()?;
                let length = self.taken + self.pending.len() as u64;
                Err(CheckpointError::Truncated { length, needed: self.length })
            }
        }
    }

    /// Bytes of what comes next, or `None` if all has come.
    pub(super) fn needed(&self) -> Result<Option<usize>, CheckpointError> {
        match &self.stage {
            Stage::Prefix => Header::prefix(self.length).map(Some),
            Stage::Header { json } => Ok(Some(*json)),
            Stage::Tensors(tensors) => Ok(tensors.remaining.last().map(|(_, info)| size(info))),
        }
    }

    /// Takes what comes next, whole.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        match &mut self.stage {
            Stage::Prefix => self.stage = Stage::Header { json: Header::json_bytes(bytes, self.length)? },
            Stage::Header { .. } => {
                self.stage = Stage::Tensors(Tensors::new(Header::from_json(bytes, self.length)?)?.into())
            }
            Stage::Tensors(tensors) => tensors.take(bytes)?,
        }
        self.taken += bytes.len() as u64;
        Ok(())
    }
}

impl Tensors {
    fn new(header: Header) -> Result<Self, CheckpointError> {
        let described = header.metadata.get(METADATA_KEY).map(|json| Metadata::from_json(json)).transpose()?;
        let shapes = shapes(&header);
        let (metadata, inferred) = match described {
            Some(metadata) => {
                check(&metadata.architecture, &shapes)?;
                (metadata, false)
            }
            None => (Metadata::new(recognise(&shapes)?), true),
        };
        check_formats(&header, &metadata.architecture)?;
        let mut remaining = header.tensors;
        remaining.reverse();
        let (whole, int8, scales) = Default::default();
        Ok(Tensors { metadata, inferred, shapes, remaining, whole, int8, scales })
    }

    /// Takes the next tensor, and marries int8 values to their scales.
    fn take(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        let Some((name, info)) = self.remaining.pop() else { return Ok(()) };
        let married = if !self.shapes.contains_key(&name) {
            // Scales, or a counter that nothing asks for.
            let Some(of) = name.strip_suffix(SCALE_SUFFIX) else { return Ok(()) };
            self.scales.insert(of.to_owned(), map_chunks(bytes, f32::from_le_bytes));
            of.to_owned()
        } else if info.dtype == FileDtype::I8 {
            self.int8.insert(name.clone(), map_chunks(bytes, i8::from_le_bytes));
            name
        } else {
            let elements = Elements::from_le_bytes(info.dtype, bytes).expect("formats were checked");
            return self.keep(name, StoredTensor::new(info.shape, elements));
        };
        if !(self.int8.contains_key(&married) && self.scales.contains_key(&married)) {
            return Ok(());
        }
        let (values, scales) = self.int8.remove(&married).zip(self.scales.remove(&married)).expect("both are there");
        let shape = self.shapes[&married].clone();
        if !scales.iter().all(|scale| scale.is_finite()) {
            return Err(CheckpointError::Scales { name: married, rows: shape[0] });
        }
        self.keep(married, StoredTensor::new(shape, Elements::I8 { values, scales }))
    }

    fn keep(&mut self, name: String, tensor: StoredTensor) -> Result<(), CheckpointError> {
        tensor.check(&name)?;
        self.whole.insert(name, tensor);
        Ok(())
    }
}

fn size(info: &TensorInfo) -> usize {
    info.data_offsets.1 - info.data_offsets.0
}

/// The shapes that the network accounts for: all but counters, and scales of int8 tensors.
fn shapes(header: &Header) -> Shapes {
    let int8: BTreeSet<&str> =
        header.tensors.iter().filter(|(_, info)| info.dtype == FileDtype::I8).map(|(name, _)| name.as_str()).collect();
    let is_scale = |name: &str| name.strip_suffix(SCALE_SUFFIX).is_some_and(|of| int8.contains(of));
    let tensors = header.tensors.iter().filter(|(name, _)| !is_counter(name) && !is_scale(name));
    tensors.map(|(name, info)| (name.clone(), info.shape.clone())).collect()
}

/// Every tensor is of floats, or a matrix of int8 with its scales.
fn check_formats(header: &Header, architecture: &Architecture) -> Result<(), CheckpointError> {
    let infos: BTreeMap<&str, &TensorInfo> = header.tensors.iter().map(|(name, info)| (name.as_str(), info)).collect();
    for spec in architecture.tensors() {
        let name = spec.name;
        match infos[name.as_str()].dtype {
            FileDtype::F32 | FileDtype::F16 | FileDtype::BF16 | FileDtype::F64 => {}
            FileDtype::I8 if spec.kind == TensorKind::Matrix => {
                let rows = spec.shape[0];
                let scales = infos.get(format!("{name}{SCALE_SUFFIX}").as_str());
                if !scales.is_some_and(|info| info.dtype == FileDtype::F32 && info.shape == [rows]) {
                    return Err(CheckpointError::Scales { name, rows });
                }
            }
            dtype => return Err(CheckpointError::UnsupportedDtype { name, dtype: dtype.to_string() }),
        }
    }
    Ok(())
}
