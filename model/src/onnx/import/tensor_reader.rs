//! Values of tensors, which are in the ONNX file or in other files of its folder.

use super::OnnxError;
use crate::onnx::messages::{EXTERNAL, TensorProto, data_type};
use half::{bf16, f16};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

/// Reads tensors of a model in this folder.
pub(super) struct TensorReader {
    folder: PathBuf,
}

impl TensorReader {
    pub(super) fn new(folder: &Path) -> Self {
        TensorReader { folder: folder.to_owned() }
    }

    pub(super) fn is_half(tensor: &TensorProto) -> bool {
        tensor.data_type == data_type::FLOAT16
    }

    /// Returns the values of a tensor, which must have this shape, in row-major order.
    ///
    /// # Errors
    /// Returns an error if the tensor has another shape or no floats, or if its values are missing.
    pub(super) fn values(&self, tensor: &TensorProto, shape: &[usize]) -> Result<Vec<f32>, OnnxError> {
        let name = || tensor.name.clone();
        if !tensor.dims.iter().map(|size| usize::try_from(*size).ok()).eq(shape.iter().map(|size| Some(*size))) {
            return Err(OnnxError::WrongShape { name: name(), found: tensor.dims.clone(), expected: shape.to_vec() });
        }
        let count: usize = shape.iter().product();
        let size = match tensor.data_type {
            data_type::FLOAT => 4,
            data_type::FLOAT16 | data_type::BFLOAT16 => 2,
            data_type::DOUBLE => 8,
            data_type => return Err(OnnxError::UnsupportedDataType { name: name(), data_type }),
        };
        let values: Vec<f32> = if tensor.data_location == Some(EXTERNAL) {
            numbers(tensor.data_type, &self.external_bytes(tensor, (count * size) as u64)?)
        } else if let Some(bytes) = &tensor.raw_data {
            if bytes.len() != count * size {
                return Err(OnnxError::ValueCount { name: name(), found: bytes.len(), expected: count * size });
            }
            numbers(tensor.data_type, bytes)
        } else {
            typed_values(tensor)
        };
        match values.len() == count {
            true => Ok(values),
            false => Err(OnnxError::ValueCount { name: name(), found: values.len(), expected: count }),
        }
    }

    /// Reads `count` bytes from the file that the tensor names.
    fn external_bytes(&self, tensor: &TensorProto, count: u64) -> Result<Vec<u8>, OnnxError> {
        let entry = |key: &str| tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| &*entry.value);
        let number = |key: &str, default: u64| match entry(key) {
            None => Ok(default),
            Some(text) => {
                let invalid = || OnnxError::ExternalEntry { name: tensor.name.clone(), key: key.to_owned() };
                text.parse().map_err(|_| invalid())
            }
        };
        let (offset, length) = (number("offset", 0)?, number("length", count)?);
        if length != count {
            let (name, found, expected) = (tensor.name.clone(), length as usize, count as usize);
            return Err(OnnxError::ValueCount { name, found, expected });
        }
        let location = entry("location").unwrap_or_default().to_owned();
        let name = || tensor.name.clone();
        let Some(path) = self.file_in_folder(&location) else {
            return Err(OnnxError::ExternalLocation { name: name(), location });
        };
        read_range(&path, offset, count).map_err(|reason| OnnxError::ExternalFile { name: name(), location, reason })
    }

    /// Returns the path of a file in the folder, or `None` if it would be outside of it, also through a link.
    fn file_in_folder(&self, location: &str) -> Option<PathBuf> {
        let relative = Path::new(location);
        let is_plain = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if location.is_empty() || !is_plain {
            return None;
        }
        let path = self.folder.join(relative);
        match (path.canonicalize(), self.folder.canonicalize()) {
            (Ok(file), Ok(folder)) if !file.starts_with(&folder) => None,
            // A missing file gives an error when it is opened.
            _ => Some(path),
        }
    }
}

/// Reads `count` bytes from `offset`; memory is allocated only if the file has that many.
fn read_range(path: &Path, offset: u64, count: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a file"));
    }
    if offset.checked_add(count).is_none_or(|end| end > metadata.len()) {
        let message = format!("it has {} bytes, but {count} at offset {offset} are required", metadata.len());
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
    }
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::with_capacity(count as usize);
    file.take(count).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Converts little-endian bytes.
fn numbers(data_type: i32, bytes: &[u8]) -> Vec<f32> {
    match data_type {
        data_type::FLOAT => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        data_type::DOUBLE => bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32).collect(),
        data_type::FLOAT16 => bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect(),
        _ => bytes.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect(),
    }
}

/// Returns the values of a tensor without raw bytes.
fn typed_values(tensor: &TensorProto) -> Vec<f32> {
    let bits = tensor.int32_data.iter().map(|bits| *bits as u16);
    match tensor.data_type {
        data_type::FLOAT => tensor.float_data.clone(),
        data_type::DOUBLE => tensor.double_data.iter().map(|value| *value as f32).collect(),
        data_type::FLOAT16 => bits.map(|bits| f16::from_bits(bits).to_f32()).collect(),
        _ => bits.map(|bits| bf16::from_bits(bits).to_f32()).collect(),
    }
}

/// Returns the values of a tensor of a few i64 numbers.
pub(super) fn small_integers(tensor: &TensorProto) -> Option<Vec<i64>> {
    if tensor.data_type != data_type::INT64 || tensor.data_location == Some(EXTERNAL) {
        return None;
    }
    Some(match &tensor.raw_data {
        Some(bytes) => bytes.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect(),
        None => tensor.int64_data.clone(),
    })
}
