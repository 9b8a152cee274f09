//! Export of a checkpoint as an ONNX file.
//!
//! Nodes have torchvision's names, such as `layer1.0.conv1`, and values have the names of the nodes that compute them.
//! Initialisers have the names of the checkpoint's tensors; the bias of a convolution with its batch norm folded in is
//! `layer1.0.conv1.bias`.

mod graph_builder;
mod layers;

use super::messages::{
    Dimension, DimensionValue, GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorShapeProto,
    TensorType, TypeProto, ValueInfoProto, data_type,
};
use crate::checkpoint::{Checkpoint, CheckpointError};
use graph_builder::GraphBuilder;
use prost::Message;
use std::num::NonZero;

/// The operator set of exported graphs.
const OPSET: i64 = 17;
/// The newest version of the file format that runtimes with [`OPSET`] read.
const IR_VERSION: i64 = 8;

/// Key of the checkpoint's metadata in an ONNX file's `metadata_props`, as in a safetensors file.
pub(super) const METADATA_KEY: &str = "shortcut";

/// The input of an exported network. The names and shapes are those of the server's Open Inference Protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnnxInput {
    /// `input`, normalised f32, `[batch, 3, height, width]`.
    #[default]
    Normalised,
    /// `images`, u8 RGB of cropped photos, `[batch, height, width, 3]`. The graph normalises them.
    Pixels,
}

/// Number format of the weights, and what happens to batch norms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnnxWeights {
    /// fp32, with batch norms folded into the convolutions.
    #[default]
    F32,
    /// fp32, with batch norms as operations of their own.
    F32WithBatchNorms,
    /// fp16, with batch norms folded into the convolutions. Inputs and outputs remain f32 or u8.
    F16,
}

/// Variations of an exported network. The default is a dynamic batch of normalised images of the size of the
/// checkpoint's crop, fp32 weights, and logits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnnxOptions {
    pub weights: OnnxWeights,
    pub input: OnnxInput,
    /// Fixed size of the batch.
    pub batch: Option<NonZero<u32>>,
    /// Whether images may have any height and width.
    pub dynamic_size: bool,
    /// Whether the output is `probabilities`, calibrated by the checkpoint's temperature, instead of `logits`.
    pub softmax: bool,
}

/// Returns the bytes of an ONNX file. Equal checkpoints and options give equal bytes.
///
/// The file's `metadata_props` are `architecture`, `labels`, `classes` (JSON lists), `preprocessing` (JSON) and
/// `temperature`, and the whole metadata under `shortcut`.
///
/// # Errors
/// Returns an error if fp16 cannot represent a weight.
pub fn export(checkpoint: &Checkpoint, options: &OnnxOptions) -> Result<Vec<u8>, CheckpointError> {
    let metadata = checkpoint.metadata();
    let mut graph = GraphBuilder::new(options.weights == OnnxWeights::F16);
    let output = layers::add_network(&mut graph, checkpoint, options)?;

    let batch = options.batch.map_or(named("batch"), |batch| sized(batch.get().into()));
    let crop = i64::from(metadata.preprocessing.crop);
    let [height, width] =
        if options.dynamic_size { ["height", "width"].map(named) } else { [sized(crop), sized(crop)] };
    let input = match options.input {
        OnnxInput::Normalised => {
            value_info(layers::NORMALISED, data_type::FLOAT, vec![batch.clone(), sized(3), height, width])
        }
        OnnxInput::Pixels => value_info(layers::PIXELS, data_type::UINT8, vec![batch.clone(), height, width, sized(3)]),
    };
    let classes = sized(metadata.architecture.classes as i64);
    let output = value_info(output, data_type::FLOAT, vec![batch, classes]);

    let (node, initializer) = graph.finish();
    let name = metadata.architecture.name();
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "shortcut".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(GraphProto { node, name, initializer, input: vec![input], output: vec![output] }),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: metadata_props(checkpoint)?,
    };
    Ok(model.encode_to_vec())
}

fn metadata_props(checkpoint: &Checkpoint) -> Result<Vec<StringStringEntryProto>, CheckpointError> {
    let metadata = checkpoint.metadata();
    let json = |value: serde_json::Result<String>| value.map_err(CheckpointError::InvalidMetadata);
    let mut props = vec![
        ("architecture", metadata.architecture.name()),
        ("labels", json(serde_json::to_string(&metadata.labels))?),
        ("classes", json(serde_json::to_string(&metadata.classes))?),
        ("preprocessing", json(serde_json::to_string(&metadata.preprocessing))?),
    ];
    props.extend(metadata.temperature.map(|temperature| ("temperature", temperature.to_string())));
    props.push((METADATA_KEY, metadata.to_json()?));
    Ok(props.into_iter().map(|(key, value)| StringStringEntryProto { key: key.to_owned(), value }).collect())
}

