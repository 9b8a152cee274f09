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
    let candidates = kernel_candidates(kind, layer, output);
    match kind {
        AdapterKind::Software => largest_tile(&candidates, output),
        AdapterKind::Direct | AdapterKind::Tiled => cheapest(kind, &candidates, layer, output),
    }
}

/// Returns the kernels among which [`select_kernel`] selects.
pub fn kernel_candidates(kind: AdapterKind, layer: &Convolution, output: &TensorLayout) -> Vec<KernelConfig> {
    let pixels = output.batch * output.height * output.width;
    match kind {
        AdapterKind::Software => without_splits(direct_configs(layer, output, [4, 16])),
        AdapterKind::Tiled if KTile::new(layer).is_some() && pixels >= MIN_TILED_PIXELS => tiled_configs(layer),
        AdapterKind::Tiled | AdapterKind::Direct => gpu_direct_configs(layer, output),
    }
}

/// Selects the kernel of Winograd's products.
pub fn select_product_kernel(kind: AdapterKind, product_layer: &Convolution, products: &TensorLayout) -> KernelConfig {
    cheapest(kind, &product_kernel_candidates(kind, product_layer, products), product_layer, products)
}

/// Returns the kernels among which [`select_product_kernel`] selects, without splits: the output transform does not add
/// them up, and the many positions provide enough invocations. On software adapters, all layers share the kernel with
/// the largest tile: the tiles of all images form one long row, at whose end little work is wasted.
pub fn product_kernel_candidates(
    kind: AdapterKind,
    product_layer: &Convolution,
    products: &TensorLayout,
) -> Vec<KernelConfig> {
    match kind {
        AdapterKind::Software => vec![direct_configs(product_layer, products, [4, 16])[0]],
        AdapterKind::Direct | AdapterKind::Tiled => without_splits(gpu_direct_configs(product_layer, products)),
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
    let without = (cost_without_winograd(kind, layer, output), None);
    costs.fold(without, |best, next| if next.0 < best.0 { next } else { best }).1
}

/// Estimates the time of a layer by the kernel that is selected for it.
fn cost_without_winograd(kind: AdapterKind, layer: &Convolution, output: &TensorLayout) -> f64 {
    let config = select_kernel(kind, layer, output);
    convolution_cost(kind, &config, layer, output) + weight_read_cost(kind, layer, layer.kernel * layer.kernel)
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
fn gpu_direct_configs(layer: &Convolution, output: &TensorLayout) -> Vec<KernelConfig> {
    let configs = direct_configs(layer, output, [16, 64]).into_iter();
    configs.filter(|config| config.pixels * config.blocks <= MAX_DIRECT_SUMS).collect()
}

fn without_splits(configs: Vec<KernelConfig>) -> Vec<KernelConfig> {
    configs.into_iter().filter(|config| config.splits == 1).collect()
}

fn cheapest(
    kind: AdapterKind,
    candidates: &[KernelConfig],
    layer: &Convolution,
    output: &TensorLayout,
) -> KernelConfig {
    let costs = candidates.iter().map(|config| (convolution_cost(kind, config, layer, output), config));
    *costs.min_by(|(a, _), (b, _)| a.total_cmp(b)).expect("the smallest tile always fits").1
}

/// Returns the configuration with the largest tile, counting tiles of 7 and 8 pixels as equal; among equals, the one
/// that computes the fewest pixels beyond the ends of rows.
fn largest_tile(candidates: &[KernelConfig], output: &TensorLayout) -> KernelConfig {
    let size = |config: &KernelConfig| config.pixels.min(7) * config.blocks;
    let waste = |config: &KernelConfig| output.width.next_multiple_of(config.pixels) - output.width;
    let best = candidates.iter().min_by_key(|config| (Reverse(size(config)), waste(config)));
    *best.expect("the smallest tile always fits")
}

#[cfg(test)]
mod tests {
    use super::super::kernel_config::KernelFamily;
    use super::super::storage::ElementType;
    use super::*;
    use crate::architecture::Architecture;

    const MAX_BUFFER_SIZE: u64 = 128 << 20;

    /// 3x3 convolutions of ResNet-18 with stride 1, and the sides of their outputs.
    const LAYERS: [(&str, usize); 4] =
        [("layer1.0.conv1", 56), ("layer2.0.conv2", 28), ("layer3.0.conv2", 14), ("layer4.0.conv2", 7)];

    fn layer(network: &str, name: &str) -> Convolution {
        let layers = Architecture::new(network, 1000).unwrap().convolutions();
        layers.into_iter().find(|layer| layer.name == name).unwrap()
    }

    fn output(layer: &Convolution, [batch, side]: [usize; 2]) -> TensorLayout {
        let (channels, element) = (layer.out_channels, ElementType::F32);
        TensorLayout { channels, batch, height: side, width: side, border: 0, element }
    }

    fn selected(kind: AdapterKind, layer: &Convolution, size: [usize; 2]) -> KernelConfig {
        let output = output(layer, size);
        let config = select_kernel(kind, layer, &output);
        let [x, y] = config.workgroup;
        assert!(x * y <= 64 && x <= output.blocks().next_power_of_two(), "{x}x{y}");
        config
    }

    fn tile(config: &KernelConfig) -> usize {
        config.pixels * config.blocks
    }

    #[test]
    fn software_adapters_get_the_largest_tile_that_fits_the_rows() {
        let of_resnet18 = LAYERS.into_iter().chain([("layer4.0.conv2", 2)]).map(|case| ("resnet18", case));
        for (network, (name, side)) in of_resnet18.chain([("resnext50_32x4d", ("layer1.0.conv2", 56))]) {
            let layer = layer(network, name);
            let config = selected(AdapterKind::Software, &layer, [1, side]);
            assert_eq!((config.family, config.splits), (KernelFamily::Direct, 1), "{network} {name}");
            assert!(side.is_multiple_of(config.pixels), "{network} {name}, {side}: {config:?}");
            let candidates = kernel_candidates(AdapterKind::Software, &layer, &output(&layer, [1, side]));
            for other in candidates.iter().filter(|other| side.is_multiple_of(other.pixels)) {
                assert!(tile(other) <= tile(&config), "{network} {name}, {side}: {config:?} instead of {other:?}");
            }
        }
    }

    #[test]
    fn gpus_get_the_cheapest_kernel() {
        for (kind, batch) in
            [AdapterKind::Direct, AdapterKind::Tiled].into_iter().flat_map(|k| [1, 8, 32].map(|b| (k, b)))
        {
            for (name, side) in LAYERS {
                let layer = layer("resnet18", name);
                let output = output(&layer, [batch, side]);
                let config = selected(kind, &layer, [batch, side]);
                let candidates = kernel_candidates(kind, &layer, &output);
                let cost = |config| convolution_cost(kind, config, &layer, &output);
                for other in &candidates {
                    assert!(cost(&config) <= cost(other), "{kind:?}, {name}, {batch}: {config:?} instead of {other:?}");
                }
            }
        }
    }

    #[test]
    fn gpus_get_splits_for_small_outputs_and_larger_tiles_for_large_ones() {
        for kind in [AdapterKind::Direct, AdapterKind::Tiled] {
            let last = layer("resnet18", "layer4.0.conv2");
            let [small, large] = [1, 32].map(|batch| selected(kind, &last, [batch, 7]));
            assert!(small.splits > 1 && large.splits < small.splits, "{kind:?}: {small:?}, {large:?}");
            assert!(tile(&small) <= tile(&large), "{kind:?}: {small:?}, {large:?}");
        }
    }

    #[test]
    fn winograd_is_selected_where_it_is_faster() {
        let select = |kind, storage, name, side| {
            let layer = layer("resnet18", name);
            select_winograd(kind, storage, MAX_BUFFER_SIZE, &layer, &output(&layer, [1, side]))
        };
        let variant = |m| Some(WinogradVariant { m, stride: 1 });
        for (kind, candidates) in [
            (AdapterKind::Software, vec![None, variant(2), variant(4)]),
            (AdapterKind::Direct, vec![None, variant(2)]),
            (AdapterKind::Tiled, vec![None]),
        ] {
            for (name, side) in LAYERS {
                let layer = layer("resnet18", name);
                let output = output(&layer, [1, side]);
                let cost = |variant: Option<WinogradVariant>| match variant {
                    Some(variant) => winograd_cost(kind, variant, &layer, &output),
                    None => cost_without_winograd(kind, &layer, &output),
                };
                let selected = select(kind, StorageFormat::F32, name, side);
                assert!(candidates.contains(&selected), "{kind:?}, {name}: {selected:?}");
                for &other in &candidates {
                    assert!(cost(selected) <= cost(other), "{kind:?}, {name}: {selected:?} instead of {other:?}");
                }
                assert_eq!(select(kind, StorageFormat::F16, name, side), None, "{kind:?}, {name}");
            }
            let stride = select(kind, StorageFormat::F32, "layer2.0.conv1", 28);
            assert_eq!((stride, select(kind, StorageFormat::F32, "conv1", 112)), (None, None), "{kind:?}");
        }
        let [first, .., last] =
            LAYERS.map(|(name, side)| select(AdapterKind::Software, StorageFormat::F32, name, side).unwrap().m);
        assert!(first >= last, "tiles of {first} for large images, {last} for small ones");
    }

    #[test]
    fn winograd_weights_fit_into_a_buffer() {
        let layer = layer("resnet18", "layer1.0.conv1");
        let output = output(&layer, [1, 56]);
        let select = |limit| select_winograd(AdapterKind::Software, StorageFormat::F32, limit, &layer, &output);
        let weight_bytes = |variant: WinogradVariant| 4 * 64 * 64 * variant.filter_elements() as u64;
        let unlimited = select(MAX_BUFFER_SIZE).unwrap();
        let limited = select(weight_bytes(unlimited));
        assert!(limited.is_none_or(|limited| weight_bytes(limited) < weight_bytes(unlimited)), "{limited:?}");
        assert_eq!(select(4 * 64 * 64), None);
    }

    #[test]
    fn grouped_layers_and_single_pixels_use_direct_kernels() {
        let grouped = layer("resnext50_32x4d", "layer1.0.conv2");
        assert_eq!(selected(AdapterKind::Tiled, &grouped, [1, 56]).family, KernelFamily::Direct);
        let last = layer("resnet18", "layer4.0.conv2");
        assert_eq!(selected(AdapterKind::Tiled, &last, [1, 1]).family, KernelFamily::Direct);
        assert_eq!(selected(AdapterKind::Tiled, &last, [1, 7]).family, KernelFamily::Tiled);
    }
}
