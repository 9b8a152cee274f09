//! Number formats of a checkpoint's matrices.

use std::fmt;
use std::str::FromStr;

/// Number format of the matrices: the weights of convolutions and of the classifier. Vectors and the statistics of
/// batch norms are always fp32: they make up 0.1 % of the bytes, and a small running variance would underflow in
/// fp16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dtype {
    F32,
    F16,
    /// Symmetric int8 with one fp32 scale per output channel in a tensor `<name>.scale`; a value is `int8 * scale`.
    I8,
}

impl Dtype {
    pub const ALL: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::I8];

    /// Returns the name on command lines and in reports: `f32`, `f16` or `i8`.
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

/// Error of parsing a [`Dtype`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown number format {0:?}; expected f32, f16 or i8")]
pub struct UnknownDtype(String);

impl FromStr for Dtype {
    type Err = UnknownDtype;

    fn from_str(name: &str) -> Result<Self, UnknownDtype> {
        Dtype::ALL.into_iter().find(|dtype| dtype.name() == name).ok_or_else(|| UnknownDtype(name.to_owned()))
    }
}
