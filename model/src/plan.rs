//! The network folded for inference: a flat list of operations over numbered values, batch norm gone into the
//! convolutions. Every engine executes a plan; nothing else stands between a checkpoint and an engine.
//!
//! The mean and standard deviation of the input are never folded into the stem: its padding is zero *after*
//! normalising, so that would be wrong along the border.

use crate::architecture::{Architecture, Convolution, MaxPool, NORM_EPSILON, StemLayers};
use crate::checkpoint::Checkpoint;

/// A number by which operations name what they read and write; [`Plan::INPUT`] is what enters the network.
pub type Value = usize;

/// A value that a run can be asked to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tap {
    /// What enters the first stage: behind the stem's max-pool where it has one.
    Stem,
    /// What leaves a stage, numbered as torchvision's `layer1` to `layer4`.
    Stage(Stage),
}

/// One of the four stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    One,
    Two,
    Three,
    Four,
}

impl Tap {
    /// All of them, in the order of the network.
    pub const ALL: [Tap; 5] =
        [Tap::Stem, Tap::Stage(Stage::One), Tap::Stage(Stage::Two), Tap::Stage(Stage::Three), Tap::Stage(Stage::Four)];

    fn index(self) -> usize {
        match self {
            Tap::Stem => 0,
            Tap::Stage(stage) => 1 + stage as usize,
        }
    }
}

/// One step of a plan. Spatial values are `[batch, channels, height, width]`, flat ones `[batch, features]`.
#[derive(Clone, Debug)]
pub enum Operation {
    /// `output = relu?(convolution(input) + bias + residual?)`
    Convolution(FoldedConvolution),
    MaxPool {
        input: Value,
        output: Value,
        pool: MaxPool,
    },
    /// Mean over height and width: spatial in, flat out.
    GlobalAveragePool {
        input: Value,
        output: Value,
    },
    Linear(Linear),
}

/// A convolution with its batch norm folded in.
#[derive(Clone, Debug)]
pub struct FoldedConvolution {
    pub input: Value,
    pub output: Value,
    /// Added before the ReLU.
    pub residual: Option<Value>,
    pub relu: bool,
    /// Names, channels, kernel, stride, padding, groups.
    pub layer: Convolution,
    /// `[out_channels, in_channels / groups, kernel, kernel]`
    pub weight: Vec<f32>,
    /// `[out_channels]`
    pub bias: Vec<f32>,
}

/// `output = input * weight^T + bias`
#[derive(Clone, Debug)]
pub struct Linear {
    pub input: Value,
    pub output: Value,
    /// It as a convolution of one pixel, which has the same weights.
    pub layer: Convolution,
    /// `[classes, features]`
    pub weight: Vec<f32>,
    /// `[classes]`
    pub bias: Vec<f32>,
}

/// What an engine executes: the operations in order; the output of the last one is the logits.
#[derive(Clone, Debug)]
pub struct Plan {
    pub architecture: Architecture,
    pub operations: Vec<Operation>,
    taps: [Value; Tap::ALL.len()],
}

impl Operation {
    /// What it reads.
    pub fn inputs(&self) -> impl Iterator<Item = Value> {
        let (first, second) = match self {
            Operation::Convolution(convolution) => (convolution.input, convolution.residual),
            Operation::MaxPool { input, .. } | Operation::GlobalAveragePool { input, .. } => (*input, None),
            Operation::Linear(linear) => (linear.input, None),
        };
        [Some(first), second].into_iter().flatten()
    }

    /// What it writes.
    pub fn output(&self) -> Value {
        match self {
            Operation::Convolution(convolution) => convolution.output,
            Operation::MaxPool { output, .. } | Operation::GlobalAveragePool { output, .. } => *output,
            Operation::Linear(linear) => linear.output,
        }
    }
}

impl Plan {
    /// The normalised input, `[batch, 3, height, width]`.
    pub const INPUT: Value = 0;

    /// Folds a checkpoint that is needed further; [`Plan::from`] spares the memory of a second one.
    pub fn new(checkpoint: &Checkpoint) -> Self {
        Plan::from(checkpoint.clone())
    }

    /// What an architecture does, in operations whose weights are still to come: [`Operation::fill`] brings them.
    pub fn outline(architecture: Architecture) -> Self {
        Builder::default().build(architecture)
    }

    /// Operations that are no network: for measuring them.
    pub(crate) fn of(operations: Vec<Operation>) -> Self {
        let architecture = Architecture::new("resnet18", 1).expect("a known name");
        Plan { architecture, operations, taps: [Plan::INPUT; Tap::ALL.len()] }
    }

