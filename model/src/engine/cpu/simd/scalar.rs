//! No vectors at all: the oracle of all others, and what runs where there is none of them.

use super::super::precision::pair;
use super::{Kernel, Simd};

#[derive(Clone, Copy)]
pub struct Scalar;

impl Simd for Scalar {
    type Vector = f32;

    const LANES: usize = 1;
    const ROWS: usize = 4;
    const COLUMNS: usize = 2;
    const PAIRS: bool = true;

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
    unsafe fn load(self, source: *const f32) -> f32 {
        // SAFETY: the caller's promise.
        unsafe { *source }
    }

    #[inline(always)]
    unsafe fn store(self, target: *mut f32, vector: f32) {
        // SAFETY: the caller's promise.
        unsafe { *target = vector }
    }

    #[inline(always)]
    fn has_pairs(self) -> bool {
        true
    }

    #[inline(always)]
    unsafe fn multiply_add_pairs(self, a: f32, b: f32, c: f32) -> f32 {
        let ([a, next_a], [b, next_b]) = (unpair(a), unpair(b));
        // In the order of x86's instruction.
        a * b + (next_a * next_b + c)
    }

    #[inline(always)]
    unsafe fn round_to_pairs(self, low: f32, high: f32) -> f32 {
        pair(low, high)
    }
}

/// What [`pair`] has put together.
fn unpair(pair: f32) -> [f32; 2] {
    let bits = pair.to_bits();
    [f32::from_bits(bits << 16), f32::from_bits(bits & 0xffff_0000)]
}
