//! Everything that determines the kernels of one convolution: the layer, the layouts of its values, and the
//! configuration.

use super::kernel_config::{KernelConfig, Specialisation};
use super::storage::{ElementType, StorageFormat};
use super::tensor_layout::{BLOCK, TensorLayout, input_blocks};
use crate::architecture::Convolution;

/// Specification of the kernels of one convolution.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvolutionSpec<'a> {
    pub layer: &'a Convolution,
    pub config: KernelConfig,
    pub storage: StorageFormat,
    pub input: TensorLayout,
    pub output: TensorLayout,
    pub residual: Option<TensorLayout>,
    pub relu: bool,
    /// Number of positions in a tile, `alpha^2`, if the convolution is computed by Winograd's algorithm. Each
    /// position has a weight matrix of its own.
    pub winograd_positions: Option<usize>,
}

impl ConvolutionSpec<'_> {
    /// Returns the number of blocks of input channels that each output depends on.
    pub fn input_blocks(&self) -> usize {
        input_blocks(self.layer)
    }

    /// Returns the number of multiply-adds of the convolution, without those of padded channels.
    pub fn multiply_adds(&self) -> u64 {
        multiply_adds(self.layer, &self.output)
    }

    /// Returns the size of the packed weights and biases, in bytes.
    pub fn weight_bytes(&self) -> u64 {
        ((self.bias_offset() + self.output.blocks()) * BLOCK * self.storage.weight_type().bytes()) as u64
    }

    /// Returns whether the convolution kernel writes the layer's outputs, rather than the sums of a split or Winograd's
    /// products.
    pub fn writes_outputs(&self) -> bool {
        self.config.splits == 1 && self.winograd_positions.is_none()
    }

    /// Returns the layout of what the convolution kernel writes: the output, or the sums of each split, which are f32.
    pub fn written(&self) -> TensorLayout {
        match self.config.splits {
            1 => self.output,
            splits => {
                let (batch, element) = (self.output.batch * splits, ElementType::F32);
                TensorLayout { batch, border: 0, element, ..self.output }
            }
        }
    }

    /// Returns the residual, if the convolution kernel adds it. If there are several splits, the kernel that adds them
    /// up does.
    pub fn added_residual(&self) -> Option<TensorLayout> {
        self.residual.filter(|_| self.config.splits == 1)
    }

    /// Returns the type of the factors of the kernel's products: f16 if values are stored as f16 and the adapter is a
    /// GPU, since most GPUs multiply f16 twice as fast. Software adapters would emulate f16.
    pub fn operand_type(&self, specialisation: Specialisation) -> ElementType {
        match (self.storage, specialisation) {
            (StorageFormat::F16, Specialisation::PerShape) => ElementType::F16,
            _ => ElementType::F32,
        }
    }

    /// Returns the offset of the biases in the packed weights, in blocks.
    pub fn bias_offset(&self) -> usize {
        let matrices = self.winograd_positions.unwrap_or(self.layer.kernel * self.layer.kernel);
        matrices * self.weight_matrix_blocks()
    }

    /// Returns the size of the weight matrix of a tap of the kernel, or of a position in a Winograd tile, in blocks.
    pub fn weight_matrix_blocks(&self) -> usize {
        self.input_blocks() * BLOCK * self.output.blocks()
    }
}

/// Returns the number of multiply-adds of a layer, not counting those with the zeros that pad channels to whole blocks.
pub fn multiply_adds(layer: &Convolution, output: &TensorLayout) -> u64 {
    let sides = layer.weight_shape().into_iter().chain([output.batch, output.height, output.width]);
    sides.map(|side| side as u64).product()
}
