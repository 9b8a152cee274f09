//! The input and output transforms of Winograd's algorithm, before and after the products, which are a 1x1
//! convolution. See [`winograd_tiling`](super::super::winograd_tiling) for the notation.

use super::super::super::winograd::{MAX_ALPHA, WinogradVariant};
use super::super::convolution_spec::ConvolutionSpec;
use super::super::kernel_config::{LINEAR_WORKGROUP, Specialisation};
use super::super::storage::ElementType;
use super::super::tensor_layout::{BLOCK, TensorLayout};
use super::super::winograd_tiling::WinogradTiling;
use super::buffer_types::BufferTypes;
use super::convolution::fill_store;
use super::template::{ShaderSource, fill};

/// Returns the number of workgroups of the input transform. Each invocation transforms one channel of a tile.
pub fn input_transform_workgroups(tiling: &WinogradTiling, input: &TensorLayout) -> [usize; 3] {
    [(BLOCK * tiling.tiles()).div_ceil(LINEAR_WORKGROUP), input.blocks(), 1]
}

/// Returns the number of workgroups of the output transform. Each invocation transforms one block of channels of a
/// tile.
pub fn output_transform_workgroups(tiling: &WinogradTiling, output: &TensorLayout) -> [usize; 3] {
    [tiling.tiles().div_ceil(LINEAR_WORKGROUP), output.blocks(), 1]
}

fn constants(tiling: &WinogradTiling) -> Vec<(&'static str, usize)> {
    vec![
        ("TILE", tiling.variant.m),
        ("TILES", tiling.tiles()),
        ("TILES_PER_ROW", tiling.columns),
        ("TILE_ROWS", tiling.rows),
    ]
}

/// Generates the transform `V = B^T d B`. The input has a border of at least 1.
pub fn input_transform(
    tiling: &WinogradTiling,
    input: &TensorLayout,
    specialisation: Specialisation,
    shape_binding: usize,
) -> ShaderSource {
    let types = BufferTypes::without_weights(input.element, ElementType::F32);
    let mut constants = constants(tiling);
    constants.extend([
        ("INPUT_IMAGE_STRIDE", input.image_stride()),
        ("INPUT_PLANE_STRIDE", input.plane_stride()),
        ("INPUT_ROW_STRIDE", input.row_stride()),
        ("WINDOW_OFFSET", input.window_offset(1)),
        ("INPUT_HEIGHT", input.height),
        ("INPUT_WIDTH", input.width),
        ("POSITION_STRIDE", input.blocks() * tiling.tiles() * BLOCK),
    ]);
    let variant = tiling.variant;
    let alpha = variant.alpha(variant.m);
    // Tiles that extend beyond the image read the last zeros of the border there.
    let ragged = specialisation == Specialisation::Shared || !tiling.divides(input);
    let clamped = |start: &str, index: usize, side: &str| match ragged {
        true => format!("min({start} + {index}u, {side} + 1u)"),
        false => format!("({start} + {index}u)"),
    };
    let [mut row_offsets, mut column_offsets, mut reads] = [const { Vec::new() }; 3];
    let [mut column_transforms, mut row_transforms] = [const { Vec::new() }; 2];
    for line in 0..alpha {
        let (y, x) = (clamped("y", line, "INPUT_HEIGHT"), clamped("x", line, "INPUT_WIDTH"));
        row_offsets.push(format!("let row{line} = (plane + {y} * INPUT_ROW_STRIDE) * 4u + lane;"));
        column_offsets.push(format!("let column{line} = {x} * 4u;"));
        for column in 0..alpha {
            reads.push(format!("let d{line}{column} = f32(input[row{line} + column{column}]);"));
        }
        // B^T d, column by column, and then (B^T d) B, row by row.
        let (d, c) = (|row| format!("d{row}{line}"), |row| format!("c{row}{line}"));
        transform_inputs(variant, &mut column_transforms, &d, &c);
        let (c, v) = (|column| format!("c{line}{column}"), |column| format!("v{line}{column}"));
        transform_inputs(variant, &mut row_transforms, &c, &v);
    }
    let positions = alpha * alpha;
    let outputs = match specialisation {
        Specialisation::PerShape => {
            let store = |position| {
                let (row, column) = (position / alpha, position % alpha);
                format!("output[first + {position}u * POSITION_STRIDE] = v{row}{column};")
            };
            (0..positions).map(store).collect()
        }
        Specialisation::Shared => vec![
            format!("var values = array<f32, {positions}>({});", matrix_elements("v", alpha)),
            format!("for (var position = 0u; position < {positions}u; position++) {{"),
            "    output[first + position * POSITION_STRIDE] = values[position];".to_owned(),
            "}".to_owned(),
        ],
    };
    let mut text = include_str!("input_transform.wgsl").to_owned();
    fill(&mut text, "row offsets", row_offsets);
    fill(&mut text, "column offsets", column_offsets);
    fill(&mut text, "read tile", reads);
    fill(&mut text, "transform columns", column_transforms);
    fill(&mut text, "transform rows", row_transforms);
    fill(&mut text, "outputs", outputs);
    ShaderSource::with_specialisation(specialisation, &types, &constants, &text, shape_binding)
}

