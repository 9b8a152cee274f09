//! The header of a safetensors file: 8 bytes of length, then a JSON table of names, dtypes, shapes and offsets.
//! <https://github.com/huggingface/safetensors>
//!
//! The entries are types of the crate `safetensors`. The table is parsed and written here instead of by that crate
//! (0.8), because its reader adds untrusted offsets without overflow checks, silently keeps the last of two tensors
//! of the same name and does not locate errors, and its writer emits the metadata in random order.

use super::CheckpointError;
use safetensors::tensor::TensorInfo;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::collections::{BTreeMap, HashSet};
use std::fmt;

/// Key of the entry that holds metadata of the whole file: strings by name.
const METADATA: &str = "__metadata__";

/// Maximum size of the JSON in bytes, the limit of the reference implementation.
const MAX_JSON_BYTES: u64 = 100_000_000;

/// Size of the length that precedes the JSON, in bytes; the JSON is padded to a multiple of it.
const ALIGNMENT: usize = 8;

/// The content of a header. After [`Header::from_json`], tensors are listed in the order of their data, which has no
/// gaps.
#[derive(Debug, Default)]
pub(super) struct Header {
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) tensors: Vec<(String, TensorInfo)>,
}

impl Header {
    /// Returns the size of the prefix of a file of `length` bytes, in bytes.
    pub(super) fn prefix(length: u64) -> Result<usize, CheckpointError> {
        let needed = ALIGNMENT as u64;
        if length < needed { Err(CheckpointError::Truncated { length, needed }) } else { Ok(ALIGNMENT) }
    }

    /// Returns the size of the JSON that the prefix declares, in bytes, if a file of `length` bytes can hold it.
    pub(super) fn json_bytes(prefix: &[u8], length: u64) -> Result<usize, CheckpointError> {
        let declared: [u8; ALIGNMENT] = prefix.try_into().expect("the prefix has this size");
        let bytes = u64::from_le_bytes(declared);
        // A zip archive or a bare pickle is the most common mistake; no length within the limit looks like either.
        if bytes > MAX_JSON_BYTES && (declared.starts_with(b"PK") || declared[0] == 0x80) {
            return Err(CheckpointError::PyTorchFile);
        }
        if bytes > MAX_JSON_BYTES {
            return Err(CheckpointError::HeaderTooLarge { bytes, max: MAX_JSON_BYTES });
        }
        let needed = ALIGNMENT as u64 + bytes;
        if needed > length { Err(CheckpointError::Truncated { length, needed }) } else { Ok(bytes as usize) }
    }

    /// Parses and validates the table of a file of `length` bytes.
    pub(super) fn from_json(json: &[u8], length: u64) -> Result<Self, CheckpointError> {
        let mut header: Header = serde_json::from_slice(json).map_err(CheckpointError::InvalidHeader)?;
        header.tensors.sort_by_key(|(_, info)| info.data_offsets);
        header.check((ALIGNMENT + json.len()) as u64, length)?;
        Ok(header)
    }

    /// Checks that names are unique, that each tensor starts where the previous one ends and matches the size of its
    /// range, and that the last one ends with the file.
    fn check(&self, begin: u64, length: u64) -> Result<(), CheckpointError> {
        let mut names = HashSet::with_capacity(self.tensors.len());
        let mut expected = 0;
        for (name, info) in &self.tensors {
            if !names.insert(name) {
                return Err(CheckpointError::DuplicateTensor { name: name.clone() });
            }
            let (start, end) = info.data_offsets;
            if start != expected || end < start {
                return Err(CheckpointError::InvalidOffsets { name: name.clone(), start, end, expected });
            }
            let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |bits, side| bits.checked_mul(*side));
            if bits.is_none_or(|bits| bits % 8 != 0 || bits / 8 != end - start) {
                let (shape, dtype) = (info.shape.clone(), info.dtype.to_string());
                return Err(CheckpointError::ByteCount { name: name.clone(), shape, dtype, bytes: end - start });
            }
            expected = end;
        }
        let end = (expected as u64).saturating_add(begin);
        match end.cmp(&length) {
            std::cmp::Ordering::Greater => Err(CheckpointError::Truncated { length, needed: end }),
            std::cmp::Ordering::Less => Err(CheckpointError::TrailingBytes { end, length }),
            std::cmp::Ordering::Equal => Ok(()),
        }
    }

    /// Serialises the header, padded with spaces so that the data is aligned.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec(self).expect("strings and numbers serialise as JSON");
        json.resize(json.len().next_multiple_of(ALIGNMENT), b' ');
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.append(&mut json);
        bytes
    }
}

