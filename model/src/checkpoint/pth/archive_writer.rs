//! Writing of the archives that PyTorch reads: the counterpart of `zip`.

use safetensors::Dtype as FileDtype;
use std::io::{self, Cursor, Write};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Alignment of entries in bytes, as of `torch.save`, so that storages can be mapped into memory.
const ALIGNMENT: u16 = 64;

/// Version of the container; PyTorch reads this version since 1.6.
const VERSION: &[u8] = b"3\n";

/// An archive that is being written to memory, with a pickle of tensors. Equal content gives equal bytes.
pub(crate) struct ArchiveWriter {
    archive: ZipWriter<Cursor<Vec<u8>>>,
    prefix: &'static str,
    storages: usize,
}

impl ArchiveWriter {
    /// Creates an archive whose entries are in the folder `prefix`.
    pub(crate) fn new(prefix: &'static str) -> Self {
        ArchiveWriter { archive: ZipWriter::new(Cursor::new(Vec::new())), prefix, storages: 0 }
    }

    /// Adds an entry.
    pub(crate) fn entry(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(bytes.len() as u64 >= u64::from(u32::MAX))
            .with_alignment(ALIGNMENT);
        self.archive.start_file(format!("{}/{name}", self.prefix), options)?;
        self.archive.write_all(bytes)
    }

    /// Adds the storage of a contiguous tensor, and returns the opcodes that push the tensor on a pickle's stack.
    pub(crate) fn tensor(&mut self, dtype: FileDtype, shape: &[usize], bytes: &[u8]) -> io::Result<Vec<u8>> {
        let key = self.storages.to_string();
        self.entry(&format!("data/{key}"), bytes)?;
        self.storages += 1;
        let class = match dtype {
            FileDtype::F16 => "HalfStorage",
            FileDtype::I64 => "LongStorage",
            _ => "FloatStorage",
        };
        let count = shape.iter().product();
        let storage = [text("storage"), global("torch", class), text(&key), text("cpu"), integer(count)];
        let strides = (0..shape.len()).map(|axis| integer(shape[axis + 1..].iter().product()));
        let (strides, shape) = (tuple(strides), tuple(shape.iter().copied().map(integer)));
        // Arguments: storage, offset, shape, strides, requires_grad, backward hooks.
        let arguments = [persistent(storage), integer(0), shape, strides, b"\x89".to_vec(), empty_ordered_dict()];
        Ok([global("torch._utils", "_rebuild_tensor_v2"), tuple(arguments), b"R".to_vec()].concat())
    }

    /// Adds the pickle and the entries that describe the container, and returns the bytes of the archive.
    pub(crate) fn finish(mut self, pickle: &[u8]) -> io::Result<Vec<u8>> {
        self.entry("data.pkl", pickle)?;
        self.entry("byteorder", b"little")?;
        self.entry("version", VERSION)?;
        Ok(self.archive.finish()?.into_inner())
    }
}

/// Starts a pickle of protocol 2.
pub(crate) const PICKLE_START: &[u8] = b"\x80\x02";

pub(crate) fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

pub(crate) fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

/// An `OrderedDict` without entries.
pub(crate) fn empty_ordered_dict() -> Vec<u8> {
    [global("collections", "OrderedDict"), b")R".to_vec()].concat()
}

/// Adds pairs of opcodes to the dict on top of the stack.
pub(crate) fn set_items(pairs: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Vec<u8> {
    let pairs = pairs.into_iter().flat_map(|(key, value)| [key, value]);
    [b"(".to_vec()].into_iter().chain(pairs).chain([b"u".to_vec()]).flatten().collect()
}

fn integer(value: usize) -> Vec<u8> {
    match i32::try_from(value) {
        Ok(value) => [b"J", &value.to_le_bytes()[..]].concat(),
        Err(_) => [&b"\x8a\x08"[..], &(value as i64).to_le_bytes()].concat(),
    }
}

fn tuple(items: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    [b"(".to_vec()].into_iter().chain(items).chain([b"t".to_vec()]).flatten().collect()
}

/// A reference to a storage.
fn persistent(items: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    [tuple(items), b"Q".to_vec()].concat()
}