/// Generates the transform `Y = A^T M A`, and stores Y as the outputs of the convolution, with bias, residual and ReLU.
pub fn output_transform(
    tiling: &WinogradTiling,
    spec: &ConvolutionSpec,
    overflow_binding: Option<usize>,
    specialisation: Specialisation,
    shape_binding: usize,
) -> ShaderSource {
    let output = &spec.output;
    let types = BufferTypes {
        weights: Some(spec.storage),
        overflow_binding,
        ..BufferTypes::without_weights(output.element, output.element)
    };
    let mut constants = constants(tiling);
    let mut text = include_str!("output_transform.wgsl").to_owned();
    fill_store(spec, output, true, &mut text, &mut constants);
    constants.extend([("OUTPUT_HEIGHT", output.height), ("POSITION_STRIDE", output.blocks() * tiling.tiles())]);
    let variant = tiling.variant;
    let (m, alpha) = (variant.m, variant.alpha(variant.m));
    let positions = alpha * alpha;
    let [mut column_transforms, mut row_transforms] = [const { Vec::new() }; 2];
    if specialisation == Specialisation::Shared {
        column_transforms = vec![
            format!("var values: array<vec4f, {positions}>;"),
            format!("for (var position = 0u; position < {positions}u; position++) {{"),
            "    values[position] = products[first + position * POSITION_STRIDE];".to_owned(),
            "}".to_owned(),
        ];
    }
    // A^T M, column by column, and then (A^T M) A, row by row.
    for column in 0..alpha {
        for row in 0..alpha {
            let position = row * alpha + column;
            column_transforms.push(match specialisation {
                Specialisation::PerShape => {
                    format!("let m{row}{column} = products[first + {position}u * POSITION_STRIDE];")
                }
                Specialisation::Shared => format!("let m{row}{column} = values[{position}];"),
            });
        }
        let (m, c) = (|row| format!("m{row}{column}"), |row| format!("c{row}{column}"));
        transform_products(variant, &mut column_transforms, &m, &c);
    }
    for row in 0..m {
        let (c, o) = (|column| format!("c{row}{column}"), |column| format!("o{row}{column}"));
        transform_products(variant, &mut row_transforms, &c, &o);
    }
    let ragged = !tiling.divides(output);
    let outputs = match specialisation {
        Specialisation::PerShape => {
            let store = |index: usize| {
                let (row, column) = (index / m, index % m);
                let store = format!("store(image, id.y, y + {row}u, x + {column}u, o{row}{column} + biases);");
                match ragged {
                    true => format!("if y + {row}u < OUTPUT_HEIGHT && x + {column}u < OUTPUT_WIDTH {{ {store} }}"),
                    false => store,
                }
            };
            (0..m * m).map(store).collect()
        }
        Specialisation::Shared => vec![
            format!("var outputs = array<vec4f, TILE * TILE>({});", matrix_elements("o", m)),
            "for (var index = 0u; index < TILE * TILE; index++) {".to_owned(),
            "    let row = y + index / TILE;".to_owned(),
            "    let column = x + index % TILE;".to_owned(),
            "    if row < OUTPUT_HEIGHT && column < OUTPUT_WIDTH {".to_owned(),
            "        store(image, id.y, row, column, outputs[index] + biases);".to_owned(),
            "    }".to_owned(),
            "}".to_owned(),
        ],
    };
    fill(&mut text, "transform columns", column_transforms);
    fill(&mut text, "transform rows", row_transforms);
    fill(&mut text, "outputs", outputs);
    ShaderSource::with_specialisation(specialisation, &types, &constants, &text, shape_binding)
}

