//! Scalar code without vectors: the reference for all other instruction sets, and the fallback on processors without
//! them.

use super::{Kernel, Simd, pack_bf16_pair, unpack_bf16_pair};

/// Vectors of one lane.
#[derive(Clone, Copy)]
pub struct Scalar;

impl Simd for Scalar {
    type Vector = f32;

    const LANES: usize = 1;
    const TILE_ROWS: usize = 4;
    const TILE_COLUMNS: usize = 2;
    const BF16_PAIRS: bool = true;

    #[inline(always)]
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> f32 {
        value
    }

    #[inline(always)]
    fn add(self, a: f32, b: f32) -> f32 {
        a + b
    }

    #[inline(always)]
    fn subtract(self, a: f32, b: f32) -> f32 {
        a - b
    }

    #[inline(always)]
    fn multiply(self, a: f32, b: f32) -> f32 {
        a * b
    }

    #[inline(always)]
    fn multiply_add(self, a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }

    #[inline(always)]
    fn max(self, a: f32, b: f32) -> f32 {
        if a > b { a } else { b }
    }

    #[inline(always)]
    fn select_positive(self, condition: f32, a: f32, b: f32) -> f32 {
        if condition > 0.0 { a } else { b }
    }

    #[inline(always)]
    unsafe fn load(self, source: *const f32) -> f32 {
        // SAFETY: the caller guarantees that `source` is valid for reads.
        unsafe { *source }
    }

    #[inline(always)]
    unsafe fn store(self, target: *mut f32, vector: f32) {
        // SAFETY: the caller guarantees that `target` is valid for writes.
        unsafe { *target = vector }
    }

    #[inline(always)]
    fn has_bf16_pairs(self) -> bool {
        true
    }

    #[inline(always)]
    unsafe fn bf16_multiply_add(self, a: f32, b: f32, c: f32) -> f32 {
        let ([a0, a1], [b0, b1]) = (unpack_bf16_pair(a), unpack_bf16_pair(b));
        // The order of operations of `vdpbf16ps`.
        a0 * b0 + (a1 * b1 + c)
    }

    #[inline(always)]
    unsafe fn round_to_bf16(self, low: f32, high: f32) -> f32 {
        pack_bf16_pair(low, high)
    }

    #[inline(always)]
    unsafe fn zip_to_bf16(self, first: f32, second: f32) -> f32 {
        pack_bf16_pair(first, second)
    }
}