fn named(name: &str) -> Dimension {
    Dimension { value: Some(DimensionValue::Name(name.to_owned())) }
}

fn sized(size: i64) -> Dimension {
    Dimension { value: Some(DimensionValue::Size(size)) }
}

fn value_info(name: &str, elem_type: i32, dim: Vec<Dimension>) -> ValueInfoProto {
    let tensor_type = TensorType { elem_type, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::Architecture;
    use crate::random;
    use std::collections::BTreeSet;

    fn exported(options: &OnnxOptions) -> ModelProto {
        let checkpoint = random::checkpoint(Architecture::new("resnet18", 5).unwrap());
        ModelProto::decode(&export(&checkpoint, options).unwrap()[..]).unwrap()
    }

    fn operators(model: &ModelProto) -> Vec<&str> {
        model.graph.as_ref().unwrap().node.iter().map(|node| node.op_type.as_str()).collect()
    }

    fn shape(info: &ValueInfoProto) -> String {
        let shape = info.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap().shape.as_ref().unwrap();
        let sizes = shape.dim.iter().map(|dimension| match dimension.value.as_ref().unwrap() {
            DimensionValue::Size(size) => size.to_string(),
            DimensionValue::Name(name) => name.clone(),
        });
        format!("{} {}", info.name, sizes.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn every_value_is_written_once_before_it_is_read() {
        for options in [
            OnnxOptions::default(),
            OnnxOptions { weights: OnnxWeights::F32WithBatchNorms, ..Default::default() },
            OnnxOptions {
                weights: OnnxWeights::F16,
                input: OnnxInput::Pixels,
                softmax: true,
                ..OnnxOptions::default()
            },
        ] {
            let graph = exported(&options).graph.unwrap();
            let mut written: BTreeSet<String> = graph.input.iter().map(|input| input.name.clone()).collect();
            for name in graph.initializer.iter().map(|tensor| &tensor.name) {
                assert!(written.insert(name.clone()), "{name} exists twice");
            }
            for node in &graph.node {
                assert!(node.input.iter().all(|input| written.contains(input)), "{}: {:?}", node.name, node.input);
                assert!(written.insert(node.output[0].clone()), "{} is written twice", node.output[0]);
            }
            assert!(written.contains(&graph.output[0].name));
        }
    }

    #[test]
    fn options_change_inputs_outputs_and_operators() {
        let model = exported(&OnnxOptions::default());
        let graph = model.graph.as_ref().unwrap();
        assert_eq!(shape(&graph.input[0]), "input batch 3 224 224");
        assert_eq!(shape(&graph.output[0]), "logits batch 5");
        assert_eq!(operators(&model)[..3], ["Conv", "Relu", "MaxPool"]);
        assert_eq!(graph.node[0].name, "conv1");

        let options = OnnxOptions { batch: NonZero::new(4), dynamic_size: true, softmax: true, ..Default::default() };
        let model = exported(&OnnxOptions { input: OnnxInput::Pixels, ..options });
        let graph = model.graph.as_ref().unwrap();
        assert_eq!(shape(&graph.input[0]), "images 4 height width 3");
        assert_eq!(shape(&graph.output[0]), "probabilities 4 5");
        assert_eq!(operators(&model)[..5], ["Cast", "Transpose", "Sub", "Div", "Conv"]);
        assert_eq!(operators(&model).last(), Some(&"Softmax"));

        let options = OnnxOptions { weights: OnnxWeights::F32WithBatchNorms, ..Default::default() };
        let model = exported(&options);
        assert_eq!(operators(&model)[..3], ["Conv", "BatchNormalization", "Relu"]);
        assert_eq!(model.graph.unwrap().node[1].name, "bn1");
    }

    #[test]
    fn metadata_is_readable_without_this_crate() {
        let model = exported(&OnnxOptions::default());
        let value = |key: &str| &model.metadata_props.iter().find(|entry| entry.key == key).unwrap().value;
        assert_eq!(value("architecture"), "resnet18");
        assert_eq!(value("labels"), r#"["0","1","2","3","4"]"#);
        assert!(value("preprocessing").contains(r#""crop":224"#), "{}", value("preprocessing"));
    }

    #[test]
    fn weights_beyond_fp16_are_rejected_by_name() {
        let architecture = Architecture::new("resnet18", 2).unwrap();
        let checkpoint = random::checkpoint(architecture);
        let mut tensors = checkpoint.clone().into_values();
        tensors.get_mut("fc.bias").unwrap()[1] = 70_000.0;
        let checkpoint = Checkpoint::new(checkpoint.metadata().clone(), tensors).unwrap();
        let error = export(&checkpoint, &OnnxOptions { weights: OnnxWeights::F16, ..Default::default() }).unwrap_err();
        assert!(
            matches!(&error, CheckpointError::Unrepresentable { name, index: 1, .. } if name == "fc.bias"),
            "{error}"
        );
    }
}
