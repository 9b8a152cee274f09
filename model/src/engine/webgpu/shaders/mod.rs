//! The kernels' sources: a text in WGSL with types and numbers in front of it. What depends on the tile is written out,
//! since only what has a name of its own is sure to stay in a register.

mod convolution;
mod direct;
mod source;
mod tiled;
mod types;
mod winograd;

pub use convolution::{Problem, factor, input_blocks, multiply_adds};
pub use source::Code;
pub use tiled::{SIDE, Slices};
pub use winograd::Tiling;

use super::choice::Family;
use super::planes::Planes;
use super::storage::Element;
use crate::architecture::MaxPool;
use source::Source;
use types::Types;

/// What a dispatch computes.
#[derive(Clone, Debug, PartialEq)]
pub enum Shader<'a> {
    /// Normalises bytes into the input.
    Normalise(Planes),
    /// A convolution, or the sums of its pieces.
    Convolution(Problem<'a>),
    /// Adds up the pieces of a convolution.
    AddPieces(Problem<'a>),
    /// From values with a border of at least 1 to Winograd's points.
    InputTransform {
        tiling: Tiling,
        from: Planes,
    },
    /// From Winograd's points to a convolution's outputs.
    OutputTransform {
        tiling: Tiling,
        problem: Problem<'a>,
    },
    /// The values `from` have passed a ReLU and have a border of the pool's padding.
    MaxPool {
        pool: MaxPool,
        from: Planes,
        to: Planes,
    },
    AveragePool {
        from: Planes,
        to: Planes,
    },
}

/// A kernel and the workgroups that it takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    pub source: String,
    pub workgroups: [u32; 3],
    /// Words that the last of the buffers holds that it reads, if it reads its shapes.
    pub shape: Option<Vec<u32>>,
    /// Buffers that it reads; it writes one.
    pub reads: usize,
    /// Whether a further one is told that a value was too large.
    pub checked: bool,
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
            Shader::InputTransform { tiling, from } => winograd::input_workgroups(tiling, from),
            Shader::OutputTransform { tiling, problem } => winograd::output_workgroups(tiling, &problem.to),
            Shader::MaxPool { to, .. } => [to.width.div_ceil(ROW), to.height, to.batch * to.blocks()],
            Shader::AveragePool { from, .. } => [(from.batch * from.blocks()).div_ceil(ROW), 1, 1],
        }
    }

    /// Buffers that it reads.
    fn reads(&self) -> usize {
        match self {
            Shader::Convolution(problem) => 2 + usize::from(problem.residual_read().is_some()),
            Shader::AddPieces(problem) | Shader::OutputTransform { problem, .. } => {
                2 + usize::from(problem.residual.is_some())
            }
            Shader::Normalise(_)
            | Shader::InputTransform { .. }
            | Shader::MaxPool { .. }
            | Shader::AveragePool { .. } => 1,
        }
    }

    /// Pools yield nothing larger than what they read.
    fn checked(&self) -> bool {
        let written = match self {
            Shader::Normalise(to) => to.element,
            Shader::Convolution(problem) => problem.written().element,
            Shader::AddPieces(problem) | Shader::OutputTransform { problem, .. } => problem.to.element,
            Shader::InputTransform { .. } | Shader::MaxPool { .. } | Shader::AveragePool { .. } => return false,
        };
        written == Element::F16
    }

    /// Whether it can read the shapes: it is one of those that a network has many of.
    fn shares(&self) -> bool {
        match self {
            Shader::Convolution(problem) => problem.choice.family == Family::Direct,
            Shader::InputTransform { .. } | Shader::OutputTransform { .. } => true,
            Shader::Normalise(_) | Shader::AddPieces(_) | Shader::MaxPool { .. } | Shader::AveragePool { .. } => false,
        }
    }

    pub fn kernel(&self, code: Code) -> Kernel {
        let code = if self.shares() { code } else { Code::Specialised };
        let (of_values, checked) = (self.reads(), self.checked());
        let reads = of_values + usize::from(code == Code::Shared);
        // The last binding; that of shapes is the one before.
        let overflow = checked.then_some(1 + reads);
        let Source { text: source, shape } = match self {
            Shader::Normalise(to) => normalise(to, overflow),
            Shader::Convolution(problem) => match problem.choice.family {
                Family::Direct => direct::source(problem, overflow, code, reads),
                Family::Tiled => tiled::source(problem, overflow),
            },
            Shader::AddPieces(problem) => convolution::add_pieces(problem, overflow),
            Shader::InputTransform { tiling, from } => winograd::input_transform(tiling, from, code, reads),
            Shader::OutputTransform { tiling, problem } => {
                winograd::output_transform(tiling, problem, overflow, code, reads)
            }
            Shader::MaxPool { pool, from, to } => max_pool(pool, from, to),
            Shader::AveragePool { from, to } => average_pool(from, to),
        };
        let workgroups = self.workgroups().map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        Kernel { source, workgroups, shape, reads, checked }
    }
}

fn normalise(to: &Planes, overflow: Option<usize>) -> Source {
    let types = Types { overflow, ..Types::plain(to.element, to.element) };
    let constants = [
        ("HEIGHT", to.height),
        ("WIDTH", to.width),
        ("OUTPUT_IMAGE", to.image()),
        ("OUTPUT_INSIDE", to.inside()),
        ("OUTPUT_PITCH", to.pitch()),
    ];
    Source::new(&types, &constants, include_str!("normalise.wgsl"))
}

fn max_pool(pool: &MaxPool, from: &Planes, to: &Planes) -> Source {
    let types = Types::plain(from.element, to.element);
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
    Source::new(&types, &constants, include_str!("max_pool.wgsl"))
}

fn average_pool(from: &Planes, to: &Planes) -> Source {
    let types = Types::plain(from.element, to.element);
    let constants = [
        ("PLANES", from.batch * from.blocks()),
        ("HEIGHT", from.height),
        ("WIDTH", from.width),
        ("INPUT_PLANE", from.plane()),
        ("INPUT_PITCH", from.pitch()),
        ("INPUT_INSIDE", from.inside()),
    ];
    Source::new(&types, &constants, include_str!("average_pool.wgsl"))
}

/// Puts lines in the place of `//{name}`, as far to the right as that; without any, its line goes.
fn fill(text: &mut String, name: &str, lines: impl IntoIterator<Item = String>) {
    fill_in(text, name, &lines.into_iter().collect::<Vec<_>>());
}

/// Compiled once.
fn fill_in(text: &mut String, name: &str, lines: &[String]) {
    let mark = format!("//{{{name}}}");
    let at = text.find(&mark).expect("the text has the place");
    let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let end = at + mark.len() + 1;
    let indent = " ".repeat(at - start);
    let lines: String = lines.iter().map(|line| format!("{indent}{line}\n")).collect();
    text.replace_range(start..end, &lines);
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
