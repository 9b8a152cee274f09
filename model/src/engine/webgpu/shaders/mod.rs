//! The kernels' sources: a text in WGSL with the shapes in front of it as constants. What depends on the tile is written out,
//! since only what has a name of its own is sure to stay in a register.

use super::choice::Tile;
use super::planes::{BLOCK, Planes};
use crate::architecture::{Convolution, MaxPool};
use std::fmt::Write;

/// A kernel and the workgroups that it takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    pub source: String,
    pub workgroups: [u32; 3],
    /// Buffers that it reads; it writes one.
    pub reads: usize,
}

/// Invocations of a workgroup of the kernels whose invocations lie in a row.
const ROW: usize = 64;

/// Normalises bytes into the input.
pub fn normalise(to: &Planes) -> Kernel {
    let constants = [
        ("HEIGHT", to.height),
        ("WIDTH", to.width),
        ("OUTPUT_IMAGE", to.image()),
        ("OUTPUT_INSIDE", to.inside()),
        ("OUTPUT_PITCH", to.pitch()),
    ];
    let source = with(&constants, include_str!("normalise.wgsl"));
    Kernel { source, workgroups: workgroups([to.width.div_ceil(ROW), to.height, to.batch]), reads: 1 }
}

/// The values `from` have passed a ReLU and have a border of the pool's padding.
pub fn max_pool(pool: &MaxPool, from: &Planes, to: &Planes) -> Kernel {
    let constants = [
        ("KERNEL", pool.kernel),
        ("STRIDE", pool.stride),
        ("INPUT_PLANE", from.plane()),
        ("INPUT_PITCH", from.pitch()),
        ("INSET", (from.border - pool.padding) * (from.pitch() + 1)),
        ("OUTPUT_PLANE", to.plane()),
        ("OUTPUT_INSIDE", to.inside()),
        ("OUTPUT_PITCH", to.pitch()),
        ("OUTPUT_WIDTH", to.width),
    ];
    let source = with(&constants, include_str!("max_pool.wgsl"));
    Kernel { source, workgroups: workgroups([to.width.div_ceil(ROW), to.height, to.batch * to.blocks()]), reads: 1 }
}

pub fn average_pool(from: &Planes) -> Kernel {
    let planes = from.batch * from.blocks();
    let constants = [
        ("PLANES", planes),
        ("HEIGHT", from.height),
        ("WIDTH", from.width),
        ("INPUT_PLANE", from.plane()),
        ("INPUT_PITCH", from.pitch()),
        ("INPUT_INSIDE", from.inside()),
    ];
    let source = with(&constants, include_str!("average_pool.wgsl"));
    Kernel { source, workgroups: workgroups([planes.div_ceil(ROW), 1, 1]), reads: 1 }
}

/// What surrounds a convolution.
pub struct Surroundings<'a> {
    pub from: &'a Planes,
    pub to: &'a Planes,
    pub residual: Option<&'a Planes>,
    pub relu: bool,
}

pub fn convolution(
    layer: &Convolution,
    tile: &Tile,
    Surroundings { from, to, residual, relu }: Surroundings,
) -> Kernel {
    let Tile { pixels, columns, workgroup } = *tile;
    let blocks = to.blocks();
    let of_a_group = blocks / layer.groups;
    let tiles_of_a_row = to.width.div_ceil(pixels);
    let mut constants = vec![
        ("KERNEL", layer.kernel),
        ("STRIDE", layer.stride),
        ("PIXELS", pixels),
        ("COLUMNS", columns),
        ("WORKGROUP_X", workgroup[0]),
        ("WORKGROUP_Y", workgroup[1]),
        ("TILES", to.height * tiles_of_a_row),
        ("TILES_OF_A_ROW", tiles_of_a_row),
        ("INPUT_BLOCKS", (layer.in_channels / layer.groups).div_ceil(BLOCK)),
        ("INPUT_IMAGE", from.image()),
        ("INPUT_PLANE", from.plane()),
        ("INPUT_PITCH", from.pitch()),
        ("INSET", (from.border - layer.padding) * (from.pitch() + 1)),
        ("OUTPUT_BLOCKS", blocks),
        ("OUTPUT_COLUMNS_OF_A_GROUP", of_a_group),
        ("OUTPUT_IMAGE", to.image()),
        ("OUTPUT_PLANE", to.plane()),
        ("OUTPUT_PITCH", to.pitch()),
        ("OUTPUT_INSIDE", to.inside()),
    ];
    let mut text = include_str!("convolution.wgsl").to_owned();
    let biases = layer.kernel * layer.kernel * (layer.in_channels / layer.groups).div_ceil(BLOCK) * BLOCK * blocks;
    constants.push(("BIASES", biases));
    let sums = (0..columns).map(|column| {
        let bias = biases_of(column, blocks / columns);
        (0..pixels).map(|pixel| format!("var sum{pixel}_{column} = {bias};")).collect::<Vec<_>>()
    });
    fill(&mut text, "sums", sums.flatten());
    fill(&mut text, "inputs", inputs(layer, pixels));
    fill(&mut text, "products", products(layer, tile, blocks));
    match residual {
        Some(residual) => {
            constants.extend([
                ("RESIDUAL_IMAGE", residual.image()),
                ("RESIDUAL_PLANE", residual.plane()),
                ("RESIDUAL_PITCH", residual.pitch()),
                ("RESIDUAL_INSIDE", residual.inside()),
            ]);
            let binding = "@group(0) @binding(3) var<storage, read> residual: array<vec4f>;";
            fill(&mut text, "residual binding", [binding.to_owned()]);
            let offset = "let beside = id.z * RESIDUAL_IMAGE + id.x * RESIDUAL_PLANE + RESIDUAL_INSIDE + y * RESIDUAL_PITCH + x;";
            fill(&mut text, "residual offset", [offset.to_owned()]);
        }
        None => {
            fill(&mut text, "residual binding", []);
            fill(&mut text, "residual offset", []);
        }
    }
    fill(&mut text, "outputs", outputs(tile, to, residual.is_some(), relu));
    let groups = [(blocks / columns).div_ceil(workgroup[0]), (to.height * tiles_of_a_row).div_ceil(workgroup[1])];
    let reads = if residual.is_some() { 3 } else { 2 };
    Kernel { source: with(&constants, &text), workgroups: workgroups([groups[0], groups[1], to.batch]), reads }
}

