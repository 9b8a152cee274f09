//! AVX-512 and AVX2 with FMA.

use super::{Kernel, Simd};
use std::arch::x86_64::*;
use std::arch::{asm, is_x86_feature_detected};

/// Proof of AVX-512 (F, VL, BW, DQ: what every processor but Knights has together).
#[derive(Clone, Copy)]
pub struct Avx512 {
    bf16: bool,
}

/// Proof of AVX2 and FMA.
#[derive(Clone, Copy)]
pub struct Avx2(());

impl Avx512 {
    pub fn detect() -> Option<Self> {
        let present = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma");
        present.then(|| Avx512 { bf16: is_x86_feature_detected!("avx512bf16") })
    }
}

impl Avx2 {
    pub fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Avx2(()))
    }
}

/// [`Simd`] for a type that proves `$features`.
macro_rules! x86 {
    ($name:ident, $features:literal, $vector:ty, $lanes:literal, $rows:literal x $columns:literal,
     $splat:ident, $add:ident, $subtract:ident, $multiply:ident, $multiply_add:ident, $max:ident, $load:ident,
     $store:ident, { $($more:item)* }) => {
        impl Simd for $name {
            type Vector = $vector;

            const LANES: usize = $lanes;
            const ROWS: usize = $rows;
            const COLUMNS: usize = $columns;

            #[inline(always)]
            fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
                #[target_feature(enable = $features)]
                #[inline(never)]
                fn inner<K: Kernel>(simd: $name, kernel: K) -> K::Output {
                    kernel.run(simd)
                }
                // SAFETY: `self` proves the features.
                unsafe { inner(self, kernel) }
            }

            #[inline(always)]
            fn splat(self, value: f32) -> Self::Vector {
                // SAFETY: `self` proves the features.
                unsafe { $splat(value) }
            }

            #[inline(always)]
            fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                // SAFETY: `self` proves the features.
                unsafe { $add(a, b) }
            }

            #[inline(always)]
            fn subtract(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                // SAFETY: `self` proves the features.
                unsafe { $subtract(a, b) }
            }

            #[inline(always)]
            fn multiply(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                // SAFETY: `self` proves the features.
                unsafe { $multiply(a, b) }
            }

            #[inline(always)]
            fn multiply_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
                // SAFETY: `self` proves the features.
                unsafe { $multiply_add(a, b, c) }
            }

            #[inline(always)]
            fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                // SAFETY: `self` proves the features.
                unsafe { $max(a, b) }
            }

            #[inline(always)]
            unsafe fn load(self, source: *const f32) -> Self::Vector {
                // SAFETY: `self` proves the features, the caller promises the memory.
                unsafe { $load(source) }
            }

            #[inline(always)]
            unsafe fn store(self, target: *mut f32, vector: Self::Vector) {
                // SAFETY: `self` proves the features, the caller promises the memory.
                unsafe { $store(target, vector) }
            }

            #[inline(always)]
            fn prefetch(self, address: *const f32) {
                // SAFETY: a prefetch never faults.
                unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
            }

            $($more)*
        }
    };
}

// 28 sums, two vectors of weights, one pixel: 31 of 32 registers. Every side of ImageNet's stages is a multiple of 7,
// so tiles of 14 and 7 leave no ragged end.
x86!(
    Avx512, "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma", __m512, 16, 14 x 2,
    _mm512_set1_ps, _mm512_add_ps, _mm512_sub_ps, _mm512_mul_ps, _mm512_fmadd_ps, _mm512_max_ps, _mm512_loadu_ps,
    _mm512_storeu_ps,
    {
        const PAIRS: bool = true;

        #[inline(always)]
        fn has_pairs(self) -> bool {
            self.bf16
        }

        #[inline(always)]
        unsafe fn multiply_add_pairs(self, a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: `self` proves AVX-512, the caller promises AVX512-BF16.
            unsafe { dot_pairs(a, b, c) }
        }

        #[inline(always)]
        unsafe fn round_to_pairs(self, low: __m512, high: __m512) -> __m512 {
            // SAFETY: `self` proves AVX-512, the caller promises AVX512-BF16.
            unsafe { round_pairs(low, high) }
        }
    }
);

// In assembly, since intrinsics are only inlined into functions that are compiled for AVX512-BF16: that would be all
// kernels once more.

/// # Safety
/// The processor has AVX512-BF16.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn dot_pairs(a: __m512, b: __m512, mut sum: __m512) -> __m512 {
    // SAFETY: the caller's promise; registers are all that it touches.
    unsafe {
        asm!(
            "vdpbf16ps {sum}, {a}, {b}",
            sum = inout(zmm_reg) sum, a = in(zmm_reg) a, b = in(zmm_reg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// # Safety
/// The processor has AVX512-BF16.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn round_pairs(low: __m512, high: __m512) -> __m512 {
    let pairs;
    // SAFETY: the caller's promise; registers are all that it touches.
    unsafe {
        asm!(
            "vcvtne2ps2bf16 {pairs}, {high}, {low}",
            pairs = out(zmm_reg) pairs, high = in(zmm_reg) high, low = in(zmm_reg) low,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    pairs
}

// 12 sums, two vectors of weights, one pixel: 15 of 16 registers.
x86!(
    Avx2, "avx2,fma", __m256, 8, 6 x 2,
    _mm256_set1_ps, _mm256_add_ps, _mm256_sub_ps, _mm256_mul_ps, _mm256_fmadd_ps, _mm256_max_ps, _mm256_loadu_ps,
    _mm256_storeu_ps, {}
);
