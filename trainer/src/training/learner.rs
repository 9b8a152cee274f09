//! A network that learns, step by step.

use super::evaluation::rank;
use super::optimiser::sgd;
use crate::recipe::Recipe;
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Int, Tensor, TensorData};
use model::architecture::Architecture;
use model::checkpoint::{Checkpoint, CheckpointError, Metadata};
use model::network::{ResNet, normalise};
use model::preprocess::ImageBatch;

/// On Burn's CPU backend.
pub struct Learner {
    architecture: Architecture,
    network: ResNet,
    optimiser: ModuleOptimizer,
    loss: CrossEntropyLoss,
    device: Device,
}

/// What a step found, before it changed the weights.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Mean over the batch, smoothed labels included.
    pub loss: f64,
    /// Images whose likeliest class is theirs.
    pub correct: usize,
}

impl Learner {
    /// Of a checkpoint's weights.
    pub fn new(start: &Checkpoint, recipe: &Recipe) -> Self {
        let device = Device::flex().autodiff();
        Learner {
            architecture: start.architecture(),
            network: ResNet::from_checkpoint(start, &device),
            optimiser: sgd(recipe),
            loss: cross_entropy(recipe, &device),
            device,
        }
    }

    /// Forwards, backwards, and a step of the optimiser at this learning rate; `None`, and no change of the weights, if
    /// the loss is not finite.
    pub fn step(&mut self, images: &ImageBatch, classes: &[usize], learning_rate: f64) -> Option<Step> {
        let targets: Vec<i64> = classes.iter().map(|&class| class as i64).collect();
        let targets = TensorData::new(targets, [classes.len()]);
        let targets = Tensor::<1, Int>::from_data(targets, &self.device);
        let logits = self.network.forward(normalise(images, &self.device));
        let loss = self.loss.forward(logits.clone(), targets);
        let value: f64 = loss.clone().into_scalar();
        if !value.is_finite() {
            return None;
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &self.network);
        self.network = self.optimiser.step(learning_rate, self.network.clone(), gradients);

        let logits: Vec<f32> = logits.into_data().iter().collect();
        let rows = logits.chunks_exact(self.architecture.classes).zip(classes);
        Some(Step { loss: value, correct: rows.filter(|(row, class)| rank(row, **class) == 0).count() })
    }

    /// # Errors
    /// If a weight is not finite.
    pub fn checkpoint(&self, metadata: Metadata) -> Result<Checkpoint, CheckpointError> {
        Checkpoint::new(metadata, self.network.tensors(&self.architecture))
    }
}

fn cross_entropy(recipe: &Recipe, device: &Device) -> CrossEntropyLoss {
    let smoothing = (recipe.label_smoothing > 0.0).then_some(recipe.label_smoothing as f32);
    CrossEntropyLossConfig::new().with_smoothing(smoothing).init(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the definition in PyTorch's documentation: targets are `(1 - smoothing) * one_hot + smoothing / classes`.
    #[test]
    fn labels_are_smoothed_as_pytorch_does() {
        let device = Device::flex();
        let rows = [[2.0_f64, 1.0, -1.0], [0.0, 0.5, 3.0]];
        let classes = [0, 1];
        for smoothing in [0.0, 0.1] {
            let recipe = Recipe::changed(&[&format!("label-smoothing={smoothing}")]);
            let logits = Tensor::<2>::from_data(rows, &device);
            let targets = Tensor::<1, Int>::from_data(classes.map(|class| class as i64), &device);
            let found: f64 = cross_entropy(&recipe, &device).forward(logits, targets).into_scalar();
            let row = |(row, class): (&[f64; 3], usize)| -> f64 {
                let log_sum = row.iter().map(|logit| logit.exp()).sum::<f64>().ln();
                let target = |index: usize| (1.0 - smoothing) * f64::from(u8::from(index == class)) + smoothing / 3.0;
                row.iter().enumerate().map(|(index, logit)| target(index) * (log_sum - logit)).sum()
            };
            let expected = rows.iter().zip(classes).map(row).sum::<f64>() / 2.0;
            assert!((found - expected).abs() < 1e-6, "{smoothing}: {found} instead of {expected}");
        }
    }
}
