//! Training on the CPU, with the kernels of [`model::training`].

use super::cpu_optimiser::CpuOptimiser;
use super::deferred_metrics::DeferredMetrics;
use super::metrics::{StepMetrics, count_correct, count_unlabelled};
use super::trainable_network::{AverageUpdate, LearnerInput, MicroBatch, TrainableNetwork};
use crate::recipe::{Recipe, TrainingPrecision};
use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor, TensorData};
use model::architecture::TensorKind;
use model::checkpoint::Checkpoint;
use model::engine::{EngineError, Precision};
use model::training::{TensorRange, TrainingNetwork, TrainingOptions};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::num::NonZero;
use std::time::{Duration, Instant};

/// Number of values of which a task computes the sum of squares.
const VALUES_PER_TASK: usize = 1 << 16;

/// A network on the CPU.
pub struct CpuNetwork {
    network: TrainingNetwork,
    optimiser: CpuOptimiser,
    average: Option<Average>,
    classes: usize,
    metrics: StepMetrics,
    /// Total time of each part so far.
    mixing_time: Duration,
    loss_time: Duration,
    optimiser_time: Duration,
}

/// Averaged parameters and running statistics.
struct Average {
    parameters: Vec<f32>,
    statistics: Vec<f32>,
}

impl CpuNetwork {
    /// Creates a network with the weights of a checkpoint. It uses `threads` threads, by default one per core.
    ///
    /// # Errors
    /// Returns an error if threads cannot be started, or if the kernels do not support the recipe's precision.
    pub fn new(start: &Checkpoint, recipe: &Recipe, threads: Option<NonZero<usize>>) -> Result<Self, EngineError> {
        let gradient_checkpointing = recipe.gradient_checkpointing;
        let precision = match recipe.precision {
            TrainingPrecision::F32 => Precision::F32,
            TrainingPrecision::Bf16 => Precision::Bf16,
            TrainingPrecision::F16 => Precision::F16,
        };
        let options = TrainingOptions { threads, gradient_checkpointing, precision, ..TrainingOptions::default() };
        let network = TrainingNetwork::new(start, options)?;
        Ok(CpuNetwork {
            optimiser: CpuOptimiser::new(recipe, &network.layout().parameters),
            average: recipe.ema_decay.map(|_| Average::new(&network)),
            classes: start.architecture().classes,
            network,
            metrics: StepMetrics::default(),
            mixing_time: Duration::ZERO,
            loss_time: Duration::ZERO,
            optimiser_time: Duration::ZERO,
        })
    }
}

impl TrainableNetwork for CpuNetwork {
    fn forward_backward(&mut self, batch: MicroBatch) {
        let targets = batch.targets(self.classes);
        let MicroBatch { input, classes, teacher_logits, loss, loss_scale } = batch;
        let LearnerInput::Photos(images, plan) = input else {
            unreachable!("the classifier alone is trained by Burn");
        };
        let start = Instant::now();
        let input = self.network.install(|_| plan.engine_input(images));
        self.mixing_time += start.elapsed();
        let logits = self.network.forward(&input);
        let start = Instant::now();
        self.metrics.correct += count_correct(&logits, classes);

        // The loss is small, and Burn differentiates it.
        let shape = [classes.len(), self.classes];
        let logits = Tensor::<2>::from_data(TensorData::new(logits, shape), &Device::flex().autodiff()).require_grad();
        let (sum, weight) = loss.sum(logits.clone(), &targets, teacher_logits);
        self.metrics.loss += sum.clone().into_scalar::<f64>();
        self.metrics.weight += weight;
        self.metrics.images += classes.len() as f64;
        self.metrics.unlabelled += count_unlabelled(classes);
        let gradients = (sum * loss_scale).backward();
        let gradient = logits.grad(&gradients).expect("the loss depends on the logits");
        let gradient: Vec<f32> = gradient.into_data().iter().collect();
        self.loss_time += start.elapsed();
        self.network.backward(&gradient);
    }

    fn take_metrics(&mut self) -> DeferredMetrics {
        DeferredMetrics::known(std::mem::take(&mut self.metrics))
    }

    fn take_gradients(&mut self) -> Vec<Tensor<1>> {
        let gradients = Tensor::from_data(self.network.gradients(), &Device::flex());
        self.clear_gradients();
        vec![gradients]
    }

    fn set_gradients(&mut self, gradients: Vec<Tensor<1>>) {
        let [gradients] = gradients.try_into().unwrap_or_else(|_| unreachable!("there is one tensor of gradients"));
        copy_values(gradients, self.network.gradients_mut());
    }

