//! What the kernels for convolutions share: their constants, and what happens to a sum once it is complete.

use super::super::choice::Choice;
use super::super::planes::{BLOCK, Planes};
use super::super::storage::{Element, Storage};
use super::fill;
use super::source::{Code, Source};
use super::types::Types;
use crate::architecture::Convolution;

/// A convolution of given shapes, and the way in which it is computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem<'a> {
    pub layer: &'a Convolution,
    pub choice: Choice,
    pub storage: Storage,
    pub from: Planes,
    pub to: Planes,
    pub residual: Option<Planes>,
    pub relu: bool,
    /// The points of Winograd's filtering, if this is part of it: there is a matrix of weights for each.
    pub points: Option<usize>,
}

impl Problem<'_> {
    /// Blocks of input channels that an output depends on.
    pub fn input_blocks(&self) -> usize {
        input_blocks(self.layer)
    }

    pub fn multiply_adds(&self) -> u64 {
        multiply_adds(self.layer, &self.to)
    }

    /// Bytes of its weights and biases.
    pub fn weight_bytes(&self) -> u64 {
        ((biases(self) + self.to.blocks()) * BLOCK * self.storage.weights().bytes()) as u64
    }

    /// Matrices of weights.
    fn matrices(&self) -> usize {
        self.points.unwrap_or(self.layer.kernel * self.layer.kernel)
    }

    /// Whether what the convolution itself writes are its outputs, and not pieces of their sums or products of points.
    fn complete(&self) -> bool {
        self.choice.pieces == 1 && self.points.is_none()
    }

    /// What the convolution itself writes: its output, or the pieces of the sums, which are f32.
    pub fn written(&self) -> Planes {
        match self.choice.pieces {
            1 => self.to,
            pieces => Planes { batch: self.to.batch * pieces, border: 0, element: Element::F32, ..self.to },
        }
    }

    /// What the convolution itself adds: where there are pieces, who adds them up adds the residual too.
    pub fn residual_read(&self) -> Option<Planes> {
        self.residual.filter(|_| self.choice.pieces == 1)
    }
}

/// Multiply-adds of a layer, those with the zeros that round channels up to blocks aside.
pub fn multiply_adds(layer: &Convolution, to: &Planes) -> u64 {
    layer.weight_shape().into_iter().chain([to.batch, to.height, to.width]).map(|side| side as u64).product()
}

/// Of the convolution itself.
pub fn types(problem: &Problem, factor: Element, overflow: Option<usize>) -> Types {
    let (value, output) = (problem.from.element, problem.written().element);
    Types { value, output, weight: Some(problem.storage), factor, overflow }
}

/// What a convolution multiplies: what it reads, if that is f16 and the adapter is a GPU, most of which multiply twice as many
/// of these. Others would emulate it.
pub fn factor(problem: &Problem, code: Code) -> Element {
    match (problem.storage, code) {
        (Storage::F16, Code::Specialised) => Element::F16,
        _ => Element::F32,
    }
}

pub fn input_blocks(layer: &Convolution) -> usize {
    (layer.in_channels / layer.groups).div_ceil(BLOCK)
}

/// Where the biases lie, in blocks.
fn biases(problem: &Problem) -> usize {
    problem.matrices() * matrix(problem)
}

/// Blocks of a matrix of weights.
fn matrix(problem: &Problem) -> usize {
    problem.input_blocks() * BLOCK * problem.to.blocks()
}

/// Blocks of the output without its border, `[batch, blocks, height, width]`.
pub fn sums(problem: &Problem) -> usize {
    let to = &problem.to;
    to.batch * to.blocks() * to.height * to.width
}

/// Constants of the inputs and the weights.
pub fn constants(problem: &Problem) -> Vec<(&'static str, usize)> {
    let Problem { layer, choice, from, to, .. } = problem;
    vec![
        ("KERNEL", layer.kernel),
        ("STRIDE", layer.stride),
        ("BATCH", to.batch),
        ("PIECE_BLOCKS", problem.input_blocks() / choice.pieces),
        ("INPUT_BLOCKS", problem.input_blocks()),
        ("INPUT_IMAGE", from.image()),
        ("INPUT_PLANE", from.plane()),
        ("INPUT_PITCH", from.pitch()),
        ("INSET", from.inset(layer.padding)),
        ("OUTPUT_BLOCKS", to.blocks()),
        // Points stand in the place of images.
        ("IMAGE_WEIGHTS", problem.points.map_or(0, |_| matrix(problem))),
    ]
}

