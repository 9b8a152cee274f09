//! A network with its parameters, gradients and activations.

mod backward;
mod forward;

use super::classifier::Classifier;
use super::convolution::{Scratch, ScratchSize};
use super::layers::{BlockLayers, Layer};
use super::memory::{GradientBuffers, Slots};
use super::pooling::NormMaxPool;
use super::profile::{Operation, TrainingProfile};
use super::shaped_network::ShapedNetwork;
use super::tensor_layout::TensorLayout;
use super::value::Execution;
use crate::architecture::{Architecture, StemLayers};
use crate::checkpoint::Checkpoint;
use crate::engine::cpu::InstructionSet;
use crate::engine::cpu::buffer::AlignedBuffer;
use crate::engine::cpu::thread_pool::{ThreadPool, ThreadScratch};
use crate::engine::{Device, EngineError, Input, Precision};
use std::collections::BTreeMap;
use std::num::NonZero;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// Options of a [`TrainingNetwork`].
#[derive(Clone, Copy, Debug, Default)]
pub struct TrainingOptions {
    /// Number of threads; by default one per core.
    pub threads: Option<NonZero<usize>>,
    /// Whether the activations within blocks are computed a second time in the backward pass instead of being kept.
    pub gradient_checkpointing: bool,
    /// Precision of the operands of convolutions: f32, or bf16 in the layers where it is faster. Weights and activations
    /// are f32 in memory, and sums are f32.
    pub precision: Precision,
    /// Instruction set; by default the fastest one.
    pub instruction_set: Option<InstructionSet>,
}

/// A network that is trained on the CPU.
pub struct TrainingNetwork {
    architecture: Architecture,
    layout: TensorLayout,
    parameters: AlignedBuffer,
    gradients: AlignedBuffer,
    statistics: Vec<f32>,
    layers: Vec<Layer>,
    pool: Option<NormMaxPool>,
    blocks: Vec<BlockLayers>,
    classifier: ClassifierRange,
    set: InstructionSet,
    threads: Arc<ThreadPool>,
    gradient_checkpointing: bool,
    /// Whether the convolutions hold the current parameters.
    is_packed: bool,
    shaped: Option<Arc<ShapedNetwork>>,
    slots: Slots,
    gradient_buffers: GradientBuffers,
    scratch: ScratchMemory,
    /// Input of the classifier in the last forward pass, `[batch, features]`.
    features: Vec<f32>,
    profile: TrainingProfile,
}

/// Temporary memory of the convolutions.
struct ScratchMemory {
    size: ScratchSize,
    shared: AlignedBuffer,
    per_thread: ThreadScratch,
}

/// Positions of the classifier's parameters.
#[derive(Clone)]
struct ClassifierRange {
    weight: Range<usize>,
    bias: Range<usize>,
}

impl TrainingNetwork {
    /// Creates a network with the weights and running statistics of a checkpoint.
    ///
    /// # Errors
    /// Returns an error if threads cannot be started, or if the instruction set does not support the precision.
    pub fn new(checkpoint: &Checkpoint, options: TrainingOptions) -> Result<Self, EngineError> {
        let failed = |reason| EngineError::Failed { device: Device::Cpu, reason };
        let architecture = checkpoint.architecture();
        let layout = TensorLayout::new(&architecture);
        let set = options.instruction_set.unwrap_or_else(InstructionSet::best);
        let precision = options.precision;
        let is_supported = match precision {
            Precision::F32 => true,
            Precision::Bf16 => set.has_bf16_pairs(),
            Precision::F16 => false,
        };
        if !is_supported {
            return Err(EngineError::UnsupportedPrecision(precision));
        }
        let threads = Arc::new(ThreadPool::new(options.threads.map(NonZero::get)).map_err(failed)?);

        let StemLayers { convolution, max_pool } = architecture.stem();
        let mut layers = vec![Layer::new(convolution, true, &layout, precision)];
        let mut blocks = Vec::new();
        for block in architecture.stages().into_iter().flatten() {
            let first = layers.len();
            let convolutions = block.convolutions.into_iter();
            layers.extend(convolutions.map(|layer| Layer::new(layer, false, &layout, precision)));
            let convolutions = first..layers.len();
            let downsample = block.downsample.map(|layer| {
                layers.push(Layer::new(layer, false, &layout, precision));
                layers.len() - 1
            });
            blocks.push(BlockLayers { convolutions, downsample });
        }
        let mut network = TrainingNetwork {
            architecture,
            parameters: AlignedBuffer::zeroed(layout.parameters_len()),
            gradients: AlignedBuffer::zeroed(layout.parameters_len()),
            statistics: vec![0.0; layout.statistics_len()],
            classifier: ClassifierRange { weight: layout.parameter("fc.weight"), bias: layout.parameter("fc.bias") },
            layout,
            layers,
            pool: max_pool.map(NormMaxPool::new),
            blocks,
            set,
            scratch: ScratchMemory::new(ScratchSize::default(), &threads),
            threads,
            gradient_checkpointing: options.gradient_checkpointing,
            is_packed: false,
            shaped: None,
            slots: Slots::default(),
            gradient_buffers: GradientBuffers::default(),
            features: Vec::new(),
            profile: TrainingProfile::default(),
        };
        network.load(checkpoint);
        Ok(network)
    }

