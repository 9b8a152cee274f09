//! Import of ONNX files of residual networks, from torchvision, timm or this crate: with batch norms or with batch norms
//! folded into the convolutions, and with initialisers in the file or next to it.
//!
//! Files are untrusted. Messages are counted before they are decoded, so that small messages cannot take much more
//! memory than their bytes. The architecture is recognised from nodes and shapes before values are read, so that the
//! tensors of a known network bound their memory. External files must lie in the folder of the model. What is not
//! understood is an error, because a network must not be imported with other answers.

mod convolution;
mod error;
mod graph;
mod message_count;
mod recognition;
mod structure;
mod tensor_reader;
#[cfg(test)]
mod tests;

pub use error::OnnxError;

use super::export::METADATA_KEY;
use super::messages::ModelProto;
use crate::architecture::{Architecture, NORM_EPSILON};
use crate::checkpoint::{Checkpoint, Dtype, Metadata};
use convolution::ConvolutionNodes;
use graph::{Graph, has_input};
use prost::Message;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use structure::NetworkNodes;
use tensor_reader::TensorReader;

/// Maximum size of a file in bytes, which is the limit of protobuf.
const MAX_BYTES: u64 = (1 << 31) - 1;

/// The oldest operator set that is read. `BatchNormalization` had another meaning before.
const OLDEST_OPSET: i64 = 9;

/// Imports an ONNX file as a checkpoint. Matrices stay fp16 if all of them are, everything else becomes fp32. The
/// architecture, with its stem and the placement of its strides, follows from the graph. The metadata is that of the
/// file if [`export`](super::export) wrote it.
///
/// A batch norm that was folded into a convolution becomes one that changes nothing except for adding the bias.
///
/// # Errors
/// Returns an error with the path of the file if it cannot be read, or if its graph is not a residual network.
pub fn import(path: impl AsRef<Path>) -> Result<Checkpoint, OnnxError> {
    let path = path.as_ref();
    import_file(path).map_err(|reason| OnnxError::File { path: path.to_owned(), reason: Box::new(reason) })
}

fn import_file(path: &Path) -> Result<Checkpoint, OnnxError> {
    let bytes = read_file(path)?;
    message_count::check(&bytes)?;
    let model = ModelProto::decode(&bytes[..])?;
    drop(bytes);
    let default_domain = model.opset_import.iter().find(|set| ["", "ai.onnx"].contains(&set.domain.as_str()));
    let opset = default_domain.map_or(1, |set| set.version);
    if opset < OLDEST_OPSET {
        return Err(OnnxError::Opset { found: opset, oldest: OLDEST_OPSET });
    }
    let graph = Graph::new(model.graph.as_ref().ok_or(OnnxError::NotOnnx)?)?;
    let nodes = structure::network_nodes(&graph)?;
    let architecture = recognition::architecture(&graph, &nodes)?;

    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (tensors, all_half) = read_tensors(&graph, &nodes, &architecture, TensorReader::new(folder))?;
    let checkpoint = Checkpoint::new(metadata(&model, architecture)?, tensors)?;
    Ok(if all_half { checkpoint.convert(Dtype::F16)? } else { checkpoint })
}

fn read_file(path: &Path) -> Result<Vec<u8>, OnnxError> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(std::io::Error::other("not a file").into());
    }
    if metadata.len() > MAX_BYTES {
        return Err(OnnxError::TooLarge { what: "bytes", limit: MAX_BYTES });
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns the metadata of an exported checkpoint, or that of a network about which nothing else is known.
fn metadata(model: &ModelProto, architecture: Architecture) -> Result<Metadata, OnnxError> {
    let Some(entry) = model.metadata_props.iter().find(|entry| entry.key == METADATA_KEY) else {
        return Ok(Metadata::new(architecture));
    };
    let metadata = Metadata::from_json(&entry.value)?;
    if metadata.architecture == architecture {
        return Ok(metadata);
    }
    let describe = |architecture: Architecture| {
        let Architecture { stem, classes, .. } = architecture;
        format!("{architecture} with the stem {stem:?} and {classes} classes")
    };
    Err(OnnxError::OtherArchitecture { metadata: describe(metadata.architecture), graph: describe(architecture) })
}

/// Reads the tensors of the network, by torchvision's names, and whether all matrices are fp16.
fn read_tensors(
    graph: &Graph,
    nodes: &NetworkNodes,
    architecture: &Architecture,
    reader: TensorReader,
) -> Result<(BTreeMap<String, Vec<f32>>, bool), OnnxError> {
    let mut tensors = BTreeMap::new();
    let mut all_half = true;
    for (nodes, layer) in nodes.convolutions().zip(architecture.convolutions()) {
        let channels = [layer.out_channels];
        let weight = graph.initialiser(nodes.convolution, 1)?;
        all_half &= TensorReader::is_half(weight);
        tensors.insert(format!("{}.weight", layer.name), reader.values(weight, &layer.weight_shape())?);
        let bias = match has_input(nodes.convolution, 2) {
            true => reader.values(graph.initialiser(nodes.convolution, 2)?, &channels)?,
            false => vec![0.0; layer.out_channels],
        };
        let norm = match nodes.norm {
            Some(norm) => {
                let mut values = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
                for (index, values) in values.iter_mut().enumerate() {
                    *values = reader.values(graph.initialiser(norm, 1 + index)?, &channels)?;
                }
                let [_, _, mean, variance] = &mut values;
                mean.iter_mut().zip(&bias).for_each(|(mean, bias)| *mean -= bias);
                // The epsilon of a checkpoint's batch norms is fixed.
                let difference = ConvolutionNodes::epsilon(norm) - NORM_EPSILON;
                if difference != 0.0 {
                    variance.iter_mut().for_each(|value| *value = (f64::from(*value) + difference) as f32);
                }
                values
            }
            None => identity_norm(bias),
        };
        for (name, values) in ["weight", "bias", "running_mean", "running_var"].into_iter().zip(norm) {
            tensors.insert(format!("{}.{name}", layer.norm), values);
        }
    }
    let weight = graph.initialiser(nodes.classifier, 1)?;
    all_half &= TensorReader::is_half(weight);
    let (classes, features) = (architecture.classes, architecture.features());
    let values = match structure::is_transposed(nodes.classifier) {
        true => reader.values(weight, &[classes, features])?,
        false => transpose(&reader.values(weight, &[features, classes])?, classes),
    };
    tensors.insert("fc.weight".to_owned(), values);
    let bias = reader.values(graph.initialiser(nodes.classifier, 2)?, &[classes])?;
    tensors.insert("fc.bias".to_owned(), bias);
    Ok((tensors, all_half))
}

/// Returns scale, shift, mean and variance of a batch norm that only adds `bias`.
fn identity_norm(bias: Vec<f32>) -> [Vec<f32>; 4] {
    let channels = bias.len();
    [vec![1.0; channels], bias, vec![0.0; channels], vec![(1.0 - NORM_EPSILON) as f32; channels]]
}

/// Transposes a matrix with this number of columns.
fn transpose(values: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| values.iter().skip(column).step_by(columns).copied()).collect()
}
