//! Family A: convolutions out of caches, without barriers.

use super::super::planes::BLOCK;
use super::convolution::{Problem, constants, products, store_sums, sum_registers, types};
use super::{fill, with};

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

pub fn source(problem: &Problem, overflow: Option<usize>) -> String {
    let (choice, to) = (&problem.choice, &problem.to);
    let mut constants = constants(problem);
    constants.extend([
        ("PIXELS", choice.pixels),
        ("COLUMNS", choice.columns),
        ("WORKGROUP_X", choice.workgroup[0]),
        ("WORKGROUP_Y", choice.workgroup[1]),
        ("TILES", tiles(problem)),
        ("TILES_OF_A_ROW", to.width.div_ceil(choice.pixels)),
        ("OUTPUT_COLUMNS_OF_A_GROUP", to.blocks() / problem.layer.groups),
    ]);
    let mut text = include_str!("direct.wgsl").to_owned();
    store_sums(problem, &mut text, &mut constants);
    let block = |column| format!("id.x + {}u", column * between(problem));
    fill(&mut text, "sums", sum_registers(problem, block));
    fill(&mut text, "inputs", inputs(problem));
    fill(&mut text, "products", products_of_a_row(problem));
    fill(&mut text, "outputs", outputs(problem));
    with(&types(problem, overflow), &constants, &text)
}

/// The pixels of a row that the tile's windows cover, or of a 1x1 those that it reads.
fn inputs(problem: &Problem) -> Vec<String> {
    let (layer, pixels) = (problem.layer, problem.choice.pixels);
    let step = if layer.kernel == 1 { layer.stride } else { 1 };
    let count = if layer.kernel == 1 { pixels } else { (pixels - 1) * layer.stride + layer.kernel };
    (0..count).map(|x| format!("let input{x} = vec4f(input[pixel + {}u]);", x * step)).collect()
}

/// By tap of a row.
fn products_of_a_row(problem: &Problem) -> Vec<String> {
    let (layer, blocks) = (problem.layer, problem.to.blocks());
    let step = if layer.kernel == 1 { 1 } else { layer.stride };
    let of_a_tap = |tap| {
        let weight =
            |channel, column| format!("weight(at + {}u)", (tap * BLOCK + channel) * blocks + column * between(problem));
        products(problem, weight, |pixel| format!("input{}", pixel * step + tap))
    };
    (0..layer.kernel).flat_map(of_a_tap).collect()
}

/// Columns of a tile share their inputs, and lie apart by an equal share of the blocks.
fn between(problem: &Problem) -> usize {
    problem.to.blocks() / problem.choice.columns
}

/// Each pixel inside the row.
fn outputs(problem: &Problem) -> Vec<String> {
    let (pixels, width) = (problem.choice.pixels, problem.to.width);
    let ragged = !width.is_multiple_of(pixels);
    let mut lines = Vec::new();
    for pixel in 0..pixels {
        let stores = (0..problem.choice.columns).map(|column| {
            let block = column * between(problem);
            format!("store(id.z, id.x + {block}u, y, x + {pixel}u, sum{pixel}_{column});")
        });
        if ragged {
            lines.push(format!("if x + {pixel}u < {width}u {{"));
            lines.extend(stores.map(|store| format!("    {store}")));
            lines.push("}".to_owned());
        } else {
            lines.extend(stores);
        }
    }
    lines
}
