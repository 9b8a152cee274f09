//! One vector type behind all kernels: they are written once against [`Simd`] and compiled for each instruction set.
//!
//! A value of an instruction set's type proves that the processor has it, so everything but access to memory is safe.
//! Kernels run inside [`Simd::vectorize`], a function compiled with the set's features; whatever they call has to be
//! inlined into it, hence `#[inline(always)]` throughout.

mod set;

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod scalar;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use set::InstructionSet;

use super::buffer::Target;

/// Vectors of `f32` of some instruction set.
pub trait Simd: Copy + Send + Sync + 'static {
    type Vector: Copy;

    /// `f32`s in a vector; divides 16.
    const LANES: usize;
    /// The tile of sums that fits the registers: output pixels ...
    const ROWS: usize;
    /// ... by vectors of output channels. `COLUMNS * LANES` divides 16 or is a multiple of it.
    const COLUMNS: usize;
    /// Whether it is worth compiling kernels that multiply pairs of bf16.
    const PAIRS: bool = false;

    /// Runs a kernel compiled for this instruction set.
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output;

    fn splat(self, value: f32) -> Self::Vector;
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn subtract(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn multiply(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a * b + c`, rounded once where the instruction set can.
    fn multiply_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// The larger of each pair; `b` where that is NaN.
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// # Safety
    /// `LANES` values can be read at `source`.
    unsafe fn load(self, source: *const f32) -> Self::Vector;

    /// # Safety
    /// `LANES` values can be written at `target`.
    unsafe fn store(self, target: *mut f32, vector: Self::Vector);

    /// Whether this processor multiplies pairs of bf16 ([`precision`](super::precision)).
    #[inline(always)]
    fn has_pairs(self) -> bool {
        false
    }

    /// Adds both products of each pair to `c`.
    ///
    /// # Safety
    /// The processor [has pairs](Self::has_pairs).
    #[inline(always)]
    unsafe fn multiply_add_pairs(self, _a: Self::Vector, _b: Self::Vector, _c: Self::Vector) -> Self::Vector {
        unreachable!("no pairs")
    }

    /// Rounds twice as many values as there are lanes to pairs of neighbours: those of `low`, then those of `high`.
    ///
    /// # Safety
    /// The processor [has pairs](Self::has_pairs).
    #[inline(always)]
    unsafe fn round_to_pairs(self, _low: Self::Vector, _high: Self::Vector) -> Self::Vector {
        unreachable!("no pairs")
    }

    /// Asks for the cache line at an address, which need not be readable, into the second level of caches.
    #[inline(always)]
    fn prefetch(self, _address: *const f32) {}

    /// # Safety
    /// `at + LANES <= source.len()`
    #[inline(always)]
    unsafe fn read(self, source: &[f32], at: usize) -> Self::Vector {
        debug_assert!(at + Self::LANES <= source.len(), "read of {at} in {}", source.len());
        // SAFETY: the caller's promise.
        unsafe { self.load(source.as_ptr().add(at)) }
    }

    /// # Safety
    /// `at + LANES <= target.len()`, and no other thread touches these values meanwhile.
    #[inline(always)]
    unsafe fn write(self, target: Target, at: usize, vector: Self::Vector) {
        debug_assert!(at + Self::LANES <= target.len(), "write of {at} in {}", target.len());
        // SAFETY: the caller's promise.
        unsafe { self.store(target.as_mut_ptr().add(at), vector) }
    }
}

/// Code that is compiled once for each instruction set. Implementations are `#[inline(always)]`.
pub trait Kernel {
    type Output;

    fn run<S: Simd>(self, simd: S) -> Self::Output;
}
