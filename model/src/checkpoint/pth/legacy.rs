//! The container that `torch.save` wrote before PyTorch 1.6: five pickles (a magic number, a version, the machine, the
//! object, the keys of its storages), then for each key the count of its elements and the elements themselves.

use super::source::Source;
use super::value::{Pickle, Storage, Value};
use super::{PthError, pickle};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

/// `torch.serialization.MAGIC_NUMBER`
const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;

pub(super) struct Legacy {
    file: File,
    /// Where each storage lies in the file: offset and length in bytes.
    places: HashMap<String, (u64, u64)>,
}

impl Legacy {
    /// Reads the pickles of a file of `length` bytes, and finds its storages.
    pub(super) fn open(file: File, length: u64) -> Result<(Self, Pickle), PthError> {
        let mut source = Source::new(BufReader::new(&file), length);
        match pickle::read(&mut source) {
            Ok(magic) if *magic.root() == Value::Int(MAGIC) => {}
            _ => return Err(PthError::NotTorch),
        }
        let _version = pickle::read(&mut source)?;
        let machine = pickle::read(&mut source)?;
        if let Value::Dict(machine_entries) = machine.root()
            && machine.entry(machine_entries, "little_endian") == Some(&Value::Bool(false))
        {
            return Err(PthError::BigEndian);
        }
        let object = pickle::read(&mut source)?;
        let keys = pickle::read(&mut source)?;
        let places = places(&mut source, length, &object, &keys)?;
        Ok((Legacy { file, places }, object))
    }

    /// The bytes of a whole storage.
    pub(super) fn read(&mut self, storage: &Storage, needed: u64) -> Result<Vec<u8>, PthError> {
        let (offset, found) = self.places.get(&*storage.key).copied().unwrap_or_default();
        if found < needed {
            return Err(PthError::Storage { key: storage.key.to_string(), found, needed });
        }
        let mut bytes = vec![0; found as usize];
        self.file.seek(SeekFrom::Start(offset))?;
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// Steps from storage to storage; the file tells the count of elements, the object how large one is.
fn places(
    source: &mut Source<BufReader<&File>>,
    length: u64,
    object: &Pickle,
    keys: &Pickle,
) -> Result<HashMap<String, (u64, u64)>, PthError> {
    let malformed = |reason, offset| PthError::Pickle { reason, offset };
    let storages = object.values.iter().filter_map(|value| match value {
        Value::Storage(storage) => Some((&*storage.key, &**storage)),
        _ => None,
    });
    let storages: HashMap<&str, &Storage> = storages.collect();
    let Value::List(keys_in_order) = keys.root() else {
        return Err(malformed("the keys of storages are no list", source.offset()));
    };
    let mut places = HashMap::new();
    for key in keys_in_order {
        let unknown = || malformed("a storage is of no class with a known size", source.offset());
        let key = match keys.get(*key) {
            Value::Text(key) => key.to_string(),
            Value::Int(key) => key.to_string(),
            _ => return Err(malformed("a storage's key is no text", source.offset())),
        };
        let storage = storages.get(key.as_str()).ok_or_else(unknown)?;
        let size = storage.dtype().ok_or_else(unknown)?.bitsize() as u64 / 8;
        let elements = u64::from_le_bytes(source.array()?);
        let needed = elements.saturating_mul(size);
        let found = length.saturating_sub(source.offset());
        if needed > found {
            return Err(PthError::Storage { key, found, needed });
        }
        places.insert(key, (source.offset(), needed));
        source.skip(needed)?;
    }
    Ok(places)
}
