//! The structure of a residual network: stem, blocks with their shortcuts, and classifier.

use super::OnnxError;
use super::convolution::{ConvolutionNodes, max_pool, only_output};
use super::graph::{Graph, attribute, integer, node_error, op_type, unexpected_consumers};
use super::tensor_reader::small_integers;
use crate::architecture::MaxPool;
use crate::onnx::messages::NodeProto;

/// The nodes of a network that have weights, in the order of torchvision's modules.
pub(super) struct NetworkNodes<'a> {
    pub(super) stem: ConvolutionNodes<'a>,
    pub(super) max_pool: Option<MaxPool>,
    pub(super) blocks: Vec<BlockNodes<'a>>,
    pub(super) classifier: &'a NodeProto,
}

/// The convolutions of a residual block.
pub(super) struct BlockNodes<'a> {
    pub(super) convolutions: Vec<ConvolutionNodes<'a>>,
    pub(super) downsample: Option<ConvolutionNodes<'a>>,
}

impl<'a> NetworkNodes<'a> {
    /// Returns all convolutions in torchvision's order.
    pub(super) fn convolutions(&self) -> impl Iterator<Item = &ConvolutionNodes<'a>> {
        let blocks = self.blocks.iter().flat_map(|block| block.convolutions.iter().chain(&block.downsample));
        std::iter::once(&self.stem).chain(blocks)
    }
}

/// Finds the nodes of a network by following the values from the input.
///
/// # Errors
/// Returns an error that names the first value or node that does not belong to a residual network.
pub(super) fn network_nodes<'a>(graph: &Graph<'a>) -> Result<NetworkNodes<'a>, OnnxError> {
    const STEM: &str = "the stem's convolution (a network that includes preprocessing cannot be imported)";
    let node = graph.consumer(graph.input()?, &["Conv"], STEM)?;
    let stem = ConvolutionNodes::new(graph, node)?;
    let mut value = relu(graph, stem.output)?;
    let mut pool = None;
    if let [node] = graph.consumers(value)
        && op_type(node) == "MaxPool"
    {
        pool = Some(max_pool(node)?);
        value = only_output(graph, node)?;
    }
    let mut blocks = Vec::new();
    // This ends: every value has one writer, so no block can write a value that an earlier block has read.
    while graph.consumers(value).len() == 2 {
        let (block, output) = block(graph, value)?;
        blocks.push(block);
        value = output;
    }
    let classifier = classifier(graph, value)?;
    Ok(NetworkNodes { stem, max_pool: pool, blocks, classifier })
}

/// Returns the output of the ReLU that reads a value.
fn relu<'a>(graph: &Graph<'a>, value: &str) -> Result<&'a str, OnnxError> {
    only_output(graph, graph.consumer(value, &["Relu"], "a Relu")?)
}

/// Reads the block whose input is `value`, and returns it with its output.
fn block<'a>(graph: &Graph<'a>, value: &'a str) -> Result<(BlockNodes<'a>, &'a str), OnnxError> {
    const EXPECTED: &str = "the first convolution and the shortcut of a block";
    let nodes = graph.consumers(value);
    let unexpected = || unexpected_consumers(value, nodes, EXPECTED);
    let [first, second] = nodes else { return Err(unexpected()) };
    let (main, add, shortcut, downsample) = match (op_type(first), op_type(second)) {
        ("Conv", "Add") | ("Add", "Conv") => {
            let convolution = if op_type(first) == "Conv" { first } else { second };
            let (main, add) = convolutions_until_add(graph, convolution)?;
            (main, add, value, None)
        }
        ("Conv", "Conv") => {
            let (one, add) = convolutions_until_add(graph, first)?;
            let (other, other_add) = convolutions_until_add(graph, second)?;
            if !std::ptr::eq(add, other_add) {
                return Err(node_error(other_add, "does not add the two paths of a block"));
            }
            let (main, mut projection) = if one.len() > other.len() { (one, other) } else { (other, one) };
            let downsample = projection.pop().filter(|_| projection.is_empty()).ok_or_else(unexpected)?;
            (main, add, downsample.output, Some(downsample))
        }
        _ => return Err(unexpected()),
    };
    let mut summands: Vec<&str> = add.input.iter().map(|name| graph.resolve(name)).collect();
    let mut expected = vec![main.last().map_or("", |last| last.output), shortcut];
    summands.sort_unstable();
    expected.sort_unstable();
    if summands != expected || main.len() < 2 {
        return Err(node_error(add, "does not add the last convolution of a block to its shortcut"));
    }
    let output = relu(graph, only_output(graph, add)?)?;
    Ok((BlockNodes { convolutions: main, downsample }, output))
}

