//! A network with its parameters, gradients and activations: forward and backward pass.

use super::batch_norm::{BatchNorm, Following, RunningStatistics, Shortcut};
use super::classifier::Classifier;
use super::convolution::{Scratch, ScratchSize, TrainedConvolution};
use super::memory::{Gradient, GradientBuffers, Slots, StoredValue};
use super::pooling::{self, NormMaxPool};
use super::profile::{Operation, TrainingProfile};
use super::shaped::{ShapedLayer, ShapedNetwork};
use super::tensor_layout::TensorLayout;
use super::value::Execution;
use crate::architecture::{Architecture, Convolution, StemLayers};
use crate::checkpoint::Checkpoint;
use crate::engine::cpu::InstructionSet;
use crate::engine::cpu::blocked_shape::BlockedShape;
use crate::engine::cpu::buffer::AlignedBuffer;
use crate::engine::cpu::thread_pool::{ThreadPool, ThreadScratch};
use crate::engine::{EngineError, Input};
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

/// A convolution with its batch norm, and the positions of their tensors.
pub(super) struct Layer {
    pub convolution: TrainedConvolution,
    norm: BatchNorm,
    weight: Range<usize>,
    gamma: Range<usize>,
    beta: Range<usize>,
    mean: Range<usize>,
    variance: Range<usize>,
}

/// Positions of the classifier's parameters.
#[derive(Clone)]
struct ClassifierRange {
    weight: Range<usize>,
    bias: Range<usize>,
}

/// Indices of the layers of a residual block.
#[derive(Clone)]
pub(super) struct BlockLayers {
    pub convolutions: Range<usize>,
    pub downsample: Option<usize>,
}

