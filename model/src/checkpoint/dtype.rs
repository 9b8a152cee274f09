//! How numbers are stored.

use std::fmt;
use std::str::FromStr;

/// How the numbers of a matrix (of a convolution or of the classifier) are stored. Vectors and statistics of batch
/// norms are fp32 whatever is chosen: they are 0.1 % of the bytes, and a small running variance would vanish in fp16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dtype {
    F32,
    F16,
    /// Symmetric int8 with one fp32 scale an output channel in a tensor `<name>.scale`: a value is `int8 * scale`.
    I8,
}

impl Dtype {
    pub const ALL: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::I8];

    /// The name on command lines and in reports: `f32`, `f16`, `i8`.
    pub const fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::I8 => "i8",
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown number format {0:?}; known are f32, f16, i8")]
pub struct UnknownDtype(String);

impl FromStr for Dtype {
    type Err = UnknownDtype;

    fn from_str(name: &str) -> Result<Self, UnknownDtype> {
        Dtype::ALL.into_iter().find(|dtype| dtype.name() == name).ok_or_else(|| UnknownDtype(name.to_owned()))
    }
}
