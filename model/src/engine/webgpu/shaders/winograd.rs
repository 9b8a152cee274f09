//! Winograd's transforms around the products, which are a convolution's of 1x1: one of each point instead of an image.

use super::super::super::winograd::{POINTS, Scheme};
use super::super::planes::{BLOCK, Planes};
use super::super::storage::Element;
use super::convolution::{Problem, store};
use super::source::{Code, Source};
use super::types::Types;
use super::{ROW, fill};
use crate::architecture::Convolution;

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

    /// Those of a layer's input, and of its sums.
    pub fn points(&self, layer: &Convolution) -> [Planes; 2] {
        [layer.in_channels, layer.out_channels].map(|channels| self.planes(channels))
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
pub fn input_transform(tiling: &Tiling, from: &Planes, code: Code, binding: usize) -> Source {
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
    let ragged = code == Code::Shared || !tiling.covers(from);
    // Where tiles reach over the end, the last zeros of the border stand for what is not there.
    let inside = |start: &str, index: usize, side: &str| match ragged {
        true => format!("min({start} + {index}u, {side} + 1u)"),
        false => format!("({start} + {index}u)"),
    };
    let [mut rows, mut columns, mut inputs, mut down, mut across] = [const { Vec::new() }; 5];
    for line in 0..points {
        rows.push(format!(
            "let row{line} = (plane + {} * INPUT_PITCH) * 4u + lane;",
            inside("y", line, "INPUT_HEIGHT")
        ));
        columns.push(format!("let column{line} = {} * 4u;", inside("x", line, "INPUT_WIDTH")));
        input_side(scheme, &mut down, &|row| format!("d{row}{line}"), &|row| format!("c{row}{line}"));
        input_side(scheme, &mut across, &|column| format!("c{line}{column}"), &|column| format!("v{line}{column}"));
        for column in 0..points {
            inputs.push(format!("let d{line}{column} = f32(input[row{line} + column{column}]);"));
        }
    }
    let outputs = match code {
        Code::Specialised => {
            let store = |point| format!("output[to + {point}u * POINT] = v{}{};", point / points, point % points);
            (0..points * points).map(store).collect()
        }
        Code::Shared => vec![
            format!("var values = array<f32, {}>({});", points * points, names(points, "v")),
            format!("for (var point = 0u; point < {}u; point++) {{", points * points),
            "    output[to + point * POINT] = values[point];".to_owned(),
            "}".to_owned(),
        ],
    };
    let mut text = include_str!("input_transform.wgsl").to_owned();
    fill(&mut text, "rows", rows);
    fill(&mut text, "columns", columns);
    fill(&mut text, "inputs", inputs);
    fill(&mut text, "down", down);
    fill(&mut text, "across", across);
    fill(&mut text, "outputs", outputs);
    Source::with(code, &types, &constants, &text, binding)
}

/// To the problem's outputs, with all that belongs to them.
pub fn output_transform(
    tiling: &Tiling,
    problem: &Problem,
    overflow: Option<usize>,
    code: Code,
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
    let ragged = !tiling.covers(to);
    let [mut down, mut across] = [const { Vec::new() }; 2];
    if code == Code::Shared {
        down = vec![
            format!("var sums: array<vec4f, {}>;", points * points),
            format!("for (var point = 0u; point < {}u; point++) {{", points * points),
            "    sums[point] = products[at + point * POINT];".to_owned(),
            "}".to_owned(),
        ];
    }
    for column in 0..points {
        for row in 0..points {
            let point = row * points + column;
            down.push(match code {
                Code::Specialised => format!("let m{row}{column} = products[at + {point}u * POINT];"),
                Code::Shared => format!("let m{row}{column} = sums[{point}];"),
            });
        }
        output_side(scheme, &mut down, &|row| format!("m{row}{column}"), &|row| format!("c{row}{column}"));
    }
    for row in 0..tile {
        output_side(scheme, &mut across, &|column| format!("c{row}{column}"), &|column| format!("o{row}{column}"));
    }
    let outputs = match code {
        Code::Specialised => {
            let store = |index: usize| {
                let (row, column) = (index / tile, index % tile);
                let store = format!("store(image, id.y, y + {row}u, x + {column}u, o{row}{column} + biases);");
                match ragged {
                    true => format!("if y + {row}u < OUTPUT_HEIGHT && x + {column}u < OUTPUT_WIDTH {{ {store} }}"),
                    false => store,
                }
            };
            (0..tile * tile).map(store).collect()
        }
        Code::Shared => vec![
            format!("var values = array<vec4f, TILE * TILE>({});", names(tile, "o")),
            "for (var index = 0u; index < TILE * TILE; index++) {".to_owned(),
            "    let row = y + index / TILE;".to_owned(),
            "    let column = x + index % TILE;".to_owned(),
            "    if row < OUTPUT_HEIGHT && column < OUTPUT_WIDTH {".to_owned(),
            "        store(image, id.y, row, column, values[index] + biases);".to_owned(),
            "    }".to_owned(),
            "}".to_owned(),
        ],
    };
    fill(&mut text, "down", down);
    fill(&mut text, "across", across);
    fill(&mut text, "outputs", outputs);
    Source::with(code, &types, &constants, &text, binding)
}

/// Those of a square, row by row.
fn names(side: usize, prefix: &str) -> String {
    let names = (0..side * side).map(|index| format!("{prefix}{}{}", index / side, index % side));
    names.collect::<Vec<_>>().join(", ")
}

/// The name of a number of a side.
type Name<'a> = &'a dyn Fn(usize) -> String;

/// `B^T x` of a side: a point from its inputs, opposite points from one even and one odd sum.
fn input_side(scheme: Scheme, lines: &mut Vec<String>, input: Name, point: Name) {
    let (matrix, points) = (scheme.input(scheme.tile), scheme.points(scheme.tile));
    let inputs: Vec<String> = (0..points).map(input).collect();
    let mut row = 0;
    while row < points {
        let (name, factors) = (point(row), matrix[row]);
        if scheme.paired(scheme.tile, row) {
            let of = |odd: usize| std::array::from_fn(|column| if column % 2 == odd { factors[column] } else { 0.0 });
            lines.push(format!("let even_{name} = {};", sum(&of(0), &inputs)));
            lines.push(format!("let odd_{name} = {};", sum(&of(1), &inputs)));
            lines.push(format!("let {name} = even_{name} + odd_{name};"));
            lines.push(format!("let {} = even_{name} - odd_{name};", point(row + 1)));
            row += 2;
        } else {
            lines.push(format!("let {name} = {};", sum(&factors, &inputs)));
            row += 1;
        }
    }
}

/// `A^T x` of a side: its outputs from its points, opposite ones being replaced by their sum and their difference.
fn output_side(scheme: Scheme, lines: &mut Vec<String>, point: Name, output: Name) {
    let (matrix, points) = (scheme.folded_output(scheme.tile), scheme.points(scheme.tile));
    let mut terms: Vec<String> = (0..points).map(point).collect();
    for first in (2..points).step_by(2).filter(|&first| scheme.opposite(scheme.tile, first)) {
        let (one, other) = (point(first), point(first + 1));
        lines.push(format!("let even_{one} = {one} + {other};"));
        lines.push(format!("let odd_{one} = {one} - {other};"));
        terms[first] = format!("even_{one}");
        terms[first + 1] = format!("odd_{one}");
    }
    lines.extend((0..scheme.tile).map(|column| {
        let factors = matrix.map(|row| row[column]);
        format!("let {} = {};", output(column), sum(&factors, &terms))
    }));
}

/// Of terms by what they count, those that count nothing left out.
fn sum(factors: &[f32; POINTS], terms: &[String]) -> String {
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
