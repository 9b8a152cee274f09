//! Assembles the source of a kernel from a WGSL template: precedes it with type declarations and constants, and
//! replaces placeholders of the form `//{name}` by generated lines.

use super::super::kernel_config::Specialisation;
use super::buffer_types::BufferTypes;
use std::fmt::Write;

/// Constants that determine the generated lines themselves. All others depend on shapes only.
const STRUCTURAL_CONSTANTS: [&str; 7] = ["KERNEL", "STRIDE", "PIXELS", "BLOCKS", "WORKGROUP_X", "WORKGROUP_Y", "TILE"];

/// The WGSL source of a kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct ShaderSource {
    pub text: String,
    /// Content of the buffer of shape parameters, the last buffer that the kernel reads. `None` if it reads none.
    pub shape_parameters: Option<Vec<u32>>,
}

impl ShaderSource {
    /// Assembles a source that declares all of `constants` as WGSL constants.
    pub fn new(types: &BufferTypes, constants: &[(&str, usize)], text: &str) -> Self {
        let mut source = types.declarations() + "\n";
        for (name, value) in constants {
            writeln!(source, "const {name} = {value}u;").expect("writing to a string succeeds");
        }
        ShaderSource { text: source + "\n" + text, shape_parameters: None }
    }

    /// Assembles a source that declares all of `constants` as WGSL constants if shaders are specialised per shape.
    /// Otherwise only the structural ones are constants, and each invocation first reads the others from the buffer at
    /// `binding`.
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

/// Replaces the first placeholder `//{name}` by `lines`, indented like the placeholder. If there are no lines, the line
/// of the placeholder is removed.
///
/// # Panics
/// Panics if the text has no such placeholder.
pub fn fill(text: &mut String, name: &str, lines: impl IntoIterator<Item = String>) {
    fill_lines(text, name, &lines.into_iter().collect::<Vec<_>>());
}

/// Does the work of [`fill`]; it is not generic, so that it is compiled once.
fn fill_lines(text: &mut String, name: &str, lines: &[String]) {
    let placeholder = format!("//{{{name}}}");
    let position = text.find(&placeholder).expect("the template has the placeholder");
    let start = text[..position].rfind('\n').map_or(0, |end| end + 1);
    let end = position + placeholder.len() + 1;
    let indent = " ".repeat(position - start);
    let lines: String = lines.iter().map(|line| format!("{indent}{line}\n")).collect();
    text.replace_range(start..end, &lines);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_replaced_by_indented_lines_or_removed() {
        let mut text = "{\n    //{some}\n    //{none}\n}\n".to_owned();
        fill(&mut text, "some", ["a;".to_owned(), "b;".to_owned()]);
        fill(&mut text, "none", []);
        assert_eq!(text, "{\n    a;\n    b;\n}\n");
    }
}
