//! A replica's network and optimiser: accumulates gradients, and applies optimiser steps together with the other
//! replicas.

use super::cross_entropy::CrossEntropy;
use super::ema::ExponentialMovingAverage;
use super::gradients::BucketLayout;
use super::loss_scale::LossScale;
use super::metrics::{StepMetrics, class_rank};
use super::mixing::MixingPlan;
use super::network_tensors::{TensorFilter, flat_tensors, with_flat_tensors, with_sequential_ids};
use super::optimiser::optimiser;
use crate::recipe::{Recipe, TrainedLayers, TrainingPrecision};
use crate::replicas::{Collective, ReplicaLost};
use anyhow::Result;
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::tensor::{Bytes, DType, Device, Tensor, TensorData};
use model::architecture::Architecture;
use model::checkpoint::{Checkpoint, CheckpointError, Metadata};
use model::network::{ResNet, normalise};
use model::preprocess::ImageBatch;
use std::collections::BTreeMap;

/// A replica's network together with its optimiser, EMA and loss scale.
pub struct Learner {
    architecture: Architecture,
    network: ResNet,
    optimiser: ModuleOptimizer,
    ema: Option<ExponentialMovingAverage>,
    loss_scale: Option<LossScale>,
    /// Number of optimiser steps so far.
    steps: usize,

    layers: TrainedLayers,
    precision: DType,
    loss: CrossEntropy,
    clip_norm: Option<f64>,
    bucket_layout: BucketLayout,
    device: Device,

    /// Accumulated gradients of the current step: weighted sums over images, in buckets. `None` before its first
    /// forward pass.
    gradients: Option<Vec<Tensor<1>>>,
    /// Accumulated metrics of the current step.
    metrics: StepMetrics,
}

/// Input of a forward pass.
pub enum LearnerInput<'a> {
    /// Images, and how to mix them.
    Photos(&'a ImageBatch, MixingPlan),
    /// Input of the classifier, `[batch, features]`, row by row.
    Features(Vec<f32>),
}

/// State of a [`Learner`] that is saved in order to resume a run.
#[derive(Clone, Debug, PartialEq)]
pub struct LearnerState {
    /// Tensors of the network by their torchvision names.
    pub network: BTreeMap<String, Vec<f32>>,
    /// Tensors of the averaged network by their torchvision names.
    pub ema: Option<BTreeMap<String, Vec<f32>>>,
    /// State of the optimiser, as serialised by Burn.
    pub optimiser: Vec<u8>,
    pub loss_scale: Option<LossScale>,
    /// Number of optimiser steps.
    pub steps: usize,
}

/// Result of [`Learner::update`].
pub enum StepOutcome {
    /// The step was applied, or skipped because gradients overflowed in f16 or there were no images.
    Applied(StepMetrics),
    /// Training has diverged, for this reason; the step was not applied.
    Diverged(&'static str),
}

impl Learner {
    /// Creates a learner with the weights of a checkpoint. `class_weights` holds the weight of each class in the loss,
    /// if they differ. During the first `warmup` steps, the EMA copies the weights instead of averaging them.
    pub fn new(
        start: &Checkpoint,
        recipe: &Recipe,
        class_weights: Option<Vec<f64>>,
        warmup: usize,
        device: &Device,
    ) -> Self {
        let device = device.clone().autodiff();
        let device = if recipe.gradient_checkpointing { device.gradient_checkpointing() } else { device };
        let network = with_sequential_ids(ResNet::from_checkpoint(start, &device));
        let is_trained = |name: &str| recipe.layers == TrainedLayers::All || name.starts_with("fc.");
        let ema = recipe
            .ema_decay
            .map(|decay| ExponentialMovingAverage::new(&network, decay, recipe.ema_steps.unwrap_or(1), warmup));
        Learner {
            architecture: start.architecture(),
            bucket_layout: BucketLayout::new(&network, is_trained),
            optimiser: optimiser(recipe),
            ema,
            loss_scale: (recipe.precision == TrainingPrecision::F16).then(LossScale::default),
            steps: 0,
            layers: recipe.layers,
            precision: match recipe.precision {
                TrainingPrecision::F32 => DType::F32,
                TrainingPrecision::Bf16 => DType::BF16,
                TrainingPrecision::F16 => DType::F16,
            },
            loss: CrossEntropy::new(recipe.label_smoothing, class_weights),
            clip_norm: recipe.clip_norm,
            network,
            device,
            gradients: None,
            metrics: StepMetrics::default(),
        }
    }

