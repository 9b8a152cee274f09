//! The operations of a plan with their weights packed: what all shapes of input share.

use super::super::{OperationProfile, Precision};
use super::blocked::{BLOCK, Blocked};
use super::buffer::{Buffer, F32};
use super::choice::{Algorithm, Layer, choose, nominal_side};
use super::matrix;
use super::simd::InstructionSet;
use super::threads::Threads;
use super::winograd;
use crate::architecture::{Convolution, MaxPool};
use crate::plan::{FoldedConvolution, Linear, Operation, Plan, Value};
use std::sync::Mutex;
use std::time::Duration;

/// An operation, ready to be laid out for a shape.
pub struct Step {
    /// What a profile calls it.
    pub name: String,
    pub input: Value,
    pub output: Value,
    pub residual: Option<Value>,
    pub relu: bool,
    pub work: Work,
    /// The convolution that it is; a pool has none, and a linear layer is one of 1x1.
    layer: Option<Convolution>,
}

/// Weights are followed by the bias, zero beyond the last channel.
pub enum Work {
    Matrix(matrix::Weights, Buffer),
    Winograd(winograd::Weights, Buffer),
    MaxPool(MaxPool),
    Average,
}

/// Packs a plan's weights, several layers at once, for an algorithm for each convolution.
pub fn pack(plan: Plan, algorithms: Vec<Algorithm>, set: InstructionSet, threads: &Threads) -> Vec<Step> {
    let mut algorithms = algorithms.into_iter();
    let operations = plan.operations.into_iter().map(|operation| match operation {
        Operation::Convolution(_) => (operation, algorithms.next().expect("one for each convolution")),
        _ => (operation, Algorithm::Matrix),
    });
    // An operation gives its weights up as soon as they are packed.
    let operations: Vec<_> = operations.map(|operation| Mutex::new(Some(operation))).collect();
    let steps: Vec<_> = operations.iter().map(|_| Mutex::new(None)).collect();
    threads.enter(|| {
        threads.for_each(operations.len(), |index| {
            let operation = operations[index].lock().expect("packing panicked").take();
            let (operation, algorithm) = operation.expect("each is packed once");
            *steps[index].lock().expect("packing panicked") = Some(Step::new(operation, algorithm, set));
        });
    });
    let steps = steps.into_iter().map(|step| step.into_inner().expect("packing panicked"));
    steps.map(|step| step.expect("each was packed")).collect()
}

/// The algorithm that is best for each convolution.
pub fn algorithms(plan: &Plan, precision: Precision) -> Vec<Algorithm> {
    let mut sides = vec![nominal_side(&plan.architecture)];
    let mut layers = Vec::new();
    for operation in &plan.operations {
        let from = operation.inputs().next().map_or(1, |value| sides[value]);
        sides.push(match operation {
            Operation::Convolution(FoldedConvolution { layer, .. }) => layer.output_size(from),
            Operation::MaxPool { pool, .. } => pool.output_size(from),
            Operation::GlobalAveragePool { .. } | Operation::Linear(_) => 1,
        });
        if let Operation::Convolution(FoldedConvolution { layer, output, .. }) = operation {
            layers.push(Layer { convolution: layer, side: sides[*output] });
        }
    }
    choose(&layers, precision)
}

