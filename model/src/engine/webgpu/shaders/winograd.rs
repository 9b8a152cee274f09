//! Winograd's transforms around the products, which are a convolution's of 1x1: one of each point instead of an image.

use super::super::super::winograd::Scheme;
use super::super::planes::{BLOCK, Planes};
use super::super::storage::Element;
use super::convolution::{Problem, store};
use super::source::{Shapes, Source};
use super::types::Types;
use super::{ROW, fill};

/// The tiles that cover the outputs of all images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tiling {
    pub scheme: Scheme,
    batch: usize,
    /// Rows of them, and how many are in one, in an image.
    rows: usize,
    columns: usize,
}

impl Tiling {
    /// For outputs `to`.
    pub fn new(scheme: Scheme, to: &Planes) -> Self {
        let [rows, columns] = [to.height, to.width].map(|side| side.div_ceil(scheme.tile));
        Tiling { scheme, batch: to.batch, rows, columns }
    }

    /// Words for it: the outputs of a tile.
    pub fn describe(&self) -> String {
        format!("winograd {0}x{0}", self.scheme.tile)
    }

    /// Of all images.
    fn tiles(&self) -> usize {
        self.batch * self.rows * self.columns
    }

    /// The values of channels at all points: for each, all tiles in a row.
    pub fn planes(&self, channels: usize) -> Planes {
        let (batch, width) = (self.scheme.matrices(), self.tiles());
        Planes { channels, batch, height: 1, width, border: 0, element: Element::F32 }
    }

    fn constants(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("TILE", self.scheme.tile),
            ("TILES", self.tiles()),
            ("TILES_OF_A_ROW", self.columns),
            ("ROWS_OF_TILES", self.rows),
        ]
    }

    /// Whether tiles end where values of this shape do.
    fn covers(&self, to: &Planes) -> bool {
        [to.height, to.width] == [self.rows, self.columns].map(|tiles| tiles * self.scheme.tile)
    }
}

/// One channel each.
pub fn input_workgroups(tiling: &Tiling, from: &Planes) -> [usize; 3] {
    [(BLOCK * tiling.tiles()).div_ceil(ROW), from.blocks(), 1]
}

/// One block of channels each.
pub fn output_workgroups(tiling: &Tiling, to: &Planes) -> [usize; 3] {
    [tiling.tiles().div_ceil(ROW), to.blocks(), 1]
}

/// Of values `from`, which have a border of at least 1.
pub fn input_transform(tiling: &Tiling, from: &Planes, shapes: Shapes, binding: usize) -> Source {
    let types = Types::plain(from.element, Element::F32);
    let mut constants = tiling.constants();
    constants.extend([
        ("INPUT_IMAGE", from.image()),
        ("INPUT_PLANE", from.plane()),
        ("INPUT_PITCH", from.pitch()),
        ("INSET", from.inset(1)),
        ("INPUT_HEIGHT", from.height),
        ("INPUT_WIDTH", from.width),
        ("POINT", from.blocks() * tiling.tiles() * BLOCK),
    ]);
    let scheme = tiling.scheme;
    let points = scheme.points(scheme.tile);
    let ragged = shapes == Shapes::Read || !tiling.covers(from);
    // Where tiles reach over the end, the last zeros of the border stand for what is not there.
    let inside = |start: &str, index: usize, side: &str| match ragged {
        true => format!("min({start} + {index}u, {side} + 1u)"),
        false => format!("({start} + {index}u)"),
    };
    let rows = (0..points)
        .map(|row| format!("let row{row} = (plane + {} * INPUT_PITCH) * 4u + lane;", inside("y", row, "INPUT_HEIGHT")));
    let columns =
        (0..points).map(|column| format!("let column{column} = {} * 4u;", inside("x", column, "INPUT_WIDTH")));
    let each = || (0..points).flat_map(|row| (0..points).map(move |column| (row, column)));
    let inputs = each().map(|(row, column)| format!("let d{row}{column} = f32(input[row{row} + column{column}]);"));
    let outputs = each().map(|(row, column)| {
        let point = row * points + column;
        format!("output[to + {point}u * POINT] = v{row}{column};")
    });
    let down = (0..points)
        .flat_map(|column| input_side(scheme, |row| format!("d{row}{column}"), |row| format!("c{row}{column}")));
    let across = (0..points)
        .flat_map(|row| input_side(scheme, |column| format!("c{row}{column}"), |column| format!("v{row}{column}")));
    let mut text = include_str!("input_transform.wgsl").to_owned();
    fill(&mut text, "rows", rows);
    fill(&mut text, "columns", columns);
    fill(&mut text, "inputs", inputs);
    fill(&mut text, "down", down);
    fill(&mut text, "across", across);
    fill(&mut text, "outputs", outputs);
    Source::with(shapes, &types, &constants, &text, binding)
}

