//! Numbers of photos that two checkpoints classify correctly together or alone, and McNemar's test of the difference.

use crate::evaluation::PhotoPrediction;
use serde::Serialize;
use std::f64::consts::LN_2;

/// Numbers of photos by which of two checkpoints classify them correctly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Agreement {
    pub both_correct: usize,
    /// Number of photos that only the first checkpoint classifies correctly.
    pub only_first_correct: usize,
    /// Number of photos that only this checkpoint classifies correctly.
    pub only_this_correct: usize,
    pub both_wrong: usize,
    /// Number of photos that both classify as the same class.
    pub same_class: usize,
    /// Two-sided p-value of McNemar's exact test: the probability of a difference that is at least as large if both
    /// checkpoints were equally likely to be correct alone.
    pub mcnemar_p: f64,
}

impl Agreement {
    /// Compares predictions for the same photos.
    pub fn new(first: &[PhotoPrediction], this: &[PhotoPrediction]) -> Self {
        let pairs = || first.iter().zip(this);
        let count = |outcome: (bool, bool)| {
            pairs().filter(|(first, this)| (first.is_correct(), this.is_correct()) == outcome).count()
        };
        let (only_first_correct, only_this_correct) = (count((true, false)), count((false, true)));
        Agreement {
            both_correct: count((true, true)),
            only_first_correct,
            only_this_correct,
            both_wrong: count((false, false)),
            same_class: pairs().filter(|(first, this)| first.predicted() == this.predicted()).count(),
            mcnemar_p: mcnemar_p(only_first_correct, only_this_correct),
        }
    }
}

/// Returns the two-sided p-value of a binomial test of `a` successes and `b` failures that are equally likely.
fn mcnemar_p(a: usize, b: usize) -> f64 {
    let (trials, fewer) = ((a + b) as f64, a.min(b));
    // The logarithm of the probability of each number of successes, because that of none underflows for many trials.
    let mut log_probability = -trials * LN_2;
    let mut tail = log_probability.exp();
    for successes in 1..=fewer {
        log_probability += ((trials - successes as f64 + 1.0) / successes as f64).ln();
        tail += log_probability.exp();
    }
    (2.0 * tail).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values: `scipy.stats.binomtest(a, a + b, 0.5).pvalue` of SciPy 1.17.1.
    #[test]
    fn mcnemar_p_values_equal_those_of_scipy() {
        let cases = [
            (0, 0, 1.0),
            (1, 0, 1.0),
            (5, 5, 1.0),
            (2, 9, 0.0654296875),
            (15, 4, 0.0192108154296875),
            (30, 60, 0.0020602656809630745),
            (1200, 1000, 2.1817026407914194e-05),
        ];
        for (a, b, expected) in cases {
            let p = mcnemar_p(a, b);
            assert!((p / expected - 1.0).abs() < 1e-9, "{a}, {b}: {p}, {expected}");
        }
    }

    #[test]
    fn photos_are_counted_by_correctness() {
        let predictions = |classes: [usize; 6]| {
            classes.map(|predicted| PhotoPrediction {
                sample: 0,
                class: 0,
                top: vec![(predicted, 1.0)],
                class_probability: 0.0,
                rank: predicted,
                loss: 0.0,
            })
        };
        let agreement = Agreement::new(&predictions([0, 0, 0, 1, 1, 2]), &predictions([0, 1, 2, 0, 2, 2]));
        let expected = Agreement {
            both_correct: 1,
            only_first_correct: 2,
            only_this_correct: 1,
            both_wrong: 2,
            same_class: 2,
            mcnemar_p: 1.0,
        };
        assert_eq!(agreement, expected);
    }
}