fn biases_of(column: usize, between: usize) -> String {
    format!("weights[BIASES + id.x + {}u]", column * between)
}

/// The pixels of a row that the tile's windows cover, or of a 1x1 those that it reads.
fn inputs(layer: &Convolution, pixels: usize) -> Vec<String> {
    let step = if layer.kernel == 1 { layer.stride } else { 1 };
    let count = if layer.kernel == 1 { pixels } else { (pixels - 1) * layer.stride + layer.kernel };
    (0..count).map(|x| format!("let input{x} = input[pixel + {}u];", x * step)).collect()
}

/// By tap of a row and by channel of a block: the columns' weights, and their products with each pixel's input.
fn products(layer: &Convolution, tile: &Tile, blocks: usize) -> Vec<String> {
    let channels = (layer.in_channels / layer.groups).min(BLOCK);
    let step = if layer.kernel == 1 { 1 } else { layer.stride };
    let mut lines = Vec::new();
    for tap in 0..layer.kernel {
        for channel in 0..channels {
            lines.push("{".to_owned());
            for column in 0..tile.columns {
                let offset = (tap * BLOCK + channel) * blocks + column * (blocks / tile.columns);
                lines.push(format!("    let weight{column} = weights[at + {offset}u];"));
            }
            for pixel in 0..tile.pixels {
                let (input, lane) = (pixel * step + tap, ["x", "y", "z", "w"][channel]);
                for column in 0..tile.columns {
                    lines.push(format!("    sum{pixel}_{column} += weight{column} * input{input}.{lane};"));
                }
            }
            lines.push("}".to_owned());
        }
    }
    lines
}

/// Residual, ReLU and the write of each pixel inside the row.
fn outputs(tile: &Tile, to: &Planes, residual: bool, relu: bool) -> Vec<String> {
    let ragged = !to.width.is_multiple_of(tile.pixels);
    let between = to.blocks() / tile.columns;
    let mut lines = Vec::new();
    for pixel in 0..tile.pixels {
        if ragged {
            lines.push(format!("if x + {pixel}u < {}u {{", to.width));
        }
        for column in 0..tile.columns {
            let sum = format!("sum{pixel}_{column}");
            if residual {
                let at = format!("beside + {pixel}u + {}u * RESIDUAL_PLANE", column * between);
                lines.push(format!("{sum} += residual[{at}];"));
            }
            let value = if relu { format!("max({sum}, vec4f(0.0))") } else { sum };
            lines.push(format!("output[to + {pixel}u + {}u * OUTPUT_PLANE] = {value};", column * between));
        }
        if ragged {
            lines.push("}".to_owned());
        }
    }
    lines
}

/// Puts lines in the place of `//{name}`, as far to the right as that.
fn fill(text: &mut String, name: &str, lines: impl IntoIterator<Item = String>) {
    let mark = format!("//{{{name}}}");
    let start = text.find(&mark).expect("the text has the place");
    let indent = " ".repeat(text[..start].rsplit('\n').next().map_or(0, str::len));
    let lines: Vec<String> = lines.into_iter().collect();
    text.replace_range(start..start + mark.len(), &lines.join(&format!("\n{indent}")));
}

/// A text with constants in front of it.
fn with(constants: &[(&str, usize)], text: &str) -> String {
    let mut source = String::new();
    for (name, value) in constants {
        writeln!(source, "const {name} = {value}u;").expect("writing to a string");
    }
    source + "\n" + text
}

fn workgroups(counts: [usize; 3]) -> [u32; 3] {
    counts.map(|count| u32::try_from(count).unwrap_or(u32::MAX))
}
