//! WebAssembly's 128-bit vectors. Target features enable them at compile time, since a module cannot detect them at run
//! time.

use super::{Kernel, Simd};
use std::arch::wasm32::*;

/// The instruction set simd128, with 4 lanes.
#[derive(Clone, Copy)]
pub struct Simd128;

impl Simd for Simd128 {
    type Vector = v128;

    const LANES: usize = 4;
    // On x86-64 hosts there are 16 registers, and no fused multiply-add: 8 sums, two vectors of weights, one pixel and
    // one product. With more rows, V8 spills registers.
    const TILE_ROWS: usize = 4;
    const TILE_COLUMNS: usize = 2;

    #[inline(always)]
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        // Not inlined, so that each kernel is compiled once.
        #[inline(never)]
        fn inner<K: Kernel>(simd: Simd128, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        inner(self, kernel)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> v128 {
        f32x4_splat(value)
    }

    #[inline(always)]
    fn add(self, a: v128, b: v128) -> v128 {
        f32x4_add(a, b)
    }

    #[inline(always)]
    fn subtract(self, a: v128, b: v128) -> v128 {
        f32x4_sub(a, b)
    }

    #[inline(always)]
    fn multiply(self, a: v128, b: v128) -> v128 {
        f32x4_mul(a, b)
    }

    #[inline(always)]
    fn multiply_add(self, a: v128, b: v128, c: v128) -> v128 {
        f32x4_add(f32x4_mul(a, b), c)
    }

    #[inline(always)]
    fn max(self, a: v128, b: v128) -> v128 {
        // A single instruction on every host, unlike `f32x4_max`.
        f32x4_pmax(b, a)
    }

    #[inline(always)]
    fn select_positive(self, condition: v128, a: v128, b: v128) -> v128 {
        v128_bitselect(a, b, f32x4_gt(condition, f32x4_splat(0.0)))
    }

    #[inline(always)]
    unsafe fn load(self, source: *const f32) -> v128 {
        // SAFETY: the caller guarantees that `source` is valid for reads of 4 values; `v128_load` requires no
        // alignment.
        unsafe { v128_load(source.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, target: *mut f32, vector: v128) {
        // SAFETY: the caller guarantees that `target` is valid for writes of 4 values; `v128_store` requires no
        // alignment.
        unsafe { v128_store(target.cast(), vector) }
    }
}
