//! Family A: convolutions out of caches, without barriers.

use super::super::choice::Choice;
use super::super::planes::BLOCK;
use super::super::storage::Element;
use super::convolution::{Problem, channels, constants, factor, products, read, store_sums, sum_registers, types};
use super::fill;
use super::source::{Code, Source};

/// Inputs that are kept for all taps of a row, for which there are registers beside a tile's sums.
const MOST_INPUTS: usize = 16;

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

pub fn source(problem: &Problem, overflow: Option<usize>, code: Code, binding: usize) -> Source {
    let (choice, to) = (&problem.choice, &problem.to);
    let factor = factor(problem, code);
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
    fill(&mut text, "taps", taps(problem, factor));
    fill(
        &mut text,
        "outputs",
        match code {
            Code::Specialised => outputs(choice, !to.width.is_multiple_of(choice.pixels)),
            Code::Shared => outputs_in_a_loop(choice),
        },
    );
    Source::with(code, &types(problem, factor, overflow), &constants, &text, binding)
}

/// Columns of a tile share their inputs, and lie apart by an equal share of the blocks.
fn block(first: &str, column: usize) -> String {
    match column {
        0 => first.to_owned(),
        1 => format!("{first} + COLUMN"),
        _ => format!("{first} + {column}u * COLUMN"),
    }
}

/// The products of a row of taps; `at` goes along.
fn taps(problem: &Problem, factor: Element) -> Vec<String> {
    let (layer, pixels) = (problem.layer, problem.choice.pixels);
    // Of the pixels that the tile's windows cover in a row.
    let window = (pixels - 1) * layer.stride + layer.kernel;
    let mut lines = Vec::new();
    if layer.kernel > 1 && window <= MOST_INPUTS {
        lines.extend((0..window).map(|x| format!("let input{x} = Factor(input[pixel + {x}u]);")));
        for tap in 0..layer.kernel {
            products_of_a_tap(problem, factor, &mut lines, |pixel| pixel * layer.stride + tap);
        }
        return lines;
    }
    // Each is read where it is needed.
    let tap = if layer.kernel > 1 { " + tap" } else { "" };
    lines.extend((0..pixels).map(|x| format!("let input{x} = Factor(input[pixel{tap} + {}u]);", x * layer.stride)));
    products_of_a_tap(problem, factor, &mut lines, |pixel| pixel);
    if layer.kernel > 1 {
        lines.iter_mut().for_each(|line| line.insert_str(0, "    "));
        lines.insert(0, "for (var tap = 0u; tap < KERNEL; tap++) {".to_owned());
        lines.push("}".to_owned());
    }
    lines
}

/// `input` says which one a pixel's is.
fn products_of_a_tap(problem: &Problem, factor: Element, lines: &mut Vec<String>, input: impl Fn(usize) -> usize) {
    let weight = |_, column| format!("{}({})", read(factor), block("at", column));
    let input = |pixel| format!("input{}", input(pixel));
    lines.extend(products(problem, factor, &weight, Some("at += OUTPUT_BLOCKS;"), &input));
    let channels = channels(problem);
    if channels < BLOCK {
        lines.push(format!("at += {}u * OUTPUT_BLOCKS;", BLOCK - channels));
    }
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

/// The same.
fn outputs_in_a_loop(choice: &Choice) -> Vec<String> {
    let sums =
        (0..choice.pixels).flat_map(|pixel| (0..choice.columns).map(move |column| format!("sum{pixel}_{column}")));
    let sums = sums.collect::<Vec<_>>().join(", ");
    vec![
        format!("var sums = array<vec4f, PIXELS * COLUMNS>({sums});"),
        "for (var index = 0u; index < PIXELS * COLUMNS; index++) {".to_owned(),
        "    let pixel = x + index / COLUMNS;".to_owned(),
        "    if pixel < OUTPUT_WIDTH {".to_owned(),
        "        store(id.z, id.x + index % COLUMNS * COLUMN, y, pixel, sums[index]);".to_owned(),
        "    }".to_owned(),
        "}".to_owned(),
    ]
}
