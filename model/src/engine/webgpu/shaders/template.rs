//! Assembles the source of a kernel from a WGSL template: type declarations and constants in front, generated lines
//! in place of marks of the form `//{name}`.

use super::super::kernel_config::Specialisation;
use super::buffer_types::BufferTypes;
use std::fmt::Write;

/// Constants that determine the generated lines themselves. All others depend on shapes only.
const STRUCTURAL_CONSTANTS: [&str; 7] = ["KERNEL", "STRIDE", "PIXELS", "BLOCKS", "WORKGROUP_X", "WORKGROUP_Y", "TILE"];

#[derive(Clone, Debug, PartialEq)]
pub struct ShaderSource {
    pub text: String,
    /// The words of the buffer of shape parameters, the last buffer that the kernel reads, if it reads them.
    pub shape_parameters: Option<Vec<u32>>,
}

impl ShaderSource {
    /// Declares all of `constants` as WGSL constants.
    pub fn new(types: &BufferTypes, constants: &[(&str, usize)], text: &str) -> Self {
        let mut source = types.declarations() + "\n";
        for (name, value) in constants {
            writeln!(source, "const {name} = {value}u;").expect("writing to a string");
        }
        ShaderSource { text: source + "\n" + text, shape_parameters: None }
    }

    /// Declares `constants` as WGSL constants if shaders are specialised per shape. Otherwise only the structural
    /// ones are constants; an invocation starts by reading the others from the buffer at `binding`.
    pub fn with_specialisation(
        specialisation: Specialisation,
        types: &BufferTypes,
        constants: &[(&str, usize)],
        text: &str,
        binding: usize,
    ) -> Self {
        if specialisation == Specialisation::PerShape {
            return ShaderSource::new(types, constants, text);
        }
        let (structural, shape): (Vec<_>, Vec<_>) =
            constants.iter().partition(|(name, _)| STRUCTURAL_CONSTANTS.contains(name));
        let each = |line: fn(&str) -> String| shape.iter().map(|(name, _)| line(name)).collect::<String>();
        let declarations = format!(
            "struct Shape {{\n{}}}\n\n@group(0) @binding({binding}) var<storage, read> shape: Shape;\n\n{}\n",
            each(|name| format!("    {name}: u32,\n")),
            each(|name| format!("var<private> {name}: u32;\n")),
        );
        let assignments = each(|name| format!("    {name} = shape.{name};\n"));
        let main = text.find("fn main(").expect("every kernel has a main function");
        let body = main + text[main..].find(") {\n").expect("the main function has a body") + 4;
        let text = [&declarations, &text[..body], &assignments, &text[body..]].concat();
        let words = shape.iter().map(|(_, value)| u32::try_from(*value).unwrap_or(u32::MAX)).collect();
        ShaderSource { shape_parameters: Some(words), ..ShaderSource::new(types, &structural, &text) }
    }
}

/// Replaces the first line `//{name}` by `lines`, indented as the mark was; without lines, the line of the mark is
/// removed.
///
/// # Panics
/// Panics if the text has no such mark.
pub fn fill(text: &mut String, name: &str, lines: impl IntoIterator<Item = String>) {
    fill_lines(text, name, &lines.into_iter().collect::<Vec<_>>());
}

/// The part of [`fill`] that is not generic, so that it is compiled once.
fn fill_lines(text: &mut String, name: &str, lines: &[String]) {
    let mark = format!("//{{{name}}}");
    let position = text.find(&mark).expect("the template has the mark");
    let start = text[..position].rfind('\n').map_or(0, |end| end + 1);
    let end = position + mark.len() + 1;
    let indent = " ".repeat(position - start);
    let lines: String = lines.iter().map(|line| format!("{indent}{line}\n")).collect();
    text.replace_range(start..end, &lines);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_replaced_by_indented_lines_or_removed() {
        let mut text = "{\n    //{some}\n    //{none}\n}\n".to_owned();
        fill(&mut text, "some", ["a;".to_owned(), "b;".to_owned()]);
        fill(&mut text, "none", []);
        assert_eq!(text, "{\n    a;\n    b;\n}\n");
    }
}
