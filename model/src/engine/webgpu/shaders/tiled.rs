//! Family B: convolutions out of workgroup memory.

use super::super::storage::Element;
use super::convolution::{Problem, constants, factor, input_blocks, products, read, store_sums, sum_registers, types};
use super::fill;
use super::source::{Code, Source};
use crate::architecture::Convolution;

/// Invocations of a workgroup along pixels, and along output blocks.
pub const SIDE: usize = 8;
const INVOCATIONS: usize = SIDE * SIDE;

/// Which slices (a block of 4 input channels at one tap) make a step: about 16 products for each output, so that barriers
/// are few, in half of the workgroup memory that is granted everywhere, so that two workgroups share a core of the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slices {
    /// 4 blocks at one tap.
    OfATap,
    /// One block at the taps of a row: for the stem, which has no more, and for pruned layers.
    OfARow,
}

impl Slices {
    /// `None` for layers that this family does not compute.
    pub fn of(layer: &Convolution) -> Option<Self> {
        match input_blocks(layer) {
            _ if layer.groups > 1 => None,
            blocks if blocks.is_multiple_of(Slices::OfATap.blocks()) => Some(Slices::OfATap),
            _ if layer.kernel > 1 => Some(Slices::OfARow),
            _ => None,
        }
    }

    /// Blocks of input channels in a step.
    pub fn blocks(self) -> usize {
        match self {
            Slices::OfATap => 4,
            Slices::OfARow => 1,
        }
    }

    /// Slices of a step.
    pub fn depth(self, layer: &Convolution) -> usize {
        match self {
            Slices::OfATap => self.blocks(),
            Slices::OfARow => layer.kernel,
        }
    }

    /// Steps along a row of taps.
    fn columns(self, layer: &Convolution) -> usize {
        match self {
            Slices::OfATap => layer.kernel,
            Slices::OfARow => 1,
        }
    }
}

/// Tiles of pixels, tiles of output blocks, pieces.
pub fn workgroups(problem: &Problem) -> [usize; 3] {
    let choice = &problem.choice;
    let [pixels, blocks] = [SIDE * choice.pixels, SIDE * choice.columns];
    [all_pixels(problem).div_ceil(pixels), problem.to.blocks().div_ceil(blocks), choice.pieces]
}

/// Of all images.
fn all_pixels(problem: &Problem) -> usize {
    problem.to.batch * problem.to.height * problem.to.width
}

fn slices(problem: &Problem) -> Slices {
    Slices::of(problem.layer).expect("chosen for layers that have them")
}

pub fn source(problem: &Problem, overflow: Option<usize>) -> Source {
    let (layer, choice, to) = (problem.layer, &problem.choice, &problem.to);
    let slices = slices(problem);
    let piece_steps = problem.input_blocks() / slices.blocks() / choice.pieces;
    let (input_slice, weight_slice) = match slices {
        Slices::OfATap => (problem.from.plane(), layer.kernel * 4 * to.blocks()),
        Slices::OfARow => (1, 4 * to.blocks()),
    };
    let mut constants = constants(problem);
    constants.extend([
        ("SIDE", SIDE),
        ("PIXELS", choice.pixels),
        ("COLUMNS", choice.columns),
        ("DEPTH", slices.depth(layer)),
        ("INPUT_SLICE", input_slice),
        ("WEIGHT_SLICE", weight_slice),
        ("STEPS", layer.kernel * piece_steps * slices.columns(layer)),
        ("STEP_COLUMNS", slices.columns(layer)),
        ("STEP_BLOCKS", slices.blocks()),
        ("ALL_PIXELS", all_pixels(problem)),
        ("IMAGE_PIXELS", to.height * to.width),
    ]);
    let mut text = include_str!("tiled.wgsl").to_owned();
    store_sums(problem, &mut text, &mut constants);
    let factor = factor(problem, Code::Specialised);
    let staged = staged(problem, factor);
    fill(&mut text, "registers", staged.iter().map(|staged| format!("var {}: Factor;", staged.register)));
    // Before the first step, and in each for the next.
    for _ in 0..2 {
        fill(&mut text, "read", staged.iter().map(Staged::read));
    }
    fill(&mut text, "stage", staged.iter().map(Staged::stage));
    let block = |column| format!("min(first_block + {}u, OUTPUT_BLOCKS - 1u)", column * SIDE);
    fill(&mut text, "sums", sum_registers(problem, block));
    let input = |pixel| format!("let input{pixel} = input_tile[pixel + {}u];", pixel * SIDE);
    fill(&mut text, "inputs", (0..choice.pixels).map(input));
    let weight = |channel, column| format!("weight_tile[row + {}u]", (channel * choice.columns + column) * SIDE);
    let products = products(problem, factor, &weight, None, &|pixel| format!("input{pixel}"));
    fill(&mut text, "products", products);
    fill(&mut text, "outputs", outputs(problem));
    Source::new(&types(problem, factor, overflow), &constants, &text)
}

