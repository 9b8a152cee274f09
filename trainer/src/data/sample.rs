//! A sample: where its photo is stored, and its class.

use crate::photos::{self, LIMITS};
use model::prediction::Failure;
use serde::{Serialize, Serializer};
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A photo and its class.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sample {
    pub location: SampleLocation,
    /// Index of the class.
    pub class: usize,
}

/// Location of the encoded bytes of a photo: a file, or a member of a tar file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SampleLocation {
    File(PathBuf),
    Member {
        shard: Arc<Path>,
        name: String,
        /// Offset of the first byte of the photo in the shard, in bytes.
        offset: u64,
        /// Size of the photo, in bytes.
        length: u64,
    },
}

impl SampleLocation {
    /// Reads the encoded photo, at most one byte more than the size limit, so that decoding rejects a larger one.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read.
    pub fn read(&self) -> Result<Vec<u8>, Failure> {
        match self {
            SampleLocation::File(file) => photos::read(file),
            SampleLocation::Member { shard, offset, length, .. } => {
                let mut bytes = vec![0; (*length).min(LIMITS.bytes as u64 + 1) as usize];
                let read = File::open(shard).and_then(|mut file| {
                    file.seek(SeekFrom::Start(*offset))?;
                    file.read_exact(&mut bytes)
                });
                read.map_err(|error| Failure::new("unreadable", error))?;
                Ok(bytes)
            }
        }
    }
}

/// Shows the path of the file, or that of the shard followed by the name of the member.
impl fmt::Display for SampleLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SampleLocation::File(file) => file.display().fmt(f),
            SampleLocation::Member { shard, name, .. } => write!(f, "{}/{name}", shard.display()),
        }
    }
}

/// Serialises the location as it is displayed.
impl Serialize for SampleLocation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