/// To the problem's outputs, with all that belongs to them.
pub fn output_transform(
    tiling: &Tiling,
    problem: &Problem,
    overflow: Option<usize>,
    shapes: Shapes,
    binding: usize,
) -> Source {
    let to = &problem.to;
    let types = Types { weight: Some(problem.storage), overflow, ..Types::plain(to.element, to.element) };
    let mut constants = tiling.constants();
    let mut text = include_str!("output_transform.wgsl").to_owned();
    store(problem, to, true, &mut text, &mut constants);
    constants.extend([("OUTPUT_HEIGHT", to.height), ("POINT", to.blocks() * tiling.tiles())]);
    let scheme = tiling.scheme;
    let (points, tile) = (scheme.points(scheme.tile), scheme.tile);
    let product = |row: usize, column: usize| format!("products[at + {}u * POINT]", row * points + column);
    let down = (0..points).flat_map(|column| {
        let products = (0..points).map(move |row| format!("let m{row}{column} = {};", product(row, column)));
        products.chain(output_side(scheme, |row| format!("m{row}{column}"), |row| format!("c{row}{column}")))
    });
    let across = (0..tile)
        .flat_map(|row| output_side(scheme, |column| format!("c{row}{column}"), |column| format!("o{row}{column}")));
    let ragged = shapes == Shapes::Read || !tiling.covers(to);
    let outputs = (0..tile).flat_map(|row| (0..tile).map(move |column| (row, column))).map(|(row, column)| {
        let store = format!("store(image, id.y, y + {row}u, x + {column}u, o{row}{column} + bias);");
        match ragged {
            true => format!("if y + {row}u < OUTPUT_HEIGHT && x + {column}u < OUTPUT_WIDTH {{ {store} }}"),
            false => store,
        }
    });
    fill(&mut text, "down", down);
    fill(&mut text, "across", across);
    fill(&mut text, "outputs", outputs);
    Source::with(shapes, &types, &constants, &text, binding)
}

/// `B^T x` of a side: a point from its inputs, opposite points from one even and one odd sum.
fn input_side(scheme: Scheme, input: impl Fn(usize) -> String, point: impl Fn(usize) -> String) -> Vec<String> {
    let (matrix, points) = (scheme.input(scheme.tile), scheme.points(scheme.tile));
    let sum = |row: usize, inputs: &[usize]| sum(inputs.iter().map(|&index| (matrix[row][index], input(index))));
    let (even, odd, all) = ([0, 2, 4], [1, 3, 5], [0, 1, 2, 3, 4, 5]);
    let mut lines = Vec::new();
    let mut row = 0;
    while row < points {
        let name = point(row);
        if scheme.paired(scheme.tile, row) {
            lines.push(format!("let even_{name} = {};", sum(row, &even)));
            lines.push(format!("let odd_{name} = {};", sum(row, &odd)));
            lines.push(format!("let {name} = even_{name} + odd_{name};"));
            lines.push(format!("let {} = even_{name} - odd_{name};", point(row + 1)));
            row += 2;
        } else {
            lines.push(format!("let {name} = {};", sum(row, &all)));
            row += 1;
        }
    }
    lines
}

/// `A^T x` of a side: its outputs from its points, opposite ones being replaced by their sum and their difference.
fn output_side(scheme: Scheme, point: impl Fn(usize) -> String, output: impl Fn(usize) -> String) -> Vec<String> {
    let (matrix, points) = (scheme.folded_output(scheme.tile), scheme.points(scheme.tile));
    let mut terms: Vec<String> = (0..points).map(&point).collect();
    let mut lines = Vec::new();
    for first in (2..points).step_by(2).filter(|&first| scheme.opposite(scheme.tile, first)) {
        let (one, other) = (point(first), point(first + 1));
        terms[first] = format!("even_{one}");
        terms[first + 1] = format!("odd_{one}");
        lines.push(format!("let even_{one} = {one} + {other};"));
        lines.push(format!("let odd_{one} = {one} - {other};"));
    }
    for column in 0..scheme.tile {
        let terms = terms.iter().enumerate().map(|(row, term)| (matrix[row][column], term.clone()));
        lines.push(format!("let {} = {};", output(column), sum(terms)));
    }
    lines
}

/// Of terms by what they count, those that count nothing left out.
fn sum(terms: impl Iterator<Item = (f32, String)>) -> String {
    let mut text = String::new();
    for (factor, term) in terms.filter(|(factor, _)| *factor != 0.0) {
        let sign = match (text.is_empty(), factor < 0.0) {
            (true, false) => "",
            (true, true) => "-",
            (false, false) => " + ",
            (false, true) => " - ",
        };
        text += sign;
        if factor.abs() != 1.0 {
            text += &format!("{:?} * ", factor.abs());
        }
        text += &term;
    }
    text
}