    /// Runs the forward and backward pass on a micro-batch, and adds its gradients to those of the current step.
    pub fn forward_backward(&mut self, inputs: LearnerInput, classes: &[usize]) {
        let mut targets = MixingPlan::default().targets(classes, self.architecture.classes);
        let logits = match inputs {
            LearnerInput::Photos(images, plan) => {
                targets = plan.targets(classes, self.architecture.classes);
                let images = plan.apply(normalise(images, &self.device));
                self.network.forward(if self.precision == DType::F32 { images } else { images.cast(self.precision) })
            }
            LearnerInput::Features(rows) => {
                let shape = [classes.len(), self.architecture.features()];
                self.network.classify(Tensor::from_data(TensorData::new(rows, shape), &self.device))
            }
        };
        let (loss, weight) = self.loss.sum(logits.clone(), &targets);
        self.metrics.loss += loss.clone().into_scalar::<f64>();
        self.metrics.weight += weight;
        self.metrics.images += classes.len() as f64;
        let rows: Vec<f32> = logits.detach().into_data().iter().collect();
        let rows = rows.chunks_exact(self.architecture.classes).zip(classes);
        self.metrics.correct += rows.filter(|(row, class)| class_rank(row, **class) == 0).count() as f64;

        // Differentiate the mean loss, so that the magnitude of f16 gradients does not depend on the batch size.
        let scale = self.loss_scale.map_or(1.0, LossScale::factor) / weight;
        let gradients = self.bucket_layout.flatten((loss * scale).backward(), &self.network);
        let weighted = gradients.into_iter().map(|bucket| bucket * weight);
        self.gradients = Some(match self.gradients.take() {
            Some(sums) => sums.into_iter().zip(weighted).map(|(sum, more)| sum + more).collect(),
            None => weighted.collect(),
        });
    }

    /// Applies an optimiser step with the gradients that all replicas have accumulated. Also returns the sum of the
    /// `flag`s of all replicas.
    ///
    /// # Errors
    /// Returns an error if another replica has ended.
    pub fn update(
        &mut self,
        learning_rate: f64,
        flag: f64,
        collective: &dyn Collective,
    ) -> Result<(StepOutcome, f64), ReplicaLost> {
        let StepMetrics { loss, weight, correct, images } = std::mem::take(&mut self.metrics);
        let zeros = || self.bucket_layout.zeros(&self.device.clone().inner());
        let mut tensors = self.gradients.take().unwrap_or_else(zeros);
        // If only the classifier is trained, no batch norm is run and the statistics do not change.
        let with_statistics = self.layers == TrainedLayers::All && collective.world_size() > 1;
        if with_statistics {
            tensors.push(Tensor::cat(flat_tensors(&self.network, TensorFilter::RunningStatistics), 0));
        }
        let (mut tensors, sums) = collective.all_reduce(tensors, &[loss, weight, correct, images, flag])?;
        let metrics = StepMetrics { loss: sums[0], weight: sums[1], correct: sums[2], images: sums[3] };
        if with_statistics {
            let sum = tensors.pop().expect("the statistics were pushed last");
            self.set_running_statistics(sum / collective.world_size() as f64);
        }
        if !metrics.loss.is_finite() {
            return Ok((StepOutcome::Diverged("the loss is not finite"), sums[4]));
        }
        if metrics.images > 0.0 {
            self.apply(tensors, metrics.weight, learning_rate);
        }
        if self.loss_scale.is_some_and(|scale| scale.factor() < 1.0) {
            return Ok((StepOutcome::Diverged("gradients overflow f16 at every loss scale"), sums[4]));
        }
        Ok((StepOutcome::Applied(metrics), sums[4]))
    }

