//! The kernels' sources: a text in WGSL with the shapes in front of it as constants. What depends on the tile is written out,
//! since only what has a name of its own is sure to stay in a register.

mod convolution;
mod direct;
mod tiled;

pub use convolution::{Problem, input_blocks, multiply_adds};
pub use tiled::{SIDE, Slices};

use super::choice::Family;
use super::planes::Planes;
use crate::architecture::MaxPool;
use std::fmt::Write;

/// What a dispatch computes.
#[derive(Clone, Debug, PartialEq)]
pub enum Shader<'a> {
    /// Normalises bytes into the input.
    Normalise(Planes),
    /// A convolution, or the sums of its pieces.
    Convolution(Problem<'a>),
    /// Adds up the pieces of a convolution.
    AddPieces(Problem<'a>),
    /// The values `from` have passed a ReLU and have a border of the pool's padding.
    MaxPool {
        pool: MaxPool,
        from: Planes,
        to: Planes,
    },
    AveragePool(Planes),
}

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

impl Shader<'_> {
    /// In all three dimensions.
    pub fn workgroups(&self) -> [usize; 3] {
        match self {
            Shader::Normalise(to) => [to.width.div_ceil(ROW), to.height, to.batch],
            Shader::Convolution(problem) => match problem.choice.family {
                Family::Direct => direct::workgroups(problem),
                Family::Tiled => tiled::workgroups(problem),
            },
            Shader::AddPieces(problem) => [convolution::sums(problem).div_ceil(ROW), 1, 1],
            Shader::MaxPool { to, .. } => [to.width.div_ceil(ROW), to.height, to.batch * to.blocks()],
            Shader::AveragePool(from) => [(from.batch * from.blocks()).div_ceil(ROW), 1, 1],
        }
    }

    pub fn kernel(&self) -> Kernel {
        let (source, reads) = match self {
            Shader::Normalise(to) => (normalise(to), 1),
            Shader::Convolution(problem) => {
                let source = match problem.choice.family {
                    Family::Direct => direct::source(problem),
                    Family::Tiled => tiled::source(problem),
                };
                (source, 2 + usize::from(problem.residual_read().is_some()))
            }
            Shader::AddPieces(problem) => {
                (convolution::add_pieces(problem), 2 + usize::from(problem.residual.is_some()))
            }
            Shader::MaxPool { pool, from, to } => (max_pool(pool, from, to), 1),
            Shader::AveragePool(from) => (average_pool(from), 1),
        };
        let workgroups = self.workgroups().map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        Kernel { source, workgroups, reads }
    }
}

fn normalise(to: &Planes) -> String {
    let constants = [
        ("HEIGHT", to.height),
        ("WIDTH", to.width),
        ("OUTPUT_IMAGE", to.image()),
        ("OUTPUT_INSIDE", to.inside()),
        ("OUTPUT_PITCH", to.pitch()),
    ];
    with(&constants, include_str!("normalise.wgsl"))
}

fn max_pool(pool: &MaxPool, from: &Planes, to: &Planes) -> String {
    let constants = [
        ("KERNEL", pool.kernel),
        ("STRIDE", pool.stride),
        ("INPUT_PLANE", from.plane()),
        ("INPUT_PITCH", from.pitch()),
        ("INSET", from.inset(pool.padding)),
        ("OUTPUT_PLANE", to.plane()),
        ("OUTPUT_INSIDE", to.inside()),
        ("OUTPUT_PITCH", to.pitch()),
        ("OUTPUT_WIDTH", to.width),
    ];
    with(&constants, include_str!("max_pool.wgsl"))
}

fn average_pool(from: &Planes) -> String {
    let constants = [
        ("PLANES", from.batch * from.blocks()),
        ("HEIGHT", from.height),
        ("WIDTH", from.width),
        ("INPUT_PLANE", from.plane()),
        ("INPUT_PITCH", from.pitch()),
        ("INPUT_INSIDE", from.inside()),
    ];
    with(&constants, include_str!("average_pool.wgsl"))
}

/// Puts lines in the place of `//{name}`, as far to the right as that; without any, its line goes.
fn fill(text: &mut String, name: &str, lines: impl IntoIterator<Item = String>) {
    let mark = format!("//{{{name}}}");
    let at = text.find(&mark).expect("the text has the place");
    let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let end = at + mark.len() + 1;
    let indent = " ".repeat(at - start);
    let lines: String = lines.into_iter().map(|line| format!("{indent}{line}\n")).collect();
    text.replace_range(start..end, &lines);
}

/// A text with constants in front of it.
fn with(constants: &[(&str, usize)], text: &str) -> String {
    let mut source = String::new();
    for (name, value) in constants {
        writeln!(source, "const {name} = {value}u;").expect("writing to a string");
    }
    source + "\n" + text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_takes_lines_at_its_indent_or_goes() {
        let mut text = "{\n    //{some}\n    //{none}\n}\n".to_owned();
        fill(&mut text, "some", ["a;".to_owned(), "b;".to_owned()]);
        fill(&mut text, "none", []);
        assert_eq!(text, "{\n    a;\n    b;\n}\n");
    }
}
