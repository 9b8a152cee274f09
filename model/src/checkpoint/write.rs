//! A checkpoint into the bytes of a safetensors file.

use super::header::Header;
use super::incoming::SCALE_SUFFIX;
use super::tensor::{Elements, to_bytes as le_bytes};
use super::{Checkpoint, METADATA_KEY};
use half::f16;
use safetensors::Dtype as FileDtype;
use safetensors::tensor::TensorInfo;
use std::borrow::Cow;

/// The whole file. Wider numbers come first, so that each is aligned to its size; within a width, names are in order.
pub(super) fn to_bytes(checkpoint: &Checkpoint) -> Vec<u8> {
    let mut pieces = pieces(checkpoint);
    pieces.sort_by(|left, right| right.dtype.bitsize().cmp(&left.dtype.bitsize()).then(left.name.cmp(&right.name)));

    // What `validate` let through at the making can be written down.
    let json = checkpoint.metadata.to_json().expect("the metadata was validated");
    let mut header = Header::default();
    header.metadata.insert("format".to_owned(), "pt".to_owned());
    header.metadata.insert(METADATA_KEY.to_owned(), json);
    let mut offset = 0;
    for piece in &pieces {
        let end = offset + piece.bytes.len();
        let info = TensorInfo { dtype: piece.dtype, shape: piece.shape.to_vec(), data_offsets: (offset, end) };
        header.tensors.push((piece.name.to_string(), info));
        offset = end;
    }

    let mut bytes = header.to_bytes();
    bytes.reserve_exact(offset);
    for piece in pieces {
        bytes.extend(piece.bytes);
    }
    bytes
}

/// A tensor of the file.
struct Piece<'a> {
    name: Cow<'a, str>,
    dtype: FileDtype,
    shape: &'a [usize],
    bytes: Vec<u8>,
}

fn pieces(checkpoint: &Checkpoint) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    for (name, tensor) in &checkpoint.tensors {
        let shape = tensor.shape();
        let (dtype, bytes) = match tensor.elements() {
            Elements::F32(values) => (FileDtype::F32, le_bytes(values, f32::to_le_bytes)),
            Elements::F16(values) => (FileDtype::F16, le_bytes(values, f16::to_le_bytes)),
            Elements::I8 { values, scales } => {
                let name = format!("{name}{SCALE_SUFFIX}").into();
                let bytes = le_bytes(scales, f32::to_le_bytes);
                pieces.push(Piece { name, dtype: FileDtype::F32, shape: &shape[..1], bytes });
                (FileDtype::I8, le_bytes(values, i8::to_le_bytes))
            }
        };
        pieces.push(Piece { name: name.into(), dtype, shape, bytes });
    }
    pieces
}
