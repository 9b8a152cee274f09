//! The instruction set that runs the kernels: the fastest one of the processor, or one selected by name.

use super::{Kernel, MatrixUnit, Simd};
use std::fmt;
use std::str::FromStr;

/// An instruction set that this processor supports. `scalar` is always available, except in WebAssembly modules with
/// simd128, where it would only add to the size of the module.
#[derive(Clone, Copy)]
pub struct InstructionSet(SimdToken);

/// The instruction set's implementation of [`Simd`], which proves that the processor supports it.
#[derive(Clone, Copy)]
enum SimdToken {
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

/// Evaluates `$body` with `$simd` as the implementation of [`Simd`].
macro_rules! dispatch {
    ($set:expr, $simd:ident => $body:expr) => {
        match $set {
            #[cfg(target_arch = "x86_64")]
            SimdToken::Avx512($simd) => $body,
            #[cfg(target_arch = "x86_64")]
            SimdToken::Avx2($simd) => $body,
            #[cfg(target_arch = "aarch64")]
            SimdToken::Neon($simd) => $body,
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            SimdToken::Simd128($simd) => $body,
            #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
            SimdToken::Scalar($simd) => $body,
        }
    };
}

impl InstructionSet {
    /// Returns all instruction sets that this processor supports, the fastest first.
    pub fn available() -> Vec<InstructionSet> {
        let sets = [
            #[cfg(target_arch = "x86_64")]
            super::x86::Avx512::detect().map(SimdToken::Avx512),
            #[cfg(target_arch = "x86_64")]
            super::x86::Avx2::detect().map(SimdToken::Avx2),
            #[cfg(target_arch = "aarch64")]
            Some(SimdToken::Neon(super::neon::Neon)),
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Some(SimdToken::Simd128(super::simd128::Simd128)),
            #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
            Some(SimdToken::Scalar(super::scalar::Scalar)),
        ];
        sets.into_iter().flatten().map(InstructionSet).collect()
    }

    /// Returns the fastest instruction set.
    pub fn best() -> InstructionSet {
        InstructionSet::available()[0]
    }

    /// Runs a kernel.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        dispatch!(self.0, simd => simd.vectorize(kernel))
    }

    /// Returns whether the processor has bf16 instructions in this instruction set.
    pub fn supports_bf16(self) -> bool {
        self.has_bf16_pairs() && self.lanes() > 1
    }

    /// Returns whether kernels can multiply pairs of bf16: with instructions of the processor, or emulated by `scalar`
    /// as the reference.
    pub(crate) fn has_bf16_pairs(self) -> bool {
        dispatch!(self.0, simd => simd.has_bf16_pairs())
    }

    /// Returns the unit that multiplies tiles of bf16: that of the processor with `avx512`, and its emulation with
    /// `scalar`.
    pub(crate) fn matrix_unit(self) -> Option<MatrixUnit> {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            SimdToken::Avx512(simd) => MatrixUnit::detect().filter(|_| simd.has_bf16_pairs()),
            #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
            SimdToken::Scalar(_) => Some(MatrixUnit::Emulated),
            #[allow(unreachable_patterns)] // on processors without other instruction sets
            _ => None,
        }
    }

    /// Returns whether products of bf16 take less time than those of f32. On AMD's Zen 5, an instruction multiplies a
    /// vector of pairs in the time of a vector of f32; on an Intel Xeon, only tiles of bf16 (AMX) are
    /// faster than f32.
    pub fn has_fast_bf16(self) -> bool {
        self.supports_bf16() && (is_amd() || self.matrix_unit().is_some())
    }

    /// Returns the width of a register tile in output channels.
    pub(crate) fn panel(self) -> usize {
        fn panel<S: Simd>(_: S) -> usize {
            S::TILE_COLUMNS * S::LANES
        }
        dispatch!(self.0, simd => panel(simd))
    }

    /// Returns the maximum height of a register tile in output pixels.
    pub fn tile_rows(self) -> usize {
        fn rows<S: Simd>(_: S) -> usize {
            S::TILE_ROWS
        }
        dispatch!(self.0, simd => rows(simd))
    }

    /// Returns the number of channels in a vector.
    pub(crate) fn lanes(self) -> usize {
        fn lanes<S: Simd>(_: S) -> usize {
            S::LANES
        }
        dispatch!(self.0, simd => lanes(simd))
    }
}

impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            #[cfg(target_arch = "x86_64")]
            SimdToken::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            SimdToken::Avx2(_) => "avx2",
            #[cfg(target_arch = "aarch64")]
            SimdToken::Neon(_) => "neon",
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            SimdToken::Simd128(_) => "simd128",
            #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
            SimdToken::Scalar(_) => "scalar",
        })
    }
}

impl fmt::Debug for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Returns whether the processor is one of AMD's.
fn is_amd() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let vendor = std::arch::x86_64::__cpuid(0);
        [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD"
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Error of selecting an instruction set by name.
#[derive(Debug, thiserror::Error)]
#[error("instruction set {0:?} is not available; this processor supports {available}", available = available_names())]
pub struct UnavailableInstructionSet(String);

/// Returns the names of the available instruction sets.
fn available_names() -> String {
    InstructionSet::available().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl FromStr for InstructionSet {
    type Err = UnavailableInstructionSet;

    fn from_str(name: &str) -> Result<Self, UnavailableInstructionSet> {
        let set = InstructionSet::available().into_iter().find(|set| set.to_string() == name);
        set.ok_or_else(|| UnavailableInstructionSet(name.to_owned()))
    }
}
