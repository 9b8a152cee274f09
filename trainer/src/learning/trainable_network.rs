//! What a [`Learner`](super::Learner) needs of a network: gradients of micro-batches, steps of the optimiser, and the
//! tensors that are saved.

use super::deferred_metrics::DeferredMetrics;
use super::mixing::MixingPlan;
use super::training_loss::TrainingLoss;
use anyhow::Result;
use burn::tensor::Tensor;
use model::checkpoint::Checkpoint;
use model::preprocess::ImageBatch;
use std::collections::BTreeMap;
use std::time::Duration;

/// A network with its gradients, its optimiser and its moving average on a device.
pub trait TrainableNetwork: Send {
    /// Runs the forward and backward pass on a micro-batch, and adds its gradients and metrics to those of the current
    /// step.
    fn forward_backward(&mut self, batch: MicroBatch);

    /// Takes the metrics of the current step.
    fn take_metrics(&mut self) -> DeferredMetrics;

    /// Takes the gradients of the current step: sums over images, multiplied by the loss scale. They are zero if there
    /// was no micro-batch.
    fn take_gradients(&mut self) -> Vec<Tensor<1>>;

    /// Replaces the gradients of the current step by those of all replicas.
    fn set_gradients(&mut self, gradients: Vec<Tensor<1>>);

    /// Discards the gradients of the current step.
    fn clear_gradients(&mut self);

    /// Sets the gradients of those weights of convolutions to zero that are zero themselves, so that a step does not change
    /// them.
    fn clear_gradients_of_zeros(&mut self);

    /// Returns all running statistics, one after the other, or `None` if training does not change them.
    fn running_statistics(&self) -> Option<Tensor<1>>;

    /// Replaces all running statistics.
    fn set_running_statistics(&mut self, statistics: Tensor<1>);

    /// Returns the L2 norm of the gradients multiplied by `factor`.
    fn gradient_norm(&mut self, factor: f64) -> f64;

    /// Takes a step of the optimiser with the gradients multiplied by `factor`, and then discards the gradients.
    fn step(&mut self, learning_rate: f64, factor: f64);

    /// Updates the moving average after a step.
    fn update_average(&mut self, update: AverageUpdate);

    /// Returns parameters and running statistics by torchvision's names.
    fn tensors(&self) -> BTreeMap<String, Vec<f32>>;

    /// Returns the averaged tensors by torchvision's names, if there is a moving average.
    fn averaged_tensors(&self) -> Option<BTreeMap<String, Vec<f32>>>;

    /// Returns a function from features `[batch, features]` to logits `[batch, classes]`, both row by row, with the
    /// averaged classifier if there is a moving average.
    fn classifier(&self) -> Box<dyn Fn(Vec<f32>) -> Vec<f32>>;

    /// Returns the state of the optimiser.
    ///
    /// # Errors
    /// Returns an error if it cannot be serialised.
    fn optimiser_state(&self) -> Result<Vec<u8>>;

    /// Returns the total time of each kind of operation so far, if the network measures it.
    fn profile(&self) -> Vec<(String, Duration)> {
        Vec::new()
    }

    /// Restores a state: the weights, the average if there is one, and the state of the optimiser.
    ///
    /// # Errors
    /// Returns an error if the state of the optimiser is invalid.
    fn restore(&mut self, network: &Checkpoint, average: Option<&Checkpoint>, optimiser: Vec<u8>) -> Result<()>;
}

/// Part of a batch, with what its loss depends on.
pub struct MicroBatch<'a> {
    pub input: LearnerInput<'a>,
    /// Class of each image; `None` without a label.
    pub classes: &'a [Option<usize>],
    /// Logits of the teacher of a student, `[batch, classes]`, row by row.
    pub teacher_logits: Option<&'a [f32]>,
    pub loss: &'a TrainingLoss,
    /// Factor by which the loss is multiplied in the backward pass.
    pub loss_scale: f64,
}

/// Input of a forward pass.
pub enum LearnerInput<'a> {
    /// Images, and how to mix them.
    Photos(&'a ImageBatch, MixingPlan),
    /// Input of the classifier, `[batch, features]`, row by row.
    Features(Vec<f32>),
}

impl MicroBatch<'_> {
    /// Returns the probability of each class for each image, `[batch, classes]`, row by row. The row of an image without a
    /// label is zero.
    pub fn targets(&self, classes: usize) -> Vec<f32> {
        match &self.input {
            LearnerInput::Photos(_, plan) => plan.targets(self.classes, classes),
            LearnerInput::Features(_) => MixingPlan::default().targets(self.classes, classes),
        }
    }
}

/// How the moving average changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AverageUpdate {
    /// Copies the weights.
    Copy,
    /// Blends the average with the weights; the average has weight `decay`.
    Blend { decay: f64 },
}
