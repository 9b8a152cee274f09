//! The operations of a network as nodes.

use super::graph_builder::{GraphBuilder, float, integer, integers};
use super::{OnnxInput, OnnxOptions, OnnxWeights};
use crate::architecture::{Convolution, MaxPool, NORM_EPSILON};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::onnx::messages::{AttributeProto, data_type};
use crate::plan::{FoldedConvolution, Linear, Operation, Plan};
use crate::preprocess::Preprocessing;
use std::collections::BTreeMap;

pub(super) const NORMALISED: &str = "input";
pub(super) const PIXELS: &str = "images";
const LOGITS: &str = "logits";
const PROBABILITIES: &str = "probabilities";

/// Adds the network, and returns the name of its output.
///
/// # Errors
/// Returns an error if fp16 cannot represent a weight.
pub(super) fn add_network(
    graph: &mut GraphBuilder,
    checkpoint: &Checkpoint,
    options: &OnnxOptions,
) -> Result<&'static str, CheckpointError> {
    let metadata = checkpoint.metadata();
    let mut input = match options.input {
        OnnxInput::Normalised => NORMALISED.to_owned(),
        OnnxInput::Pixels => add_normalisation(graph, &metadata.preprocessing),
    };
    if graph.is_half_precision() {
        input = add_cast(graph, "input.fp16", input, data_type::FLOAT16);
    }

    let plan = Plan::without_weights(checkpoint.architecture());
    let mut tensors = checkpoint.clone().into_values();
    // The name of each value of the plan.
    let mut names = vec![input];
    for mut operation in plan.operations {
        if options.weights != OnnxWeights::F32WithBatchNorms {
            operation.load_weights(|name| take(&mut tensors, name));
        }
        let name = match operation {
            Operation::Convolution(convolution) => {
                let [input, residual] = [Some(convolution.input), convolution.residual]
                    .map(|value| value.map(|value| names[value].clone()));
                let output = match options.weights {
                    OnnxWeights::F32WithBatchNorms => {
                        add_normalised_convolution(graph, &convolution.layer, input, &mut tensors)
                    }
                    OnnxWeights::F32 | OnnxWeights::F16 => add_folded_convolution(graph, &convolution, input)?,
                };
                add_residual_and_relu(graph, &convolution, output, residual)
            }
            Operation::MaxPool { input, pool, .. } => add_max_pool(graph, names[input].clone(), pool),
            Operation::GlobalAveragePool { input, .. } => {
                let pooled = graph.node("GlobalAveragePool", "avgpool", [names[input].clone()], vec![]);
                graph.node("Flatten", "flatten", [pooled], vec![integer("axis", 1)])
            }
            Operation::Linear(mut linear) => {
                if linear.weight.is_empty() {
                    [linear.weight, linear.bias] = ["fc.weight", "fc.bias"].map(|name| take(&mut tensors, name));
                }
                add_classifier(graph, &linear, names[linear.input].clone(), !options.softmax)?
            }
        };
        names.push(name);
    }
    if !options.softmax {
        return Ok(LOGITS);
    }
    let mut logits = names.pop().expect("a network has a classifier");
    if let Some(temperature) = metadata.temperature {
        let temperature = graph.constant("temperature", &[], &[temperature]);
        logits = graph.node("Div", "calibration", [logits, temperature], vec![]);
    }
    graph.node("Softmax", PROBABILITIES, [logits], vec![integer("axis", -1)]);
    Ok(PROBABILITIES)
}

/// Removes the values of a tensor.
fn take(tensors: &mut BTreeMap<String, Vec<f32>>, name: &str) -> Vec<f32> {
    tensors.remove(name).expect("a checkpoint has the tensors of its architecture, and each is read once")
}

/// Adds the conversion of u8 `[batch, height, width, 3]` to normalised f32 `[batch, 3, height, width]`.
fn add_normalisation(graph: &mut GraphBuilder, preprocessing: &Preprocessing) -> String {
    let [mean, std] = [("mean", preprocessing.mean), ("std", preprocessing.std)]
        .map(|(name, values)| graph.constant(name, &[3, 1, 1], &values.map(|value| value * 255.0)));
    let pixels = add_cast(graph, "images.fp32", PIXELS.to_owned(), data_type::FLOAT);
    let planes = graph.node("Transpose", "images.planes", [pixels], vec![integers("perm", [0, 3, 1, 2])]);
    let centred = graph.node("Sub", "images.centred", [planes, mean], vec![]);
    graph.node("Div", "images.normalised", [centred, std], vec![])
}

