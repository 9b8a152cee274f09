//! The container that `torch.save` writes since PyTorch 1.6: a zip archive of uncompressed entries in one folder,
//! with the pickle in `data.pkl` and each storage in `data/<key>`.

use super::byte_reader::ByteReader;
use super::value::{Pickle, StorageRef};
use super::{PthError, pickle};
use std::fs::File;
use std::io::{BufReader, Read};
use zip::{CompressionMethod, ZipArchive};

pub(super) struct ZipContainer {
    archive: ZipArchive<BufReader<File>>,
    /// Name of the folder that holds all entries, with a slash at the end.
    prefix: String,
    /// Size of the file in bytes; no entry is larger.
    length: u64,
}

impl ZipContainer {
    /// Opens a file of `length` bytes and reads its pickle.
    pub(super) fn open(file: File, length: u64) -> Result<(Self, Pickle), PthError> {
        let archive = ZipArchive::new(BufReader::new(file)).map_err(PthError::Zip)?;
        let in_folder = |name: &str| {
            name.split_once('/').filter(|(_, name)| *name == "data.pkl").map(|(folder, _)| format!("{folder}/"))
        };
        let prefix = archive.file_names().find_map(in_folder);
        let prefix = prefix.ok_or_else(|| PthError::MissingEntry { name: "data.pkl".to_owned() })?;
        let mut archive = ZipContainer { archive, prefix, length };
        if archive.contains("constants.pkl") {
            return Err(PthError::TorchScript);
        }
        // Older files lack this entry; they are little-endian.
        if archive.contains("byteorder") && archive.entry("byteorder")? != b"little" {
            return Err(PthError::BigEndian);
        }
        let bytes = archive.entry("data.pkl")?;
        let pickle = pickle::read(&mut ByteReader::new(&bytes[..], bytes.len() as u64))?;
        Ok((archive, pickle))
    }

    /// Returns the bytes of a whole storage, at least `needed`.
    pub(super) fn read(&mut self, storage: &StorageRef, needed: u64) -> Result<Vec<u8>, PthError> {
        let bytes = self.entry(&format!("data/{}", storage.key))?;
        let found = bytes.len() as u64;
        match found >= needed {
            true => Ok(bytes),
            false => Err(PthError::StorageTooShort { key: storage.key.to_string(), found, needed }),
        }
    }

    fn contains(&self, name: &str) -> bool {
        self.archive.index_for_name(&format!("{}{name}", self.prefix)).is_some()
    }

    fn entry(&mut self, name: &str) -> Result<Vec<u8>, PthError> {
        let name = format!("{}{name}", self.prefix);
        let Some(index) = self.archive.index_for_name(&name) else { return Err(PthError::MissingEntry { name }) };
        // Open the entry raw first: the crate's error for a compression method that it was built without is not
        // specific.
        let raw = self.archive.by_index_raw(index).map_err(PthError::Zip)?;
        let size = raw.size();
        if raw.compression() != CompressionMethod::Stored || raw.compressed_size() != size {
            return Err(PthError::Compressed { name });
        }
        drop(raw);
        if size > self.length {
            return Err(PthError::StorageTooShort { key: name, found: self.length, needed: size });
        }
        let mut bytes = Vec::with_capacity(size as usize);
        let read = self.archive.by_index(index).map_err(PthError::Zip)?.read_to_end(&mut bytes);
        // Errors of reading include wrong checksums.
        read.map_err(|reason| PthError::Entry { name: name.clone(), reason })?;
        match bytes.len() as u64 == size {
            true => Ok(bytes),
            false => Err(PthError::StorageTooShort { key: name, found: bytes.len() as u64, needed: size }),
        }
    }
}
