//! Which samples make which batch, and which part of a batch is whose.

use super::{CounterRng, Purpose};

/// A sample as an epoch meets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpochItem {
    /// Of the sample.
    pub index: usize,
    /// How often the epoch met it before.
    pub repetition: usize,
}

/// A seeded permutation of `0..count` in whole batches: the incomplete last one is left out. No index occurs more often than
/// `repetitions`, one time behind the other; an epoch has as many items as samples whatever their number, as torchvision's
/// `RASampler` has it.
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

/// All of `0..count` once, the last batch as large as it gets.
pub fn sequential_batches(count: usize, batch_size: usize) -> Vec<Vec<EpochItem>> {
    let order: Vec<_> = (0..count).map(|index| EpochItem { index, repetition: 0 }).collect();
    order.chunks(batch_size).map(<[EpochItem]>::to_vec).collect()
}

/// The `part`-th of so many parts of a batch, which they divide: every so manieth item, so that the repetitions of a sample
/// go to different parts.
pub fn strided_part<T: Clone>(batch: &[T], index: usize, parts: usize) -> Vec<T> {
    batch.iter().skip(index).step_by(parts).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_sees_each_sample_at_most_once_and_leaves_out_less_than_a_batch() {
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
    fn parts_of_any_number_make_the_batch() {
        let batch: Vec<usize> = (0..24).collect();
        for parts in [1, 2, 4, 8] {
            let mut together: Vec<_> = (0..parts).flat_map(|index| strided_part(&batch, index, parts)).collect();
            together.sort();
            assert_eq!(together, batch);
            assert!((0..parts).all(|index| strided_part(&batch, index, parts).len() == 24 / parts));
        }
    }

    #[test]
    fn repetitions_of_a_sample_are_in_one_batch_and_in_different_parts() {
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
    fn evaluation_leaves_out_nothing() {
        let indices = |batch: Vec<EpochItem>| batch.into_iter().map(|item| item.index).collect();
        assert_eq!(
            sequential_batches(7, 3).into_iter().map(indices).collect::<Vec<Vec<_>>>(),
            [vec![0, 1, 2], vec![3, 4, 5], vec![6]]
        );
    }
}