impl Step {
    fn new(operation: Operation, algorithm: Algorithm, set: InstructionSet) -> Self {
        match operation {
            Operation::Convolution(convolution) => {
                let FoldedConvolution { input, output, residual, relu, ref layer, ref weight, ref bias } = convolution;
                // A block that is read is written whole, or its rest would be multiplied by zero, NaN or not.
                assert!(input == Plan::INPUT || layer.in_channels.is_multiple_of(BLOCK), "{}", layer.name);
                let bias = padded(bias, set);
                let work = match algorithm {
                    Algorithm::Matrix => {
                        Work::Matrix(matrix::Weights::pack(weight, layer, input == Plan::INPUT, set), bias)
                    }
                    Algorithm::MatrixBf16 => Work::Matrix(matrix::Weights::pack_pairs(weight, layer, set), bias),
                    Algorithm::Winograd(scheme) => {
                        Work::Winograd(winograd::Weights::pack(&convolution, scheme, set), bias)
                    }
                };
                let name = layer.name.clone();
                Step { name, input, output, residual, relu, work, layer: Some(convolution.layer) }
            }
            Operation::Linear(linear) => {
                let Linear { input, output, layer, weight, bias } = linear;
                let packed = matrix::Weights::pack(&weight, &layer, false, set);
                let work = Work::Matrix(packed, padded(&bias, set));
                Step { name: layer.name.clone(), input, output, residual: None, relu: false, work, layer: Some(layer) }
            }
            Operation::MaxPool { input, output, pool } => {
                let name = "maxpool".to_owned();
                Step { name, input, output, residual: None, relu: false, work: Work::MaxPool(pool), layer: None }
            }
            Operation::GlobalAveragePool { input, output } => {
                let name = "avgpool".to_owned();
                Step { name, input, output, residual: None, relu: false, work: Work::Average, layer: None }
            }
        }
    }

    /// What it did in `time`, with an output of a shape.
    pub fn profile(&self, output: &Blocked, time: Duration) -> OperationProfile {
        let (algorithm, products, weights) = match &self.work {
            Work::Matrix(weights, _) => (Some(weights.algorithm()), weights.products(output), weights.packed_len()),
            Work::Winograd(weights, _) => (Some(weights.algorithm()), weights.products(output), weights.packed_len()),
            Work::MaxPool(_) | Work::Average => (None, 0, 0),
        };
        let multiply_adds =
            self.layer.as_ref().map_or(0, |layer| layer.weight_shape().iter().product::<usize>() * output.pixels());
        OperationProfile {
            name: self.name.clone(),
            algorithm: algorithm.map_or_else(|| "pool".to_owned(), |algorithm| algorithm.to_string()),
            precision: if algorithm == Some(Algorithm::MatrixBf16) { Precision::Bf16 } else { Precision::F32 },
            time,
            multiply_adds: multiply_adds as u64,
            products: products as u64,
            weight_bytes: (weights * F32) as u64,
            moved_bytes: None,
        }
    }

    /// The zeros that it needs around its input. A max-pool cuts its windows instead.
    pub fn border(&self) -> usize {
        self.layer.as_ref().map_or(0, |layer| layer.padding)
    }

    /// `None` if it has those of its input.
    pub fn out_channels(&self) -> Option<usize> {
        self.layer.as_ref().map(|layer| layer.out_channels)
    }

    /// The side of the output for an input of side `size`.
    pub fn output_size(&self, size: usize) -> usize {
        match (&self.work, &self.layer) {
            (Work::MaxPool(pool), _) => pool.output_size(size),
            (_, Some(layer)) => layer.output_size(size),
            (_, None) => 1,
        }
    }
}

/// Biases with zeros behind them, as far as the widest tile reads.
fn padded(bias: &[f32], set: InstructionSet) -> Buffer {
    let mut padded = Buffer::zeroed(bias.len().next_multiple_of(set.panel()));
    padded[..bias.len()].copy_from_slice(bias);
    padded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::Architecture;
    use crate::random;

    #[test]
    fn packed_weights_take_at_most_twice_the_bytes_of_a_checkpoint() {
        let threads = Threads::new(None).unwrap();
        for name in ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"] {
            let architecture = Architecture::new(name, 1000).unwrap();
            let bytes = architecture.parameter_count() * F32;
            let plan = Plan::from(random::checkpoint(architecture));
            let algorithms = algorithms(&plan, Precision::F32);
            let steps = pack(plan, algorithms, InstructionSet::best(), &threads);
            let packed = steps.iter().map(|step| match &step.work {
                Work::Matrix(weights, bias) => weights.packed_len() + bias.len(),
                Work::Winograd(weights, bias) => weights.packed_len() + bias.len(),
                Work::MaxPool(_) | Work::Average => 0,
            });
            let packed = packed.sum::<usize>() * F32;
            assert!(packed <= 2 * bytes, "{name}: {packed} bytes of {bytes}");
        }
    }
}
