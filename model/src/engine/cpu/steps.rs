//! The operations of a plan with packed weights. They do not depend on the shape of the input.

use super::super::{OperationProfile, Precision};
use super::algorithm::Algorithm;
use super::amx::{self, AmxWeights};
use super::blocked_shape::{BLOCK, BlockedShape};
use super::buffer::{AlignedBuffer, F32_BYTES};
use super::direct_conv::DirectWeights;
use super::simd::InstructionSet;
use super::thread_pool::ThreadPool;
use super::winograd::WinogradWeights;
use crate::architecture::{Convolution, MaxPool};
use crate::plan::{FoldedConvolution, Linear, Operation, Plan, ValueId};
use parking_lot::Mutex;
use std::time::Duration;

/// A packed operation with the values that it reads and writes.
pub struct Step {
    /// Name in profiles.
    pub name: String,
    pub input: ValueId,
    pub output: ValueId,
    pub residual: Option<ValueId>,
    pub relu: bool,
    pub operation: PackedOperation,
    /// Shape of the convolution; a linear layer is a 1x1 convolution. `None` for pools.
    layer: Option<Convolution>,
}

/// An operation with packed weights and bias. The bias is padded with zeros beyond the last channel.
pub enum PackedOperation {
    Direct(DirectWeights, AlignedBuffer),
    Amx(AmxWeights, AlignedBuffer),
    Winograd(WinogradWeights, AlignedBuffer),
    MaxPool(MaxPool),
    GlobalAveragePool,
}

/// Packs the weights of a plan for `algorithms`, one per convolution, several layers in parallel.
pub fn pack(plan: Plan, algorithms: Vec<Algorithm>, set: InstructionSet, threads: &ThreadPool) -> Vec<Step> {
    let mut algorithms = algorithms.into_iter();
    let operations = plan.operations.into_iter().map(|operation| match operation {
        Operation::Convolution(_) => (operation, algorithms.next().expect("one algorithm per convolution")),
        _ => (operation, Algorithm::Direct),
    });
    // The unpacked weights of an operation are freed as soon as they are packed.
    let operations: Vec<_> = operations.map(|operation| Mutex::new(Some(operation))).collect();
    let steps: Vec<_> = operations.iter().map(|_| Mutex::new(None)).collect();
    threads.install(|| {
        threads.for_each(operations.len(), |index| {
            let operation = operations[index].lock().take();
            let (operation, algorithm) = operation.expect("each operation is packed once");
            *steps[index].lock() = Some(Step::new(operation, algorithm, set));
        });
    });
    steps.into_iter().map(|step| step.into_inner().expect("every operation is packed")).collect()
}

impl Step {
    fn new(operation: Operation, algorithm: Algorithm, set: InstructionSet) -> Self {
        match operation {
            Operation::Convolution(convolution) => {
                let FoldedConvolution { input, output, residual, relu, ref layer, ref weight, ref bias } = convolution;
                // Otherwise the unused channels of the last block would be read, and multiplied by zero even if they
                // are NaN.
                assert!(input == Plan::INPUT || layer.in_channels.is_multiple_of(BLOCK), "{}", layer.name);
                let bias = pad_bias(bias, set);
                let operation = match algorithm {
                    Algorithm::Direct => {
                        PackedOperation::Direct(DirectWeights::pack(weight, layer, input == Plan::INPUT, set), bias)
                    }
                    Algorithm::DirectBf16 => {
                        PackedOperation::Direct(DirectWeights::pack_pairs(weight, layer, set), bias)
                    }
                    Algorithm::AmxBf16 => {
                        let unit = set.matrix_unit().expect("the algorithm is chosen only with a matrix unit");
                        PackedOperation::Amx(AmxWeights::pack(weight, layer, input == Plan::INPUT, unit, set), bias)
                    }
                    Algorithm::Winograd(variant) => {
                        PackedOperation::Winograd(WinogradWeights::pack(&convolution, variant, set), bias)
                    }
                };
                let name = layer.name.clone();
                Step { name, input, output, residual, relu, operation, layer: Some(convolution.layer) }
            }
            Operation::Linear(linear) => {
                let Linear { input, output, layer, weight, bias } = linear;
                let packed = DirectWeights::pack(&weight, &layer, false, set);
                let operation = PackedOperation::Direct(packed, pad_bias(&bias, set));
                Step {
                    name: layer.name.clone(),
                    input,
                    output,
                    residual: None,
                    relu: false,
                    operation,
                    layer: Some(layer),
                }
            }
            Operation::MaxPool { input, output, pool } => {
                Step::pool("maxpool", input, output, PackedOperation::MaxPool(pool))
            }
            Operation::GlobalAveragePool { input, output } => {
                Step::pool("avgpool", input, output, PackedOperation::GlobalAveragePool)
            }
        }
    }

