//! Random numbers as a function of the seed and of their purpose, without shared state.
//!
//! The crate `rand` was considered. The generator is our own because resumed runs and golden files need values that
//! never change, whereas `rand` may change the values of its distributions between versions.

use model::random::{SPLITMIX64_INCREMENT, splitmix64};

/// Purpose of random numbers. Sequences for different purposes are independent.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    /// Validation split.
    Split = 1,
    /// Order of the samples in an epoch.
    Order = 2,
    /// Augmentation of a sample.
    Sample = 3,
    /// Initial weights of a new classifier.
    Classifier = 4,
    /// Erasing, mixup and CutMix.
    Mixing = 5,
    /// Resampling of photos for confidence intervals.
    Bootstrap = 6,
}

/// splitmix64 generator (Steele, Lea and Flood, 2014), seeded for each purpose.
#[derive(Clone, Debug)]
pub struct CounterRng(u64);

impl CounterRng {
    /// Creates a generator whose sequence is a function of the arguments. `indices` distinguish uses of the same
    /// purpose, e.g. epoch and sample.
    pub fn new(seed: u64, purpose: Purpose, indices: &[u64]) -> Self {
        let words = [purpose as u64].into_iter().chain(indices.iter().copied());
        CounterRng(words.fold(splitmix64(seed), |state, word| {
            splitmix64(state.wrapping_add(SPLITMIX64_INCREMENT) ^ splitmix64(word))
        }))
    }

    /// Returns a uniform number in [0, 1) with 53 random bits.
    pub fn next_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Returns a uniform number in [low, high).
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.next_f64()
    }

    /// Returns a uniform number in `0..count`; `count` must be at least 1. This is the multiplication method of Lemire
    /// (2019) without its rejection step, which leaves a bias of at most `count` / 2^64.
    pub fn below(&mut self, count: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(count)) >> 64) as u64
    }

    /// Shuffles with the Fisher-Yates algorithm.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(SPLITMIX64_INCREMENT);
        splitmix64(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn neighbouring_indices_give_different_sequences() {
        let mut seen = HashSet::new();
        for (seed, epoch, index) in (0..10).flat_map(|a| (0..10).flat_map(move |b| (0..10).map(move |c| (a, b, c)))) {
            for purpose in [Purpose::Order, Purpose::Sample] {
                assert!(
                    seen.insert(CounterRng::new(seed, purpose, &[epoch, index]).next_u64()),
                    "{seed} {epoch} {index}"
                );
            }
        }
        let repeat = |_| CounterRng::new(3, Purpose::Sample, &[1, 2]).next_u64();
        assert_eq!(repeat(0), repeat(1));
    }

    #[test]
    fn numbers_are_uniform() {
        let mut rng = CounterRng::new(5, Purpose::Split, &[]);
        let mut counts = [0; 7];
        let mut sum = 0.0;
        for _ in 0..70_000 {
            counts[rng.below(7) as usize] += 1;
            sum += rng.uniform(-1.0, 3.0);
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
        assert!((sum / 70_000.0 - 1.0).abs() < 0.02, "{sum}");
    }

    #[test]
    fn all_permutations_are_equally_likely() {
        let mut counts = std::collections::BTreeMap::new();
        for index in 0..6_000 {
            let mut items = [0, 1, 2];
            CounterRng::new(1, Purpose::Order, &[index]).shuffle(&mut items);
            *counts.entry(items).or_insert(0) += 1;
        }
        assert!(counts.len() == 6 && counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
