//! Convolutions in bf16, with f32 sums.
//!
//! Values between layers stay f32. A layer that multiplies in bf16 first rounds its input and packs pairs of
//! neighbouring channels into 32 bits each; its weights are packed in the same way. The inner loop then reads half as
//! many bytes, and each of its instructions does two multiply-adds per lane.

use super::buffer::SharedMutSlice;
use super::simd::{InstructionSet, Kernel, Simd};
use super::thread_pool::ThreadPool;

/// Rounds weights `[channels, panel]` to pairs of channels, `[channels / 2, panel]`.
///
/// # Panics
/// Panics if the instruction set does not support pairs of bf16.
pub fn pack_row_pairs(rows: &[f32], panel: usize, pairs: &mut [f32], set: InstructionSet) {
    set.run(PackRows { rows, panel, pairs: SharedMutSlice::new(pairs) });
}

/// Rounds pairs of rows.
struct PackRows<'a> {
    rows: &'a [f32],
    panel: usize,
    pairs: SharedMutSlice<'a>,
}

impl Kernel for PackRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if !S::BF16_PAIRS {
            unreachable!("the instruction set does not support pairs of bf16");
        }
        let PackRows { rows, panel, pairs } = self;
        assert!(simd.has_bf16_pairs() && panel.is_multiple_of(S::LANES) && rows.len().is_multiple_of(2 * panel));
        assert_eq!(pairs.len(), rows.len() / 2);
        for at in (0..pairs.len()).step_by(S::LANES) {
            let first = at / panel * 2 * panel + at % panel;
            // SAFETY: the assertions above check that the processor supports pairs of bf16, and that rows consist of
            // whole vectors, twice as many as there are pairs. Nothing else accesses the pairs.
            unsafe {
                let [first, second] = [first, first + panel].map(|at| simd.read(rows, at));
                simd.write(pairs, at, simd.zip_to_bf16(first, second));
            }
        }
    }
}

/// Number of values that one task rounds: 64 kB, small enough for each thread to get several tasks.
const VALUES_PER_TASK: usize = 16 << 10;

/// Rounds values, which are whole blocks of channels, to pairs of neighbouring channels.
///
/// # Panics
/// Panics if the instruction set does not support pairs of bf16.
pub fn round_to_pairs(values: &[f32], pairs: &mut [f32], set: InstructionSet, threads: &ThreadPool) {
    assert!(set.has_bf16_pairs() && pairs.len() >= values.len() / 2);
    let pairs = SharedMutSlice::new(pairs);
    threads.for_each(values.len().div_ceil(VALUES_PER_TASK), |task| {
        let start = task * VALUES_PER_TASK;
        let values = &values[start..(start + VALUES_PER_TASK).min(values.len())];
        set.run(Round { values, pairs, at: start / 2 });
    });
}

/// Rounds some values and stores the pairs at offset `at`.
struct Round<'a> {
    values: &'a [f32],
    pairs: SharedMutSlice<'a>,
    at: usize,
}

impl Kernel for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if !S::BF16_PAIRS {
            unreachable!("the instruction set does not support pairs of bf16");
        }
        let Round { values, pairs, at } = self;
        assert!(simd.has_bf16_pairs() && values.len() % (2 * S::LANES) == 0 && at + values.len() / 2 <= pairs.len());
        for first in (0..values.len()).step_by(2 * S::LANES) {
            // SAFETY: the assertion above checks that the processor supports pairs of bf16, that the values divide into
            // whole pairs of vectors, and that the target has room for them. Each task writes its own part of the
            // target.
            unsafe {
                let [low, high] = [first, first + S::LANES].map(|at| simd.read(values, at));
                simd.write(pairs, at + first / 2, simd.round_to_bf16(low, high));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    #[test]
    fn rounds_to_nearest_with_ties_to_even_on_every_instruction_set() {
        // There are 2^16 f32 values from 1 to the next bf16.
        let between = |part: u32| f32::from_bits(0x3f80_0000 + part);
        let values =
            [between(0x7fff), between(0x8000), between(0x1_8000), -between(0x8001), 0.0, -0.0, f32::INFINITY, 1.0e-30];
        let expected =
            [0x3f80, 0x3f80, 0x3f82, 0xbf81, 0, 0x8000, 0x7f80, 0x0da2].map(|bits| bf16::from_bits(bits).to_f32());
        let values: Vec<f32> = values.into_iter().cycle().take(64).collect();
        let sets: Vec<_> = InstructionSet::available().into_iter().filter(|set| set.has_bf16_pairs()).collect();
        assert!(!sets.is_empty());
        let threads = ThreadPool::new(Some(2)).unwrap();
        for set in sets {
            let mut pairs = vec![f32::NAN; 32];
            threads.install(|| round_to_pairs(&values, &mut pairs, set, &threads));
            let halves = pairs.into_iter().map(f32::to_bits).flat_map(|bits| [bits as u16, (bits >> 16) as u16]);
            let rounded: Vec<f32> = halves.map(|bits| bf16::from_bits(bits).to_f32()).collect();
            assert_eq!(rounded, expected.repeat(8), "{set}");
        }
    }
}