    /// Applies an optimiser step. `sums` holds the sums of the gradients, multiplied by the loss scale; division by
    /// `weight` gives the mean.
    fn apply(&mut self, sums: Vec<Tensor<1>>, weight: f64, learning_rate: f64) {
        let factor = 1.0 / (weight * self.loss_scale.map_or(1.0, LossScale::factor));
        let mut buckets: Vec<_> = sums.into_iter().map(|sum| sum * factor).collect();
        if self.loss_scale.is_some() || self.clip_norm.is_some() {
            let squares = buckets.iter().map(|bucket| bucket.clone().square().sum());
            let norm = Tensor::cat(squares.collect(), 0).sum().into_scalar::<f64>().sqrt();
            if let Some(scale) = &mut self.loss_scale {
                scale.update(norm.is_finite());
                if !norm.is_finite() {
                    return;
                }
            }
            // As in `torch.nn.utils.clip_grad_norm_`.
            if let Some(clip) = self.clip_norm.map(|largest| largest / (norm + 1e-6)).filter(|clip| *clip < 1.0) {
                buckets = buckets.into_iter().map(|bucket| bucket * clip).collect();
            }
        }
        let gradients = self.bucket_layout.unflatten(&buckets, &self.network);
        self.network = self.optimiser.step(learning_rate, self.network.clone(), gradients);
        self.steps += 1;
        if let Some(ema) = &mut self.ema {
            ema.update(&self.network, self.steps);
        }
    }

    fn set_running_statistics(&mut self, flat: Tensor<1>) {
        let mut start = 0;
        let cut = |old: Tensor<1>| {
            let end = start + old.dims()[0];
            let new = flat.clone().slice(start..end);
            start = end;
            new
        };
        let new = flat_tensors(&self.network, TensorFilter::RunningStatistics).into_iter().map(cut).collect();
        self.network = with_flat_tensors(self.network.clone(), TensorFilter::RunningStatistics, new);
    }

    /// Returns a checkpoint of the weights for evaluation: the EMA if there is one.
    ///
    /// # Errors
    /// Returns an error if a weight is not finite.
    pub fn checkpoint(&self, metadata: Metadata) -> Result<Checkpoint, CheckpointError> {
        Checkpoint::new(metadata, self.evaluation_network().tensors(&self.architecture))
    }

    /// Returns a function from features `[batch, features]` to logits `[batch, classes]`, both row by row, which uses
    /// the weights for evaluation.
    pub fn classifier(&self) -> impl Fn(Vec<f32>) -> Vec<f32> {
        let (network, width, device) =
            (self.evaluation_network(), self.architecture.features(), self.device.clone().inner());
        move |features| {
            let shape = [features.len() / width, width];
            let logits = network.classify(Tensor::from_data(TensorData::new(features, shape), &device));
            logits.into_data().iter().collect()
        }
    }

    /// Returns the network for evaluation, without autodiff: the EMA if there is one.
    fn evaluation_network(&self) -> ResNet {
        match &self.ema {
            Some(ema) => ema.network(&self.network),
            None => self.network.valid(),
        }
    }

    /// Returns the state that [`Learner::load_state`] restores.
    ///
    /// # Errors
    /// Returns an error if the state of the optimiser cannot be serialised.
    pub fn state(&self) -> Result<LearnerState> {
        Ok(LearnerState {
            network: self.network.tensors(&self.architecture),
            ema: self.ema.as_ref().map(|ema| ema.network(&self.network).tensors(&self.architecture)),
            optimiser: self.optimiser.into_bytes()?.to_vec(),
            loss_scale: self.loss_scale,
            steps: self.steps,
        })
    }

