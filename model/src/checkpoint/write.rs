//! Serialisation of a checkpoint as a safetensors file.

use super::header::Header;
use super::stream::SCALE_SUFFIX;
use super::tensor::{Elements, to_bytes as le_bytes};
use super::{Checkpoint, METADATA_KEY};
use half::f16;
use safetensors::Dtype as FileDtype;
use safetensors::tensor::TensorInfo;
use std::borrow::Cow;

impl Checkpoint {
    /// Serialises the checkpoint as a safetensors file. Equal content gives equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut tensors = file_tensors(self);
        // Sorted by decreasing element size, so that each tensor is aligned, then by name.
        tensors
            .sort_by(|left, right| right.dtype.bitsize().cmp(&left.dtype.bitsize()).then(left.name.cmp(&right.name)));

        let json = self.metadata.to_json().expect("the metadata was validated on creation");
        let mut header = Header::default();
        header.metadata.insert("format".to_owned(), "pt".to_owned());
        header.metadata.insert(METADATA_KEY.to_owned(), json);
        let mut offset = 0;
        for tensor in &tensors {
            let end = offset + tensor.bytes.len();
            let info = TensorInfo { dtype: tensor.dtype, shape: tensor.shape.to_vec(), data_offsets: (offset, end) };
            header.tensors.push((tensor.name.to_string(), info));
            offset = end;
        }

        let mut bytes = header.to_bytes();
        bytes.reserve_exact(offset);
        for tensor in tensors {
            bytes.extend(tensor.bytes);
        }
        bytes
    }
}

/// A tensor as the file stores it; an int8 matrix consists of two, its values and its scales.
struct FileTensor<'a> {
    name: Cow<'a, str>,
    dtype: FileDtype,
    shape: &'a [usize],
    bytes: Vec<u8>,
}

fn file_tensors(checkpoint: &Checkpoint) -> Vec<FileTensor<'_>> {
    let mut tensors = Vec::new();
    for (name, tensor) in &checkpoint.tensors {
        let shape = tensor.shape();
        let (dtype, bytes) = match tensor.elements() {
            Elements::F32(values) => (FileDtype::F32, le_bytes(values, f32::to_le_bytes)),
            Elements::F16(values) => (FileDtype::F16, le_bytes(values, f16::to_le_bytes)),
            Elements::I8 { values, scales } => {
                let name = format!("{name}{SCALE_SUFFIX}").into();
                let bytes = le_bytes(scales, f32::to_le_bytes);
                tensors.push(FileTensor { name, dtype: FileDtype::F32, shape: &shape[..1], bytes });
                (FileDtype::I8, le_bytes(values, i8::to_le_bytes))
            }
        };
        tensors.push(FileTensor { name: name.into(), dtype, shape, bytes });
    }
    tensors
}
