//! Convolution kernels that read values through the caches, without barriers.

use super::super::convolution_spec::ConvolutionSpec;
use super::super::kernel_config::{KernelConfig, Specialisation};
use super::super::storage::ElementType;
use super::super::tensor_layout::BLOCK;
use super::convolution::{
    channels_per_block, constants, fill_store_sums, products, sum_registers, types, weight_function,
};
use super::template::{ShaderSource, fill};

/// Maximum number of inputs of a row that an invocation holds for all taps of the row. More do not fit into registers
/// in addition to the sums of a tile.
const MAX_ROW_INPUTS: usize = 16;

/// Returns the number of workgroups: along groups of output blocks, tiles of an image, and images times splits.
pub fn workgroups(spec: &ConvolutionSpec) -> [usize; 3] {
    let [x, y] = spec.config.workgroup;
    let block_groups = spec.output.blocks() / spec.config.blocks;
    [block_groups.div_ceil(x), tiles_per_image(spec).div_ceil(y), spec.output.batch * spec.config.splits]
}

fn tiles_per_image(spec: &ConvolutionSpec) -> usize {
    spec.output.height * spec.output.width.div_ceil(spec.config.pixels)
}

/// Generates the source of a kernel of the direct family.
pub fn source(
    spec: &ConvolutionSpec,
    overflow_binding: Option<usize>,
    specialisation: Specialisation,
    shape_binding: usize,
) -> ShaderSource {
    let (config, output) = (&spec.config, &spec.output);
    let operand = spec.operand_type(specialisation);
    let mut constants = constants(spec);
    constants.extend([
        ("PIXELS", config.pixels),
        ("BLOCKS", config.blocks),
        ("BLOCK_STRIDE", output.blocks() / config.blocks),
        ("WORKGROUP_X", config.workgroup[0]),
        ("WORKGROUP_Y", config.workgroup[1]),
        ("TILES", tiles_per_image(spec)),
        ("TILES_PER_ROW", output.width.div_ceil(config.pixels)),
        ("OUTPUT_BLOCKS_PER_GROUP", output.blocks() / spec.layer.groups),
    ]);
    let mut text = include_str!("direct.wgsl").to_owned();
    fill_store_sums(spec, &mut text, &mut constants);
    fill(&mut text, "sums", sum_registers(spec, |block| offset_block("id.x", block)));
    fill(&mut text, "taps", tap_row(spec, operand));
    fill(
        &mut text,
        "outputs",
        match specialisation {
            Specialisation::PerShape => unrolled_stores(config, !output.width.is_multiple_of(config.pixels)),
            Specialisation::Shared => store_loop(config),
        },
    );
    let types = types(spec, operand, overflow_binding);
    ShaderSource::with_specialisation(specialisation, &types, &constants, &text, shape_binding)
}

/// Returns the index of a block of a tile, from the index of its first block. The blocks of a tile are spaced equally
/// over all blocks.
fn offset_block(first: &str, block: usize) -> String {
    match block {
        0 => first.to_owned(),
        1 => format!("{first} + BLOCK_STRIDE"),
        _ => format!("{first} + {block}u * BLOCK_STRIDE"),
    }
}

/// Generates the products of a row of taps, which advance `weight_index`.
fn tap_row(spec: &ConvolutionSpec, operand: ElementType) -> Vec<String> {
    let (layer, pixels) = (spec.layer, spec.config.pixels);
    // Number of inputs that the windows of the tile's pixels cover in a row.
    let row_inputs = (pixels - 1) * layer.stride + layer.kernel;
    let mut lines = Vec::new();
    if layer.kernel > 1 && row_inputs <= MAX_ROW_INPUTS {
        lines.extend((0..row_inputs).map(|x| format!("let input{x} = Operand(input[pixel + {x}u]);")));
        for tap in 0..layer.kernel {
            tap_products(spec, operand, &mut lines, |pixel| pixel * layer.stride + tap);
        }
        return lines;
    }
    // Otherwise each tap reads its inputs.
    let tap = if layer.kernel > 1 { " + tap" } else { "" };
    lines.extend((0..pixels).map(|x| format!("let input{x} = Operand(input[pixel{tap} + {}u]);", x * layer.stride)));
    tap_products(spec, operand, &mut lines, |pixel| pixel);
    if layer.kernel > 1 {
        lines.iter_mut().for_each(|line| line.insert_str(0, "    "));
        lines.insert(0, "for (var tap = 0u; tap < KERNEL; tap++) {".to_owned());
        lines.push("}".to_owned());
    }
    lines
}

/// Generates the products of a tap. `input` returns the number of the `input` variable of a pixel.
fn tap_products(spec: &ConvolutionSpec, operand: ElementType, lines: &mut Vec<String>, input: impl Fn(usize) -> usize) {
    let weight = |_, block| format!("{}({})", weight_function(operand), offset_block("weight_index", block));
    let input = |pixel| format!("input{}", input(pixel));
    lines.extend(products(spec, operand, &weight, Some("weight_index += OUTPUT_BLOCKS;"), &input));
    let channels = channels_per_block(spec);
    if channels < BLOCK {
        lines.push(format!("weight_index += {}u * OUTPUT_BLOCKS;", BLOCK - channels));
    }
}

/// Generates statements that store the sums of each pixel. If tiles may extend beyond the ends of rows (`ragged`),
/// pixels beyond are skipped.
fn unrolled_stores(config: &KernelConfig, ragged: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for pixel in 0..config.pixels {
        let store =
            |block| format!("store(id.z, {}, y, x + {pixel}u, sum{pixel}_{block});", offset_block("id.x", block));
        let stores = (0..config.blocks).map(store);
        if ragged {
            lines.push(format!("if x + {pixel}u < OUTPUT_WIDTH {{"));
            lines.extend(stores.map(|store| format!("    {store}")));
            lines.push("}".to_owned());
        } else {
            lines.extend(stores);
        }
    }
    lines
}

/// Generates a loop that stores the sums and skips pixels beyond the ends of rows.
fn store_loop(config: &KernelConfig) -> Vec<String> {
    let sums = (0..config.pixels).flat_map(|pixel| (0..config.blocks).map(move |block| format!("sum{pixel}_{block}")));
    let sums = sums.collect::<Vec<_>>().join(", ");
    vec![
        format!("var sums = array<vec4f, PIXELS * BLOCKS>({sums});"),
        "for (var index = 0u; index < PIXELS * BLOCKS; index++) {".to_owned(),
        "    let pixel = x + index / BLOCKS;".to_owned(),
        "    if pixel < OUTPUT_WIDTH {".to_owned(),
        "        store(id.z, id.x + index % BLOCKS * BLOCK_STRIDE, y, pixel, sums[index]);".to_owned(),
        "    }".to_owned(),
        "}".to_owned(),
    ]
}
