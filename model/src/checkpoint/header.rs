//! The header of a safetensors file: 8 bytes of length, then a JSON table of names, formats, shapes and offsets.
//!
//! The entries are the `safetensors` crate's own type; the table is read and written here, because the crate's reader
//! (0.8) adds hostile offsets up without a check, keeps the last of two tensors of one name, and does not say what is
//! wrong where, and its writer puts the metadata down in random order. <https://github.com/huggingface/safetensors>

use super::CheckpointError;
use safetensors::tensor::TensorInfo;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::collections::{BTreeMap, HashSet};
use std::fmt;

/// The key under which the format keeps strings about the whole file.
const METADATA: &str = "__metadata__";

/// Bytes of JSON, as the reference implementation limits them.
const MAX_BYTES: u64 = 100_000_000;

/// Bytes of the length in front of the JSON; also what the JSON is padded to a multiple of.
const ALIGNMENT: usize = 8;

/// Tensors lie in the order listed, without gaps, once [`Header::from_json`] has returned.
#[derive(Debug, Default)]
pub(super) struct Header {
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) tensors: Vec<(String, TensorInfo)>,
}

impl Header {
    /// Bytes of what a file of `length` bytes begins with.
    pub(super) fn prefix(length: u64) -> Result<usize, CheckpointError> {
        let needed = ALIGNMENT as u64;
        if length < needed { Err(CheckpointError::Truncated { length, needed }) } else { Ok(ALIGNMENT) }
    }

    /// Bytes of the JSON behind such a beginning: no more than a file of `length` bytes can hold.
    pub(super) fn json_bytes(prefix: &[u8], length: u64) -> Result<usize, CheckpointError> {
        let announced: [u8; ALIGNMENT] = prefix.try_into().expect("as many as were asked for");
        let bytes = u64::from_le_bytes(announced);
        // A zip archive, or a bare pickle: the commonest mistake, and no length below the limit begins so.
        if bytes > MAX_BYTES && (announced.starts_with(b"PK") || announced[0] == 0x80) {
            return Err(CheckpointError::PyTorch);
        }
        if bytes > MAX_BYTES {
            return Err(CheckpointError::HeaderTooLarge { bytes, max: MAX_BYTES });
        }
        let needed = ALIGNMENT as u64 + bytes;
        if needed > length { Err(CheckpointError::Truncated { length, needed }) } else { Ok(bytes as usize) }
    }

    /// The table of a file of `length` bytes.
    pub(super) fn from_json(json: &[u8], length: u64) -> Result<Self, CheckpointError> {
        let mut header: Header = serde_json::from_slice(json).map_err(CheckpointError::Header)?;
        header.tensors.sort_by_key(|(_, info)| info.data_offsets);
        header.check((ALIGNMENT + json.len()) as u64, length)?;
        Ok(header)
    }

    /// Every tensor has a name of its own, begins where the one before ends, and fills its place; the last ends the file.
    fn check(&self, begin: u64, length: u64) -> Result<(), CheckpointError> {
        let mut names = HashSet::with_capacity(self.tensors.len());
        let mut expected = 0;
        for (name, info) in &self.tensors {
            if !names.insert(name) {
                return Err(CheckpointError::DuplicateTensor { name: name.clone() });
            }
            let (start, end) = info.data_offsets;
            if start != expected || end < start {
                return Err(CheckpointError::Offsets { name: name.clone(), start, end, expected });
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

    /// The bytes in front of the data, padded with spaces so that the data is aligned.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec(self).expect("strings and numbers are JSON");
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
        deserializer.deserialize_map(Table)
    }
}

struct Table;

impl<'de> Visitor<'de> for Table {
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

    /// A file with this header and so many bytes of data.
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
    fn a_file_cut_anywhere_is_truncated() {
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
    fn absurd_lengths_are_refused_before_memory_is_taken() {
        for announced in [MAX_BYTES + 1, u64::MAX, u64::MAX - 7, 1 << 63] {
            let mut bytes = file(TWO, 11);
            bytes[..8].copy_from_slice(&announced.to_le_bytes());
            assert!(matches!(read(&bytes), Err(E::HeaderTooLarge { .. })), "{announced}");
        }
        let mut bytes = file(TWO, 11);
        bytes[..8].copy_from_slice(&MAX_BYTES.to_le_bytes());
        assert!(matches!(read(&bytes), Err(E::Truncated { .. })));
    }

    /// A header of one tensor `a`, of two with `b`, each as dtype, shape, offsets.
    fn table(entries: &[(&str, &str, &str, &str)]) -> String {
        let entries = entries.iter().map(|(name, dtype, shape, offsets)| {
            format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
        });
        format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
    }

    #[test]
    fn offsets_that_overlap_leave_gaps_or_run_backwards_are_refused() {
        for second in ["[4,8]", "[12,16]", "[0,4]", "[8,4]", "[18446744073709551615,3]"] {
            let json = table(&[("a", "F32", "[2]", "[0,8]"), ("b", "F32", "[1]", second)]);
            assert!(matches!(read(&file(&json, 16)), Err(E::Offsets { .. })), "{second}");
        }
    }

    #[test]
    fn shapes_that_do_not_fill_their_place_or_overflow_are_refused() {
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

    /// Sums beyond 64 bits would pass for the file's length in arithmetic that wraps.
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
    fn duplicates_are_refused() {
        let json = table(&[("a", "F32", "[1]", "[0,4]"), ("a", "F32", "[1]", "[4,8]")]);
        assert!(matches!(read(&file(&json, 8)), Err(E::DuplicateTensor { name }) if name == "a"));
    }

    #[test]
    fn what_is_no_table_is_refused_and_the_tensor_named() {
        let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for json in ["", "[]", "{", "\u{0}", r#"{"__metadata__":{"format":1}}"#, &nested] {
            assert!(matches!(read(&file(json, 0)), Err(E::Header(_))), "{json:.20}");
        }
        for entry in [r#"{"dtype":"F7","shape":[1],"data_offsets":[0,4]}"#, r#"{"dtype":"F32","shape":[-1]}"#, "7"] {
            let error = read(&file(&format!(r#"{{"conv1.weight":{entry}}}"#), 4)).unwrap_err();
            assert!(error.to_string().contains("conv1.weight"), "{error}");
        }
        assert!(matches!(read(&file("{\"\u{80}", 0)), Err(E::Header(_))));
        let mut bytes = file("{\"ab\":{}}", 0);
        bytes[11] = 0xff;
        assert!(matches!(read(&bytes), Err(E::Header(_))), "not UTF-8");
    }
}
