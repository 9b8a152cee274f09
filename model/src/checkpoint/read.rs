//! A checkpoint out of the bytes of a safetensors file.

use super::header::Header;
use super::recognise::{Shapes, check, is_counter, recognise};
use super::tensor::{Elements, StoredTensor, map_chunks};
use super::{Checkpoint, CheckpointError, METADATA_KEY, Metadata};
use crate::architecture::{Architecture, TensorKind};
use safetensors::Dtype as FileDtype;
use safetensors::tensor::TensorInfo;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

/// Behind the name of an int8 matrix: the tensor with its scales.
pub(super) const SCALE_SUFFIX: &str = ".scale";

/// Reads a file of `length` bytes. The header is judged as a whole before memory is taken for the tensors.
pub(super) fn read(mut reader: impl Read, length: u64) -> Result<Checkpoint, CheckpointError> {
    let header = Header::read(&mut reader, length)?;
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
    let tensors = read_tensors(&header, &shapes, reader)?;
    check_values(&tensors)?;
    Ok(Checkpoint { metadata, inferred, tensors })
}

/// A network with a weight that is no number has only answers that are none.
pub(super) fn check_values(tensors: &BTreeMap<String, StoredTensor>) -> Result<(), CheckpointError> {
    for (name, tensor) in tensors {
        if let Some(index) = tensor.first_impossible(name) {
            return Err(CheckpointError::Impossible { name: name.clone(), index, value: tensor.values()[index] });
        }
    }
    Ok(())
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

/// Reads the tensors of `shapes` in the order in which they lie, and marries int8 values to their scales.
fn read_tensors(
    header: &Header,
    shapes: &Shapes,
    mut reader: impl Read,
) -> Result<BTreeMap<String, StoredTensor>, CheckpointError> {
    let mut tensors = BTreeMap::new();
    let mut int8: Vec<(&String, Vec<i8>)> = Vec::new();
    let mut scales: BTreeMap<&str, Vec<f32>> = BTreeMap::new();
    // One for all: memory that is touched for the first time is what reading spends most of its time on.
    let mut bytes = Vec::new();
    for (name, info) in &header.tensors {
        bytes.resize(info.data_offsets.1 - info.data_offsets.0, 0);
        reader.read_exact(&mut bytes)?;
        if !shapes.contains_key(name) {
            if let Some(of) = name.strip_suffix(SCALE_SUFFIX) {
                scales.insert(of, map_chunks(&bytes, f32::from_le_bytes));
            }
        } else if info.dtype == FileDtype::I8 {
            int8.push((name, map_chunks(&bytes, i8::from_le_bytes)));
        } else {
            let elements = Elements::from_le_bytes(info.dtype, &bytes).expect("formats were checked");
            tensors.insert(name.clone(), StoredTensor::new(info.shape.clone(), elements));
        }
    }
    for (name, values) in int8 {
        let shape = shapes[name].clone();
        let scales = scales.remove(name.as_str()).expect("formats were checked");
        if !scales.iter().all(|scale| scale.is_finite()) {
            return Err(CheckpointError::Scales { name: name.clone(), rows: shape[0] });
        }
        tensors.insert(name.clone(), StoredTensor::new(shape, Elements::I8 { values, scales }));
    }
    Ok(tensors)
}
