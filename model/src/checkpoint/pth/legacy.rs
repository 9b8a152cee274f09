//! The container that `torch.save` wrote before PyTorch 1.6: five pickles (magic number, version, system information,
//! object, storage keys), followed for each key by the number of elements and the elements themselves.

use super::byte_reader::ByteReader;
use super::value::{Pickle, StorageRef, Value};
use super::{PthError, pickle};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

/// PyTorch's `torch.serialization.MAGIC_NUMBER`.
const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;

pub(super) struct LegacyContainer {
    file: File,
    /// Offset and length of each storage in the file, in bytes.
    storage_ranges: HashMap<String, (u64, u64)>,
}

impl LegacyContainer {
    /// Reads the pickles of a file of `length` bytes, and locates its storages.
    pub(super) fn open(file: File, length: u64) -> Result<(Self, Pickle), PthError> {
        let mut reader = ByteReader::new(BufReader::new(&file), length);
        match pickle::read(&mut reader) {
            Ok(magic) if *magic.root() == Value::Int(MAGIC) => {}
            _ => return Err(PthError::NotTorch),
        }
        let _version = pickle::read(&mut reader)?;
        let system = pickle::read(&mut reader)?;
        if let Value::Dict(entries) = system.root()
            && system.entry(entries, "little_endian") == Some(&Value::Bool(false))
        {
            return Err(PthError::BigEndian);
        }
        let object = pickle::read(&mut reader)?;
        let keys = pickle::read(&mut reader)?;
        let storage_ranges = storage_ranges(&mut reader, length, &object, &keys)?;
        Ok((LegacyContainer { file, storage_ranges }, object))
    }

    /// Returns the bytes of a whole storage, at least `needed`.
    pub(super) fn read(&mut self, storage: &StorageRef, needed: u64) -> Result<Vec<u8>, PthError> {
        let (offset, found) = self.storage_ranges.get(&*storage.key).copied().unwrap_or_default();
        if found < needed {
            return Err(PthError::StorageTooShort { key: storage.key.to_string(), found, needed });
        }
        let mut bytes = vec![0; found as usize];
        self.file.seek(SeekFrom::Start(offset))?;
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// Returns the offset and length of each storage in the file, in bytes. The file holds the numbers of elements, the
/// object the element types.
fn storage_ranges(
    reader: &mut ByteReader<BufReader<&File>>,
    length: u64,
    object: &Pickle,
    keys: &Pickle,
) -> Result<HashMap<String, (u64, u64)>, PthError> {
    let malformed = |reason, offset| PthError::Pickle { reason, offset };
    let storages = object.values.iter().filter_map(|value| match value {
        Value::Storage(storage) => Some((&*storage.key, &**storage)),
        _ => None,
    });
    let storages: HashMap<&str, &StorageRef> = storages.collect();
    let Value::List(keys_in_order) = keys.root() else {
        return Err(malformed("the storage keys are not a list", reader.offset()));
    };
    let mut ranges = HashMap::new();
    for key in keys_in_order {
        let unknown = || malformed("a storage has an unknown class", reader.offset());
        let key = match keys.get(*key) {
            Value::Text(key) => key.to_string(),
            Value::Int(key) => key.to_string(),
            _ => return Err(malformed("a storage key is neither text nor an integer", reader.offset())),
        };
        let storage = storages.get(key.as_str()).ok_or_else(unknown)?;
        let size = storage.dtype().ok_or_else(unknown)?.bitsize() as u64 / 8;
        let elements = u64::from_le_bytes(reader.array()?);
        let needed = elements.saturating_mul(size);
        let found = length.saturating_sub(reader.offset());
        if needed > found {
            return Err(PthError::StorageTooShort { key, found, needed });
        }
        ranges.insert(key, (reader.offset(), needed));
        reader.skip(needed)?;
    }
    Ok(ranges)
}
