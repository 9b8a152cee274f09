//! AVX-512, and AVX2 with FMA.

use super::{Kernel, Simd};
use std::arch::x86_64::*;
use std::arch::{asm, is_x86_feature_detected};

/// Proof that the processor supports AVX-512: F, VL, BW and DQ, which all processors with AVX-512 except Xeon Phi
/// support.
#[derive(Clone, Copy)]
pub struct Avx512 {
    /// Whether the processor supports AVX512-BF16.
    bf16: bool,
}

/// Proof that the processor supports AVX2 and FMA.
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

/// Implements [`Simd`] for a type that proves that the processor supports `$features`.
macro_rules! x86 {
    ($name:ident, $features:literal, $vector:ty, $lanes:literal, $rows:literal x $columns:literal,
     $splat:ident, $add:ident, $subtract:ident, $multiply:ident, $multiply_add:ident, $max:ident, $load:ident,
     $store:ident, { $($more:item)* }) => {
        impl Simd for $name {
            type Vector = $vector;

            const LANES: usize = $lanes;
            const TILE_ROWS: usize = $rows;
            const TILE_COLUMNS: usize = $columns;

            #[inline(always)]
            fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
                #[target_feature(enable = $features)]
                #[inline(never)]
                fn inner<K: Kernel>(simd: $name, kernel: K) -> K::Output {
                    kernel.run(simd)
                }
                // SAFETY: `self` proves that the processor supports the features.
                unsafe { inner(self, kernel) }
            }

            #[inline(always)]
            fn splat(self, value: f32) -> Self::Vector {
                // SAFETY: `self` proves that the processor supports the features.
                unsafe { $splat(value) }
            }

            #[inline(always)]
            fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                // SAFETY: `self` proves that the processor supports the features.
                unsafe { $add(a, b) }
            }

            #[inline(always)]
            fn subtract(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                // SAFETY: `self` proves that the processor supports the features.
                unsafe { $subtract(a, b) }
            }

            #[inline(always)]
            fn multiply(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                // SAFETY: `self` proves that the processor supports the features.
                unsafe { $multiply(a, b) }
            }

            #[inline(always)]
            fn multiply_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
                // SAFETY: `self` proves that the processor supports the features.
                unsafe { $multiply_add(a, b, c) }
            }

            #[inline(always)]
            fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                // SAFETY: `self` proves that the processor supports the features.
                unsafe { $max(a, b) }
            }

            #[inline(always)]
            unsafe fn load(self, source: *const f32) -> Self::Vector {
                // SAFETY: `self` proves that the processor supports the features, and the caller guarantees that
                // `source` is valid for reads of a vector.
                unsafe { $load(source) }
            }

            #[inline(always)]
            unsafe fn store(self, target: *mut f32, vector: Self::Vector) {
                // SAFETY: `self` proves that the processor supports the features, and the caller guarantees that
                // `target` is valid for writes of a vector.
                unsafe { $store(target, vector) }
            }

            #[inline(always)]
            fn prefetch(self, address: *const f32) {
                // SAFETY: a prefetch never faults, whatever the address.
                unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
            }

            $($more)*
        }
    };
}

// 28 sums, two vectors of weights and one pixel take 31 of 32 registers. With 224x224 inputs, the sides of all stages
// are multiples of 7, so that tiles of 14 and 7 pixels leave no remainder.
x86!(
    Avx512, "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma", __m512, 16, 14 x 2,
    _mm512_set1_ps, _mm512_add_ps, _mm512_sub_ps, _mm512_mul_ps, _mm512_fmadd_ps, _mm512_max_ps, _mm512_loadu_ps,
    _mm512_storeu_ps,
    {
        #[inline(always)]
        fn select_positive(self, condition: __m512, a: __m512, b: __m512) -> __m512 {
            // SAFETY: `self` proves that the processor supports the features.
            unsafe {
                let mask = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(condition, _mm512_setzero_ps());
                _mm512_mask_blend_ps(mask, b, a)
            }
        }

        #[inline(always)]
        fn transpose(self, block: &mut [f32; 256]) {
            // SAFETY: `self` proves that the processor supports the features.
            unsafe { transpose(block) }
        }

        const BF16_PAIRS: bool = true;

        #[inline(always)]
        fn has_bf16_pairs(self) -> bool {
            self.bf16
        }

        #[inline(always)]
        unsafe fn bf16_multiply_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: `self` proves that the processor supports AVX-512, the caller guarantees that it supports
            // AVX512-BF16.
            unsafe { dot_pairs(a, b, c) }
        }

        #[inline(always)]
        unsafe fn round_to_bf16(self, low: __m512, high: __m512) -> __m512 {
            // SAFETY: `self` proves that the processor supports AVX-512, the caller guarantees that it supports
            // AVX512-BF16.
            unsafe { round_pairs(low, high) }
        }

        #[inline(always)]
        unsafe fn zip_to_bf16(self, first: __m512, second: __m512) -> __m512 {
            // SAFETY: `self` proves that the processor supports AVX-512, the caller guarantees that it supports
            // AVX512-BF16.
            unsafe {
                let halves = _mm512_castps_si512(round_pairs(first, second));
                let order = _mm512_loadu_si512(ZIP_ORDER.as_ptr().cast());
                _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, halves))
            }
        }
    }
);

