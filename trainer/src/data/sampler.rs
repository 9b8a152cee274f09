//! Sampling of batches: the order of the samples in an epoch, and the division of batches among replicas.

use super::{CounterRng, Purpose};

/// An occurrence of a sample in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpochItem {
    /// Index of the sample.
    pub index: usize,
    /// Number of earlier occurrences of the sample in the epoch.
    pub repetition: usize,
}

/// Returns the batches of an epoch: a seeded permutation of `0..count`, without the incomplete last batch.
///
/// With `repetitions` above 1 (repeated augmentation, as in `RASampler` of torchvision's reference scripts), each index
/// occurs that many times in succession, and the epoch is cut off after `count` items.
pub fn shuffled_batches(
    count: usize,
    batch_size: usize,
    repetitions: usize,
    seed: u64,
    epoch: usize,
) -> Vec<Vec<EpochItem>> {
    let mut order: Vec<usize> = (0..count).collect();
    CounterRng::new(seed, Purpose::Order, &[epoch as u64]).shuffle(&mut order);
    let repeated = |index| (0..repetitions).map(move |repetition| EpochItem { index, repetition });
    let items: Vec<_> = order.into_iter().flat_map(repeated).take(count).collect();
    items.chunks_exact(batch_size).map(<[EpochItem]>::to_vec).collect()
}

/// Returns batches of `0..count` in ascending order, including the last one, which may be smaller.
pub fn sequential_batches(count: usize, batch_size: usize) -> Vec<Vec<EpochItem>> {
    let order: Vec<_> = (0..count).map(|index| EpochItem { index, repetition: 0 }).collect();
    order.chunks(batch_size).map(<[EpochItem]>::to_vec).collect()
}

/// Returns part `index` of `parts` of a batch: every `parts`-th item, so that repetitions of a sample are in different
/// parts.
pub fn strided_part<T: Clone>(batch: &[T], index: usize, parts: usize) -> Vec<T> {
    batch.iter().skip(index).step_by(parts).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoch_is_a_seeded_permutation_without_the_incomplete_batch() {
        let batches = shuffled_batches(103, 10, 1, 7, 3);
        assert!(batches.len() == 10 && batches.iter().all(|batch| batch.len() == 10));
        let mut seen: Vec<_> = batches.concat().iter().map(|item| item.index).collect();
        assert!(!seen.is_sorted());
        seen.sort();
        seen.dedup();
        assert!(seen.len() == 100 && seen.iter().all(|&index| index < 103));
        assert_eq!(batches, shuffled_batches(103, 10, 1, 7, 3));
        assert_ne!(batches, shuffled_batches(103, 10, 1, 7, 4));
        assert_ne!(batches, shuffled_batches(103, 10, 1, 8, 3));
    }

    #[test]
    fn parts_partition_the_batch() {
        let batch: Vec<usize> = (0..24).collect();
        for parts in [1, 2, 4, 8] {
            let mut union: Vec<_> = (0..parts).flat_map(|index| strided_part(&batch, index, parts)).collect();
            union.sort();
            assert_eq!(union, batch);
            assert!((0..parts).all(|index| strided_part(&batch, index, parts).len() == 24 / parts));
        }
    }

    #[test]
    fn repetitions_are_in_one_batch_and_in_different_parts() {
        let batches = shuffled_batches(64, 8, 4, 1, 0);
        assert_eq!(batches.len(), 8);
        for batch in batches {
            let indices =
                |items: &[EpochItem]| items.iter().map(|item| item.index).collect::<std::collections::BTreeSet<_>>();
            assert_eq!(indices(&batch).len(), 2);
            for rank in 0..4 {
                let part = strided_part(&batch, rank, 4);
                assert_eq!(indices(&part).len(), 2);
                assert!(part.iter().all(|item| item.repetition == rank));
            }
        }
    }

    #[test]
    fn sequential_batches_include_the_incomplete_batch() {
        let indices = |batch: Vec<EpochItem>| batch.into_iter().map(|item| item.index).collect();
        assert_eq!(
            sequential_batches(7, 3).into_iter().map(indices).collect::<Vec<Vec<_>>>(),
            [vec![0, 1, 2], vec![3, 4, 5], vec![6]]
        );
    }
}
