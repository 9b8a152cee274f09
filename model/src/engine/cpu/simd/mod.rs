//! Portable SIMD: kernels are written once against the trait [`Simd`] and compiled for each instruction set.
//!
//! A value of a type that implements [`Simd`] proves that the processor supports the instruction set, so all operations
//! except memory accesses are safe. Kernels run inside [`Simd::vectorize`], a function compiled with the features of
//! the instruction set; everything that they call must be inlined into it, hence the `#[inline(always)]` throughout.

mod instruction_set;
mod matrix_unit;

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod scalar;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use instruction_set::InstructionSet;
pub use matrix_unit::{MatrixUnit, TILE, TILE_PAIRS, TileProduct, TileStep, TileSteps, Tiles};

use super::buffer::SharedMutSlice;
use half::bf16;

/// Operations on vectors of f32 in one instruction set.
pub trait Simd: Copy + Send + Sync + 'static {
    type Vector: Copy;

    /// Number of f32 values in a vector. Divides 16.
    const LANES: usize;
    /// Height of the largest register tile of sums, in output pixels.
    const TILE_ROWS: usize;
    /// Width of the register tile, in vectors of output channels. `TILE_COLUMNS * LANES` divides 16 or is a multiple of
    /// it.
    const TILE_COLUMNS: usize;
    /// Whether kernels that multiply pairs of bf16 are compiled for this instruction set.
    const BF16_PAIRS: bool = false;

    /// Runs a kernel that is compiled for this instruction set.
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output;

    /// Returns a vector whose lanes all hold `value`.
    fn splat(self, value: f32) -> Self::Vector;
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn subtract(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn multiply(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// Returns `a * b + c`, with a single rounding if the instruction set supports that.
    fn multiply_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// Returns the maximum of each lane, or `b` in lanes where `b` is NaN.
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// Returns `a` in the lanes in which `condition` is positive, and `b` in the others.
    fn select_positive(self, condition: Self::Vector, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// Returns `value` in the lanes in which `condition` is positive, and zero in the others.
    #[inline(always)]
    fn zero_unless_positive(self, condition: Self::Vector, value: Self::Vector) -> Self::Vector {
        self.select_positive(condition, value, self.splat(0.0))
    }

    /// Reads `LANES` values at `source`, which need not be aligned.
    ///
    /// # Safety
    /// `source` is valid for reads of `LANES` values.
    unsafe fn load(self, source: *const f32) -> Self::Vector;

    /// Writes `LANES` values at `target`, which need not be aligned.
    ///
    /// # Safety
    /// `target` is valid for writes of `LANES` values.
    unsafe fn store(self, target: *mut f32, vector: Self::Vector);

    /// Returns whether this processor supports pairs of bf16 ([`bf16_pairs`](super::bf16_pairs)).
    #[inline(always)]
    fn has_bf16_pairs(self) -> bool {
        false
    }

    /// Adds the products of both elements of each pair to `c`.
    ///
    /// # Safety
    /// [`has_bf16_pairs`](Self::has_bf16_pairs) returns true.
    #[inline(always)]
    unsafe fn bf16_multiply_add(self, _a: Self::Vector, _b: Self::Vector, _c: Self::Vector) -> Self::Vector {
        unreachable!("pairs of bf16 are not supported")
    }

    /// Rounds the values of `low` and then of `high` to bf16 and packs adjacent values into pairs.
    ///
    /// # Safety
    /// [`has_bf16_pairs`](Self::has_bf16_pairs) returns true.
    #[inline(always)]
    unsafe fn round_to_bf16(self, _low: Self::Vector, _high: Self::Vector) -> Self::Vector {
        unreachable!("pairs of bf16 are not supported")
    }

    /// Rounds two vectors to bf16 and packs the values of the same lane into a pair, that of `first` in its lower half.
    ///
    /// # Safety
    /// [`has_bf16_pairs`](Self::has_bf16_pairs) returns true.
    #[inline(always)]
    unsafe fn zip_to_bf16(self, _first: Self::Vector, _second: Self::Vector) -> Self::Vector {
        unreachable!("pairs of bf16 are not supported")
    }

    /// Transposes 16 rows of 16 values, whose types are those of f32 or of pairs of bf16.
    #[inline(always)]
    fn transpose(self, block: &mut [f32; 256]) {
        for row in 0..16 {
            for column in 0..row {
                block.swap(row * 16 + column, column * 16 + row);
            }
        }
    }

    /// Prefetches the cache line at an address into the second-level cache. The address need not be readable.
    #[inline(always)]
    fn prefetch(self, _address: *const f32) {}

    /// Reads a vector from `source[at..]`.
    ///
    /// # Safety
    /// `at + LANES <= source.len()`.
    #[inline(always)]
    unsafe fn read(self, source: &[f32], at: usize) -> Self::Vector {
        debug_assert!(at + Self::LANES <= source.len(), "read of {at} in {}", source.len());
        // SAFETY: the caller guarantees that the values lie inside `source`.
        unsafe { self.load(source.as_ptr().add(at)) }
    }

    /// Writes a vector to `target[at..]`.
    ///
    /// # Safety
    /// `at + LANES <= target.len()`, and no other thread accesses these values at the same time.
    #[inline(always)]
    unsafe fn write(self, target: SharedMutSlice, at: usize, vector: Self::Vector) {
        debug_assert!(at + Self::LANES <= target.len(), "write of {at} in {}", target.len());
        // SAFETY: the caller guarantees that the values lie inside `target` and that no other thread accesses them.
        unsafe { self.store(target.as_mut_ptr().add(at), vector) }
    }
}

/// Code that is compiled for each instruction set. Implementations of `run` must be `#[inline(always)]`.
pub trait Kernel {
    type Output;

    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Rounds two values to bf16 and packs them into 32 bits, the first in the lower half. The result is not meaningful as
/// an f32.
#[inline]
pub fn pack_bf16_pair(first: f32, second: f32) -> f32 {
    let [first, second] = [first, second].map(|value| u32::from(bf16::from_f32(value).to_bits()));
    f32::from_bits(first | second << 16)
}

/// Unpacks the two values of a pair, the inverse of [`pack_bf16_pair`].
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
fn unpack_bf16_pair(pair: f32) -> [f32; 2] {
    let bits = pair.to_bits();
    [f32::from_bits(bits << 16), f32::from_bits(bits & 0xffff_0000)]
}