    /// The number of a value that can be kept.
    pub fn tap(&self, tap: Tap) -> Value {
        self.taps[tap.index()]
    }

    /// How many values there are, the input among them.
    pub fn value_count(&self) -> usize {
        self.operations.len() + 1
    }

    /// By value: the index of the last operation that reads it; behind that its memory is free.
    /// `None` for the logits, which nothing reads.
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
    /// Folds a checkpoint, in the memory of its weights where they are fp32.
    fn from(checkpoint: Checkpoint) -> Self {
        let mut plan = Plan::outline(checkpoint.architecture());
        let mut tensors = checkpoint.into_values();
        for operation in &mut plan.operations {
            operation.fill(|name| {
                tensors.remove(name).expect("a checkpoint has the tensors of its architecture, and each is read once")
            });
        }
        plan
    }
}

impl Operation {
    /// The names of the tensors that it is filled from.
    pub fn tensors(&self) -> Vec<String> {
        match self {
            Operation::Convolution(FoldedConvolution { layer, .. }) => {
                let norm = NORM.map(|tensor| format!("{}.{tensor}", layer.norm));
                [format!("{}.weight", layer.name)].into_iter().chain(norm).collect()
            }
            Operation::Linear(_) => LINEAR.map(str::to_owned).into(),
            Operation::MaxPool { .. } | Operation::GlobalAveragePool { .. } => Vec::new(),
        }
    }

    /// Gives an operation of an outline its weights; `values` knows the tensors of [`Operation::tensors`].
    pub fn fill(&mut self, mut values: impl FnMut(&str) -> Vec<f32>) {
        match self {
            Operation::Convolution(convolution) => convolution.fold(values),
            Operation::Linear(linear) => [linear.weight, linear.bias] = LINEAR.map(&mut values),
            Operation::MaxPool { .. } | Operation::GlobalAveragePool { .. } => {}
        }
    }
}

/// A batch norm's tensors, scale and shift before the running statistics.
const NORM: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];
const LINEAR: [&str; 2] = ["fc.weight", "fc.bias"];

impl FoldedConvolution {
    /// Weight and bias with the batch norm's running statistics, scale and shift multiplied in.
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

/// Lists the operations of an outline; operation `i` writes value `i + 1`.
#[derive(Default)]
struct Builder {
    operations: Vec<Operation>,
}

impl Builder {
    fn build(mut self, architecture: Architecture) -> Plan {
        let mut taps = [Plan::INPUT; Tap::ALL.len()];

        let StemLayers { convolution, max_pool } = architecture.stem();
        let mut value = self.convolution(convolution, Plan::INPUT, None, true);
        if let Some(pool) = max_pool {
            value = self.push(|output| Operation::MaxPool { input: value, output, pool });
        }
        taps[0] = value;

        for (stage, blocks) in architecture.stages().into_iter().enumerate() {
            for block in blocks {
                let shortcut = match block.downsample {
                    Some(downsample) => self.convolution(downsample, value, None, false),
                    None => value,
                };
                let last = block.convolutions.len() - 1;
                for (index, convolution) in block.convolutions.into_iter().enumerate() {
                    let residual = (index == last).then_some(shortcut);
                    value = self.convolution(convolution, value, residual, true);
                }
            }
            taps[stage + 1] = value;
        }

        value = self.push(|output| Operation::GlobalAveragePool { input: value, output });
        self.linear(value, architecture);
        Plan { architecture, operations: self.operations, taps }
    }

    fn push(&mut self, operation: impl FnOnce(Value) -> Operation) -> Value {
        let output = self.operations.len() + 1;
        self.operations.push(operation(output));
        output
    }

    fn convolution(&mut self, layer: Convolution, input: Value, residual: Option<Value>, relu: bool) -> Value {
        let [weight, bias] = [Vec::new(), Vec::new()];
        self.push(|output| {
            Operation::Convolution(FoldedConvolution { input, output, residual, relu, layer, weight, bias })
        })
    }

    fn linear(&mut self, input: Value, architecture: Architecture) -> Value {
        let [name, norm] = ["fc", ""].map(str::to_owned);
        let (in_channels, out_channels) = (architecture.features(), architecture.classes);
        let layer = Convolution { name, norm, in_channels, out_channels, kernel: 1, stride: 1, padding: 0, groups: 1 };
        let [weight, bias] = [Vec::new(), Vec::new()];
        self.push(|output| Operation::Linear(Linear { input, output, layer, weight, bias }))
    }
}
