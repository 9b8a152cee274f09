//! The operations of a plan as the engine executes them, with their packed weights: everything that does not depend
//! on the shape of the input.

use super::super::winograd::WinogradVariant;
use super::convolution_spec::multiply_adds;
use super::tensor_layout::{BLOCK, TensorLayout};
use super::winograd_tiling::{WinogradConvolution, WinogradTiling};
use crate::architecture::{Convolution, MaxPool};
use crate::plan::{FoldedConvolution, Linear, Operation, ValueId};

/// One operation of the plan. It takes one or more dispatches.
pub struct Step {
    pub input: ValueId,
    pub output: ValueId,
    pub kind: StepKind,
}

pub enum StepKind {
    /// A convolution, or the classifier, which is a 1x1 convolution of one pixel.
    Convolution {
        layer: Convolution,
        residual: Option<ValueId>,
        relu: bool,
        /// Winograd variant and product layer. `None` if the layer is not computed by Winograd's algorithm.
        winograd: Option<Box<WinogradConvolution>>,
    },
    MaxPool(MaxPool),
    GlobalAveragePool,
}

impl Step {
    /// Creates the step of an operation, which needs no weights yet. No step uses Winograd's algorithm before
    /// [`set_winograd`](Self::set_winograd).
    pub fn new(operation: &Operation) -> Self {
        let convolution = |layer: &Convolution, residual, relu| StepKind::Convolution {
            layer: layer.clone(),
            residual,
            relu,
            winograd: None,
        };
        let (input, kind) = match operation {
            Operation::Convolution(FoldedConvolution { input, residual, relu, layer, .. }) => {
                (*input, convolution(layer, *residual, *relu))
            }
            Operation::Linear(Linear { input, layer, .. }) => (*input, convolution(layer, None, false)),
            Operation::MaxPool { input, pool, .. } => (*input, StepKind::MaxPool(*pool)),
            Operation::GlobalAveragePool { input, .. } => (*input, StepKind::GlobalAveragePool),
        };
        Step { input, output: operation.output(), kind }
    }

    /// Computes a convolution by Winograd's algorithm if `select` returns a variant for the layer and the value that
    /// it writes.
    pub fn set_winograd(&mut self, select: impl Fn(&Convolution, ValueId) -> Option<WinogradVariant>) {
        if let StepKind::Convolution { layer, winograd, .. } = &mut self.kind {
            let variant = select(layer, self.output);
            *winograd = variant.map(|variant| Box::new(WinogradConvolution::new(variant, layer)));
        }
    }

    /// Returns the number of elements of the packed weights and biases, or `None` for pools.
    pub fn packed_len(&self) -> Option<usize> {
        match &self.kind {
            StepKind::Convolution { layer, winograd, .. } => {
                Some((rows(layer, winograd.as_deref()) + 1) * layer.out_channels.next_multiple_of(BLOCK))
            }
            StepKind::MaxPool(_) | StepKind::GlobalAveragePool => None,
        }
    }

    /// Packs the weights of the operation that this step was created from: `[kernel, in_channels / groups / 4,
    /// kernel, 4, out_channels / 4]` of `vec4f`, then the biases `[out_channels / 4]`; numbers of blocks are rounded
    /// up. For Winograd's algorithm, the weights are transformed: `[positions, in_channels / 4, 4, out_channels /
    /// 4]`. `None` for pools.
    pub fn pack_weights(&self, operation: &Operation) -> Option<Vec<f32>> {
        let (
            StepKind::Convolution { layer, winograd, .. },
            Operation::Convolution(FoldedConvolution { weight, bias, .. })
            | Operation::Linear(Linear { weight, bias, .. }),
        ) = (&self.kind, operation)
        else {
            return None;
        };
        let mut packed = vec![0.0; self.packed_len()?];
        match winograd.as_deref() {
            Some(WinogradConvolution { variant, .. }) => pack_transformed(layer, *variant, weight, &mut packed),
            None => pack_taps(layer, weight, &mut packed),
        }
        let biases = rows(layer, winograd.as_deref()) * layer.out_channels.next_multiple_of(BLOCK);
        packed[biases..][..bias.len()].copy_from_slice(bias);
        Some(packed)
    }

    /// Returns the name of the layer: `layer1.0.conv1`, `maxpool`, `avgpool`, `fc`.
    pub fn name(&self) -> &str {
        match &self.kind {
            StepKind::Convolution { layer, .. } => &layer.name,
            StepKind::MaxPool(_) => "maxpool",
            StepKind::GlobalAveragePool => "avgpool",
        }
    }