/// Returns the names of the elements of a square matrix of this side, row by row, separated by commas.
fn matrix_elements(name: &str, side: usize) -> String {
    let elements = (0..side * side).map(|index| format!("{name}{}{}", index / side, index % side));
    elements.collect::<Vec<_>>().join(", ")
}

/// Function that returns the name of the variable that holds an element of a vector.
type ElementName<'a> = &'a dyn Fn(usize) -> String;

/// Generates `B^T x` for a vector x of `alpha` inputs. The rows of two opposite interpolation points share an even
/// and an odd sum.
fn transform_inputs(variant: WinogradVariant, lines: &mut Vec<String>, input: ElementName, output: ElementName) {
    let (matrix, alpha) = (variant.input_transform(variant.m), variant.alpha(variant.m));
    let inputs: Vec<String> = (0..alpha).map(input).collect();
    let mut row = 0;
    while row < alpha {
        let (name, factors) = (output(row), matrix[row]);
        if variant.is_symmetric_pair(variant.m, row) {
            let with_parity =
                |parity: usize| std::array::from_fn(|column| if column % 2 == parity { factors[column] } else { 0.0 });
            lines.push(format!("let even_{name} = {};", linear_combination(&with_parity(0), &inputs)));
            lines.push(format!("let odd_{name} = {};", linear_combination(&with_parity(1), &inputs)));
            lines.push(format!("let {name} = even_{name} + odd_{name};"));
            lines.push(format!("let {} = even_{name} - odd_{name};", output(row + 1)));
            row += 2;
        } else {
            lines.push(format!("let {name} = {};", linear_combination(&factors, &inputs)));
            row += 1;
        }
    }
}

/// Generates `A^T x` for a vector x of `alpha` products. The products of two opposite interpolation points are first
/// replaced by their sum and their difference.
fn transform_products(variant: WinogradVariant, lines: &mut Vec<String>, product: ElementName, output: ElementName) {
    let (matrix, alpha) = (variant.folded_output_transform(variant.m), variant.alpha(variant.m));
    let mut terms: Vec<String> = (0..alpha).map(product).collect();
    for first in (2..alpha).step_by(2).filter(|&first| variant.is_opposite_pair(variant.m, first)) {
        let (one, other) = (product(first), product(first + 1));
        lines.push(format!("let even_{one} = {one} + {other};"));
        lines.push(format!("let odd_{one} = {one} - {other};"));
        terms[first] = format!("even_{one}");
        terms[first + 1] = format!("odd_{one}");
    }
    lines.extend((0..variant.m).map(|column| {
        let factors = matrix.map(|row| row[column]);
        format!("let {} = {};", output(column), linear_combination(&factors, &terms))
    }));
}

/// Returns the sum of the terms, each multiplied by its factor. Terms whose factor is zero are left out.
fn linear_combination(factors: &[f32; MAX_ALPHA], terms: &[String]) -> String {
    let mut text = String::new();
    for (factor, term) in factors.iter().zip(terms).filter(|(factor, _)| **factor != 0.0) {
        text += match (text.is_empty(), *factor < 0.0) {
            (true, false) => "",
            (true, true) => "-",
            (false, false) => " + ",
            (false, true) => " - ",
        };
        if factor.abs() != 1.0 {
            text += &format!("{} * ", factor.abs());
        }
        text += term;
    }
    text
}