/// Transposes 16 rows of 16 values.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(block: &mut [f32; 256]) {
    let [mut pairs, mut quads] = [[_mm512_setzero_ps(); 16]; 2];
    for row in (0..16).step_by(2) {
        // SAFETY: both rows lie inside the block.
        let [a, b] = [row, row + 1].map(|row| unsafe { _mm512_loadu_ps(block.as_ptr().add(row * 16)) });
        (pairs[row], pairs[row + 1]) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    }
    for row in (0..16).step_by(4) {
        for half in 0..2 {
            let [a, b] = [pairs[row + half], pairs[row + half + 2]].map(|pair| _mm512_castps_pd(pair));
            quads[row + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            quads[row + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    }
    // The lane `l` of `quads[4 * i + j]` now holds column `4 * l + j` of the rows from `4 * i` on.
    for column in 0..4 {
        let [a, b, c, d] = [0, 4, 8, 12].map(|row| quads[row + column]);
        let (even, odd) = (
            [_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(c, d)],
            [_mm512_shuffle_f32x4::<0xdd>(a, b), _mm512_shuffle_f32x4::<0xdd>(c, d)],
        );
        for (lane, row) in [
            (0, _mm512_shuffle_f32x4::<0x88>(even[0], even[1])),
            (4, _mm512_shuffle_f32x4::<0x88>(odd[0], odd[1])),
            (8, _mm512_shuffle_f32x4::<0xdd>(even[0], even[1])),
            (12, _mm512_shuffle_f32x4::<0xdd>(odd[0], odd[1])),
        ] {
            // SAFETY: the row lies inside the block.
            unsafe { _mm512_storeu_ps(block.as_mut_ptr().add((lane + column) * 16), row) };
        }
    }
}

/// Positions of the values of a vector of pairs in two adjacent vectors of 16 bf16.
const ZIP_ORDER: [u16; 32] = {
    let mut order = [0; 32];
    let mut at = 0;
    while at < 32 {
        order[at] = (at / 2 + at % 2 * 16) as u16;
        at += 1;
    }
    order
};

// These two functions are written in assembly: intrinsics are inlined only into functions that are compiled with
// AVX512-BF16, so all kernels would have to be compiled a second time with it.

/// Adds the products of pairs of bf16 to `sum`.
///
/// # Safety
/// The processor supports AVX512-BF16.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn dot_pairs(a: __m512, b: __m512, mut sum: __m512) -> __m512 {
    // SAFETY: the caller guarantees that the processor supports the instruction, which accesses no memory.
    unsafe {
        asm!(
            "vdpbf16ps {sum}, {a}, {b}",
            sum = inout(zmm_reg) sum, a = in(zmm_reg) a, b = in(zmm_reg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// Rounds values to pairs of bf16.
///
/// # Safety
/// The processor supports AVX512-BF16.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn round_pairs(low: __m512, high: __m512) -> __m512 {
    let pairs;
    // SAFETY: the caller guarantees that the processor supports the instruction, which accesses no memory.
    unsafe {
        asm!(
            "vcvtne2ps2bf16 {pairs}, {high}, {low}",
            pairs = out(zmm_reg) pairs, high = in(zmm_reg) high, low = in(zmm_reg) low,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    pairs
}

// 12 sums, two vectors of weights and one pixel take 15 of 16 registers.
x86!(
    Avx2, "avx2,fma", __m256, 8, 6 x 2,
    _mm256_set1_ps, _mm256_add_ps, _mm256_sub_ps, _mm256_mul_ps, _mm256_fmadd_ps, _mm256_max_ps, _mm256_loadu_ps,
    _mm256_storeu_ps,
    {
        #[inline(always)]
        fn select_positive(self, condition: __m256, a: __m256, b: __m256) -> __m256 {
            // SAFETY: `self` proves that the processor supports the features.
            unsafe { _mm256_blendv_ps(b, a, _mm256_cmp_ps::<_CMP_GT_OQ>(condition, _mm256_setzero_ps())) }
        }
    }
);
