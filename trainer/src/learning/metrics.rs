//! What steps find before they change the weights.

use serde::{Deserialize, Serialize};
use std::ops::Add;

/// Sums over images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Cross-entropy, smoothed labels and weights of classes included.
    pub loss: f64,
    /// What the loss is divided by for its mean.
    pub weight: f64,
    /// Images whose likeliest class is theirs.
    pub correct: f64,
    pub images: f64,
}

impl Add for StepMetrics {
    type Output = StepMetrics;

    fn add(self, more: StepMetrics) -> StepMetrics {
        StepMetrics {
            loss: self.loss + more.loss,
            weight: self.weight + more.weight,
            correct: self.correct + more.correct,
            images: self.images + more.images,
        }
    }
}

/// How many classes are likelier; of equals the lower index comes first, as in an answer.
pub fn class_rank(logits: &[f32], class: usize) -> usize {
    let own = logits[class];
    let before = |(index, &logit): (usize, &f32)| logit > own || (logit == own && index < class);
    logits.iter().enumerate().filter(|&entry| before(entry)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_are_ranked_by_index() {
        let logits = [1.0, 3.0, 3.0, -2.0];
        assert_eq!([0, 1, 2, 3].map(|class| class_rank(&logits, class)), [2, 0, 1, 3]);
    }
}
