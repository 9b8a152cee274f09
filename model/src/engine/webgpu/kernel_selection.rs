//! Selection of the kernel for each convolution: by a table over kinds of adapters and a cost model over shapes,
//! never by timing.

use super::super::AdapterKind;
use super::super::winograd::WinogradVariant;
use super::cost_model::{convolution_cost, weight_read_cost, winograd_transform_cost};
use super::k_tile::KTile;
use super::kernel_config::{KernelConfig, Specialisation, direct_configs, tiled_configs};
use super::storage::StorageFormat;
use super::tensor_layout::{BLOCK, TensorLayout, input_blocks};
use super::winograd_tiling::{WinogradConvolution, WinogradTiling};
use crate::architecture::Convolution;
use std::cmp::Reverse;

/// Minimum number of output pixels of a batch for tiled kernels, whose tiles would be mostly empty with fewer.
const MIN_TILED_PIXELS: usize = 16;

/// Maximum number of sums (blocks of four) per invocation of a direct kernel on a GPU. With the inputs and weights,
/// they fill the registers of Intel's and ARM's GPUs.
const MAX_DIRECT_SUMS: usize = 8;

impl AdapterKind {
    /// Returns the specialisation of shaders for adapters of this kind.
    pub fn specialisation(self) -> Specialisation {
        match self {
            AdapterKind::Software => Specialisation::Shared,
            AdapterKind::Direct | AdapterKind::Tiled => Specialisation::PerShape,
        }
    }
}

/// Selects the kernel of a layer that is not computed by Winograd's algorithm.
pub fn select_kernel(kind: AdapterKind, layer: &Convolution, output: &TensorLayout) -> KernelConfig {
    let pixels = output.batch * output.height * output.width;
    match kind {
        AdapterKind::Software => largest_tile(layer, output),
        AdapterKind::Tiled if KTile::new(layer).is_some() && pixels >= MIN_TILED_PIXELS => {
            cheapest(kind, tiled_configs(layer).into_iter(), layer, output)
        }
        AdapterKind::Tiled | AdapterKind::Direct => cheapest(kind, gpu_direct_configs(layer, output), layer, output),
    }
}

/// Selects the kernel of Winograd's products, without splits: the output transform does not add them up, and the many
/// positions provide enough invocations. On software adapters, all layers share the kernel with the largest tile: the
/// tiles of all images form one long row, at whose end little work is wasted.
pub fn select_product_kernel(kind: AdapterKind, product_layer: &Convolution, products: &TensorLayout) -> KernelConfig {
    match kind {
        AdapterKind::Software => direct_configs(product_layer, products, [4, 16])[0],
        AdapterKind::Direct | AdapterKind::Tiled => {
            let candidates = gpu_direct_configs(product_layer, products).filter(|config| config.splits == 1);
            cheapest(kind, candidates, product_layer, products)
        }
    }
}

/// Selects the variant of Winograd's algorithm for a layer, if one is faster than a direct or tiled kernel and its
/// weights fit into a buffer of `max_buffer_size` bytes.
pub fn select_winograd(
    kind: AdapterKind,
    storage: StorageFormat,
    max_buffer_size: u64,
    layer: &Convolution,
    output: &TensorLayout,
) -> Option<WinogradVariant> {
    let supported = [layer.kernel, layer.stride, layer.padding, layer.groups] == [3, 1, 1, 1];
    let tile_sizes: &[usize] = match kind {
        AdapterKind::Software => &[4, 2],
        // The transforms of larger tiles need more registers than such GPUs have.
        AdapterKind::Direct => &[2],
        // A workgroup's tile of pixels would span several positions, whose weights differ.
        AdapterKind::Tiled => &[],
    };
    // The transformed weights need more precision than f16 has.
    if !supported || storage != StorageFormat::F32 {
        return None;
    }
    let matrix_bytes = (input_blocks(layer) * BLOCK * output.blocks() * BLOCK * storage.weight_type().bytes()) as u64;
    let variants = tile_sizes.iter().map(|&m| WinogradVariant { m, stride: 1 });
    // One more matrix leaves room for the biases.
    let fitting = variants.filter(|variant| (variant.filter_elements() as u64 + 1) * matrix_bytes <= max_buffer_size);
    let costs = fitting.map(|variant| (winograd_cost(kind, variant, layer, output), Some(variant)));
    let config = select_kernel(kind, layer, output);
    let cost_without =
        convolution_cost(kind, &config, layer, output) + weight_read_cost(kind, layer, layer.kernel * layer.kernel);
    costs.fold((cost_without, None), |best, next| if next.0 < best.0 { next } else { best }).1
}

/// Estimates the time of a layer by Winograd's algorithm.
fn winograd_cost(kind: AdapterKind, variant: WinogradVariant, layer: &Convolution, output: &TensorLayout) -> f64 {
    let WinogradConvolution { product_layer, .. } = WinogradConvolution::new(variant, layer);
    let [_, products] = WinogradTiling::new(variant, output).transformed(layer);
    let config = select_product_kernel(kind, &product_layer, &products);
    convolution_cost(kind, &config, &product_layer, &products)
        + weight_read_cost(kind, layer, variant.filter_elements())
        + winograd_transform_cost(kind, variant, layer, output)
}

/// Returns the direct configurations whose sums fit into the registers of every GPU.
fn gpu_direct_configs(layer: &Convolution, output: &TensorLayout) -> impl Iterator<Item = KernelConfig> {
    let configs = direct_configs(layer, output, [16, 64]).into_iter();
    configs.filter(|config| config.pixels * config.blocks <= MAX_DIRECT_SUMS)
}

