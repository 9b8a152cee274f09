//! Loss of a micro-batch: cross-entropy with the labels, and for a student the divergence from its teacher's predictions
//! (Hinton et al., 2015, <https://arxiv.org/abs/1503.02531>).

use super::cross_entropy::CrossEntropy;
use crate::recipe::Recipe;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Tensor, TensorData};

/// Loss of a micro-batch.
#[derive(Clone, Debug)]
pub struct TrainingLoss {
    labels: CrossEntropy,
    distillation: Option<DistillationLoss>,
}

/// Divergence of a student's predictions from those of its teacher, and its share in the loss.
#[derive(Clone, Copy, Debug)]
struct DistillationLoss {
    /// Number by which the logits of both networks are divided before softmax.
    temperature: f64,
    /// Weight of this loss; that of the cross-entropy is `1 - weight`.
    weight: f64,
}

impl TrainingLoss {
    /// Creates the loss of a recipe. `class_weights` holds one weight per class, if they differ.
    pub fn new(recipe: &Recipe, class_weights: Option<Vec<f64>>) -> Self {
        let distillation = recipe.distillation_temperature.zip(recipe.distillation_weight);
        TrainingLoss {
            labels: CrossEntropy::new(recipe.label_smoothing, class_weights),
            distillation: distillation.map(|(temperature, weight)| DistillationLoss { temperature, weight }),
        }
    }

    /// Returns a sum over the images of a micro-batch, a tensor with one value, and the divisor for its mean.
    ///
    /// `logits` are `[batch, classes]`. `targets` holds the probability of each class for each image, `[batch, classes]`
    /// row by row; the row of an image without a label is zero. With a teacher, the mean is
    ///
    /// ```python
    /// (1 - weight) * cross_entropy(logits, labels, ignore_index=UNLABELLED)
    ///     + weight * T**2 * kl_div(log_softmax(logits / T), softmax(teacher_logits / T), reduction="batchmean")
    /// ```
    ///
    /// # Panics
    /// Panics if the recipe distils and there are no `teacher_logits`, `[batch, classes]` row by row.
    pub fn sum(&self, logits: Tensor<2>, targets: &[f32], teacher_logits: Option<&[f32]>) -> (Tensor<1>, f64) {
        let Some(DistillationLoss { temperature, weight }) = self.distillation else {
            return self.labels.sum(logits, targets);
        };
        let teacher_logits = teacher_logits.expect("a student is trained with the logits of its teacher");
        let images = logits.dims()[0] as f64;
        let divergence = divergence(logits.clone(), teacher_logits, temperature) * (weight * temperature.powi(2));
        let (labels, labelled) = self.labels.sum(logits, targets);
        // The cross-entropy is a mean over the labelled images, the divergence one over all images.
        let loss = if labelled > 0.0 { divergence + labels * ((1.0 - weight) * images / labelled) } else { divergence };
        (loss, images)
    }
}

/// Returns the sum over images of the Kullback-Leibler divergence of the student's probabilities from the teacher's, with
/// all logits divided by `temperature`.
fn divergence(logits: Tensor<2>, teacher_logits: &[f32], temperature: f64) -> Tensor<1> {
    let teacher_logits = TensorData::new(teacher_logits.to_vec(), logits.dims());
    let teacher_logits = Tensor::<2>::from_data(teacher_logits, &logits.device());
    let [teacher, student] = [teacher_logits, logits].map(|logits| log_softmax(logits / temperature, 1));
    (teacher.clone().exp() * (teacher - student)).sum()
}

#[cfg(test)]
mod tests {
    use super::super::mixing::MixingPlan;
    use super::*;
    use burn::tensor::Device;
    use serde::Deserialize;
    use serde_json::Value;
    use std::collections::BTreeMap;

    /// Written by `tests/golden/distillation.py`.
    #[derive(Deserialize)]
    struct Golden {
        logits: Vec<f32>,
        teacher_logits: Vec<f32>,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        /// Keys of the recipe and their values.
        settings: BTreeMap<String, Value>,
        /// Class of each image, or `None` without a label.
        classes: Vec<Option<usize>>,
        loss: f64,
        /// Gradient of the loss with respect to the logits.
        gradient: Vec<f64>,
    }

    #[test]
    fn losses_and_gradients_match_pytorch() {
        let golden: Golden = serde_json::from_str(include_str!("../../tests/golden/distillation.json")).unwrap();
        let Golden { logits, teacher_logits, cases } = golden;
        assert!(cases.len() >= 6, "{} cases", cases.len());
        for Case { settings, classes, loss: expected_loss, gradient: expected_gradient } in cases {
            let weights = settings.get("class-weights").map(|weights| serde_json::from_value(weights.clone()).unwrap());
            let changes: Vec<_> = settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let changes =
                [&["label-smoothing=0"], &changes.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat();
            let loss = TrainingLoss::new(&Recipe::finetune_with(&changes), weights);

            let shape = [classes.len(), logits.len() / classes.len()];
            let device = Device::flex().autodiff();
            let student = Tensor::<2>::from_data(TensorData::new(logits.clone(), shape), &device).require_grad();
            let targets = MixingPlan::default().targets(&classes, shape[1]);
            let (sum, divisor) = loss.sum(student.clone(), &targets, Some(&teacher_logits));
            let mean = sum / divisor;
            let actual = mean.clone().into_scalar::<f64>();
            assert!((actual / expected_loss - 1.0).abs() < 1e-5, "{settings:?}: {actual}, not {expected_loss}");
            let gradient: Vec<f32> = student.grad(&mean.backward()).unwrap().into_data().iter().collect();
            let largest = expected_gradient.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
            for (index, (actual, expected)) in gradient.iter().zip(&expected_gradient).enumerate() {
                let error = (f64::from(*actual) - expected).abs() / largest;
                assert!(error < 1e-5, "{settings:?}: gradient of logit {index} is {actual}, not {expected}");
            }
        }
    }

    #[test]
    fn teacher_has_no_influence_without_distillation() {
        let loss = TrainingLoss::new(&Recipe::finetune_with(&["label-smoothing=0"]), None);
        let logits = || Tensor::<2>::from_data([[1.0_f32, 2.0], [0.0, 0.5]], &Device::flex());
        let targets = [0.0, 1.0, 1.0, 0.0];
        let values = [None, Some(&[9.0, -9.0, 3.0, 0.0][..])].map(|teacher| {
            let (sum, divisor) = loss.sum(logits(), &targets, teacher);
            (sum.into_scalar::<f64>(), divisor)
        });
        assert_eq!(values[0], values[1]);
        assert_eq!(values[0].1, 2.0);
    }
}
