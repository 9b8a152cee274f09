//! Training with Burn, on its devices.

use super::deferred_metrics::DeferredMetrics;
use super::ema::FlatAverage;
use super::gradients::BucketLayout;
use super::network_tensors::{TensorFilter, flat_tensors, with_flat_tensors, with_sequential_ids};
use super::optimiser::optimiser;
use super::trainable_network::{AverageUpdate, LearnerInput, MicroBatch, TrainableNetwork};
use crate::recipe::{Recipe, TrainedLayers, TrainingPrecision};
use anyhow::{Context, Result};
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::tensor::{Bytes, DType, Device, Tensor, TensorData};
use model::architecture::Architecture;
use model::checkpoint::Checkpoint;
use model::network::{ResNet, normalise};
use std::collections::BTreeMap;

/// A network on a Burn device.
pub struct BurnNetwork {
    architecture: Architecture,
    network: ResNet,
    optimiser: ModuleOptimizer,
    average: Option<FlatAverage>,
    layers: TrainedLayers,
    precision: DType,
    bucket_layout: BucketLayout,
    device: Device,
    /// Gradients of the current step, in buckets. `None` before its first micro-batch.
    gradients: Option<Vec<Tensor<1>>>,
    metrics: DeferredMetrics,
}

impl BurnNetwork {
    /// Creates a network with the weights of a checkpoint.
    pub fn new(start: &Checkpoint, recipe: &Recipe, device: &Device) -> Self {
        let device = device.clone().autodiff();
        let device = if recipe.gradient_checkpointing { device.gradient_checkpointing() } else { device };
        let network = with_sequential_ids(ResNet::from_checkpoint(start, &device));
        let is_trained = |name: &str| recipe.layers == TrainedLayers::All || name.starts_with("fc.");
        BurnNetwork {
            architecture: start.architecture(),
            bucket_layout: BucketLayout::new(&network, is_trained),
            optimiser: optimiser(recipe),
            average: recipe.ema_decay.map(|_| FlatAverage::new(&network)),
            layers: recipe.layers,
            precision: match recipe.precision {
                TrainingPrecision::F32 => DType::F32,
                TrainingPrecision::Bf16 => DType::BF16,
                TrainingPrecision::F16 => DType::F16,
            },
            network,
            device,
            gradients: None,
            metrics: DeferredMetrics::default(),
        }
    }
}

impl TrainableNetwork for BurnNetwork {
    fn forward_backward(&mut self, batch: MicroBatch) {
        let targets = batch.targets(self.architecture.classes);
        let MicroBatch { input, classes, teacher_logits, loss, loss_scale } = batch;
        let logits = match input {
            LearnerInput::Photos(images, plan) => {
                let images = plan.apply(normalise(images, &self.device));
                self.network.forward(if self.precision == DType::F32 { images } else { images.cast(self.precision) })
            }
            LearnerInput::Features(rows) => {
                let shape = [classes.len(), self.architecture.features()];
                self.network.classify(Tensor::from_data(TensorData::new(rows, shape), &self.device))
            }
        };
        let (loss, weight) = loss.sum(logits.clone(), &targets, teacher_logits);
        self.metrics.push(loss.clone().without_autodiff(), weight, logits.without_autodiff(), classes);

        // Differentiate the mean loss, so that the magnitude of f16 gradients does not depend on the batch size.
        let gradients = self.bucket_layout.flatten((loss * (loss_scale / weight)).backward(), &self.network);
        let weighted = gradients.into_iter().map(|bucket| bucket * weight);
        self.gradients = Some(match self.gradients.take() {
            Some(sums) => sums.into_iter().zip(weighted).map(|(sum, more)| sum + more).collect(),
            None => weighted.collect(),
        });
    }

    fn take_metrics(&mut self) -> DeferredMetrics {
        std::mem::take(&mut self.metrics)
    }