    fn clear_gradients(&mut self) {
        self.network.gradients_mut().fill(0.0);
    }

    fn clear_gradients_of_zeros(&mut self) {
        let layout = self.network.layout().clone();
        let (parameters, gradients) = self.network.parameters_and_gradients();
        let is_convolution = |tensor: &&TensorRange| tensor.kind == TensorKind::Matrix && tensor.name != "fc.weight";
        for TensorRange { range, .. } in layout.parameters.iter().filter(is_convolution) {
            let weights = &parameters[range.clone()];
            let gradients = gradients[range.clone()].iter_mut().zip(weights);
            gradients.filter(|(_, weight)| **weight == 0.0).for_each(|(gradient, _)| *gradient = 0.0);
        }
    }

    fn running_statistics(&self) -> Option<Tensor<1>> {
        Some(Tensor::from_data(self.network.statistics(), &Device::flex()))
    }

    fn set_running_statistics(&mut self, statistics: Tensor<1>) {
        copy_values(statistics, self.network.statistics_mut());
    }

    fn gradient_norm(&mut self, factor: f64) -> f64 {
        let square = |value: &f32| (f64::from(*value) * factor).powi(2);
        let sums: Vec<f64> = self.network.install(|network| {
            let parts = network.gradients().par_chunks(VALUES_PER_TASK);
            parts.map(|part| part.iter().map(square).sum()).collect()
        });
        sums.into_iter().sum::<f64>().sqrt()
    }

    fn step(&mut self, learning_rate: f64, factor: f64) {
        let (start, optimiser) = (Instant::now(), &mut self.optimiser);
        self.network.install(|network| {
            let (parameters, gradients) = network.parameters_and_gradients();
            optimiser.step(parameters, gradients, learning_rate, factor);
        });
        self.optimiser_time += start.elapsed();
    }

    fn update_average(&mut self, update: AverageUpdate) {
        if let Some(Average { parameters, statistics }) = &mut self.average {
            self.network.install(|network| {
                blend(parameters, network.parameters(), update);
                blend(statistics, network.statistics(), update);
            });
        }
    }

    fn tensors(&self) -> BTreeMap<String, Vec<f32>> {
        self.network.tensors()
    }

    fn averaged_tensors(&self) -> Option<BTreeMap<String, Vec<f32>>> {
        let Average { parameters, statistics } = self.average.as_ref()?;
        Some(self.network.layout().named_tensors(parameters, statistics))
    }

    fn classifier(&self) -> Box<dyn Fn(Vec<f32>) -> Vec<f32>> {
        unreachable!("the classifier alone is trained by Burn")
    }

    fn optimiser_state(&self) -> Result<Vec<u8>> {
        self.optimiser.to_bytes()
    }

    fn profile(&self) -> Vec<(String, Duration)> {
        let network = self.network.profile().totals().map(|(operation, time)| (operation.to_string(), time));
        let others = [("mixing", self.mixing_time), ("loss", self.loss_time), ("optimiser", self.optimiser_time)];
        network.chain(others.map(|(name, time)| (name.to_owned(), time))).collect()
    }

    fn restore(&mut self, network: &Checkpoint, average: Option<&Checkpoint>, optimiser: Vec<u8>) -> Result<()> {
        self.optimiser.restore(&optimiser).context(
            "cannot read the state of the optimiser; if the run was started on a GPU or by an earlier version, resume it \
             on that GPU or with --device flex",
        )?;
        if let (Some(average), Some(checkpoint)) = (&mut self.average, average) {
            self.network.load(checkpoint);
            *average = Average::new(&self.network);
        }
        self.network.load(network);
        Ok(())
    }
}

impl Average {
    /// Starts the average at the weights of `network`.
    fn new(network: &TrainingNetwork) -> Self {
        Average { parameters: network.parameters().to_vec(), statistics: network.statistics().to_vec() }
    }
}

/// Updates averaged values with new ones.
fn blend(average: &mut [f32], new: &[f32], update: AverageUpdate) {
    let weights = match update {
        AverageUpdate::Copy => return average.copy_from_slice(new),
        AverageUpdate::Blend { decay } => [decay as f32, (1.0 - decay) as f32],
    };
    average.par_chunks_mut(VALUES_PER_TASK).zip(new.par_chunks(VALUES_PER_TASK)).for_each(|(average, new)| {
        average.iter_mut().zip(new).for_each(|(average, new)| *average = *average * weights[0] + new * weights[1]);
    });
}

fn copy_values(tensor: Tensor<1>, target: &mut [f32]) {
    let data = tensor.into_data();
    let values = data.as_slice::<f32>().expect("the tensor is f32");
    target.copy_from_slice(values);
}