impl Serialize for Header {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1 + self.tensors.len()))?;
        map.serialize_entry(METADATA, &self.metadata)?;
        for (name, info) in &self.tensors {
            map.serialize_entry(name, info)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with an entry for each tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut header = Header::default();
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA {
                header.metadata = map.next_value()?;
            } else {
                let info = map.next_value().map_err(|error| A::Error::custom(format!("tensor {name:?}: {error}")))?;
                header.tensors.push((name, info));
            }
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use CheckpointError as E;

    /// Returns a file with this header and `data` bytes of data.
    fn file(json: &str, data: usize) -> Vec<u8> {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Header, CheckpointError> {
        let length = bytes.len() as u64;
        let (prefix, rest) = bytes.split_at(Header::prefix(length)?);
        Header::from_json(&rest[..Header::json_bytes(prefix, length)?], length)
    }

    const TWO: &str = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"I8","shape":[3,1],"data_offsets":[8,11]}}"#;

    #[test]
    fn every_prefix_of_a_file_is_truncated() {
        let whole = file(TWO, 11);
        assert_eq!(read(&whole).unwrap().tensors.len(), 2);
        for length in 0..whole.len() {
            let error = read(&whole[..length]).unwrap_err();
            let E::Truncated { length: at, needed } = error else { panic!("{length}: {error}") };
            assert!(at == length as u64 && needed <= whole.len() as u64, "{error}");
        }
        let longer = [&whole[..], &[0]].concat();
        assert!(matches!(read(&longer), Err(E::TrailingBytes { .. })));
    }

    #[test]
    fn rejects_header_lengths_out_of_range() {
        for declared in [MAX_JSON_BYTES + 1, u64::MAX, u64::MAX - 7, 1 << 63] {
            let mut bytes = file(TWO, 11);
            bytes[..8].copy_from_slice(&declared.to_le_bytes());
            assert!(matches!(read(&bytes), Err(E::HeaderTooLarge { .. })), "{declared}");
        }
        let mut bytes = file(TWO, 11);
        bytes[..8].copy_from_slice(&MAX_JSON_BYTES.to_le_bytes());
        assert!(matches!(read(&bytes), Err(E::Truncated { .. })));
    }

    /// Returns the JSON of a header; each entry consists of name, dtype, shape and offsets.
    fn table(entries: &[(&str, &str, &str, &str)]) -> String {
        let entries = entries.iter().map(|(name, dtype, shape, offsets)| {
            format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
        });
        format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
    }

    #[test]
    fn rejects_overlapping_gapped_and_reversed_offsets() {
        for second in ["[4,8]", "[12,16]", "[0,4]", "[8,4]", "[18446744073709551615,3]"] {
            let json = table(&[("a", "F32", "[2]", "[0,8]"), ("b", "F32", "[1]", second)]);
            assert!(matches!(read(&file(&json, 16)), Err(E::InvalidOffsets { .. })), "{second}");
        }
    }

    #[test]
    fn rejects_shapes_that_do_not_match_their_bytes_or_overflow() {
        for (dtype, shape) in [
            ("F32", "[3]"),
            ("F16", "[2]"),
            ("F32", "[2,0]"),
            ("F32", "[4294967296,4294967296]"),
            ("F64", "[2305843009213693952]"),
            ("F4", "[1]"),
        ] {
            let json = table(&[("a", dtype, shape, "[0,8]")]);
            assert!(matches!(read(&file(&json, 8)), Err(E::ByteCount { .. })), "{dtype} {shape}");
        }
    }

    /// With wrapping arithmetic, the end of the last tensor, which exceeds 64 bits, would lie within the file.
    #[test]
    fn sums_of_huge_tensors_do_not_wrap() {
        let step = 1u64 << 60;
        let end = |index: u64| if index == 15 { u64::MAX } else { (index + 1) * step };
        let entries: Vec<[String; 3]> = (0..16)
            .map(|index| (index, index * step, end(index)))
            .map(|(index, start, end)| [format!("t{index}"), format!("[{}]", end - start), format!("[{start},{end}]")])
            .collect();
        let entries: Vec<_> =
            entries.iter().map(|[name, shape, offsets]| (&**name, "U8", &**shape, &**offsets)).collect();
        assert!(matches!(read(&file(&table(&entries), 8)), Err(E::Truncated { needed: u64::MAX, .. })));
    }

    #[test]
    fn rejects_duplicate_names() {
        let json = table(&[("a", "F32", "[1]", "[0,4]"), ("a", "F32", "[1]", "[4,8]")]);
        assert!(matches!(read(&file(&json, 8)), Err(E::DuplicateTensor { name }) if name == "a"));
    }

    #[test]
    fn invalid_json_is_rejected_and_the_tensor_named() {
        let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for json in ["", "[]", "{", "\u{0}", r#"{"__metadata__":{"format":1}}"#, &nested] {
            assert!(matches!(read(&file(json, 0)), Err(E::InvalidHeader(_))), "{json:.20}");
        }
        for entry in [r#"{"dtype":"F7","shape":[1],"data_offsets":[0,4]}"#, r#"{"dtype":"F32","shape":[-1]}"#, "7"] {
            let error = read(&file(&format!(r#"{{"conv1.weight":{entry}}}"#), 4)).unwrap_err();
            assert!(error.to_string().contains("conv1.weight"), "{error}");
        }
        assert!(matches!(read(&file("{\"\u{80}", 0)), Err(E::InvalidHeader(_))));
        let mut bytes = file("{\"ab\":{}}", 0);
        bytes[11] = 0xff;
        assert!(matches!(read(&bytes), Err(E::InvalidHeader(_))), "not UTF-8");
    }
}