    fn take_gradients(&mut self) -> Vec<Tensor<1>> {
        let zeros = || self.bucket_layout.zeros(&self.device.clone().inner());
        self.gradients.take().unwrap_or_else(zeros)
    }

    fn set_gradients(&mut self, gradients: Vec<Tensor<1>>) {
        self.gradients = Some(gradients);
    }

    fn clear_gradients(&mut self) {
        self.gradients = None;
    }

    fn clear_gradients_of_zeros(&mut self) {
        if let Some(gradients) = self.gradients.take() {
            let masks = self.bucket_layout.nonzero_masks(&self.network);
            self.gradients = Some(gradients.into_iter().zip(masks).map(|(bucket, mask)| bucket * mask).collect());
        }
    }

    fn running_statistics(&self) -> Option<Tensor<1>> {
        // If only the classifier is trained, no batch norm is run.
        let tensors = || flat_tensors(&self.network, TensorFilter::RunningStatistics);
        (self.layers == TrainedLayers::All).then(|| Tensor::cat(tensors(), 0))
    }

    fn set_running_statistics(&mut self, statistics: Tensor<1>) {
        let mut start = 0;
        let cut = |old: Tensor<1>| {
            let end = start + old.dims()[0];
            let new = statistics.clone().slice(start..end);
            start = end;
            new
        };
        let new = flat_tensors(&self.network, TensorFilter::RunningStatistics).into_iter().map(cut).collect();
        self.network = with_flat_tensors(self.network.clone(), TensorFilter::RunningStatistics, new);
    }

    fn gradient_norm(&mut self, factor: f64) -> f64 {
        let squares = self.gradients.iter().flatten().map(|bucket| (bucket.clone() * factor).square().sum());
        Tensor::cat(squares.collect(), 0).sum().into_scalar::<f64>().sqrt()
    }

    fn step(&mut self, learning_rate: f64, factor: f64) {
        let buckets: Vec<_> = self.take_gradients().into_iter().map(|bucket| bucket * factor).collect();
        let gradients = self.bucket_layout.unflatten(&buckets, &self.network);
        self.network = self.optimiser.step(learning_rate, self.network.clone(), gradients);
    }

    fn update_average(&mut self, update: AverageUpdate) {
        if let Some(average) = &mut self.average {
            average.update(&self.network, update);
        }
    }

    fn tensors(&self) -> BTreeMap<String, Vec<f32>> {
        self.network.tensors(&self.architecture)
    }

    fn averaged_tensors(&self) -> Option<BTreeMap<String, Vec<f32>>> {
        let average = self.average.as_ref()?;
        Some(average.network(&self.network).tensors(&self.architecture))
    }

    fn classifier(&self) -> Box<dyn Fn(Vec<f32>) -> Vec<f32>> {
        let network = match &self.average {
            Some(average) => average.network(&self.network),
            None => self.network.valid(),
        };
        let (width, device) = (self.architecture.features(), self.device.clone().inner());
        Box::new(move |features| {
            let shape = [features.len() / width, width];
            let logits = network.classify(Tensor::from_data(TensorData::new(features, shape), &device));
            logits.into_data().iter().collect()
        })
    }

    fn optimiser_state(&self) -> Result<Vec<u8>> {
        Ok(self.optimiser.into_bytes()?.to_vec())
    }

    fn restore(&mut self, network: &Checkpoint, average: Option<&Checkpoint>, optimiser: Vec<u8>) -> Result<()> {
        let load = |checkpoint: &Checkpoint| with_sequential_ids(ResNet::from_checkpoint(checkpoint, &self.device));
        if let (Some(average), Some(checkpoint)) = (&mut self.average, average) {
            *average = FlatAverage::new(&load(checkpoint));
        }
        self.network = load(network);
        let bytes = Bytes::from_bytes_vec(optimiser);
        self.optimiser = self.optimiser.clone().from_bytes(bytes).context(
            "the state of the optimiser was not saved by Burn; resume the run on the device on which it was started",
        )?;
        Ok(())
    }
}
