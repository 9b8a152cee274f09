//! Estimates of the time that kernels take, in multiply-adds of one lane. The constants are orders of magnitude,
//! derived from the clock rates and bandwidths that vendors publish.

use super::super::AdapterKind;
use super::super::winograd::WinogradVariant;
use super::k_tile::KTile;
use super::kernel_config::{KernelConfig, KernelFamily, TILED_WORKGROUP_SIDE};
use super::tensor_layout::{BLOCK, TensorLayout, input_blocks};
use super::winograd_tiling::WinogradTiling;
use crate::architecture::Convolution;

/// Cost of reading four values through the caches.
const CACHE_READ: f64 = 8.0;
/// Cost of reading four values from workgroup memory.
const WORKGROUP_MEMORY_READ: f64 = 4.0;
/// Latency of a read from memory.
const LATENCY: f64 = 400.0;
/// Cost of an additional dispatch, which waits for the previous one: about 15 microseconds.
const DISPATCH: f64 = 20_000.0;

impl AdapterKind {
    /// Returns the number of lanes of a mid-range adapter of the kind: for GPUs, 128 per core of Apple's and NVIDIA's,
    /// which have 8 to 64 cores; for processors, 4 or 8 per core, of which there are a few.
    fn lanes(self) -> f64 {
        match self {
            AdapterKind::Software => 16.0,
            AdapterKind::Direct => 2048.0,
            AdapterKind::Tiled => 8192.0,
        }
    }

    /// Returns the cost of transferring four values from or to memory, whose bandwidth all lanes share.
    fn memory_transfer(self) -> f64 {
        let all_lanes = match self {
            AdapterKind::Software => 50.0,
            AdapterKind::Direct | AdapterKind::Tiled => 100.0,
        };
        all_lanes / self.lanes()
    }
}

/// Estimates the time of a convolution, without its reads of weights from memory. A lone invocation takes as long as
/// many concurrent ones; invocations in excess of the lanes wait.
pub fn convolution_cost(kind: AdapterKind, config: &KernelConfig, layer: &Convolution, output: &TensorLayout) -> f64 {
    let [pixels, blocks, splits] = [config.pixels, config.blocks, config.splits].map(|count| count as f64);
    let multiply_adds = (4 * BLOCK) as f64 * pixels * blocks;
    let kernel = layer.kernel as f64;
    let input_blocks = input_blocks(layer) as f64 / splits;
    // `instructions` and `min_time` are per iteration of an invocation's loop.
    let (iterations, instructions, min_time, invocations) = match config.family {
        KernelFamily::Direct => {
            let inputs = if layer.kernel == 1 { pixels } else { (pixels - 1.0) * layer.stride as f64 + kernel };
            let reads = inputs + 4.0 * blocks * kernel;
            let instructions = multiply_adds * kernel + CACHE_READ * reads;
            let tiles =
                output.batch * output.height * output.width.div_ceil(config.pixels) * output.blocks() / config.blocks;
            (kernel * input_blocks, instructions, instructions + LATENCY, tiles)
        }
        KernelFamily::Tiled => {
            let k_tile = KTile::new(layer).expect("tiled configurations exist only for layers with K tiles");
            let depth = k_tile.depth(layer) as f64;
            let reads = pixels + 4.0 * blocks;
            let side = TILED_WORKGROUP_SIDE as f64;
            let instructions = depth * (multiply_adds + WORKGROUP_MEMORY_READ * reads + CACHE_READ * reads / side);
            let tiles = (output.batch * output.height * output.width).div_ceil(TILED_WORKGROUP_SIDE * config.pixels)
                * output.blocks().div_ceil(TILED_WORKGROUP_SIDE * config.blocks);
            // The kernel prefetches: products and latency overlap.
            let min_time = instructions.max(LATENCY);
            (
                kernel * kernel * input_blocks / depth,
                instructions,
                min_time,
                tiles * TILED_WORKGROUP_SIDE * TILED_WORKGROUP_SIDE,
            )
        }
    };
    let invocations_per_lane = invocations as f64 * splits / kind.lanes();
    let reduction = match config.splits {
        1 => 0.0,
        _ => DISPATCH + kind.memory_transfer() * output.interior_blocks() as f64 * (2.0 * splits + 1.0),
    };
    iterations * min_time.max(instructions * invocations_per_lane) + reduction
}

/// Estimates the time to read a layer's weights from memory, `matrices` for each pair of channels.
pub fn weight_read_cost(kind: AdapterKind, layer: &Convolution, matrices: usize) -> f64 {
    kind.memory_transfer() * (matrices * input_blocks(layer) * layer.out_channels) as f64
}

/// Estimates the time of the input and output transforms of Winograd's algorithm, each of which is a further dispatch.
pub fn winograd_transform_cost(
    kind: AdapterKind,
    variant: WinogradVariant,
    layer: &Convolution,
    output: &TensorLayout,
) -> f64 {
    let transformed = WinogradTiling::new(variant, output).transformed(layer);
    let [inputs, products] = transformed.map(|layout| (layout.batch * layout.image_stride()) as f64);
    // The cost of the products includes their reads of the transformed inputs.
    2.0 * DISPATCH + kind.memory_transfer() * (inputs + 2.0 * products)
}
