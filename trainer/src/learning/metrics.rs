//! Metrics of a training step.

use serde::{Deserialize, Serialize};
use std::ops::Add;

/// Sums over the images of one or more steps, computed with the weights before the step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Sum of the losses, including label smoothing, class weights and the divergence from a teacher.
    pub loss: f64,
    /// Divisor of `loss` for its mean: the sum of the class weights, or with a teacher the number of images.
    pub weight: f64,
    /// Number of images that are classified correctly.
    pub correct: f64,
    /// Number of images.
    pub images: f64,
    /// Number of images without a label, of which `correct` contains none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unlabelled: f64,
}

impl Add for StepMetrics {
    type Output = StepMetrics;

    fn add(self, more: StepMetrics) -> StepMetrics {
        StepMetrics {
            loss: self.loss + more.loss,
            weight: self.weight + more.weight,
            correct: self.correct + more.correct,
            images: self.images + more.images,
            unlabelled: self.unlabelled + more.unlabelled,
        }
    }
}

/// Returns the number of classes that rank before `class`, by descending logit. Ties are broken by the lower index, as
/// in a prediction.
pub fn class_rank(logits: &[f32], class: usize) -> usize {
    let class_logit = logits[class];
    let ranks_before = |(index, &logit): (usize, &f32)| logit > class_logit || (logit == class_logit && index < class);
    logits.iter().enumerate().filter(|&entry| ranks_before(entry)).count()
}

/// Returns the number of images whose class has the largest logit. `logits` are `[batch, classes]`, row by row.
pub fn count_correct(logits: &[f32], classes: &[Option<usize>]) -> f64 {
    let rows = logits.chunks_exact(logits.len() / classes.len().max(1)).zip(classes);
    rows.filter(|(row, class)| class.is_some_and(|class| class_rank(row, class) == 0)).count() as f64
}

/// Returns the number of images without a label.
pub fn count_unlabelled(classes: &[Option<usize>]) -> f64 {
    classes.iter().filter(|class| class.is_none()).count() as f64
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_are_ranked_by_index() {
        let logits = [1.0, 3.0, 3.0, -2.0];
        assert_eq!([0, 1, 2, 3].map(|class| class_rank(&logits, class)), [2, 0, 1, 3]);
    }
}
