//! A convolution node, with the batch norm that follows it.

use super::OnnxError;
use super::graph::{Graph, attribute, integer, node_error, op_type};
use crate::architecture::{Convolution, MaxPool, NORM_EPSILON};
use crate::onnx::messages::NodeProto;

/// A convolution and its batch norm.
pub(super) struct ConvolutionNodes<'a> {
    pub(super) convolution: &'a NodeProto,
    pub(super) norm: Option<&'a NodeProto>,
    /// Shape of the convolution, without names.
    pub(super) layer: Convolution,
    /// The value that convolution and batch norm compute.
    pub(super) output: &'a str,
}

impl<'a> ConvolutionNodes<'a> {
    /// Reads a convolution, and the batch norm that is the only node to read its output, if any.
    ///
    /// # Errors
    /// Returns an error if the networks of this crate have no such convolutions or batch norms.
    pub(super) fn new(graph: &Graph<'a>, node: &'a NodeProto) -> Result<Self, OnnxError> {
        let weight = graph.initialiser(node, 1)?;
        let sizes: Vec<usize> = weight.dims.iter().filter_map(|size| usize::try_from(*size).ok()).collect();
        let [out_channels, group_channels, kernel, width] = sizes[..] else {
            return Err(node_error(node, format!("has a weight of shape {:?}, expected four sizes", weight.dims)));
        };
        let groups = positive(node, "group", integer(node, "group", 1))?;
        if kernel != width || integers(node, "dilations", &[1, 1]) != [1, 1] || !has_explicit_padding(node) {
            return Err(node_error(node, "is not a square convolution with explicit padding and without dilation"));
        }
        let layer = Convolution {
            name: String::new(),
            norm: String::new(),
            in_channels: group_channels.checked_mul(groups).ok_or_else(|| node_error(node, "has too many channels"))?,
            out_channels,
            kernel,
            stride: equal(node, "strides", &[1, 1])?,
            padding: equal(node, "pads", &[0, 0, 0, 0])?,
            groups,
        };
        let mut output = only_output(graph, node)?;
        let norm = match graph.consumers(output) {
            [norm] if op_type(norm) == "BatchNormalization" => Some(*norm),
            _ => None,
        };
        if let Some(norm) = norm {
            if integer(norm, "training_mode", 0) != 0 {
                return Err(node_error(norm, "is in training mode; export the network in evaluation mode"));
            }
            if graph.resolve(&norm.input[0]) != output {
                return Err(node_error(norm, "normalises a constant"));
            }
            output = only_output(graph, norm)?;
        }
        Ok(ConvolutionNodes { convolution: node, norm, layer, output })
    }

    /// Returns the epsilon of a batch norm.
    pub(super) fn epsilon(norm: &NodeProto) -> f64 {
        match attribute(norm, "epsilon").and_then(|attribute| attribute.f) {
            // The nearest f32 stands for the decimal number.
            Some(epsilon) if epsilon == NORM_EPSILON as f32 => NORM_EPSILON,
            Some(epsilon) => f64::from(epsilon),
            None => NORM_EPSILON,
        }
    }
}

/// Reads a max-pool.
///
/// # Errors
/// Returns an error if the networks of this crate have no such pools.
pub(super) fn max_pool(node: &NodeProto) -> Result<MaxPool, OnnxError> {
    if integer(node, "ceil_mode", 0) != 0
        || integers(node, "dilations", &[1, 1]) != [1, 1]
        || !has_explicit_padding(node)
        || node.output.len() != 1
    {
        return Err(node_error(node, "is not a pool with explicit padding, rounding down, and without dilation"));
    }
    Ok(MaxPool {
        kernel: equal(node, "kernel_shape", &[])?,
        stride: equal(node, "strides", &[1, 1])?,
        padding: equal(node, "pads", &[0, 0, 0, 0])?,
    })
}

/// Returns the value that a node writes.
///
/// # Errors
/// Returns an error if the node has no output, or several.
pub(super) fn only_output<'a>(graph: &Graph<'a>, node: &'a NodeProto) -> Result<&'a str, OnnxError> {
    match &node.output[..] {
        [output] => Ok(graph.resolve(output)),
        outputs => Err(node_error(node, format!("has {} outputs, expected one", outputs.len()))),
    }
}

fn has_explicit_padding(node: &NodeProto) -> bool {
    attribute(node, "auto_pad").is_none_or(|attribute| attribute.s.as_deref() == Some(b"NOTSET"))
}

fn integers<'a>(node: &'a NodeProto, name: &str, default: &'a [i64]) -> &'a [i64] {
    attribute(node, name).map_or(default, |attribute| &attribute.ints)
}

/// Returns the number of which a list attribute consists.
fn equal(node: &NodeProto, name: &'static str, default: &[i64]) -> Result<usize, OnnxError> {
    let values = integers(node, name, default);
    let first = values.first().copied().filter(|first| values.iter().all(|value| value == first));
    let number = first.and_then(|first| usize::try_from(first).ok());
    number.ok_or_else(|| node_error(node, format!("has the {name} {values:?}, expected equal numbers")))
}

fn positive(node: &NodeProto, name: &str, value: i64) -> Result<usize, OnnxError> {
    let number = usize::try_from(value).ok().filter(|value| *value > 0);
    number.ok_or_else(|| node_error(node, format!("has the {name} {value}, expected a positive number")))
}