    /// Replaces parameters and running statistics by those of a checkpoint of the same architecture.
    pub fn load(&mut self, checkpoint: &Checkpoint) {
        for tensor in &self.layout.parameters {
            self.parameters[tensor.range.clone()].copy_from_slice(&checkpoint.values(&tensor.name));
        }
        for tensor in &self.layout.statistics {
            self.statistics[tensor.range.clone()].copy_from_slice(&checkpoint.values(&tensor.name));
        }
        self.is_packed = false;
    }

    /// Returns parameters and running statistics by torchvision's names.
    pub fn tensors(&self) -> BTreeMap<String, Vec<f32>> {
        self.layout.named_tensors(&self.parameters, &self.statistics)
    }

    pub fn layout(&self) -> &TensorLayout {
        &self.layout
    }

    pub fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    pub fn statistics(&self) -> &[f32] {
        &self.statistics
    }

    pub fn statistics_mut(&mut self) -> &mut [f32] {
        &mut self.statistics
    }

    /// Returns the gradients that backward passes have added up, in the layout of the parameters.
    pub fn gradients(&self) -> &[f32] {
        &self.gradients
    }

    /// Returns the gradients, for a caller that changes them or sets them to zero.
    pub fn gradients_mut(&mut self) -> &mut [f32] {
        &mut self.gradients
    }

    /// Returns parameters and gradients, for an optimiser that changes the parameters.
    pub fn parameters_and_gradients(&mut self) -> (&mut [f32], &mut [f32]) {
        self.is_packed = false;
        (&mut self.parameters, &mut self.gradients)
    }

    /// Returns the time that each kind of operation has taken so far.
    pub fn profile(&self) -> &TrainingProfile {
        &self.profile
    }

    /// Runs `work` on the threads of the network, which rayon's parallel iterators then use.
    pub fn install<T: Send>(&mut self, work: impl FnOnce(&mut Self) -> T + Send) -> T {
        let threads = self.threads.clone();
        threads.install(|| work(self))
    }

    /// Returns the logits `[batch, classes]` of a batch, with the statistics of the batch in all norms, and updates the
    /// running statistics. The activations are kept for [`backward`](Self::backward).
    pub fn forward(&mut self, input: &Input) -> Vec<f32> {
        let threads = self.threads.clone();
        threads.install(|| {
            let execution = Execution { set: self.set, threads: &threads };
            self.prepare_shape(input.shape(), execution);
            self.pack(execution);
            self.forward_layers(input, execution)
        })
    }

    /// Adds the gradients of all parameters to [`gradients`](Self::gradients), given the gradient of the logits of the
    /// last forward pass.
    ///
    /// # Panics
    /// Panics if there was no forward pass, or if the gradient has another shape than its logits.
    pub fn backward(&mut self, logit_gradients: &[f32]) {
        let threads = self.threads.clone();
        threads.install(|| self.backward_layers(logit_gradients, Execution { set: self.set, threads: &threads }));
    }

    /// Packs the parameters for the kernels.
    fn pack(&mut self, execution: Execution) {
        let is_packed = std::mem::replace(&mut self.is_packed, true);
        for layer in self.layers.iter_mut().filter(|layer| !is_packed || !layer.convolution.has_weights()) {
            let start = Instant::now();
            layer.convolution.replace_weights(&self.parameters[layer.weight.clone()], execution);
            self.profile.add(Operation::PackWeights, start);
        }
    }

    /// Allocates memory for batches of this shape.
    fn prepare_shape(&mut self, shape: [usize; 3], execution: Execution) {
        if self.shaped.as_ref().is_some_and(|shaped| shaped.shape == shape) {
            return;
        }
        let pool = self.pool.as_ref();
        let shaped =
            ShapedNetwork::new(&mut self.layers, &self.blocks, pool, shape, self.gradient_checkpointing, execution);
        self.slots.resize(&shaped.slot_lengths);
        self.scratch.grow(shaped.scratch_size, execution.threads);
        self.shaped = Some(Arc::new(shaped));
    }
}

impl ScratchMemory {
    fn new(size: ScratchSize, threads: &ThreadPool) -> Self {
        let (shared, per_thread) = (AlignedBuffer::zeroed(size.shared), ThreadScratch::new(threads, size.per_thread));
        ScratchMemory { size, shared, per_thread }
    }

    /// Allocates more memory if it does not suffice.
    fn grow(&mut self, size: ScratchSize, threads: &ThreadPool) {
        let size = self.size.max(size);
        if size != self.size {
            // Free the old memory first.
            *self = ScratchMemory::new(ScratchSize::default(), threads);
            *self = ScratchMemory::new(size, threads);
        }
    }

    fn lend(&mut self) -> Scratch<'_> {
        Scratch { shared: &mut self.shared, per_thread: &self.per_thread }
    }
}

impl ClassifierRange {
    fn of<'a>(&self, parameters: &'a [f32]) -> Classifier<'a> {
        Classifier { weight: &parameters[self.weight.clone()], bias: &parameters[self.bias.clone()] }
    }
}