fn add_cast(graph: &mut GraphBuilder, name: &str, input: String, to: i32) -> String {
    graph.node("Cast", name, [input], vec![integer("to", to.into())])
}

/// Adds a convolution whose batch norm is folded into weight and bias.
fn add_folded_convolution(
    graph: &mut GraphBuilder,
    convolution: &FoldedConvolution,
    input: Option<String>,
) -> Result<String, CheckpointError> {
    let FoldedConvolution { layer, weight, bias, .. } = convolution;
    let weight = graph.weight(format!("{}.weight", layer.name), &layer.weight_shape(), weight)?;
    let bias = graph.weight(format!("{}.bias", layer.name), &[layer.out_channels], bias)?;
    let inputs = input.into_iter().chain([weight, bias]);
    Ok(graph.node("Conv", &layer.name, inputs, convolution_attributes(layer)))
}

/// Adds a convolution and its batch norm.
fn add_normalised_convolution(
    graph: &mut GraphBuilder,
    layer: &Convolution,
    input: Option<String>,
    tensors: &mut BTreeMap<String, Vec<f32>>,
) -> String {
    let mut constant = |graph: &mut GraphBuilder, name: String, shape: &[usize]| {
        let values = take(tensors, &name);
        graph.constant(name, shape, &values)
    };
    let weight = constant(graph, format!("{}.weight", layer.name), &layer.weight_shape());
    let output = graph.node("Conv", &layer.name, input.into_iter().chain([weight]), convolution_attributes(layer));
    let norm = ["weight", "bias", "running_mean", "running_var"]
        .map(|tensor| constant(graph, format!("{}.{tensor}", layer.norm), &[layer.out_channels]));
    let inputs = std::iter::once(output).chain(norm);
    graph.node("BatchNormalization", &layer.norm, inputs, vec![float("epsilon", NORM_EPSILON as f32)])
}

fn convolution_attributes(layer: &Convolution) -> Vec<AttributeProto> {
    let [kernel, stride, padding, groups] =
        [layer.kernel, layer.stride, layer.padding, layer.groups].map(|size| size as i64);
    vec![
        integers("kernel_shape", [kernel; 2]),
        integers("strides", [stride; 2]),
        integers("pads", [padding; 4]),
        integers("dilations", [1; 2]),
        integer("group", groups),
    ]
}

/// Adds the residual and the ReLU that a plan fuses into a convolution.
fn add_residual_and_relu(
    graph: &mut GraphBuilder,
    convolution: &FoldedConvolution,
    mut output: String,
    residual: Option<String>,
) -> String {
    let layer = &convolution.layer.name;
    let mut relu = format!("{layer}.relu");
    if let Some(residual) = residual {
        let block = layer.rsplit_once('.').map_or(layer.as_str(), |(block, _)| block);
        output = graph.node("Add", format!("{block}.add"), [output, residual], vec![]);
        relu = format!("{block}.relu");
    }
    if convolution.relu { graph.node("Relu", relu, [output], vec![]) } else { output }
}

fn add_max_pool(graph: &mut GraphBuilder, input: String, pool: MaxPool) -> String {
    let [kernel, stride, padding] = [pool.kernel, pool.stride, pool.padding].map(|size| size as i64);
    let attributes =
        vec![integers("kernel_shape", [kernel; 2]), integers("strides", [stride; 2]), integers("pads", [padding; 4])];
    graph.node("MaxPool", "maxpool", [input], attributes)
}

/// Adds the classifier, whose output is f32. `is_output` says whether its logits are the output of the network.
fn add_classifier(
    graph: &mut GraphBuilder,
    linear: &Linear,
    input: String,
    is_output: bool,
) -> Result<String, CheckpointError> {
    let (classes, features) = (linear.layer.out_channels, linear.layer.in_channels);
    let weight = graph.weight("fc.weight".to_owned(), &[classes, features], &linear.weight)?;
    let bias = graph.weight("fc.bias".to_owned(), &[classes], &linear.bias)?;
    let name = if is_output && !graph.is_half_precision() { LOGITS } else { "fc" };
    let logits = graph.node("Gemm", name, [input, weight, bias], vec![integer("transB", 1)]);
    if !graph.is_half_precision() {
        return Ok(logits);
    }
    Ok(add_cast(graph, if is_output { LOGITS } else { "fc.fp32" }, logits, data_type::FLOAT))
}
