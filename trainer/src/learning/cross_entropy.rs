//! Cross-entropy as in `torch.nn.CrossEntropyLoss`, with label smoothing and class weights, for targets that may be
//! mixed.
//!
//! Differs from PyTorch for mixed targets: the mean is always taken over the class weights, which PyTorch does only for
//! targets that are class indices.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Tensor, TensorData};

/// Cross-entropy loss.
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    /// Fraction of each target that is distributed evenly over all classes.
    smoothing: f64,
    /// Class weights; `None` if all classes have weight 1.
    weights: Option<Vec<f64>>,
}

impl CrossEntropy {
    /// Creates a loss. `weights` holds one weight per class, if they differ.
    pub fn new(smoothing: f64, weights: Option<Vec<f64>>) -> Self {
        CrossEntropy { smoothing, weights }
    }

    /// Returns the sum of the losses of a batch, a tensor with one value, and the divisor for their mean: the sum of
    /// the class weights of the images, or the number of images without class weights.
    ///
    /// `logits` are `[batch, classes]`. `targets` holds the probability of each class for each image,
    /// `[batch, classes]` row by row; each row sums to 1, or is zero, which excludes the image.
    pub fn sum(&self, logits: Tensor<2>, targets: &[f32]) -> (Tensor<1>, f64) {
        let [_, classes] = logits.dims();
        let weight = |class: usize| self.weights.as_ref().map_or(1.0, |weights| weights[class]);
        let divisor =
            targets.iter().enumerate().map(|(index, &target)| f64::from(target) * weight(index % classes)).sum();
        let smooth = |row: &[f32]| -> Vec<f32> {
            let share = if row.iter().any(|&target| target > 0.0) { self.smoothing / classes as f64 } else { 0.0 };
            let smooth = |(class, &target): (usize, &f32)| {
                let target = (1.0 - self.smoothing) * f64::from(target) + share;
                (target * weight(class)) as f32
            };
            row.iter().enumerate().map(smooth).collect()
        };
        let targets =
            TensorData::new(targets.chunks_exact(classes).flat_map(smooth).collect::<Vec<_>>(), logits.dims());
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

    /// Follows the definition in PyTorch's documentation of `CrossEntropyLoss`: with its defaults, with
    /// `label_smoothing=0.1`, with `weight=[0.5, 2, 1]`, and with both.
    #[test]
    fn losses_match_pytorch() {
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
            let (sum, divisor) = loss.sum(logits, &MixingPlan::default().targets(&[Some(0), Some(1)], 3));
            let actual = sum.into_scalar::<f64>() / divisor;
            let expected = rows(smoothing, &weights.unwrap_or([1.0; 3]));
            assert!((actual - expected).abs() < 1e-6, "{smoothing} {weights:?}: {actual}, not {expected}");
        }
    }

    /// PyTorch's definition for class probabilities as targets: `-(targets * log_softmax).sum() / batch`.
    #[test]
    fn loss_of_mixed_targets_is_the_weighted_sum() {
        let logits = Tensor::<2>::from_data([[1.0_f32, 2.0]], &Device::flex());
        let (sum, divisor) = CrossEntropy::new(0.0, None).sum(logits, &[0.3, 0.7]);
        let log_sum = (1.0_f64.exp() + 2.0_f64.exp()).ln();
        let expected = 0.3 * (log_sum - 1.0) + 0.7 * (log_sum - 2.0);
        assert!((sum.into_scalar::<f64>() - expected).abs() < 1e-6 && (divisor - 1.0).abs() < 1e-6);
    }
}
