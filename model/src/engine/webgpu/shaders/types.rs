//! The types of a kernel's buffers, and how numbers are read from them and written to them.

use super::super::storage::{Element, Storage};

pub struct Types {
    pub value: Element,
    pub output: Element,
    /// `None` if the kernel reads none.
    pub weight: Option<Storage>,
    /// What is multiplied.
    pub factor: Element,
    /// Whether `stored` looks for values that are too large for the output, and by which binding it tells.
    pub overflow: Option<usize>,
}

impl Types {
    /// Of a kernel without weights whose outputs are not looked at.
    pub fn plain(value: Element, output: Element) -> Self {
        Types { value, output, weight: None, factor: Element::F32, overflow: None }
    }

    /// Stands at the beginning of a source.
    pub fn source(&self) -> String {
        let Types { value, output, weight, factor, overflow } = self;
        let halves = [*value, *output].contains(&Element::F16) || *weight == Some(Storage::F16);
        let mut source = String::new();
        if halves {
            source += "enable f16;\n\n";
        }
        source += &format!("alias Lane = {};\nalias Value = vec4<Lane>;\n", lane(*value));
        source += &format!("alias Output = {};\n", vector(*output));
        if let Some(weight) = weight {
            let (name, unpacked) = match weight {
                Storage::F32 => (vector(Element::F32), "weights[at]"),
                Storage::F16 => (vector(Element::F16), "vec4f(weights[at])"),
                Storage::PackedWeights => {
                    ("vec2u", "vec4f(unpack2x16float(weights[at].x), unpack2x16float(weights[at].y))")
                }
            };
            source += &format!("alias Weight = {name};\nalias Factor = {};\n", vector(*factor));
            source += &format!("\nfn weight(at: u32) -> vec4f {{\n    return {unpacked};\n}}\n");
            if *factor == Element::F16 {
                source += "\nfn half_weight(at: u32) -> Factor {\n    return weights[at];\n}\n";
            }
        }
        match overflow {
            Some(binding) => {
                source += &format!("\n@group(0) @binding({binding}) var<storage, read_write> overflow: atomic<u32>;\n");
                source += include_str!("stored.wgsl");
            }
            None => source += "\nfn stored(value: vec4f) -> Output {\n    return Output(value);\n}\n",
        }
        source
    }
}

fn vector(element: Element) -> &'static str {
    match element {
        Element::F32 => "vec4f",
        Element::F16 => "vec4<f16>",
    }
}

fn lane(element: Element) -> &'static str {
    match element {
        Element::F32 => "f32",
        Element::F16 => "f16",
    }
}
