//! Declarations at the start of a kernel: the types of its buffers, and the functions that convert elements when
//! reading and writing.

use super::super::storage::{ElementType, StorageFormat};

/// Types of the buffers of a kernel.
pub struct BufferTypes {
    pub input: ElementType,
    pub output: ElementType,
    /// Format of the weights. `None` if the kernel reads no weights.
    pub weights: Option<StorageFormat>,
    /// Type of the factors of products.
    pub operand: ElementType,
    /// Binding of the overflow flag, which `to_output` sets if a value overflows the output type. `None` if the kernel
    /// does not check for overflow.
    pub overflow_binding: Option<usize>,
}

/// Converts to f16 and reports overflow, because subsequent layers may turn an infinity into any value.
const CHECKED_TO_OUTPUT: &str = "
fn to_output(value: vec4f) -> Output {
    if any(abs(value) > vec4f(65504.0)) {
        atomicStore(&overflow, 1u);
    }
    return Output(value);
}
";

impl BufferTypes {
    /// Returns the types of a kernel that reads no weights and does not report overflow.
    pub fn without_weights(input: ElementType, output: ElementType) -> Self {
        BufferTypes { input, output, weights: None, operand: ElementType::F32, overflow_binding: None }
    }

    /// Returns the WGSL declarations, which must be at the very start of a source.
    pub fn declarations(&self) -> String {
        let BufferTypes { input, output, weights, operand, overflow_binding } = self;
        let uses_f16 = [*input, *output].contains(&ElementType::F16) || *weights == Some(StorageFormat::F16);
        let mut source = String::new();
        if uses_f16 {
            source += "enable f16;\n\n";
        }
        source += &format!("alias Lane = {};\nalias Value = vec4<Lane>;\n", lane(*input));
        source += &format!("alias Output = {};\n", vector(*output));
        if let Some(weights) = weights {
            let (weight, unpacked) = match weights {
                StorageFormat::F32 => (vector(ElementType::F32), "weights[index]"),
                StorageFormat::F16 => (vector(ElementType::F16), "vec4f(weights[index])"),
                StorageFormat::PackedWeights => {
                    ("vec2u", "vec4f(unpack2x16float(weights[index].x), unpack2x16float(weights[index].y))")
                }
            };
            source += &format!("alias Weight = {weight};\nalias Operand = {};\n", vector(*operand));
            source += &format!("\nfn weight(index: u32) -> vec4f {{\n    return {unpacked};\n}}\n");
            if *operand == ElementType::F16 {
                source += "\nfn f16_weight(index: u32) -> Operand {\n    return weights[index];\n}\n";
            }
        }
        match overflow_binding {
            Some(binding) => {
                source += &format!("\n@group(0) @binding({binding}) var<storage, read_write> overflow: atomic<u32>;\n");
                source += CHECKED_TO_OUTPUT;
            }
            None => source += "\nfn to_output(value: vec4f) -> Output {\n    return Output(value);\n}\n",
        }
        source
    }
}

fn vector(element: ElementType) -> &'static str {
    match element {
        ElementType::F32 => "vec4f",
        ElementType::F16 => "vec4<f16>",
    }
}

fn lane(element: ElementType) -> &'static str {
    match element {
        ElementType::F32 => "f32",
        ElementType::F16 => "f16",
    }
}
