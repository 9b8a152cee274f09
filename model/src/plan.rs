//! The network folded for inference: a flat list of operations on numbered values, with batch norms folded into the
//! convolutions. Every engine executes a plan.
//!
//! The mean and standard deviation of the input are not folded into the stem: its padding is zero *after*
//! normalisation, so the result would be wrong along the border.

mod tap;

pub use tap::{Stage, Tap, TapValues};

use crate::architecture::{Architecture, Convolution, MaxPool, NORM_EPSILON, StemLayers};
use crate::checkpoint::Checkpoint;

/// The number of a value that operations read and write; [`Plan::INPUT`] is the input of the network.
pub type ValueId = usize;

/// One step of a plan. Spatial values are `[batch, channels, height, width]`, flat ones `[batch, features]`.
#[derive(Clone, Debug)]
pub enum Operation {
    /// A convolution with everything that is fused into it: `output = relu?(convolution(input) + bias + residual?)`.
    Convolution(FoldedConvolution),
    MaxPool {
        input: ValueId,
        output: ValueId,
        pool: MaxPool,
    },
    /// Mean over height and width, from a spatial to a flat value.
    GlobalAveragePool {
        input: ValueId,
        output: ValueId,
    },
    Linear(Linear),
}

/// A convolution with its batch norm folded in.
#[derive(Clone, Debug)]
pub struct FoldedConvolution {
    pub input: ValueId,
    pub output: ValueId,
    /// The value that is added before the ReLU.
    pub residual: Option<ValueId>,
    pub relu: bool,
    /// The shape of the convolution, and the names of its tensors.
    pub layer: Convolution,
    /// Weight, `[out_channels, in_channels / groups, kernel, kernel]`.
    pub weight: Vec<f32>,
    /// Bias, `[out_channels]`.
    pub bias: Vec<f32>,
}

/// The classifier: `output = input * weight^T + bias`.
#[derive(Clone, Debug)]
pub struct Linear {
    pub input: ValueId,
    pub output: ValueId,
    /// The equivalent 1x1 convolution of a single pixel, with the same weights.
    pub layer: Convolution,
    /// Weight, `[classes, features]`.
    pub weight: Vec<f32>,
    /// Bias, `[classes]`.
    pub bias: Vec<f32>,
}

/// The operations that an engine executes, in order. The output of the last one is the logits.
///
/// ```
/// use model::architecture::Architecture;
/// use model::plan::{Operation, Plan};
///
/// let plan = Plan::without_weights(Architecture::new("resnet18", 1000)?);
/// assert_eq!(plan.operations.len(), 23); // 20 convolutions, two pools, the classifier
/// assert!(matches!(plan.operations.last(), Some(Operation::Linear(_))));
/// # Ok::<(), model::architecture::ArchitectureError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Plan {
    pub architecture: Architecture,
    pub operations: Vec<Operation>,
    tap_values: TapValues,
}

impl Operation {
    /// Returns the values that the operation reads.
    pub fn inputs(&self) -> impl Iterator<Item = ValueId> {
        let (first, second) = match self {
            Operation::Convolution(convolution) => (convolution.input, convolution.residual),
            Operation::MaxPool { input, .. } | Operation::GlobalAveragePool { input, .. } => (*input, None),
            Operation::Linear(linear) => (linear.input, None),
        };
        [Some(first), second].into_iter().flatten()
    }

    /// Returns the value that the operation writes.
    pub fn output(&self) -> ValueId {
        match self {
            Operation::Convolution(convolution) => convolution.output,
            Operation::MaxPool { output, .. } | Operation::GlobalAveragePool { output, .. } => *output,
            Operation::Linear(linear) => linear.output,
        }
    }
}

impl Plan {
    /// The normalised input, `[batch, 3, height, width]`.
    pub const INPUT: ValueId = 0;

    /// Folds a copy of a checkpoint. [`Plan::from`] consumes the checkpoint and takes less memory.
    pub fn new(checkpoint: &Checkpoint) -> Self {
        Plan::from(checkpoint.clone())
    }

    /// Returns the operations of an architecture without weights, which [`Operation::load_weights`] adds later.
    pub fn without_weights(architecture: Architecture) -> Self {
        Builder::default().build(architecture)
    }

    /// Creates a plan of any operations, for benchmarks and tests.
    pub(crate) fn from_operations(operations: Vec<Operation>) -> Self {
        let architecture = Architecture::new("resnet18", 1).expect("a known name");
        Plan { architecture, operations, tap_values: TapValues::default() }
    }

    /// Returns all taps of the network, with their values.
    pub fn tap_values(&self) -> &TapValues {
        &self.tap_values
    }

    /// Returns the number of values, including the input.
    fn value_count(&self) -> usize {
        self.operations.len() + 1
    }

    /// Returns, for each value, the index of the last operation that reads it, after which its memory can be reused, or
    /// `None` for the logits, which no operation reads.
    pub fn last_reads(&self) -> Vec<Option<usize>> {
        let mut last = vec![None; self.value_count()];
        for (index, operation) in self.operations.iter().enumerate() {
            for value in operation.inputs() {
                last[value] = Some(index);
            }
        }
        last
    }
}

