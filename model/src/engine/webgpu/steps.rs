//! The operations of a plan, and their weights as the kernels read them: what all shapes of input share.

use super::super::winograd::Scheme;
use super::planes::{BLOCK, Planes};
use super::shaders::{Tiling, multiply_adds};
use crate::architecture::{Convolution, MaxPool};
use crate::plan::{FoldedConvolution, Linear, Operation, Value};

/// An operation, ready to be laid out for a shape.
pub struct Step {
    pub input: Value,
    pub output: Value,
    pub work: Work,
}

pub enum Work {
    /// The classifier is a convolution of one pixel.
    Convolution {
        layer: Convolution,
        residual: Option<Value>,
        relu: bool,
        /// If it is computed so.
        winograd: Option<Box<Winograd>>,
    },
    MaxPool(MaxPool),
    Average,
}

/// A 3x3 by Winograd's filtering.
pub struct Winograd {
    pub scheme: Scheme,
    /// The matrix product that there is for each point of a tile: the layer, of 1x1.
    pub products: Convolution,
}

impl Winograd {
    /// Of a 3x3 with stride 1.
    pub fn new(scheme: Scheme, layer: &Convolution) -> Self {
        Winograd { scheme, products: Convolution { kernel: 1, padding: 0, ..layer.clone() } }
    }
}

impl Step {
    /// Of an operation, whose weights may still be to come.
    pub fn new(operation: &Operation) -> Self {
        let convolution = |layer: &Convolution, residual, relu| Work::Convolution {
            layer: layer.clone(),
            residual,
            relu,
            winograd: None,
        };
        let (input, work) = match operation {
            Operation::Convolution(FoldedConvolution { input, residual, relu, layer, .. }) => {
                (*input, convolution(layer, *residual, *relu))
            }
            Operation::Linear(Linear { input, layer, .. }) => (*input, convolution(layer, None, false)),
            Operation::MaxPool { input, pool, .. } => (*input, Work::MaxPool(*pool)),
            Operation::GlobalAveragePool { input, .. } => (*input, Work::Average),
        };
        Step { input, output: operation.output(), work }
    }

    /// Has a convolution computed by Winograd's filtering, if there is a scheme for it and the value that it writes.
    pub fn filter(&mut self, scheme: impl Fn(&Convolution, Value) -> Option<Scheme>) {
        if let Work::Convolution { layer, winograd, .. } = &mut self.work {
            *winograd = scheme(layer, self.output).map(|scheme| Box::new(Winograd::new(scheme, layer)));
        }
    }

    /// How many f32 its packed weights are, if it has any.
    pub fn packed_values(&self) -> Option<usize> {
        match &self.work {
            Work::Convolution { layer, winograd, .. } => {
                Some((rows(layer, winograd.as_deref()) + 1) * layer.out_channels.next_multiple_of(BLOCK))
            }
            Work::MaxPool(_) | Work::Average => None,
        }
    }

    /// The weights of the operation that it was made of, if it has any:
    /// `[kernel, in_channels / groups / 4, kernel, 4, out_channels / 4]` of `vec4f`, then the biases `[out_channels / 4]`;
    /// numbers of blocks are rounded up. For Winograd's filtering `[points, in_channels / 4, 4, out_channels / 4]`.
    pub fn pack(&self, operation: &Operation) -> Option<Vec<f32>> {
        let (
            Work::Convolution { layer, winograd, .. },
            Operation::Convolution(FoldedConvolution { weight, bias, .. })
            | Operation::Linear(Linear { weight, bias, .. }),
        ) = (&self.work, operation)
        else {
            return None;
        };
        let mut packed = vec![0.0; self.packed_values()?];
        match winograd.as_deref() {
            Some(Winograd { scheme, .. }) => pack_points(layer, *scheme, weight, &mut packed),
            None => pack_taps(layer, weight, &mut packed),
        }
        let biases = rows(layer, winograd.as_deref()) * layer.out_channels.next_multiple_of(BLOCK);
        packed[biases..][..bias.len()].copy_from_slice(bias);
        Some(packed)
    }

    /// `layer1.0.conv1`, `maxpool`, `avgpool`, `fc`
    pub fn name(&self) -> &str {
        match &self.work {
            Work::Convolution { layer, .. } => &layer.name,
            Work::MaxPool(_) => "maxpool",
            Work::Average => "avgpool",
        }
    }

    /// What it reads.
    pub fn inputs(&self) -> impl Iterator<Item = Value> {
        let residual = match &self.work {
            Work::Convolution { residual, .. } => *residual,
            Work::MaxPool(_) | Work::Average => None,
        };
        std::iter::once(self.input).chain(residual)
    }

    /// The zeros that it needs around its input.
    pub fn border(&self) -> usize {
        match &self.work {
            Work::Convolution { layer, .. } => layer.padding,
            Work::MaxPool(pool) => pool.padding,
            Work::Average => 0,
        }
    }

    /// The side of the output for an input of side `size`.
    pub fn output_size(&self, size: usize) -> usize {
        match &self.work {
            Work::Convolution { layer, .. } => layer.output_size(size),
            Work::MaxPool(pool) => pool.output_size(size),
            Work::Average => 1,
        }
    }

    /// Winograd's points on the way to an output of this shape, in front of the products and behind them.
    pub fn points(&self, to: &Planes) -> Option<[Planes; 2]> {
        match &self.work {
            Work::Convolution { layer, winograd: Some(winograd), .. } => {
                Some(Tiling::new(winograd.scheme, to).points(layer))
            }
            _ => None,
        }
    }

    /// To compute an output of this shape; of convolutions alone.
    pub fn multiply_adds(&self, to: &Planes) -> u64 {
        match &self.work {
            Work::Convolution { layer, .. } => multiply_adds(layer, to),
            Work::MaxPool(_) | Work::Average => 0,
        }
    }

    /// `None` if it has those of its input.
    pub fn out_channels(&self) -> Option<usize> {
        match &self.work {
            Work::Convolution { layer, .. } => Some(layer.out_channels),
            Work::MaxPool(_) | Work::Average => None,
        }
    }
}

/// Rows of packed weights, each of a weight for every output channel.
fn rows(layer: &Convolution, winograd: Option<&Winograd>) -> usize {
    let matrices = winograd.map_or(layer.kernel * layer.kernel, |winograd| winograd.scheme.matrices());
    matrices * (layer.in_channels / layer.groups).next_multiple_of(BLOCK)
}

/// `weight` is `[out_channels, in_channels / groups, kernel, kernel]`.
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
                    packed[row * out_lanes + out] = *weight.next().expect("as many as the layer has");
                }
            }
        }
    }
}

/// `weight` is `[out_channels, in_channels, 3, 3]`.
fn pack_points(layer: &Convolution, scheme: Scheme, weight: &[f32], packed: &mut [f32]) {
    let (in_lanes, out_lanes) = (layer.in_channels.next_multiple_of(BLOCK), layer.out_channels.next_multiple_of(BLOCK));
    let points = scheme.points(scheme.tile);
    let transform = scheme.weight_transform();
    let (pairs, _) = weight.as_chunks();
    // Neighbours are written one after another.
    for channel in 0..layer.in_channels {
        for out in 0..layer.out_channels {
            let transformed = transform(&pairs[out * layer.in_channels + channel]);
            for (y, row) in transformed[..points].iter().enumerate() {
                for (x, weight) in row[..points].iter().enumerate() {
                    packed[((y * points + x) * in_lanes + channel) * out_lanes + out] = *weight;
                }
            }
        }
    }
}