/// Reads the convolutions, with ReLUs in between, from `node` to the addition at the end of the block.
fn convolutions_until_add<'a>(
    graph: &Graph<'a>,
    node: &'a NodeProto,
) -> Result<(Vec<ConvolutionNodes<'a>>, &'a NodeProto), OnnxError> {
    const MAX_CONVOLUTIONS: usize = 3;
    let mut convolutions = vec![ConvolutionNodes::new(graph, node)?];
    loop {
        let output = convolutions[convolutions.len() - 1].output;
        let next = graph.consumer(output, &["Relu", "Add"], "a Relu, or the addition of the shortcut")?;
        if op_type(next) == "Add" {
            return Ok((convolutions, next));
        }
        let value = only_output(graph, next)?;
        let node = graph.consumer(value, &["Conv"], "the next convolution of the block")?;
        if convolutions.len() == MAX_CONVOLUTIONS {
            return Err(node_error(node, "is the fourth convolution of a block, which has at most three"));
        }
        convolutions.push(ConvolutionNodes::new(graph, node)?);
    }
}

/// Follows the pooling of the last block's output, and returns the classifier.
fn classifier<'a>(graph: &Graph<'a>, value: &str) -> Result<&'a NodeProto, OnnxError> {
    let pool = graph.consumer(value, &["GlobalAveragePool", "ReduceMean"], "a block, or the global average pool")?;
    if op_type(pool) == "ReduceMean" && !is_mean_of_pixels(graph, pool) {
        return Err(node_error(pool, "is not the mean over height and width"));
    }
    let mut value = only_output(graph, pool)?;
    let node = loop {
        let node = graph.consumer(value, &["Flatten", "Reshape", "Squeeze", "Gemm"], "the classifier (Gemm)")?;
        if op_type(node) == "Gemm" {
            break node;
        }
        if graph.resolve(&node.input[0]) != value || integer(node, "axis", 1) != 1 {
            return Err(node_error(node, "does not flatten the features"));
        }
        value = only_output(graph, node)?;
    };
    let factor = |name| attribute(node, name).and_then(|attribute| attribute.f).unwrap_or(1.0);
    if factor("alpha") != 1.0 || factor("beta") != 1.0 || integer(node, "transA", 0) != 0 {
        return Err(node_error(node, "scales or transposes its input"));
    }
    if graph.resolve(&node.input[0]) != value {
        return Err(node_error(node, "does not read the features as its first input"));
    }
    let logits = only_output(graph, node)?;
    let result = match graph.consumers(logits) {
        [] => logits,
        _ => only_output(graph, graph.consumer(logits, &["Softmax"], "no node except a Softmax")?)?,
    };
    match graph.is_output(result) {
        true => Ok(node),
        false => Err(node_error(node, "is not the output of the graph")),
    }
}

/// Returns whether the weight of the classifier is `[classes, features]`.
pub(super) fn is_transposed(classifier: &NodeProto) -> bool {
    integer(classifier, "transB", 0) != 0
}

/// Returns whether a `ReduceMean` averages over height and width. Axes are an input since operator set 18.
fn is_mean_of_pixels<'a>(graph: &Graph<'a>, node: &'a NodeProto) -> bool {
    let axes = match attribute(node, "axes") {
        Some(attribute) => Some(attribute.ints.clone()),
        None => graph.initialiser(node, 1).ok().and_then(small_integers),
    };
    axes.is_some_and(|mut axes| {
        axes.iter_mut().filter(|axis| **axis < 0).for_each(|axis| *axis = axis.wrapping_add(4));
        axes.sort_unstable();
        axes == [2, 3]
    })
}