/// A value that an invocation stages in every step.
struct Staged {
    register: String,
    /// Where it is read.
    source: String,
    /// Where in the workgroup's memory it is written.
    tile: String,
    /// What is true for those invocations that have a value to stage, if not all do.
    condition: Option<String>,
}

impl Staged {
    fn read(&self) -> String {
        self.guarded(format!("{} = {};", self.register, self.source))
    }

    fn stage(&self) -> String {
        self.guarded(format!("{} = {};", self.tile, self.register))
    }

    fn guarded(&self, statement: String) -> String {
        match &self.condition {
            Some(condition) => format!("if {condition} {{ {statement} }}"),
            None => statement,
        }
    }
}

/// The inputs of a step and then its weights, dealt out to the invocations in turn.
fn staged(problem: &Problem, factor: Element) -> Vec<Staged> {
    let depth = slices(problem).depth(problem.layer);
    let [pixels, blocks] = [SIDE * problem.choice.pixels, SIDE * problem.choice.columns];
    let each = |name: &'static str, all: usize, source: &dyn Fn(usize) -> String| {
        let staged = |turn: usize| {
            let first = turn * INVOCATIONS;
            let condition = (first + INVOCATIONS > all).then(|| format!("index + {first}u < {all}u"));
            let tile = format!("{name}_tile[index + {first}u]");
            Staged { register: format!("next_{name}{turn}"), source: source(turn), tile, condition }
        };
        (0..all.div_ceil(INVOCATIONS)).map(staged).collect::<Vec<_>>()
    };
    let input = |turn| format!("Factor(input[input_at + {}u * INPUT_SLICE])", turn * INVOCATIONS / pixels);
    let weight = |turn| format!("{}(weight_at + {}u * WEIGHT_SLICE)", read(factor), turn * INVOCATIONS / blocks / 4);
    let mut staged = each("input", depth * pixels, &input);
    staged.extend(each("weight", depth * 4 * blocks, &weight));
    staged
}

/// Each pixel inside the images, each block inside the output.
fn outputs(problem: &Problem) -> Vec<String> {
    let ragged = !problem.to.blocks().is_multiple_of(SIDE * problem.choice.columns);
    let mut lines = Vec::new();
    for pixel in 0..problem.choice.pixels {
        let pixel_offset = pixel * SIDE;
        lines.push(format!("if first_pixel + {pixel_offset}u < ALL_PIXELS {{"));
        lines.push(format!("    let to = place(first_pixel + {pixel_offset}u);"));
        for column in 0..problem.choice.columns {
            let block = format!("first_block + {}u", column * SIDE);
            let store = format!("store(to.x + piece * BATCH, {block}, to.y, to.z, sum{pixel}_{column});");
            lines.push(match ragged {
                true => format!("    if {block} < OUTPUT_BLOCKS {{ {store} }}"),
                false => format!("    {store}"),
            });
        }
        lines.push("}".to_owned());
    }
    lines
}