/// Fills in how a convolution stores its sums: complete, or in pieces as they are.
pub fn store_sums(problem: &Problem, text: &mut String, constants: &mut Vec<(&'static str, usize)>) {
    store(problem, &problem.written(), problem.complete(), text, constants);
}

pub fn add_pieces(problem: &Problem, overflow: Option<usize>) -> Source {
    // The values are the residual's.
    let types = Types { output: problem.to.element, ..types(problem, Element::F32, overflow) };
    let mut text = include_str!("add_pieces.wgsl").to_owned();
    let to = &problem.to;
    let mut constants = vec![
        ("PIECES", problem.choice.pieces),
        ("SUMS", sums(problem)),
        ("IMAGE_PIXELS", to.height * to.width),
        ("OUTPUT_BLOCKS", to.blocks()),
    ];
    store(problem, to, true, &mut text, &mut constants);
    Source::new(&types, &constants, &text)
}

/// Fills in how a sum is stored in values `to`, with all that belongs to an output if it is complete.
pub fn store(
    problem: &Problem,
    to: &Planes,
    complete: bool,
    text: &mut String,
    constants: &mut Vec<(&'static str, usize)>,
) {
    constants.extend([
        ("OUTPUT_IMAGE", to.image()),
        ("OUTPUT_PLANE", to.plane()),
        ("OUTPUT_PITCH", to.pitch()),
        ("OUTPUT_INSIDE", to.inside()),
        ("OUTPUT_WIDTH", to.width),
    ]);
    let [mut binding, mut residual, mut relu] = [None, None, None];
    let bias = if complete { "weight(BIASES + block)" } else { "vec4f(0.0)" };
    if complete {
        constants.push(("BIASES", biases(problem)));
        relu = problem.relu.then(|| "value = max(value, vec4f(0.0));".to_owned());
        if let Some(planes) = &problem.residual {
            constants.extend([
                ("RESIDUAL_IMAGE", planes.image()),
                ("RESIDUAL_PLANE", planes.plane()),
                ("RESIDUAL_PITCH", planes.pitch()),
                ("RESIDUAL_INSIDE", planes.inside()),
            ]);
            binding = Some("@group(0) @binding(3) var<storage, read> residual: array<Value>;".to_owned());
            let at = "image * RESIDUAL_IMAGE + block * RESIDUAL_PLANE + RESIDUAL_INSIDE + y * RESIDUAL_PITCH + x";
            residual = Some(format!("value += vec4f(residual[{at}]);"));
        }
    }
    let mut store = include_str!("store.wgsl").replace("BIAS;", &format!("{bias};"));
    fill(&mut store, "residual", residual);
    fill(&mut store, "relu", relu);
    fill(text, "residual binding", binding);
    fill(text, "store", store.lines().map(str::to_owned));
}

/// The sums of an invocation's tile. `block` says which output block a column is.
pub fn sum_registers(problem: &Problem, block: impl Fn(usize) -> String) -> Vec<String> {
    let Choice { pixels, columns, .. } = problem.choice;
    let mut lines: Vec<_> = (0..columns).map(|column| format!("let bias{column} = bias({});", block(column))).collect();
    for pixel in 0..pixels {
        lines.extend((0..columns).map(|column| format!("var sum{pixel}_{column} = bias{column};")));
    }
    lines
}

/// The function that reads a block of weights as what is multiplied.
pub fn read(factor: Element) -> &'static str {
    match factor {
        Element::F32 => "weight",
        // As they lie there.
        Element::F16 => "half_weight",
    }
}

/// Channels that each block of the input has; those behind are zero.
pub fn channels(problem: &Problem) -> usize {
    (problem.layer.in_channels / problem.layer.groups).min(BLOCK)
}

/// The products of a block of channels at one tap. `weight` says where a column's weights for a channel are, `behind` what
/// comes after a channel's, and `input` which variable a pixel's input is.
///
/// Products of f32 are added one by one. Those of f16 are added up over the channels first, and only then to a sum, which is
/// f32: few enough to lose little, enough that the conversion is small beside them.
pub fn products(
    problem: &Problem,
    factor: Element,
    weight: &dyn Fn(usize, usize) -> String,
    behind: Option<&str>,
    input: &dyn Fn(usize) -> String,
) -> Vec<String> {
    let Choice { pixels, columns, .. } = problem.choice;
    let lanes = &["x", "y", "z", "w"][..channels(problem)];
    let mut lines = Vec::new();
    let each = |line: &dyn Fn(usize, usize) -> String| -> Vec<String> {
        (0..pixels * columns).map(|index| line(index / columns, index % columns)).collect()
    };
    match factor {
        Element::F32 => {
            for (channel, lane) in lanes.iter().enumerate() {
                lines.push("{".to_owned());
                lines.extend(
                    (0..columns).map(|column| format!("    let weight{column} = {};", weight(channel, column))),
                );
                lines.extend(each(&|pixel, column| {
                    format!("    sum{pixel}_{column} += weight{column} * {}.{lane};", input(pixel))
                }));
                lines.push("}".to_owned());
                lines.extend(behind.map(str::to_owned));
            }
        }
        Element::F16 => {
            lines.push("{".to_owned());
            for channel in 0..lanes.len() {
                lines.extend(
                    (0..columns)
                        .map(|column| format!("    let weight{channel}_{column} = {};", weight(channel, column))),
                );
                lines.extend(behind.map(|line| format!("    {line}")));
            }
            lines.extend(each(&|pixel, column| {
                let product = |(channel, lane)| format!("weight{channel}_{column} * {}.{lane}", input(pixel));
                let products: Vec<String> = lanes.iter().enumerate().map(product).collect();
                format!("    sum{pixel}_{column} += vec4f({});", products.join(" + "))
            }));
            lines.push("}".to_owned());
        }
    }
    lines
}
