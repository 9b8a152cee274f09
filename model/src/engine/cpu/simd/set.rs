//! Which instruction set runs the kernels: the best that the processor has, or one chosen by name.

use super::{Kernel, Simd};
use std::fmt;
use std::str::FromStr;

/// An instruction set that this processor has. The plain one is everywhere but in a module with vectors, whose size counts.
#[derive(Clone, Copy)]
pub struct InstructionSet(Set);

#[derive(Clone, Copy)]
enum Set {
    #[cfg(target_arch = "x86_64")]
    Avx512(super::x86::Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(super::x86::Avx2),
    #[cfg(target_arch = "aarch64")]
    Neon(super::neon::Neon),
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Simd128(super::simd128::Simd128),
    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    Scalar(super::scalar::Scalar),
}

/// Calls `$body` with `$simd` as the type of the set.
macro_rules! with {
    ($set:expr, $simd:ident => $body:expr) => {
        match $set {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512($simd) => $body,
            #[cfg(target_arch = "x86_64")]
            Set::Avx2($simd) => $body,
            #[cfg(target_arch = "aarch64")]
            Set::Neon($simd) => $body,
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Set::Simd128($simd) => $body,
            #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
            Set::Scalar($simd) => $body,
        }
    };
}

impl InstructionSet {
    /// All that this processor has, the fastest first.
    pub fn available() -> Vec<InstructionSet> {
        let sets = [
            #[cfg(target_arch = "x86_64")]
            super::x86::Avx512::detect().map(Set::Avx512),
            #[cfg(target_arch = "x86_64")]
            super::x86::Avx2::detect().map(Set::Avx2),
            #[cfg(target_arch = "aarch64")]
            Some(Set::Neon(super::neon::Neon)),
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Some(Set::Simd128(super::simd128::Simd128)),
            #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
            Some(Set::Scalar(super::scalar::Scalar)),
        ];
        sets.into_iter().flatten().map(InstructionSet).collect()
    }

    /// The fastest.
    pub fn best() -> InstructionSet {
        InstructionSet::available()[0]
    }

    pub(in super::super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        with!(self.0, simd => simd.vectorize(kernel))
    }

    /// Whether this processor multiplies bf16 with it.
    pub fn has_bf16(self) -> bool {
        self.has_pairs() && self.lanes() > 1
    }

    /// The same, or it is the plain one, which emulates that: the oracle.
    pub(in super::super) fn has_pairs(self) -> bool {
        with!(self.0, simd => simd.has_pairs())
    }

    /// Output channels that a tile of sums spans.
    pub(in super::super) fn panel(self) -> usize {
        fn panel<S: Simd>(_: S) -> usize {
            S::COLUMNS * S::LANES
        }
        with!(self.0, simd => panel(simd))
    }

    /// Output pixels that a tile of sums spans at most.
    pub(in super::super) fn rows(self) -> usize {
        fn rows<S: Simd>(_: S) -> usize {
            S::ROWS
        }
        with!(self.0, simd => rows(simd))
    }

    /// Channels in a vector.
    pub(in super::super) fn lanes(self) -> usize {
        fn lanes<S: Simd>(_: S) -> usize {
            S::LANES
        }
        with!(self.0, simd => lanes(simd))
    }
}

impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(_) => "avx2",
            #[cfg(target_arch = "aarch64")]
            Set::Neon(_) => "neon",
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Set::Simd128(_) => "simd128",
            #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
            Set::Scalar(_) => "scalar",
        })
    }
}

impl fmt::Debug for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// There is no instruction set of a name on this processor.
#[derive(Debug, thiserror::Error)]
#[error("no instruction set {0:?} here; this processor has {available}", available = names())]
pub struct NoInstructionSet(String);

fn names() -> String {
    InstructionSet::available().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl FromStr for InstructionSet {
    type Err = NoInstructionSet;

    fn from_str(name: &str) -> Result<Self, NoInstructionSet> {
        let found = InstructionSet::available().into_iter().find(|set| set.to_string() == name);
        found.ok_or_else(|| NoInstructionSet(name.to_owned()))
    }
}