impl TrainingNetwork {
    /// Creates a network with the weights and running statistics of a checkpoint.
    ///
    /// # Errors
    /// Returns an error if threads cannot be started.
    pub fn new(checkpoint: &Checkpoint, options: TrainingOptions) -> Result<Self, EngineError> {
        let failed = |reason| EngineError::Failed { device: crate::engine::Device::Cpu, reason };
        let architecture = checkpoint.architecture();
        let layout = TensorLayout::new(&architecture);
        let set = options.instruction_set.unwrap_or_else(InstructionSet::best);
        let threads = Arc::new(ThreadPool::new(options.threads.map(NonZero::get)).map_err(failed)?);

        let StemLayers { convolution, max_pool } = architecture.stem();
        let mut layers = vec![Layer::new(convolution, true, &layout)];
        let mut blocks = Vec::new();
        for block in architecture.stages().into_iter().flatten() {
            let first = layers.len();
            layers.extend(block.convolutions.into_iter().map(|layer| Layer::new(layer, false, &layout)));
            let convolutions = first..layers.len();
            let downsample = block.downsample.map(|layer| {
                layers.push(Layer::new(layer, false, &layout));
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
        if std::mem::replace(&mut self.is_packed, true) {
            return;
        }
        let start = Instant::now();
        for layer in &mut self.layers {
            layer.convolution.replace_weights(&self.parameters[layer.weight.clone()], execution);
        }
        self.profile.add(Operation::PackWeights, start);
    }

    /// Allocates memory for batches of this shape.
    fn prepare_shape(&mut self, shape: [usize; 3], execution: Execution) {
        if self.shaped.as_ref().is_some_and(|shaped| shaped.shape == shape) {
            return;
        }
        let pool = self.pool.as_ref();
        let shaped =
            ShapedNetwork::new(&mut self.layers, &self.blocks, pool, shape, self.gradient_checkpointing, execution);
        // Another algorithm may have been chosen.
        self.is_packed = false;
        self.slots.resize(&shaped.slot_lengths);
        self.gradient_buffers.clear();
        self.scratch = ScratchMemory::new(self.scratch.size.max(shaped.scratch_size), execution.threads);
        self.shaped = Some(Arc::new(shaped));
    }

    fn forward_layers(&mut self, input: &Input, execution: Execution) -> Vec<f32> {
        let shaped = self.shaped.clone().expect("the shape is prepared");
        let start = Instant::now();
        shaped.image.write_input(input, 0, self.slots.raw_mut(shaped.image_slot), execution.threads);
        self.profile.add(Operation::Input, start);
        self.convolve(&shaped, 0, execution);
        self.compute_statistics(&shaped, 0, execution);
        if let Some(pool) = &mut self.pool {
            let start = Instant::now();
            let norm = &self.layers[0].norm;
            self.slots.write(&shaped.stem_output, |slots, output| {
                pool.forward(norm, slots.value(&shaped.layers[0].convolved), output, execution);
            });
            self.profile.add(Operation::Pool, start);
        } else {
            self.normalise(&shaped, 0, None, &shaped.stem_output, execution);
        }
        for block in 0..self.blocks.len() {
            self.forward_block(&shaped, block, true, execution);
        }
        let start = Instant::now();
        self.features.resize(shaped.shape[0] * self.architecture.features(), 0.0);
        let last = shaped.block_outputs.last().expect("a network has blocks");
        pooling::global_average_pool(self.slots.value(last), &mut self.features, execution);
        let logits = self.classifier.of(&self.parameters).forward(&self.features, execution);
        self.profile.add(Operation::Classifier, start);
        logits
    }

    /// Computes a block. Without `with_statistics`, the norms use the statistics of the last computation.
    fn forward_block(&mut self, shaped: &ShapedNetwork, block: usize, with_statistics: bool, execution: Execution) {
        let BlockLayers { convolutions, downsample } = self.blocks[block].clone();
        for layer in convolutions.clone().chain(downsample) {
            self.convolve(shaped, layer, execution);
            if with_statistics {
                self.compute_statistics(shaped, layer, execution);
            }
            if let Some(normalised) = &shaped.layers[layer].normalised {
                self.normalise(shaped, layer, None, normalised, execution);
            }
        }
        self.normalise(shaped, convolutions.end - 1, Some(block), &shaped.block_outputs[block], execution);
    }

    fn convolve(&mut self, shaped: &ShapedNetwork, layer: usize, execution: Execution) {
        let start = Instant::now();
        let ShapedLayer { input, convolved, schedule, .. } = &shaped.layers[layer];
        let (convolution, scratch) = (&self.layers[layer].convolution, &mut self.scratch.lend());
        self.slots.write(convolved, |slots, output| {
            let values = input.as_ref().map_or(slots.raw(shaped.image_slot), |input| slots.value(input).values);
            let input_shape = input.as_ref().map(|input| &input.shape);
            convolution.forward(schedule, values, input_shape, output, scratch, execution);
        });
        self.profile.add(Operation::Convolution, start);
    }

    fn compute_statistics(&mut self, shaped: &ShapedNetwork, layer: usize, execution: Execution) {
        let start = Instant::now();
        let Layer { norm, gamma, beta, mean, variance, .. } = &mut self.layers[layer];
        let [mean, variance] = self
            .statistics
            .get_disjoint_mut([mean.clone(), variance.clone()])
            .expect("the ranges of tensors are disjoint");
        norm.compute_statistics(
            self.slots.value(&shaped.layers[layer].convolved),
            [&self.parameters[gamma.clone()], &self.parameters[beta.clone()]],
            RunningStatistics { mean, variance },
            execution,
        );
        self.profile.add(Operation::Norm, start);
    }

    /// Applies norm and ReLU of a layer, and before the ReLU the shortcut of the block whose last layer it is.
    fn normalise(
        &mut self,
        shaped: &ShapedNetwork,
        layer: usize,
        block: Option<usize>,
        output: &StoredValue,
        execution: Execution,
    ) {
        let start = Instant::now();
        let (layers, blocks) = (&self.layers, &self.blocks);
        self.slots.write(output, |slots, output| {
            let shortcut = match block.map(|block| (block, blocks[block].downsample)) {
                None => Shortcut::None,
                Some((block, None)) => Shortcut::Identity(slots.value(shaped.block_input(block))),
                Some((_, Some(projection))) => {
                    Shortcut::Projection(slots.value(&shaped.layers[projection].convolved), &layers[projection].norm)
                }
            };
            layers[layer].norm.apply(slots.value(&shaped.layers[layer].convolved), shortcut, output, execution);
        });
        self.profile.add(Operation::Norm, start);
    }

    fn backward_layers(&mut self, logit_gradients: &[f32], execution: Execution) {
        let shaped = self.shaped.clone().expect("there was a forward pass");
        let start = Instant::now();
        let ClassifierRange { weight, bias } = self.classifier.clone();
        let [weight, bias] =
            self.gradients.get_disjoint_mut([weight, bias]).expect("the ranges of tensors are disjoint");
        let classifier = self.classifier.of(&self.parameters);
        let features = classifier.backward(&self.features, logit_gradients, weight, bias, execution);
        self.profile.add(Operation::Classifier, start);

        let start = Instant::now();
        let last = shaped.block_outputs.last().expect("a network has blocks");
        let mut gradient = self.gradient_buffers.take(BlockedShape { border: 0, ..last.shape });
        pooling::global_average_pool_gradient(&features, gradient.value_mut(), execution);
        self.profile.add(Operation::PoolGradient, start);

        for block in (0..self.blocks.len()).rev() {
            if self.gradient_checkpointing && block + 1 < self.blocks.len() {
                self.forward_block(&shaped, block, false, execution);
            }
            gradient = self.backward_block(&shaped, block, gradient, execution);
        }
        self.backward_stem(&shaped, gradient, execution);
    }

    /// Computes the gradients of a block's parameters, and returns that of its input. `gradient` is that of its output.
    fn backward_block(
        &mut self,
        shaped: &ShapedNetwork,
        block: usize,
        mut gradient: Gradient,
        execution: Execution,
    ) -> Gradient {
        let BlockLayers { convolutions, downsample } = self.blocks[block].clone();
        let last = convolutions.end - 1;
        // From here on, `gradient` is that of the sum of shortcut and last norm.
        let mut inner = self.gradient_buffers.take(shaped.layers[last].gradient);
        let result = &shaped.block_outputs[block];
        let following = Following::ShortcutAndRelu(result);
        self.norm_gradients(shaped, last, following, &mut gradient, Some(&mut inner), execution);
        let shortcut = match downsample {
            None => gradient,
            Some(layer) => {
                let mut projected = self.gradient_buffers.take(shaped.layers[layer].gradient);
                let following = Following::Nothing;
                self.norm_gradients(shaped, layer, following, &mut gradient, Some(&mut projected), execution);
                self.gradient_buffers.release(gradient);
                self.convolution_gradients(shaped, layer, projected, None, execution)
            }
        };
        for layer in convolutions.clone().rev() {
            if layer == convolutions.start {
                let gradient = self.convolution_gradients(shaped, layer, inner, Some(&shortcut), execution);
                self.gradient_buffers.release(shortcut);
                return gradient;
            }
            inner = self.convolution_gradients(shaped, layer, inner, None, execution);
            self.norm_gradients(shaped, layer - 1, Following::Relu, &mut inner, None, execution);
        }
        unreachable!("a block has convolutions")
    }

    fn backward_stem(&mut self, shaped: &ShapedNetwork, mut gradient: Gradient, execution: Execution) {
        let mut following = Following::Relu;
        if let Some(pool) = &self.pool {
            let start = Instant::now();
            let mut unpooled = self.gradient_buffers.take(shaped.layers[0].gradient);
            pool.gradient(gradient.value(), unpooled.value_mut(), execution);
            self.gradient_buffers.release(std::mem::replace(&mut gradient, unpooled));
            // The gradient of the pool is zero where the ReLU is.
            following = Following::Nothing;
            self.profile.add(Operation::PoolGradient, start);
        }
        self.norm_gradients(shaped, 0, following, &mut gradient, None, execution);
        self.weight_gradient(shaped, 0, &gradient, execution);
        self.gradient_buffers.release(gradient);
    }

    /// Computes the gradients of a norm's parameters, and writes that of its input to `output`, by default in place of
    /// `gradient`, which is the gradient after the `following` function.
    fn norm_gradients(
        &mut self,
        shaped: &ShapedNetwork,
        layer: usize,
        following: Following<&StoredValue>,
        gradient: &mut Gradient,
        output: Option<&mut Gradient>,
        execution: Execution,
    ) {
        let start = Instant::now();
        let Layer { norm, gamma, beta, .. } = &mut self.layers[layer];
        let input = self.slots.value(&shaped.layers[layer].convolved);
        let following = following.map(|stored| self.slots.value(stored));
        let parameters =
            self.gradients.get_disjoint_mut([gamma.clone(), beta.clone()]).expect("the ranges of tensors are disjoint");
        let gradient = gradient.value_mut();
        norm.parameter_gradients(input, gradient, following, parameters, execution);
        let output = output.map_or(gradient, Gradient::value_mut);
        norm.input_gradient(input, gradient, following, output, execution);
        self.profile.add(Operation::NormGradient, start);
    }

    /// Computes the gradients of a convolution's weights and input, and adds `residual` to the latter. `gradient` is
    /// that of its output.
    fn convolution_gradients(
        &mut self,
        shaped: &ShapedNetwork,
        layer: usize,
        gradient: Gradient,
        residual: Option<&Gradient>,
        execution: Execution,
    ) -> Gradient {
        self.weight_gradient(shaped, layer, &gradient, execution);
        let start = Instant::now();
        let ShapedLayer { schedule, input_gradient, .. } = &shaped.layers[layer];
        let mut result = self.gradient_buffers.take(*input_gradient);
        self.layers[layer].convolution.input_gradient(
            schedule,
            gradient.value(),
            residual.map(Gradient::value),
            result.value_mut(),
            &mut self.scratch.lend(),
            execution,
        );
        self.gradient_buffers.release(gradient);
        self.profile.add(Operation::InputGradient, start);
        result
    }

    fn weight_gradient(&mut self, shaped: &ShapedNetwork, layer: usize, gradient: &Gradient, execution: Execution) {
        let start = Instant::now();
        let ShapedLayer { input, schedule, .. } = &shaped.layers[layer];
        let input = input.as_ref().map_or(self.slots.raw(shaped.image_slot), |input| self.slots.value(input).values);
        let target = &mut self.gradients[self.layers[layer].weight.clone()];
        schedule.weight_gradient.run(input, gradient.value(), target, &mut self.scratch.shared, execution);
        self.profile.add(Operation::WeightGradient, start);
    }
}

impl ScratchMemory {
    fn new(size: ScratchSize, threads: &ThreadPool) -> Self {
        let (shared, per_thread) = (AlignedBuffer::zeroed(size.shared), ThreadScratch::new(threads, size.per_thread));
        ScratchMemory { size, shared, per_thread }
    }

    fn lend(&mut self) -> Scratch<'_> {
        Scratch { shared: &mut self.shared, per_thread: &self.per_thread }
    }
}

impl Layer {
    fn new(layer: Convolution, reads_image: bool, layout: &TensorLayout) -> Self {
        let parameter = |name: &str| layout.parameter(name);
        let statistic = |name: &str| layout.statistic(&format!("{}.{name}", layer.norm));
        Layer {
            weight: parameter(&format!("{}.weight", layer.name)),
            gamma: parameter(&format!("{}.weight", layer.norm)),
            beta: parameter(&format!("{}.bias", layer.norm)),
            mean: statistic("running_mean"),
            variance: statistic("running_var"),
            norm: BatchNorm::new(layer.out_channels),
            convolution: TrainedConvolution::new(layer, reads_image),
        }
    }
}

impl BlockLayers {
    /// Returns the width of the zero border that the input of the block needs.
    pub fn input_border(&self, layers: &[Layer]) -> usize {
        let readers = std::iter::once(self.convolutions.start).chain(self.downsample);
        readers.map(|layer| layers[layer].convolution.layer.padding).max().unwrap_or(0)
    }
}

impl ClassifierRange {
    fn of<'a>(&self, parameters: &'a [f32]) -> Classifier<'a> {
        Classifier { weight: &parameters[self.weight.clone()], bias: &parameters[self.bias.clone()] }
    }
}
