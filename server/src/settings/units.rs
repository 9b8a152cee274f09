//! Sizes as people write them.

use std::fmt;
use std::str::FromStr;

/// A number of bytes: `20MB`, `512MiB`, `1000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(usize);

impl Bytes {
    pub fn get(self) -> usize {
        self.0
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes: bytesize::ByteSize = text.parse()?;
        usize::try_from(bytes.as_u64()).map(Bytes).map_err(|error| error.to_string())
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
