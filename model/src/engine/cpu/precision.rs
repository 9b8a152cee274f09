//! Reduced precision: matrix products of bf16, summed in f32.
//!
//! Values between the layers stay f32. A layer that multiplies in bf16 first rounds its input, pairs of neighbouring
//! channels into the 32 bits of one value, and has its weights packed likewise. So half as many bytes pass by the inner
//! loop, and each step of it multiplies and adds twice.

use super::buffer::{Buffer, Target};
use super::simd::{InstructionSet, Kernel, Simd};
use super::threads::Threads;
use half::bf16;

/// Two values, the first in the lower half: not a number, but 32 bits on their way.
pub fn pair(first: f32, second: f32) -> f32 {
    let [first, second] = [first, second].map(|value| u32::from(bf16::from_f32(value).to_bits()));
    f32::from_bits(first | second << 16)
}

/// Rows of `panel` weights, by channel, to rows of pairs of channels.
pub fn pair_rows(rows: &[f32], panel: usize) -> Buffer {
    assert!(rows.len().is_multiple_of(2 * panel));
    let mut pairs = Buffer::zeroed(rows.len() / 2);
    for (pairs, rows) in pairs.chunks_exact_mut(panel).zip(rows.chunks_exact(2 * panel)) {
        let (first, second) = rows.split_at(panel);
        for ((to, &first), &second) in pairs.iter_mut().zip(first).zip(second) {
            *to = pair(first, second);
        }
    }
    pairs
}

/// Values that a task rounds: 64 kB, for each thread to have several.
const ROUNDED: usize = 16 << 10;

/// Rounds values, whole blocks of channels, to pairs of neighbours. The set has to have pairs.
pub fn round(values: &[f32], pairs: &mut [f32], set: InstructionSet, threads: &Threads) {
    assert!(set.has_pairs() && pairs.len() >= values.len() / 2);
    let pairs = Target::new(pairs);
    threads.for_each(values.len().div_ceil(ROUNDED), |task| {
        let start = task * ROUNDED;
        let values = &values[start..(start + ROUNDED).min(values.len())];
        set.run(Round { values, pairs, at: start / 2 });
    });
}

struct Round<'a> {
    values: &'a [f32],
    pairs: Target<'a>,
    at: usize,
}

impl Kernel for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if !S::PAIRS {
            unreachable!("no pairs");
        }
        let Round { values, pairs, at } = self;
        assert!(simd.has_pairs() && values.len() % (2 * S::LANES) == 0 && at + values.len() / 2 <= pairs.len());
        for first in (0..values.len()).step_by(2 * S::LANES) {
            // SAFETY: the set has pairs, the values are inside, and each task writes what is its own.
            unsafe {
                let [low, high] = [first, first + S::LANES].map(|at| simd.read(values, at));
                simd.write(pairs, at + first / 2, simd.round_to_pairs(low, high));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_rounds_to_the_nearest_and_ties_to_even() {
        // Between 1 and the next bf16 lie 2^16 f32s.
        let between = |part: u32| f32::from_bits(0x3f80_0000 + part);
        let values =
            [between(0x7fff), between(0x8000), between(0x1_8000), -between(0x8001), 0.0, -0.0, f32::INFINITY, 1.0e-30];
        let expected =
            [0x3f80, 0x3f80, 0x3f82, 0xbf81, 0, 0x8000, 0x7f80, 0x0da2].map(|bits| bf16::from_bits(bits).to_f32());
        let values: Vec<f32> = values.into_iter().cycle().take(64).collect();
        let sets: Vec<_> = InstructionSet::available().into_iter().filter(|set| set.has_pairs()).collect();
        assert!(!sets.is_empty());
        let threads = Threads::new(Some(2)).unwrap();
        for set in sets {
            let mut pairs = vec![f32::NAN; 32];
            threads.enter(|| round(&values, &mut pairs, set, &threads));
            let halves = pairs.into_iter().map(f32::to_bits).flat_map(|bits| [bits as u16, (bits >> 16) as u16]);
            let rounded: Vec<f32> = halves.map(|bits| bf16::from_bits(bits).to_f32()).collect();
            assert_eq!(rounded, expected.repeat(8), "{set}");
        }
    }
}
