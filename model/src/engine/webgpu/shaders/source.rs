//! A kernel's text with its types and numbers in front.

use super::types::Types;
use std::fmt::Write;

/// Numbers of which a text's very lines depend. All others are of shapes.
const FIXED: [&str; 7] = ["KERNEL", "STRIDE", "PIXELS", "COLUMNS", "WORKGROUP_X", "WORKGROUP_Y", "TILE"];

/// How kernels are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// With shapes as constants and nothing in loops that could be registers, of which a compiler makes the most.
    Specialised,
    /// With shapes out of a buffer, so that layers share kernels, and with loops around what is read and written once: for
    /// adapters that compile slowly, one kernel after the other, and hardly better for all that.
    Shared,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    pub text: String,
    /// The words of the buffer of its shapes, if it reads them: its last binding.
    pub shape: Option<Vec<u32>>,
}

impl Source {
    /// With constants.
    pub fn new(types: &Types, constants: &[(&str, usize)], text: &str) -> Self {
        let mut source = types.source() + "\n";
        for (name, value) in constants {
            writeln!(source, "const {name} = {value}u;").expect("writing to a string");
        }
        Source { text: source + "\n" + text, shape: None }
    }

    /// The same if shapes are constants; otherwise an invocation begins with reading them from binding `binding`.
    pub fn with(code: Code, types: &Types, constants: &[(&str, usize)], text: &str, binding: usize) -> Self {
        if code == Code::Specialised {
            return Source::new(types, constants, text);
        }
        let (fixed, shape): (Vec<_>, Vec<_>) = constants.iter().partition(|(name, _)| FIXED.contains(name));
        let each = |line: fn(&str) -> String| shape.iter().map(|(name, _)| line(name)).collect::<String>();
        let read = format!(
            "struct Shape {{\n{}}}\n\n@group(0) @binding({binding}) var<storage, read> shape: Shape;\n\n{}\n",
            each(|name| format!("    {name}: u32,\n")),
            each(|name| format!("var<private> {name}: u32;\n")),
        );
        let assigned = each(|name| format!("    {name} = shape.{name};\n"));
        let start = text.find("fn main(").expect("every kernel has a main function");
        let body = start + text[start..].find(") {\n").expect("which has a body") + 4;
        let text = [&read, &text[..body], &assigned, &text[body..]].concat();
        let words = shape.iter().map(|(_, value)| u32::try_from(*value).unwrap_or(u32::MAX)).collect();
        Source { shape: Some(words), ..Source::new(types, &fixed, &text) }
    }
}
