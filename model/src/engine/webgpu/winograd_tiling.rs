//! The tiles of a convolution by Winograd's algorithm F(m×m, 3×3), and the tensors between its three dispatches.
//!
//! In the notation of Lavin and Gray, the input transform computes `V = B^T d B` for each tile `d` of `alpha = m + 2`
//! pixels on a side, a matrix product for each of the `alpha^2` positions of a tile computes `M = U V` from the
//! transformed weights `U = G g G^T`, and the output transform computes `Y = A^T M A`. V and M are stored as values
//! whose images are the positions, and whose pixels are the tiles of all images in one row; so the products are a 1x1
//! convolution whose weights differ by image.

use super::super::winograd::WinogradVariant;
use super::storage::ElementType;
use super::tensor_layout::TensorLayout;
use crate::architecture::Convolution;

/// A 3x3 convolution that is computed by Winograd's algorithm.
pub struct WinogradConvolution {
    pub variant: WinogradVariant,
    /// The matrix product for each position of a tile, as a 1x1 convolution.
    pub product_layer: Convolution,
}

impl WinogradConvolution {
    /// Creates the convolution for `layer`, which must be a 3x3 convolution with stride 1.
    pub fn new(variant: WinogradVariant, layer: &Convolution) -> Self {
        WinogradConvolution { variant, product_layer: Convolution { kernel: 1, padding: 0, ..layer.clone() } }
    }
}

/// The tiles that cover the outputs of all images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WinogradTiling {
    pub variant: WinogradVariant,
    batch: usize,
    /// Number of rows of tiles in an image.
    pub rows: usize,
    /// Number of tiles in a row of an image.
    pub columns: usize,
}

impl WinogradTiling {
    pub fn new(variant: WinogradVariant, output: &TensorLayout) -> Self {
        let [rows, columns] = [output.height, output.width].map(|side| side.div_ceil(variant.m));
        WinogradTiling { variant, batch: output.batch, rows, columns }
    }

    /// Returns the name printed in profiles: the outputs of a tile, such as `winograd 4x4`.
    pub fn describe(&self) -> String {
        format!("winograd {0}x{0}", self.variant.m)
    }

    /// Returns the number of tiles of all images.
    pub fn tiles(&self) -> usize {
        self.batch * self.rows * self.columns
    }

    /// Returns the layout of V or M with this number of channels: `[alpha^2, channels / 4, 1, tiles]`.
    pub fn transformed_layout(&self, channels: usize) -> TensorLayout {
        let (batch, width) = (self.variant.filter_elements(), self.tiles());
        TensorLayout { channels, batch, height: 1, width, border: 0, element: ElementType::F32 }
    }

    /// Returns the layouts of V and M of a layer.
    pub fn transformed(&self, layer: &Convolution) -> [TensorLayout; 2] {
        [layer.in_channels, layer.out_channels].map(|channels| self.transformed_layout(channels))
    }

    /// Returns whether no tile extends beyond values of this shape.
    pub fn divides(&self, values: &TensorLayout) -> bool {
        [values.height, values.width] == [self.rows, self.columns].map(|tiles| tiles * self.variant.m)
    }
}
