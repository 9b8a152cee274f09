//! The parameters of a convolution kernel, and all configurations that can compute a layer.

use super::k_tile::KTile;
use super::tensor_layout::{BLOCK, TensorLayout, input_blocks};
use crate::architecture::Convolution;

/// Side of a workgroup of [`KernelFamily::Tiled`]: its number of invocations along pixels, and along output blocks.
pub const TILED_WORKGROUP_SIDE: usize = 8;

/// Workgroup size of all kernels other than convolutions, as in their `@workgroup_size`.
pub const LINEAR_WORKGROUP: usize = 64;

/// Configuration of a convolution kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelConfig {
    pub family: KernelFamily,
    /// Number of output pixels per invocation: neighbours in a row in the direct family, [`TILED_WORKGROUP_SIDE`] apart
    /// in the tiled one.
    pub pixels: usize,
    /// Number of blocks of four output channels per invocation.
    pub blocks: usize,
    /// Number of invocations of a workgroup along output blocks, and along tiles of pixels. In the tiled family, both
    /// are [`TILED_WORKGROUP_SIDE`].
    pub workgroup: [usize; 2],
    /// Number of parts into which the input channels are split ("split-K"). If there are several, a second dispatch
    /// adds up their sums.
    pub splits: usize,
}

/// The path by which a convolution kernel reads values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelFamily {
    /// Invocations read values through the caches.
    Direct,
    /// Workgroups stage values in workgroup memory.
    Tiled,
}

/// Specialisation of shaders for the shapes that they compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Specialisation {
    /// Shapes are constants, and loops over anything that can be in registers are unrolled. Compilers optimise such
    /// shaders best.
    PerShape,
    /// Shapes are read from a buffer, so that layers share kernels, and inputs and outputs are read and written in
    /// loops: for adapters that compile slowly, one kernel after the other, and gain little from specialisation.
    Shared,
}

/// Tiles of an invocation of the direct family, pixels by output blocks, in order of preference: the more products per
/// value read, the better.
const DIRECT_TILES: [(usize, usize); 6] = [(8, 2), (7, 2), (4, 2), (4, 1), (2, 1), (1, 1)];
/// Tiles of an invocation of the tiled family, likewise.
const TILED_TILES: [(usize, usize); 6] = [(8, 2), (4, 2), (8, 1), (4, 1), (2, 2), (2, 1)];
/// Numbers of parts into which input channels can be split.
const SPLITS: [usize; 5] = [1, 2, 4, 8, 16];

impl KernelConfig {
    /// Returns the name printed in profiles: pixels by channels, of an invocation in the direct family and of a
    /// workgroup in the tiled one, and the number of splits, such as `tiled 64x64 split 4`.
    pub fn describe(&self) -> String {
        let (name, side) = match self.family {
            KernelFamily::Direct => ("direct", 1),
            KernelFamily::Tiled => ("tiled", TILED_WORKGROUP_SIDE),
        };
        let name = format!("{name} {}x{}", self.pixels * side, self.blocks * BLOCK * side);
        match self.splits {
            1 => name,
            splits => format!("{name} split {splits}"),
        }
    }
}

/// Returns all direct configurations for a layer. A workgroup has at most `max_blocks` invocations along output
/// blocks, and `size` in total.
pub fn direct_configs(layer: &Convolution, output: &TensorLayout, [max_blocks, size]: [usize; 2]) -> Vec<KernelConfig> {
    let output_blocks = output.blocks();
    // The blocks of a tile share their inputs, and are spaced equally over the output blocks.
    let fits = |&(pixels, blocks): &(usize, usize)| {
        pixels <= output.width && (blocks == 1 || (layer.groups == 1 && output_blocks.is_multiple_of(blocks)))
    };
    let config = |(pixels, blocks): (usize, usize)| {
        let x = max_blocks.min((output_blocks / blocks).next_power_of_two());
        KernelConfig { family: KernelFamily::Direct, pixels, blocks, workgroup: [x, size / x], splits: 1 }
    };
    with_splits(DIRECT_TILES.into_iter().filter(fits).map(config), input_blocks(layer))
}

/// Returns all tiled configurations for a layer. The list is empty if tiled kernels do not support the layer.
pub fn tiled_configs(layer: &Convolution) -> Vec<KernelConfig> {
    let Some(k_tile) = KTile::new(layer) else { return Vec::new() };
    let workgroup = [TILED_WORKGROUP_SIDE; 2];
    let config = |(pixels, blocks)| KernelConfig { family: KernelFamily::Tiled, pixels, blocks, workgroup, splits: 1 };
    with_splits(TILED_TILES.into_iter().map(config), input_blocks(layer) / k_tile.blocks())
}

/// Combines each configuration with all numbers of splits that divide `input_blocks`.
fn with_splits(configs: impl Iterator<Item = KernelConfig>, input_blocks: usize) -> Vec<KernelConfig> {
    let splits = SPLITS.into_iter().filter(move |&splits| input_blocks.is_multiple_of(splits));
    configs.flat_map(|config| splits.clone().map(move |splits| KernelConfig { splits, ..config })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_pixels_by_channels_and_splits() {
        let config = KernelConfig { family: KernelFamily::Direct, pixels: 7, blocks: 2, workgroup: [4, 4], splits: 1 };
        assert_eq!(config.describe(), "direct 7x8");
        let config = KernelConfig { family: KernelFamily::Tiled, pixels: 8, workgroup: [8, 8], splits: 4, ..config };
        assert_eq!(config.describe(), "tiled 64x64 split 4");
    }
}
