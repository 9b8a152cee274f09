//! The tiles into which tiled kernels split the sums of a convolution along the reduction dimension ("K" of a matrix
//! product).

use super::tensor_layout::input_blocks;
use crate::architecture::Convolution;

/// The slices that a workgroup stages in its memory at once, where a slice is a block of 4 input channels at one tap
/// of the kernel. A tile of channel blocks holds 16 products for each output, so that barriers are rare, and takes at
/// most half of the workgroup memory that every device guarantees, so that two workgroups fit on a core of the smallest
/// device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KTile {
    /// Four blocks of channels at one tap.
    ChannelBlocks,
    /// One block of channels at all taps of a row: for the stem, which has no more blocks, and for pruned layers.
    TapRow,
}

impl KTile {
    /// Returns the tile for a layer, or `None` if tiled kernels do not support the layer.
    pub fn new(layer: &Convolution) -> Option<Self> {
        match input_blocks(layer) {
            _ if layer.groups > 1 => None,
            blocks if blocks.is_multiple_of(KTile::ChannelBlocks.blocks()) => Some(KTile::ChannelBlocks),
            _ if layer.kernel > 1 => Some(KTile::TapRow),
            _ => None,
        }
    }

    /// Returns the number of blocks of input channels in a tile.
    pub fn blocks(self) -> usize {
        match self {
            KTile::ChannelBlocks => 4,
            KTile::TapRow => 1,
        }
    }

    /// Returns the number of slices in a tile.
    pub fn depth(self, layer: &Convolution) -> usize {
        match self {
            KTile::ChannelBlocks => self.blocks(),
            KTile::TapRow => layer.kernel,
        }
    }

    /// Returns the number of tiles along a row of taps.
    pub fn tiles_per_tap_row(self, layer: &Convolution) -> usize {
        match self {
            KTile::ChannelBlocks => layer.kernel,
            KTile::TapRow => 1,
        }
    }
}
