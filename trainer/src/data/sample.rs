//! Where the bytes of a photo lie.

use crate::photos::{self, LIMITS};
use model::prediction::Failure;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A photo and what it shows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sample {
    pub location: SampleLocation,
    /// By index.
    pub class: usize,
}

/// A file, or so many bytes of a tar file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SampleLocation {
    File(PathBuf),
    Member {
        shard: Arc<Path>,
        name: String,
        /// Of its first byte in the shard.
        offset: u64,
        length: u64,
    },
}

impl SampleLocation {
    /// The photo's bytes, unless there are too many: no more are read than a photo may have, and one.
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

/// A file's path, or the shard's with the member's name behind it.
impl fmt::Display for SampleLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SampleLocation::File(file) => file.display().fmt(f),
            SampleLocation::Member { shard, name, .. } => write!(f, "{}/{name}", shard.display()),
        }
    }
}