fn cheapest(
    kind: AdapterKind,
    candidates: impl Iterator<Item = KernelConfig>,
    layer: &Convolution,
    output: &TensorLayout,
) -> KernelConfig {
    let costs = candidates.map(|config| (convolution_cost(kind, &config, layer, output), config));
    costs.min_by(|(a, _), (b, _)| a.total_cmp(b)).expect("the smallest tile always fits").1
}

/// Returns the configuration with the largest tile, counting tiles of 7 and 8 pixels as equal; among equals, the one
/// that computes the fewest pixels beyond the ends of rows.
fn largest_tile(layer: &Convolution, output: &TensorLayout) -> KernelConfig {
    let candidates = direct_configs(layer, output, [4, 16]).into_iter().filter(|config| config.splits == 1);
    let size = |config: &KernelConfig| config.pixels.min(7) * config.blocks;
    let waste = |config: &KernelConfig| output.width.next_multiple_of(config.pixels) - output.width;
    let best = candidates.min_by_key(|config| (Reverse(size(config)), waste(config)));
    best.expect("the smallest tile always fits")
}

#[cfg(test)]
mod tests {
    use super::super::storage::ElementType;
    use super::*;
    use crate::architecture::Architecture;

    fn selected(kind: AdapterKind, network: &str, name: &str, [batch, side]: [usize; 2]) -> String {
        let layers = Architecture::new(network, 1000).unwrap().convolutions();
        let layer = layers.iter().find(|layer| layer.name == name).unwrap();
        let (channels, element) = (layer.out_channels, ElementType::F32);
        let output = TensorLayout { channels, batch, height: side, width: side, border: 0, element };
        let config = select_kernel(kind, layer, &output);
        let [x, y] = config.workgroup;
        assert!(x * y <= 64 && x <= output.blocks().next_power_of_two(), "{x}x{y}");
        config.describe()
    }

    #[test]
    fn software_adapters_get_the_largest_tile_that_fits_the_rows() {
        let of = |name, side| selected(AdapterKind::Software, "resnet18", name, [1, side]);
        assert_eq!(of("layer1.0.conv1", 56), "direct 8x8");
        assert_eq!(of("layer2.0.conv2", 28), "direct 7x8");
        assert_eq!(of("layer4.0.conv2", 7), "direct 7x8");
        assert_eq!(of("layer4.0.conv2", 2), "direct 2x4");
        assert_eq!(selected(AdapterKind::Software, "resnext50_32x4d", "layer1.0.conv2", [1, 56]), "direct 4x4");
    }

    #[test]
    fn gpus_get_smaller_tiles_and_splits_for_small_outputs() {
        let of = |name, batch, side| selected(AdapterKind::Direct, "resnet18", name, [batch, side]);
        assert_eq!(of("layer1.0.conv1", 8, 56), "direct 4x8");
        assert_eq!(of("layer1.0.conv1", 1, 56), "direct 4x8");
        assert!(of("layer4.0.conv2", 1, 7).contains(" split "));

        let of = |name, batch, side| selected(AdapterKind::Tiled, "resnet18", name, [batch, side]);
        assert_eq!(of("layer1.0.conv1", 8, 56), "tiled 64x64");
        assert_eq!(of("layer1.0.conv1", 1, 56), "tiled 32x32");
        assert!(of("layer4.0.conv2", 1, 7).contains(" split "));
        assert_eq!(of("layer4.0.conv2", 32, 7), "tiled 64x64");
    }

    #[test]
    fn winograd_is_selected_where_it_is_faster() {
        let of = |kind, storage, name, side: usize| {
            let layers = Architecture::new("resnet18", 1000).unwrap().convolutions();
            let layer = layers.iter().find(|layer| layer.name == name).unwrap();
            let (channels, element) = (layer.out_channels, ElementType::F32);
            let output = TensorLayout { channels, batch: 1, height: side, width: side, border: 0, element };
            select_winograd(kind, storage, 128 << 20, layer, &output).map(|variant| variant.m)
        };
        let layers = [("layer1.0.conv1", 56), ("layer2.0.conv2", 28), ("layer3.0.conv2", 14), ("layer4.0.conv2", 7)];
        let all = |kind, storage| layers.map(|(name, side)| of(kind, storage, name, side));
        assert_eq!(all(AdapterKind::Software, StorageFormat::F32), [Some(4), Some(4), Some(4), Some(2)]);
        assert_eq!(all(AdapterKind::Software, StorageFormat::F16), [None; 4]);
        assert_eq!(all(AdapterKind::Tiled, StorageFormat::F32), [None; 4]);
        assert_eq!(all(AdapterKind::Direct, StorageFormat::F32), [None, None, Some(2), None]);
        assert_eq!(of(AdapterKind::Software, StorageFormat::F32, "layer2.0.conv1", 28), None);
        assert_eq!(of(AdapterKind::Software, StorageFormat::F32, "conv1", 112), None);
    }

    #[test]
    fn grouped_layers_and_single_pixels_use_direct_kernels() {
        let groups = selected(AdapterKind::Tiled, "resnext50_32x4d", "layer1.0.conv2", [1, 56]);
        assert!(groups.starts_with("direct"), "{groups}");
        let pixel = selected(AdapterKind::Tiled, "resnet18", "layer4.0.conv2", [1, 1]);
        assert!(pixel.starts_with("direct"), "{pixel}");
    }
}
