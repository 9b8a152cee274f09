//! NEON, which all 64-bit ARM processors support.

use super::{Kernel, Simd};
use std::arch::aarch64::*;

/// The instruction set NEON, with 4 lanes.
#[derive(Clone, Copy)]
pub struct Neon;

impl Simd for Neon {
    type Vector = float32x4_t;

    const LANES: usize = 4;
    // 24 sums, four vectors of weights, one pixel: 29 of 32 registers.
    const TILE_ROWS: usize = 6;
    const TILE_COLUMNS: usize = 4;

    #[inline(always)]
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        // Not inlined, so that each kernel is compiled once.
        #[inline(never)]
        fn inner<K: Kernel>(simd: Neon, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        inner(self, kernel)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> float32x4_t {
        // SAFETY: all aarch64 targets support NEON.
        unsafe { vdupq_n_f32(value) }
    }

    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: all aarch64 targets support NEON.
        unsafe { vaddq_f32(a, b) }
    }

    #[inline(always)]
    fn subtract(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: all aarch64 targets support NEON.
        unsafe { vsubq_f32(a, b) }
    }

    #[inline(always)]
    fn multiply(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: all aarch64 targets support NEON.
        unsafe { vmulq_f32(a, b) }
    }

    #[inline(always)]
    fn multiply_add(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: all aarch64 targets support NEON.
        unsafe { vfmaq_f32(c, a, b) }
    }

    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: all aarch64 targets support NEON.
        unsafe { vmaxq_f32(a, b) }
    }

    #[inline(always)]
    fn select_positive(self, condition: float32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: all aarch64 targets support NEON.
        unsafe { vbslq_f32(vcgtzq_f32(condition), a, b) }
    }

    #[inline(always)]
    unsafe fn load(self, source: *const f32) -> float32x4_t {
        // SAFETY: all aarch64 targets support NEON, and the caller guarantees that `source` is valid for reads of 4
        // values.
        unsafe { vld1q_f32(source) }
    }

    #[inline(always)]
    unsafe fn store(self, target: *mut f32, vector: float32x4_t) {
        // SAFETY: all aarch64 targets support NEON, and the caller guarantees that `target` is valid for writes of 4
        // values.
        unsafe { vst1q_f32(target, vector) }
    }
}
