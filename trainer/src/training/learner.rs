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
        let smoothing = (recipe.label_smoothing > 0.0).then_some(recipe.label_smoothing as f32);
        Learner {
            architecture: start.architecture(),
            network: ResNet::from_checkpoint(start, &device),
            optimiser: sgd(recipe),
            loss: CrossEntropyLossConfig::new().with_smoothing(smoothing).init(&device),
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
