//! Parts that all convolution kernels share: constants, sums in registers, products, and the storing of sums.

use super::super::convolution_spec::ConvolutionSpec;
use super::super::kernel_config::KernelConfig;
use super::super::storage::ElementType;
use super::super::tensor_layout::{BLOCK, TensorLayout};
use super::buffer_types::BufferTypes;
use super::template::{ShaderSource, fill};

/// Returns the types of the buffers of a convolution kernel.
pub fn types(spec: &ConvolutionSpec, operand: ElementType, overflow_binding: Option<usize>) -> BufferTypes {
    let (input, output) = (spec.input.element, spec.written().element);
    BufferTypes { input, output, weights: Some(spec.storage), operand, overflow_binding }
}

/// Returns the constants that describe the inputs and the weights.
pub fn constants(spec: &ConvolutionSpec) -> Vec<(&'static str, usize)> {
    let ConvolutionSpec { layer, config, input, output, .. } = spec;
    vec![
        ("KERNEL", layer.kernel),
        ("STRIDE", layer.stride),
        ("BATCH", output.batch),
        ("SPLIT_BLOCKS", spec.input_blocks() / config.splits),
        ("INPUT_BLOCKS", spec.input_blocks()),
        ("INPUT_IMAGE_STRIDE", input.image_stride()),
        ("INPUT_PLANE_STRIDE", input.plane_stride()),
        ("INPUT_ROW_STRIDE", input.row_stride()),
        ("WINDOW_OFFSET", input.window_offset(layer.padding)),
        ("OUTPUT_BLOCKS", output.blocks()),
        // In Winograd's algorithm, the images of a product are the positions of a tile, which have different weights.
        ("IMAGE_WEIGHT_STRIDE", spec.winograd_positions.map_or(0, |_| spec.weight_matrix_blocks())),
    ]
}

