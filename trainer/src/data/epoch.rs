//! Which samples make which batch.

use super::{Draws, Purpose};

/// A seeded permutation of `0..count` in whole batches: the incomplete last one is left out, and no index occurs twice.
pub fn shuffled(count: usize, batch_size: usize, seed: u64, epoch: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..count).collect();
    Draws::new(seed, Purpose::Order, &[epoch as u64]).shuffle(&mut order);
    order.chunks_exact(batch_size).map(<[usize]>::to_vec).collect()
}

/// All of `0..count` once, the last batch as large as it gets.
pub fn in_order(count: usize, batch_size: usize) -> Vec<Vec<usize>> {
    let order: Vec<usize> = (0..count).collect();
    order.chunks(batch_size).map(<[usize]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_sees_each_sample_at_most_once_and_leaves_out_less_than_a_batch() {
        let batches = shuffled(103, 10, 7, 3);
        assert!(batches.len() == 10 && batches.iter().all(|batch| batch.len() == 10));
        let mut seen = batches.concat();
        assert!(!seen.is_sorted());
        seen.sort();
        seen.dedup();
        assert!(seen.len() == 100 && seen.iter().all(|&index| index < 103));
        assert_eq!(batches, shuffled(103, 10, 7, 3));
        assert_ne!(batches, shuffled(103, 10, 7, 4));
        assert_ne!(batches, shuffled(103, 10, 8, 3));
    }

    #[test]
    fn evaluation_leaves_out_nothing() {
        assert_eq!(in_order(7, 3), [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
    }
}
