//! Export of a checkpoint as a TorchScript archive, which `torch.jit.load` runs without Python code of this project.
//!
//! The program is the plan: a module whose parameters are the folded weights, and a method `forward` with one statement
//! per operation. `__torch__.Network` is the only class.

use crate::architecture::Convolution;
use crate::checkpoint::pth::archive_writer::{ArchiveWriter, PICKLE_START, global, set_items, text};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::plan::{FoldedConvolution, Linear, Operation, Plan, ValueId};
use safetensors::Dtype as FileDtype;
use std::fmt::Write;
use std::io;

/// Entry of the archive that holds the checkpoint's metadata as JSON. `torch.jit.load` returns it through `_extra_files`
/// by its name without `extra/`.
const METADATA_ENTRY: &str = "extra/shortcut.json";

/// Returns the bytes of an archive whose `forward` maps normalised images, f32 `[batch, 3, height, width]`, to logits.
/// Equal checkpoints give equal bytes.
///
/// # Errors
/// Returns an error if the archive cannot be written.
pub fn export(checkpoint: &Checkpoint) -> Result<Vec<u8>, CheckpointError> {
    let metadata = checkpoint.metadata().to_json()?;
    let mut program =
        Program { archive: ArchiveWriter::new("network"), parameters: Vec::new(), statements: String::new() };
    let plan = Plan::new(checkpoint);
    for operation in &plan.operations {
        let expression = program.expression(operation)?;
        writeln!(program.statements, "    {} = {expression}", value(operation.output()))
            .expect("a string can be written");
    }
    let output = plan.operations.last().map_or(Plan::INPUT, Operation::output);
    let code = program.code(output);
    let Program { mut archive, parameters, .. } = program;
    archive.entry("code/__torch__.py", code.as_bytes())?;
    archive.entry("constants.pkl", &[PICKLE_START, b")."].concat())?;
    archive.entry(METADATA_ENTRY, metadata.as_bytes())?;
    let attributes = parameters.into_iter().map(|(name, tensor)| (text(&name), tensor));
    let attributes = [(text("training"), b"\x89".to_vec())].into_iter().chain(attributes);
    // Creates the object without arguments, and sets its attributes.
    let object = [global("__torch__", "Network"), b")\x81}".to_vec(), set_items(attributes), b"b.".to_vec()].concat();
    Ok(archive.finish(&[PICKLE_START, &object].concat())?)
}

struct Program {
    archive: ArchiveWriter,
    /// Names of the parameters, and the opcodes that create them.
    parameters: Vec<(String, Vec<u8>)>,
    /// The body of `forward`.
    statements: String,
}

impl Program {
    /// Returns the expression that computes an operation.
    fn expression(&mut self, operation: &Operation) -> io::Result<String> {
        Ok(match operation {
            Operation::Convolution(convolution) => self.convolution(convolution)?,
            Operation::MaxPool { input, pool, .. } => {
                let [kernel, stride, padding] = [pool.kernel, pool.stride, pool.padding].map(pair);
                format!("torch.max_pool2d({}, {kernel}, {stride}, {padding}, [1, 1], False)", value(*input))
            }
            Operation::GlobalAveragePool { input, .. } => {
                format!("torch.flatten(torch.adaptive_avg_pool2d({}, [1, 1]), 1)", value(*input))
            }
            Operation::Linear(Linear { input, layer, weight, bias, .. }) => {
                let weight = self.parameter(layer, "weight", &[layer.out_channels, layer.in_channels], weight)?;
                let bias = self.parameter(layer, "bias", &[layer.out_channels], bias)?;
                format!("torch.linear({}, {weight}, {bias})", value(*input))
            }
        })
    }

    fn convolution(&mut self, convolution: &FoldedConvolution) -> io::Result<String> {
        let FoldedConvolution { input, residual, relu, layer, weight, bias, .. } = convolution;
        let weight = self.parameter(layer, "weight", &layer.weight_shape(), weight)?;
        let bias = self.parameter(layer, "bias", &[layer.out_channels], bias)?;
        let [stride, padding] = [layer.stride, layer.padding].map(pair);
        let (input, groups) = (value(*input), layer.groups);
        let mut expression = format!("torch.conv2d({input}, {weight}, {bias}, {stride}, {padding}, [1, 1], {groups})");
        if let Some(residual) = residual {
            expression = format!("torch.add({expression}, {})", value(*residual));
        }
        Ok(if *relu { format!("torch.relu({expression})") } else { expression })
    }

    /// Stores a parameter of a layer, and returns the expression that reads it.
    fn parameter(&mut self, layer: &Convolution, kind: &str, shape: &[usize], values: &[f32]) -> io::Result<String> {
        let name = format!("{}_{kind}", layer.name.replace('.', "_"));
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensor = self.archive.tensor(FileDtype::F32, shape, &bytes)?;
        let expression = format!("self.{name}");
        self.parameters.push((name, tensor));
        Ok(expression)
    }

    /// Returns the source text of the module.
    fn code(&self, output: ValueId) -> String {
        let names = || self.parameters.iter().map(|(name, _)| name);
        let quoted: String = names().map(|name| format!("\"{name}\", ")).collect();
        let types: String = names().map(|name| format!("  {name} : Tensor\n")).collect();
        format!(
            "class Network(Module):\n  __parameters__ = [{quoted}]\n  __buffers__ = []\n  training : bool\n{types}  \
             def forward(self: __torch__.Network,\n    {input}: Tensor) -> Tensor:\n{statements}    return {output}\n",
            input = value(Plan::INPUT),
            statements = self.statements,
            output = value(output),
        )
    }
}

/// Returns the name of a value.
fn value(id: ValueId) -> String {
    if id == Plan::INPUT { "input".to_owned() } else { format!("value{id}") }
}

fn pair(size: usize) -> String {
    format!("[{size}, {size}]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::Architecture;
    use crate::random;
    use std::io::{Cursor, Read};
    use zip::ZipArchive;

    fn entry(archive: &[u8], name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut archive = ZipArchive::new(Cursor::new(archive)).unwrap();
        archive.by_name(name).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn program_has_a_statement_per_operation_and_a_storage_per_parameter() {
        let checkpoint = random::checkpoint(Architecture::new("resnet50_v1", 3).unwrap());
        let archive = export(&checkpoint).unwrap();
        let code = String::from_utf8(entry(&archive, "network/code/__torch__.py")).unwrap();
        let plan = Plan::new(&checkpoint);
        assert_eq!(code.matches("    value").count(), plan.operations.len());
        assert!(code.contains("self.layer2_0_conv1_weight, self.layer2_0_conv1_bias, [2, 2], [0, 0]"), "{code}");
        assert!(code.ends_with(&format!("return value{}\n", plan.operations.len())));
        let Some(Operation::Linear(linear)) = plan.operations.last() else { panic!("the last operation is linear") };
        let last = 2 * code.matches("_bias : Tensor").count() - 1;
        let bias: Vec<u8> = linear.bias.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(entry(&archive, &format!("network/data/{last}")), bias);
    }

    #[test]
    fn metadata_is_an_extra_file() {
        let checkpoint = random::checkpoint(Architecture::new("resnet18", 3).unwrap());
        let json = entry(&export(&checkpoint).unwrap(), "network/extra/shortcut.json");
        assert_eq!(json, checkpoint.metadata().to_json().unwrap().into_bytes());
    }
}