/// Fills in the function with which a convolution kernel stores its sums: as outputs, or unchanged if another kernel
/// completes them.
pub fn fill_store_sums(spec: &ConvolutionSpec, text: &mut String, constants: &mut Vec<(&'static str, usize)>) {
    fill_store(spec, &spec.written(), spec.writes_outputs(), text, constants);
}

/// Generates the kernel that adds up the sums of the splits of a convolution and writes the outputs.
pub fn reduce_splits(spec: &ConvolutionSpec, overflow_binding: Option<usize>) -> ShaderSource {
    // `Value`, the input type of `types`, is the type of the residual here.
    let types = BufferTypes { output: spec.output.element, ..types(spec, ElementType::F32, overflow_binding) };
    let mut text = include_str!("reduce_splits.wgsl").to_owned();
    let output = &spec.output;
    let mut constants = vec![
        ("SPLITS", spec.config.splits),
        ("SUMS", output.interior_blocks()),
        ("IMAGE_PIXELS", output.height * output.width),
        ("OUTPUT_BLOCKS", output.blocks()),
    ];
    fill_store(spec, output, true, &mut text, &mut constants);
    ShaderSource::new(&types, &constants, &text)
}

/// Fills in the function that stores a sum in a value of layout `written`. If the sum becomes an output, the function
/// applies bias, residual and ReLU.
pub fn fill_store(
    spec: &ConvolutionSpec,
    written: &TensorLayout,
    is_output: bool,
    text: &mut String,
    constants: &mut Vec<(&'static str, usize)>,
) {
    constants.extend([
        ("OUTPUT_IMAGE_STRIDE", written.image_stride()),
        ("OUTPUT_PLANE_STRIDE", written.plane_stride()),
        ("OUTPUT_ROW_STRIDE", written.row_stride()),
        ("OUTPUT_INTERIOR", written.interior_offset()),
        ("OUTPUT_WIDTH", written.width),
    ]);
    let [mut binding, mut residual, mut relu] = [None, None, None];
    let bias = if is_output { "weight(BIASES + block)" } else { "vec4f(0.0)" };
    if is_output {
        constants.push(("BIASES", spec.bias_offset()));
        relu = spec.relu.then(|| "value = max(value, vec4f(0.0));".to_owned());
        if let Some(layout) = &spec.residual {
            constants.extend([
                ("RESIDUAL_IMAGE_STRIDE", layout.image_stride()),
                ("RESIDUAL_PLANE_STRIDE", layout.plane_stride()),
                ("RESIDUAL_ROW_STRIDE", layout.row_stride()),
                ("RESIDUAL_INTERIOR", layout.interior_offset()),
            ]);
            binding = Some("@group(0) @binding(3) var<storage, read> residual: array<Value>;".to_owned());
            let index = "image * RESIDUAL_IMAGE_STRIDE + block * RESIDUAL_PLANE_STRIDE + RESIDUAL_INTERIOR \
                         + y * RESIDUAL_ROW_STRIDE + x";
            residual = Some(format!("value += vec4f(residual[{index}]);"));
        }
    }
    let mut store = include_str!("store_output.wgsl").replace("BIAS;", &format!("{bias};"));
    fill(&mut store, "residual", residual);
    fill(&mut store, "relu", relu);
    fill(text, "residual binding", binding);
    fill(text, "store", store.lines().map(str::to_owned));
}

/// Declares the sums of an invocation's tile, `sum{pixel}_{block}`. `output_block` returns the index of an output
/// block from its position in the tile.
pub fn sum_registers(spec: &ConvolutionSpec, output_block: impl Fn(usize) -> String) -> Vec<String> {
    let KernelConfig { pixels, blocks, .. } = spec.config;
    let mut lines: Vec<_> =
        (0..blocks).map(|block| format!("let bias{block} = bias({});", output_block(block))).collect();
    for pixel in 0..pixels {
        lines.extend((0..blocks).map(|block| format!("var sum{pixel}_{block} = bias{block};")));
    }
    lines
}

/// Returns the name of the function that reads a block of weights as operands.
pub fn weight_function(operand: ElementType) -> &'static str {
    match operand {
        ElementType::F32 => "weight",
        // This function returns the weights without a conversion.
        ElementType::F16 => "f16_weight",
    }
}

/// Returns the number of channels in each block of the input; the remaining lanes are zero.
pub fn channels_per_block(spec: &ConvolutionSpec) -> usize {
    (spec.layer.in_channels / spec.layer.groups).min(BLOCK)
}

/// Generates the products of a block of channels at one tap. `weight` returns the expression of the weights for a
/// channel and an output block of the tile, `input` the variable that holds a pixel's input, and `after_channel` is a
/// statement that follows the weights of each channel.
///
/// f32 products are added to the sums one by one. f16 products are first added up over the channels of the block, in
/// f16, and then to the sums, which are f32: few enough to lose little precision, and enough to make the cost of the
/// conversion small.
pub fn products(
    spec: &ConvolutionSpec,
    operand: ElementType,
    weight: &dyn Fn(usize, usize) -> String,
    after_channel: Option<&str>,
    input: &dyn Fn(usize) -> String,
) -> Vec<String> {
    let KernelConfig { pixels, blocks, .. } = spec.config;
    let lanes = &["x", "y", "z", "w"][..channels_per_block(spec)];
    let mut lines = Vec::new();
    let each_sum = |line: &dyn Fn(usize, usize) -> String| -> Vec<String> {
        (0..pixels * blocks).map(|index| line(index / blocks, index % blocks)).collect()
    };
    match operand {
        ElementType::F32 => {
            for (channel, lane) in lanes.iter().enumerate() {
                lines.push("{".to_owned());
                lines.extend((0..blocks).map(|block| format!("    let weight{block} = {};", weight(channel, block))));
                lines.extend(each_sum(&|pixel, block| {
                    format!("    sum{pixel}_{block} += weight{block} * {}.{lane};", input(pixel))
                }));
                lines.push("}".to_owned());
                lines.extend(after_channel.map(str::to_owned));
            }
        }
        ElementType::F16 => {
            lines.push("{".to_owned());
            for channel in 0..lanes.len() {
                lines.extend(
                    (0..blocks).map(|block| format!("    let weight{channel}_{block} = {};", weight(channel, block))),
                );
                lines.extend(after_channel.map(|line| format!("    {line}")));
            }
            lines.extend(each_sum(&|pixel, block| {
                let product = |(channel, lane)| format!("weight{channel}_{block} * {}.{lane}", input(pixel));
                let products: Vec<String> = lanes.iter().enumerate().map(product).collect();
                format!("    sum{pixel}_{block} += vec4f({});", products.join(" + "))
            }));
            lines.push("}".to_owned());
        }
    }
    lines
}
