//! WebAssembly's 128-bit vectors. The target's flags decide on them: a module has no run-time detection.

use super::{Kernel, Simd};
use std::arch::wasm32::*;

#[derive(Clone, Copy)]
pub struct Simd128;

impl Simd for Simd128 {
    type Vector = v128;

    const LANES: usize = 4;
    // x86-64 hosts have 16 registers and no fused multiply-add here: 8 sums, two vectors of weights,
    // a pixel, a product; of more rows, V8 spills.
    const ROWS: usize = 4;
    const COLUMNS: usize = 2;

    #[inline(always)]
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        // A call, so that each kernel is compiled once.
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
        // One instruction on every host, unlike `f32x4_max`.
        f32x4_pmax(b, a)
    }

    #[inline(always)]
    unsafe fn load(self, source: *const f32) -> v128 {
        // SAFETY: the caller's promise; `v128_load` asks for no alignment.
        unsafe { v128_load(source.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, target: *mut f32, vector: v128) {
        // SAFETY: the caller's promise; `v128_store` asks for no alignment.
        unsafe { v128_store(target.cast(), vector) }
    }
}
