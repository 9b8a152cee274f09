//! The layers of a network and the residual blocks that they form.

use super::batch_norm::BatchNorm;
use super::convolution::TrainedConvolution;
use super::tensor_layout::TensorLayout;
use crate::architecture::Convolution;
use crate::engine::Precision;
use std::ops::Range;

/// A convolution with its batch norm, and the positions of their tensors.
pub struct Layer {
    pub convolution: TrainedConvolution,
    pub norm: BatchNorm,
    pub weight: Range<usize>,
    pub gamma: Range<usize>,
    pub beta: Range<usize>,
    pub mean: Range<usize>,
    pub variance: Range<usize>,
}

impl Layer {
    pub fn new(layer: Convolution, reads_image: bool, layout: &TensorLayout, precision: Precision) -> Self {
        let parameter = |name: &str| layout.parameter(name);
        let statistic = |name: &str| layout.statistic(&format!("{}.{name}", layer.norm));
        Layer {
            weight: parameter(&format!("{}.weight", layer.name)),
            gamma: parameter(&format!("{}.weight", layer.norm)),
            beta: parameter(&format!("{}.bias", layer.norm)),
            mean: statistic("running_mean"),
            variance: statistic("running_var"),
            norm: BatchNorm::new(layer.out_channels),
            convolution: TrainedConvolution::new(layer, reads_image, precision),
        }
    }
}

/// Indices of the layers of a residual block.
#[derive(Clone)]
pub struct BlockLayers {
    pub convolutions: Range<usize>,
    pub downsample: Option<usize>,
}

impl BlockLayers {
    /// Returns the width of the zero border that the input of the block needs.
    pub fn input_border(&self, layers: &[Layer]) -> usize {
        let readers = std::iter::once(self.convolutions.start).chain(self.downsample);
        readers.map(|layer| layers[layer].convolution.layer.padding).max().unwrap_or(0)
    }
}