    fn pool(name: &str, input: ValueId, output: ValueId, operation: PackedOperation) -> Self {
        Step { name: name.to_owned(), input, output, residual: None, relu: false, operation, layer: None }
    }

    /// Returns the profile of one execution that took `time` and wrote an output of shape `output`.
    pub fn profile(&self, output: &BlockedShape, time: Duration) -> OperationProfile {
        let (algorithm, executed_multiply_adds, weights) = match &self.operation {
            PackedOperation::Direct(weights, _) => {
                (Some(weights.algorithm()), weights.multiply_adds(output), weights.packed_len())
            }
            PackedOperation::Amx(weights, _) => {
                (Some(weights.algorithm()), weights.multiply_adds(output), weights.packed_len())
            }
            PackedOperation::Winograd(weights, _) => {
                (Some(weights.algorithm()), weights.multiply_adds(output), weights.packed_len())
            }
            PackedOperation::MaxPool(_) | PackedOperation::GlobalAveragePool => (None, 0, 0),
        };
        let multiply_adds =
            self.layer.as_ref().map_or(0, |layer| layer.weight_shape().iter().product::<usize>() * output.pixels());
        OperationProfile {
            name: self.name.clone(),
            algorithm: algorithm.map_or_else(|| "pool".to_owned(), |algorithm| algorithm.to_string()),
            precision: match algorithm {
                Some(Algorithm::DirectBf16 | Algorithm::AmxBf16) => Precision::Bf16,
                Some(Algorithm::Direct | Algorithm::Winograd(_)) | None => Precision::F32,
            },
            time,
            multiply_adds: multiply_adds as u64,
            executed_multiply_adds: executed_multiply_adds as u64,
            weight_bytes: (weights * F32_BYTES) as u64,
            moved_bytes: None,
        }
    }

    /// Returns the width of the zero border that the input needs. Max-pooling clips its windows instead.
    pub fn border(&self) -> usize {
        self.layer.as_ref().map_or(0, |layer| layer.padding)
    }

    /// Returns the number of output channels, or `None` for pools, which have the channels of their input.
    pub fn out_channels(&self) -> Option<usize> {
        self.layer.as_ref().map(|layer| layer.out_channels)
    }

    /// Returns the height or width of the output for an input of height or width `size`.
    pub fn output_size(&self, size: usize) -> usize {
        match (&self.operation, &self.layer) {
            (PackedOperation::MaxPool(pool), _) => pool.output_size(size),
            (_, Some(layer)) => layer.output_size(size),
            (_, None) => 1,
        }
    }
}

/// Pads the bias with zeros to whole panels, which is how far the microkernels read.
fn pad_bias(bias: &[f32], set: InstructionSet) -> AlignedBuffer {
    let mut padded = AlignedBuffer::zeroed(bias.len().next_multiple_of(set.panel().max(amx::PANEL)));
    padded[..bias.len()].copy_from_slice(bias);
    padded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::Architecture;
    use crate::engine::cpu::algorithm;
    use crate::random;

    #[test]
    fn packed_weights_take_at_most_twice_the_bytes_of_the_checkpoint() {
        let threads = ThreadPool::new(None).unwrap();
        for name in ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"] {
            let architecture = Architecture::new(name, 1000).unwrap();
            let bytes = architecture.parameter_count() * F32_BYTES;
            let plan = Plan::from(random::checkpoint(architecture));
            let algorithms = algorithm::choose(&plan, Precision::F32, InstructionSet::best());
            let steps = pack(plan, algorithms, InstructionSet::best(), &threads);
            let packed = steps.iter().map(|step| match &step.operation {
                PackedOperation::Direct(weights, bias) => weights.packed_len() + bias.len(),
                PackedOperation::Amx(weights, bias) => weights.packed_len() + bias.len(),
                PackedOperation::Winograd(weights, bias) => weights.packed_len() + bias.len(),
                PackedOperation::MaxPool(_) | PackedOperation::GlobalAveragePool => 0,
            });
            let packed = packed.sum::<usize>() * F32_BYTES;
            assert!(packed <= 2 * bytes, "{name}: {packed} bytes of {bytes}");
        }
    }
}
