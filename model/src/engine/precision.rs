//! Precision of the factors that convolutions multiply.

use std::fmt;
use std::str::FromStr;

/// Precision of the factors that convolutions multiply. Sums are always f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    #[default]
    F32,
    /// bf16 on the device `cpu`, in the layers where it is faster. Requires a processor with AVX512-BF16; the
    /// instruction set `scalar`, if chosen explicitly, emulates it. Winograd convolutions and the classifier, which is
    /// bound by memory bandwidth, stay f32, and without AMX the stem too.
    Bf16,
    /// f16 on the device `webgpu`: the weights, and on adapters with `shader-f16` the values between layers too. Values
    /// beyond 65,504 lead to an error, never to a wrong result.
    F16,
}

/// Error of parsing a [`Precision`].
#[derive(Debug, thiserror::Error)]
#[error("unknown precision {0:?}; valid precisions are f32, bf16 and f16")]
pub struct UnknownPrecision(String);

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(name: &str) -> Result<Self, UnknownPrecision> {
        match name {
            "f32" => Ok(Precision::F32),
            "bf16" => Ok(Precision::Bf16),
            "f16" => Ok(Precision::F16),
            _ => Err(UnknownPrecision(name.to_owned())),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
        })
    }
}

impl Precision {
    /// Returns the device and hardware that the precision requires, for error messages.
    pub(super) fn requirement(self) -> &'static str {
        match self {
            Precision::F32 => "any device",
            Precision::Bf16 => "the device cpu and a processor with AVX512-BF16",
            Precision::F16 => "the device webgpu",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in ["f32", "bf16", "f16"] {
            assert_eq!(name.parse::<Precision>().unwrap().to_string(), name);
        }
        assert_eq!(
            "fp8".parse::<Precision>().unwrap_err().to_string(),
            "unknown precision \"fp8\"; valid precisions are f32, bf16 and f16"
        );
    }
}