    /// Returns all values that the step reads.
    pub fn inputs(&self) -> impl Iterator<Item = ValueId> {
        let residual = match &self.kind {
            StepKind::Convolution { residual, .. } => *residual,
            StepKind::MaxPool(_) | StepKind::GlobalAveragePool => None,
        };
        std::iter::once(self.input).chain(residual)
    }

    /// Returns the width of the zero border that the step needs around its input.
    pub fn input_border(&self) -> usize {
        match &self.kind {
            StepKind::Convolution { layer, .. } => layer.padding,
            StepKind::MaxPool(pool) => pool.padding,
            StepKind::GlobalAveragePool => 0,
        }
    }

    /// Returns the side of the output for an input of side `size`.
    pub fn output_size(&self, size: usize) -> usize {
        match &self.kind {
            StepKind::Convolution { layer, .. } => layer.output_size(size),
            StepKind::MaxPool(pool) => pool.output_size(size),
            StepKind::GlobalAveragePool => 1,
        }
    }

    /// Returns the layouts of the transformed input and of the products, if the step uses Winograd's algorithm.
    pub fn winograd_layouts(&self, output: &TensorLayout) -> Option<[TensorLayout; 2]> {
        match &self.kind {
            StepKind::Convolution { layer, winograd: Some(winograd), .. } => {
                Some(WinogradTiling::new(winograd.variant, output).transformed(layer))
            }
            _ => None,
        }
    }

    /// Returns the number of multiply-adds of a convolution with an output of this shape; 0 for pools.
    pub fn multiply_adds(&self, output: &TensorLayout) -> u64 {
        match &self.kind {
            StepKind::Convolution { layer, .. } => multiply_adds(layer, output),
            StepKind::MaxPool(_) | StepKind::GlobalAveragePool => 0,
        }
    }

    /// Returns the number of output channels, or `None` for pools, which have the channels of their input.
    pub fn out_channels(&self) -> Option<usize> {
        match &self.kind {
            StepKind::Convolution { layer, .. } => Some(layer.out_channels),
            StepKind::MaxPool(_) | StepKind::GlobalAveragePool => None,
        }
    }
}

/// Returns the number of rows of the packed weights. A row has one weight for every output channel.
fn rows(layer: &Convolution, winograd: Option<&WinogradConvolution>) -> usize {
    let matrices = winograd.map_or(layer.kernel * layer.kernel, |winograd| winograd.variant.filter_elements());
    matrices * (layer.in_channels / layer.groups).next_multiple_of(BLOCK)
}

/// Packs `weight`, `[out_channels, in_channels / groups, kernel, kernel]`.
fn pack_taps(layer: &Convolution, weight: &[f32], packed: &mut [f32]) {
    let Convolution { out_channels, kernel, .. } = *layer;
    let in_channels = layer.in_channels / layer.groups;
    let (in_blocks, out_lanes) = (in_channels.div_ceil(BLOCK), out_channels.next_multiple_of(BLOCK));
    let mut weight = weight.iter();
    for out in 0..out_channels {
        for channel in 0..in_channels {
            for y in 0..kernel {
                for x in 0..kernel {
                    let row = ((y * in_blocks + channel / BLOCK) * kernel + x) * BLOCK + channel % BLOCK;
                    packed[row * out_lanes + out] = *weight.next().expect("weights have the shape of the layer");
                }
            }
        }
    }
}

/// Transforms and packs `weight`, `[out_channels, in_channels, 3, 3]`.
fn pack_transformed(layer: &Convolution, variant: WinogradVariant, weight: &[f32], packed: &mut [f32]) {
    let (in_lanes, out_lanes) = (layer.in_channels.next_multiple_of(BLOCK), layer.out_channels.next_multiple_of(BLOCK));
    let alpha = variant.alpha(variant.m);
    let transform = variant.filter_transformer();
    let (filters, _) = weight.as_chunks();
    // With output channels in the inner loop, consecutive writes go to adjacent elements.
    for channel in 0..layer.in_channels {
        for out in 0..layer.out_channels {
            let transformed = transform(&filters[out * layer.in_channels + channel]);
            for (y, row) in transformed[..alpha].iter().enumerate() {
                for (x, weight) in row[..alpha].iter().enumerate() {
                    packed[((y * alpha + x) * in_lanes + channel) * out_lanes + out] = *weight;
                }
            }
        }
    }
}