impl From<Checkpoint> for Plan {
    /// Folds a checkpoint, in place if its weights are fp32.
    fn from(checkpoint: Checkpoint) -> Self {
        let mut plan = Plan::without_weights(checkpoint.architecture());
        let mut tensors = checkpoint.into_values();
        for operation in &mut plan.operations {
            operation.load_weights(|name| {
                tensors.remove(name).expect("a checkpoint has the tensors of its architecture, and each is read once")
            });
        }
        plan
    }
}

impl Operation {
    /// Returns the names of the tensors that [`load_weights`](Self::load_weights) reads.
    pub fn tensor_names(&self) -> Vec<String> {
        match self {
            Operation::Convolution(FoldedConvolution { layer, .. }) => {
                let norm = NORM.map(|tensor| format!("{}.{tensor}", layer.norm));
                [format!("{}.weight", layer.name)].into_iter().chain(norm).collect()
            }
            Operation::Linear(_) => LINEAR.map(str::to_owned).into(),
            Operation::MaxPool { .. } | Operation::GlobalAveragePool { .. } => Vec::new(),
        }
    }

    /// Sets the weights of an operation, with batch norms folded in. `values` is called once for each of
    /// [`tensor_names`](Self::tensor_names), and returns the tensor's values in row-major order.
    pub fn load_weights(&mut self, mut values: impl FnMut(&str) -> Vec<f32>) {
        match self {
            Operation::Convolution(convolution) => convolution.fold(values),
            Operation::Linear(linear) => [linear.weight, linear.bias] = LINEAR.map(&mut values),
            Operation::MaxPool { .. } | Operation::GlobalAveragePool { .. } => {}
        }
    }
}

/// Tensors of a batch norm: scale, shift, running statistics.
const NORM: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];
const LINEAR: [&str; 2] = ["fc.weight", "fc.bias"];

impl FoldedConvolution {
    /// Sets weight and bias, with the batch norm's running statistics, scale and shift folded in.
    fn fold(&mut self, mut values: impl FnMut(&str) -> Vec<f32>) {
        let layer = &self.layer;
        let mut weight = values(&format!("{}.weight", layer.name));
        let [gamma, beta, mean, variance] = NORM.map(|tensor| values(&format!("{}.{tensor}", layer.norm)));
        let scale: Vec<f64> =
            gamma.iter().zip(&variance).map(|(&g, &v)| f64::from(g) / (f64::from(v) + NORM_EPSILON).sqrt()).collect();
        let row = weight.len() / layer.out_channels;
        for (row, scale) in weight.chunks_exact_mut(row).zip(&scale) {
            row.iter_mut().for_each(|weight| *weight = (f64::from(*weight) * scale) as f32);
        }
        let shift = |((&beta, &mean), scale): ((&f32, &f32), &f64)| (f64::from(beta) - f64::from(mean) * scale) as f32;
        self.bias = beta.iter().zip(&mean).zip(&scale).map(shift).collect();
        self.weight = weight;
    }
}

/// Builds a plan without weights; operation `i` writes value `i + 1`.
#[derive(Default)]
struct Builder {
    operations: Vec<Operation>,
}

impl Builder {
    fn build(mut self, architecture: Architecture) -> Plan {
        let mut tap_values = TapValues::default();

        let StemLayers { convolution, max_pool } = architecture.stem();
        let mut value = self.convolution(convolution, Plan::INPUT, None, true);
        if let Some(pool) = max_pool {
            value = self.push(|output| Operation::MaxPool { input: value, output, pool });
        }
        tap_values.insert(Tap::Stem, value);

        for (stage, blocks) in Stage::ALL.into_iter().zip(architecture.stages()) {
            for (index, block) in blocks.into_iter().enumerate() {
                let shortcut = match block.downsample {
                    Some(downsample) => self.convolution(downsample, value, None, false),
                    None => value,
                };
                let last = block.convolutions.len() - 1;
                for (position, convolution) in block.convolutions.into_iter().enumerate() {
                    let residual = (position == last).then_some(shortcut);
                    value = self.convolution(convolution, value, residual, true);
                }
                tap_values.insert(Tap::Block(stage, index), value);
            }
            tap_values.insert(Tap::Stage(stage), value);
        }

        value = self.push(|output| Operation::GlobalAveragePool { input: value, output });
        self.linear(value, architecture);
        Plan { architecture, operations: self.operations, tap_values }
    }

    fn push(&mut self, operation: impl FnOnce(ValueId) -> Operation) -> ValueId {
        let output = self.operations.len() + 1;
        self.operations.push(operation(output));
        output
    }

    fn convolution(&mut self, layer: Convolution, input: ValueId, residual: Option<ValueId>, relu: bool) -> ValueId {
        let [weight, bias] = [Vec::new(), Vec::new()];
        self.push(|output| {
            Operation::Convolution(FoldedConvolution { input, output, residual, relu, layer, weight, bias })
        })
    }

    fn linear(&mut self, input: ValueId, architecture: Architecture) -> ValueId {
        let [name, norm] = ["fc", ""].map(str::to_owned);
        let (in_channels, out_channels) = (architecture.features(), architecture.classes);
        let layer = Convolution { name, norm, in_channels, out_channels, kernel: 1, stride: 1, padding: 0, groups: 1 };
        let [weight, bias] = [Vec::new(), Vec::new()];
        self.push(|output| Operation::Linear(Linear { input, output, layer, weight, bias }))
    }
}
