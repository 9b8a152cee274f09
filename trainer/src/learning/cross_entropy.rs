//! Cross-entropy as PyTorch defines it, with smoothed labels and weights of classes, over targets that may be mixed: the mean
//! is over weights in any case, which PyTorch divides by for plain targets alone.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Tensor, TensorData};

/// How far logits are from their targets.
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    /// The share of each target that all classes get in equal parts.
    smoothing: f64,
    /// How much each class counts.
    weights: Option<Vec<f64>>,
}

impl CrossEntropy {
    pub fn new(smoothing: f64, weights: Option<Vec<f64>>) -> Self {
        CrossEntropy { smoothing, weights }
    }

    /// The sum over the images of a batch, a scalar, and what to divide it by for their mean: their number, or the weights
    /// of their classes.
    ///
    /// `targets` holds the share that each class has in each image, `[batch, classes]`; shares of an image add up to 1.
    pub fn sum(&self, logits: Tensor<2>, targets: &[f32]) -> (Tensor<1>, f64) {
        let [_, classes] = logits.dims();
        let weight = |class: usize| self.weights.as_ref().map_or(1.0, |weights| weights[class]);
        let divisor =
            targets.iter().enumerate().map(|(index, &share)| f64::from(share) * weight(index % classes)).sum();
        let smooth = |(index, &share): (usize, &f32)| {
            let share = (1.0 - self.smoothing) * f64::from(share) + self.smoothing / classes as f64;
            (share * weight(index % classes)) as f32
        };
        let targets = TensorData::new(targets.iter().enumerate().map(smooth).collect::<Vec<_>>(), logits.dims());
        let targets = Tensor::from_data(targets, &logits.device());
        let log_probabilities = log_softmax(logits, 1);
        (-(log_probabilities * targets).sum(), divisor)
    }
}

#[cfg(test)]
mod tests {
    use super::super::mixing::MixingPlan;
    use super::*;
    use burn::tensor::Device;

    /// By the definition in PyTorch's documentation of `CrossEntropyLoss`: without anything, with `label_smoothing=0.1`, with
    /// `weight=[0.5, 2, 1]`, and with both.
    #[test]
    fn losses_are_those_of_pytorch() {
        let logits = [[2.0_f32, 1.0, -1.0], [0.0, 0.5, 3.0]];
        let rows = |smoothing: f64, weights: &[f64; 3]| -> f64 {
            let (mut sum, mut divisor) = (0.0, 0.0);
            for (row, class) in logits.iter().zip([0, 1]) {
                let log_sum = row.iter().map(|&logit| f64::from(logit).exp()).sum::<f64>().ln();
                let nll = |k: usize| log_sum - f64::from(row[k]);
                let all: f64 = (0..3).map(|k| weights[k] * nll(k)).sum();
                sum += (1.0 - smoothing) * weights[class] * nll(class) + smoothing / 3.0 * all;
                divisor += weights[class];
            }
            sum / divisor
        };
        for (smoothing, weights) in
            [(0.0, None), (0.1, None), (0.0, Some([0.5, 2.0, 1.0])), (0.1, Some([0.5, 2.0, 1.0]))]
        {
            let loss = CrossEntropy::new(smoothing, weights.map(Vec::from));
            let logits = Tensor::<2>::from_data(logits, &Device::flex());
            let (sum, divisor) = loss.sum(logits, &MixingPlan::default().targets(&[0, 1], 3));
            let found = sum.into_scalar::<f64>() / divisor;
            let expected = rows(smoothing, &weights.unwrap_or([1.0; 3]));
            assert!((found - expected).abs() < 1e-6, "{smoothing} {weights:?}: {found}, not {expected}");
        }
    }

    /// PyTorch's form with probabilities as targets: `-(targets * log_softmax).sum() / batch`.
    #[test]
    fn mixed_targets_share_the_loss() {
        let logits = Tensor::<2>::from_data([[1.0_f32, 2.0]], &Device::flex());
        let (sum, divisor) = CrossEntropy::new(0.0, None).sum(logits, &[0.3, 0.7]);
        let log_sum = (1.0_f64.exp() + 2.0_f64.exp()).ln();
        let expected = 0.3 * (log_sum - 1.0) + 0.7 * (log_sum - 2.0);
        assert!((sum.into_scalar::<f64>() - expected).abs() < 1e-6 && (divisor - 1.0).abs() < 1e-6);
    }
}
