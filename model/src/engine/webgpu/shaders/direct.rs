//! Family A: convolutions out of caches, without barriers.

use super::super::choice::Choice;
use super::super::planes::BLOCK;
use super::convolution::{Problem, channels, constants, products, store_sums, sum_registers, types};
use super::fill;
use super::source::{Shapes, Source};

/// Columns of output blocks, tiles, pieces of images.
pub fn workgroups(problem: &Problem) -> [usize; 3] {
    let [x, y] = problem.choice.workgroup;
    let columns = problem.to.blocks() / problem.choice.columns;
    [columns.div_ceil(x), tiles(problem).div_ceil(y), problem.to.batch * problem.choice.pieces]
}

/// Of an image.
fn tiles(problem: &Problem) -> usize {
    problem.to.height * problem.to.width.div_ceil(problem.choice.pixels)
}

pub fn source(problem: &Problem, overflow: Option<usize>, shapes: Shapes, binding: usize) -> Source {
    let (choice, to) = (&problem.choice, &problem.to);
    let mut constants = constants(problem);
    constants.extend([
        ("PIXELS", choice.pixels),
        ("COLUMNS", choice.columns),
        ("COLUMN", to.blocks() / choice.columns),
        ("WORKGROUP_X", choice.workgroup[0]),
        ("WORKGROUP_Y", choice.workgroup[1]),
        ("TILES", tiles(problem)),
        ("TILES_OF_A_ROW", to.width.div_ceil(choice.pixels)),
        ("OUTPUT_COLUMNS_OF_A_GROUP", to.blocks() / problem.layer.groups),
    ]);
    let mut text = include_str!("direct.wgsl").to_owned();
    store_sums(problem, &mut text, &mut constants);
    fill(&mut text, "sums", sum_registers(problem, |column| block("id.x", column)));
    fill(&mut text, "inputs", inputs(problem));
    fill(&mut text, "products", products_of_a_row(problem));
    let ragged = shapes == Shapes::Read || !to.width.is_multiple_of(choice.pixels);
    fill(&mut text, "outputs", outputs(choice, ragged));
    Source::with(shapes, &types(problem, overflow), &constants, &text, binding)
}

/// Columns of a tile share their inputs, and lie apart by an equal share of the blocks.
fn block(first: &str, column: usize) -> String {
    match column {
        0 => first.to_owned(),
        1 => format!("{first} + COLUMN"),
        _ => format!("{first} + {column}u * COLUMN"),
    }
}

/// The pixels of a row that the tile's windows cover, or of a 1x1 those that it reads.
fn inputs(problem: &Problem) -> Vec<String> {
    let (layer, pixels) = (problem.layer, problem.choice.pixels);
    let step = if layer.kernel == 1 { layer.stride } else { 1 };
    let count = if layer.kernel == 1 { pixels } else { (pixels - 1) * layer.stride + layer.kernel };
    (0..count).map(|x| format!("let input{x} = vec4f(input[pixel + {}u]);", x * step)).collect()
}

/// By tap of a row, and by channel; `at` goes along.
fn products_of_a_row(problem: &Problem) -> Vec<String> {
    let layer = problem.layer;
    let step = if layer.kernel == 1 { 1 } else { layer.stride };
    let channels = channels(problem);
    let mut lines = Vec::new();
    for tap in 0..layer.kernel {
        for channel in 0..channels {
            let weight = |column| format!("weight({})", block("at", column));
            lines.extend(products(problem, channel, weight, |pixel| format!("input{}", pixel * step + tap)));
            lines.push("at += OUTPUT_BLOCKS;".to_owned());
        }
        if channels < BLOCK {
            lines.push(format!("at += {}u * OUTPUT_BLOCKS;", BLOCK - channels));
        }
    }
    lines
}

/// Each pixel, if a row may end with it.
fn outputs(choice: &Choice, ragged: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for pixel in 0..choice.pixels {
        let store = |column| format!("store(id.z, {}, y, x + {pixel}u, sum{pixel}_{column});", block("id.x", column));
        let stores = (0..choice.columns).map(store);
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