    /// Restores the state of a learner with the same recipe.
    ///
    /// # Errors
    /// Returns an error if tensors are missing, or if the state of the optimiser is invalid.
    pub fn load_state(&mut self, metadata: &Metadata, state: LearnerState) -> Result<()> {
        let network = |tensors| -> Result<ResNet> {
            let checkpoint = Checkpoint::new(metadata.clone(), tensors)?;
            Ok(with_sequential_ids(ResNet::from_checkpoint(&checkpoint, &self.device)))
        };
        if let (Some(ema), Some(tensors)) = (&mut self.ema, state.ema) {
            ema.restore(&network(tensors)?);
        }
        self.network = network(state.network)?;
        self.optimiser = self.optimiser.clone().from_bytes(Bytes::from_bytes_vec(state.optimiser))?;
        (self.loss_scale, self.steps) = (state.loss_scale, state.steps);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{batch, forward_backward_part, small_checkpoint};
    use super::*;
    use crate::replicas::{HostCollective, run_replicas};
    use std::sync::Mutex;

    const SIDE: usize = 32;
    const BATCH: usize = 16;
    const STEPS: usize = 4;

    fn learner(changes: &[&str]) -> Learner {
        Learner::new(&small_checkpoint(), &Recipe::finetune_with(changes), None, 0, &Device::flex())
    }

    /// Trains replicas that accumulate `parts` micro-batches each, and returns their weights after each step, by rank.
    fn run(changes: &[&str], replicas: usize, parts: usize) -> Vec<Vec<BTreeMap<String, Vec<f32>>>> {
        let weights = Mutex::new(vec![Vec::new(); replicas]);
        let collectives = HostCollective::new(replicas).into_iter().map(|one| Box::new(one) as _).collect();
        run_replicas(collectives, |rank, collective: Box<dyn Collective>| {
            let mut learner = learner(changes);
            for step in 0..STEPS {
                let batch = batch(step, BATCH, SIDE);
                (0..parts).for_each(|index| {
                    forward_backward_part(&mut learner, &batch, rank * parts + index, replicas * parts)
                });
                learner.update(0.01, 0.0, &*collective)?;
                weights.lock().unwrap()[rank].push(learner.state()?.network);
            }
            Ok(())
        })
        .unwrap();
        weights.into_inner().unwrap()
    }

    fn is_parameter(name: &str) -> bool {
        !name.contains("running")
    }

    /// Uses momentum, so that a step depends on the optimiser state left by the step before.
    #[test]
    fn replicas_match_one_replica_with_accumulation() {
        for replicas in [2, 4] {
            let expected = &run(&[], 1, replicas)[0];
            let actual = run(&[], replicas, 1);
            for rank in 1..replicas {
                assert!(actual[rank] == actual[0], "replica {rank} of {replicas} has different weights or statistics");
            }
            for (actual, expected) in actual[0].iter().zip(expected) {
                for (name, expected) in expected.iter().filter(|(name, _)| is_parameter(name)) {
                    let differences = actual[name].iter().zip(expected).map(|(a, b)| (a - b).abs());
                    let max_error = differences.fold(0.0, f32::max);
                    assert!(max_error < 1e-5, "{replicas} replicas, {name}: maximum error {max_error}");
                }
            }
        }
    }

    #[test]
    fn replicas_are_deterministic() {
        assert!(run(&[], 2, 1) == run(&[], 2, 1));
    }

    /// bf16 has a significand of 8 bits, f16 of 11: their losses stay within 3 % and 1 % of those in f32.
    #[test]
    fn half_precision_losses_are_close_to_f32() {
        let losses = |precision: &str| -> Vec<f64> {
            let mut learner = learner(&[precision]);
            let collective = HostCollective::new(1).remove(0);
            let step = |step| {
                forward_backward_part(&mut learner, &batch(step, BATCH, SIDE), 0, 1);
                let StepOutcome::Applied(metrics) = learner.update(0.001, 0.0, &collective).unwrap().0 else {
                    panic!("diverged")
                };
                metrics.loss / metrics.weight
            };
            (0..6).map(step).collect()
        };
        let exact = losses("precision=f32");
        for (precision, tolerance) in [("precision=bf16", 0.03), ("precision=f16", 0.01)] {
            for (actual, exact) in losses(precision).into_iter().zip(&exact) {
                assert!((actual / exact - 1.0).abs() < tolerance, "{precision}: {actual}, not {exact}");
                assert_ne!(actual, *exact, "{precision} has no effect");
            }
        }
    }

    #[test]
    fn overflow_skips_the_step_and_halves_the_loss_scale() {
        let mut learner = learner(&["precision=f16"]);
        let collective = HostCollective::new(1).remove(0);
        let before = learner.state().unwrap();
        forward_backward_part(&mut learner, &batch(0, BATCH, SIDE), 0, 1);
        let infinite = |bucket: Tensor<1>| bucket / 0.0;
        learner.gradients = learner.gradients.take().map(|buckets| buckets.into_iter().map(infinite).collect());
        learner.update(0.1, 0.0, &collective).unwrap();
        let after = learner.state().unwrap();
        let parameters = |state: &LearnerState| -> BTreeMap<_, _> {
            state.network.clone().into_iter().filter(|(name, _)| is_parameter(name)).collect()
        };
        assert!(parameters(&after) == parameters(&before) && after.steps == 0);
        let factor = |state: &LearnerState| state.loss_scale.unwrap().factor();
        assert_eq!(factor(&after), factor(&before) / 2.0);
    }

    #[test]
    fn gradient_checkpointing_does_not_change_the_result() {
        let plain = run(&[], 1, 1);
        let checkpointed = run(&["gradient-checkpointing=true"], 1, 1);
        for (name, expected) in plain[0].last().unwrap() {
            let actual = &checkpointed[0].last().unwrap()[name];
            assert!(actual.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{name}");
        }
    }
}
