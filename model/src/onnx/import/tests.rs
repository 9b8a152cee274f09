//! Round trips through ONNX files, and files that must be rejected.

use super::*;
use crate::architecture::Stem;
use crate::onnx::export::{OnnxInput, OnnxOptions, OnnxWeights, export};
use crate::onnx::messages::{EXTERNAL, GraphProto, NodeProto, StringStringEntryProto, TensorProto, data_type};
use crate::plan::{Operation, Plan};
use crate::random;
use std::fs;
use tempfile::TempDir;

fn network(name: &str, stem: Stem) -> Checkpoint {
    let architecture = Architecture { stem, ..Architecture::new(name, 7).unwrap() };
    let checkpoint = random::checkpoint(architecture);
    let labels = (0..7).map(|index| format!("label \"{index}\"")).collect();
    let metadata = Metadata { labels, temperature: Some(1.3), ..checkpoint.metadata().clone() };
    checkpoint.with_metadata(metadata).unwrap()
}

fn options(weights: OnnxWeights) -> OnnxOptions {
    OnnxOptions { weights, ..OnnxOptions::default() }
}

fn import_bytes(bytes: &[u8]) -> Result<Checkpoint, OnnxError> {
    let folder = TempDir::new().unwrap();
    import_in(&folder, bytes)
}

fn import_in(folder: &TempDir, bytes: &[u8]) -> Result<Checkpoint, OnnxError> {
    let path = folder.path().join("model.onnx");
    fs::write(&path, bytes).unwrap();
    import(&path).map_err(|error| match error {
        OnnxError::File { path: in_error, reason } if in_error == path => *reason,
        error => panic!("the error does not name the file: {error}"),
    })
}

/// Returns the bits of all weights of the plan.
fn plan_bits(checkpoint: &Checkpoint) -> Vec<u32> {
    let bits = |operation: &Operation| match operation {
        Operation::Convolution(convolution) => [convolution.weight.clone(), convolution.bias.clone()].concat(),
        Operation::Linear(linear) => [linear.weight.clone(), linear.bias.clone()].concat(),
        _ => Vec::new(),
    };
    Plan::new(checkpoint).operations.iter().flat_map(bits).map(f32::to_bits).collect()
}

/// Exports a ResNet-18 with batch norms, changes it, and imports it.
fn import_changed(change: impl FnOnce(&mut ModelProto)) -> Result<Checkpoint, OnnxError> {
    let checkpoint = random::checkpoint(Architecture::new("resnet18", 2).unwrap());
    let bytes = export(&checkpoint, &options(OnnxWeights::F32WithBatchNorms)).unwrap();
    let mut model = ModelProto::decode(&bytes[..]).unwrap();
    model.metadata_props.clear();
    change(&mut model);
    import_bytes(&model.encode_to_vec())
}

fn graph(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().unwrap()
}

fn tensor<'a>(model: &'a mut ModelProto, name: &str) -> &'a mut TensorProto {
    graph(model).initializer.iter_mut().find(|tensor| tensor.name == name).unwrap()
}

#[test]
fn network_with_batch_norms_is_imported_bit_for_bit() {
    for (name, stem) in [
        ("resnet18", Stem::Imagenet),
        ("resnet18", Stem::ImagenetStride1),
        ("resnet34", Stem::Small),
        ("resnet50_v1", Stem::Small),
        ("resnext50_32x4d", Stem::Imagenet),
    ] {
        let checkpoint = network(name, stem);
        let imported = import_bytes(&export(&checkpoint, &options(OnnxWeights::F32WithBatchNorms)).unwrap()).unwrap();
        assert_eq!(imported.to_bytes(), checkpoint.to_bytes(), "{name}, {stem:?}");
    }
}

#[test]
fn folded_network_is_folded_to_the_same_weights_again() {
    for name in ["resnet18", "resnet50", "wide_resnet50_2_v1"] {
        let checkpoint = network(name, Stem::Imagenet);
        let imported = import_bytes(&export(&checkpoint, &OnnxOptions::default()).unwrap()).unwrap();
        assert_eq!(imported.metadata(), checkpoint.metadata());
        assert_eq!(plan_bits(&imported), plan_bits(&checkpoint), "{name}");
    }
}

#[test]
fn half_precision_stays_half_precision() {
    let checkpoint = network("resnet18", Stem::Imagenet);
    let bytes = export(&checkpoint, &OnnxOptions { softmax: true, ..options(OnnxWeights::F16) });
    assert!(matches!(import_bytes(&bytes.unwrap()), Err(OnnxError::Consumers { .. })), "calibration changes logits");
    let imported = import_bytes(&export(&checkpoint, &options(OnnxWeights::F16)).unwrap()).unwrap();
    assert!(imported.entries().filter(|entry| entry.shape.len() > 1).all(|entry| entry.dtype == Dtype::F16));
    let [fc, imported_fc] = [&checkpoint, &imported].map(|checkpoint| checkpoint.values("fc.weight"));
    for (value, found) in fc.into_iter().zip(imported_fc) {
        assert_eq!(half::f16::from_f32(value).to_f32(), found);
    }
}

#[test]
fn preprocessing_in_the_graph_is_rejected() {
    let checkpoint = network("resnet18", Stem::Imagenet);
    let with_pixels = OnnxOptions { input: OnnxInput::Pixels, ..OnnxOptions::default() };
    let error = import_bytes(&export(&checkpoint, &with_pixels).unwrap()).unwrap_err();
    assert!(error.to_string().contains("preprocessing"), "{error}");
}

#[test]
fn other_ways_of_storing_weights_give_the_same_values() {
    let expected = import_changed(|_| {}).unwrap();
    let typed = import_changed(|model| {
        for tensor in &mut graph(model).initializer {
            let bytes = tensor.raw_data.take().unwrap();
            tensor.float_data = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        }
    });
    let transposed = import_changed(|model| {
        let tensor = tensor(model, "fc.weight");
        tensor.dims.reverse();
        let values: Vec<f32> = expected.values("fc.weight");
        let values = (0..512).flat_map(|feature| [values[feature], values[512 + feature]]);
        tensor.raw_data = Some(values.flat_map(f32::to_le_bytes).collect());
        graph(model).node.last_mut().unwrap().attribute.clear();
    });
    let shared_and_copied = import_changed(|model| {
        let copy = NodeProto {
            input: vec!["bn1.weight".to_owned()],
            output: vec!["copy".to_owned()],
            op_type: "Identity".to_owned(),
            ..Default::default()
        };
        let graph = graph(model);
        graph.node.insert(0, copy);
        graph.node.iter_mut().find(|node| node.name == "bn1").unwrap().input[1] = "copy".to_owned();
    });
    for (way, imported) in [("typed", typed), ("transposed", transposed), ("copied", shared_and_copied)] {
        assert_eq!(imported.unwrap().to_bytes(), expected.to_bytes(), "{way}");
    }
}

#[test]
fn another_epsilon_is_added_to_the_variance() {
    let expected = import_changed(|_| {}).unwrap();
    let imported = import_changed(|model| {
        let node = graph(model).node.iter_mut().find(|node| node.name == "bn1").unwrap();
        node.attribute[0].f = Some(1e-3);
    });
    let variances = imported.unwrap().values("bn1.running_var");
    for (found, variance) in variances.into_iter().zip(expected.values("bn1.running_var")) {
        assert!((found - variance - (1e-3 - 1e-5)).abs() < 1e-6, "{found} from {variance}");
    }
}

#[test]
fn other_networks_have_specific_errors() {
    let node = |model: &mut ModelProto, name: &str, change: &dyn Fn(&mut NodeProto)| {
        change(graph(model).node.iter_mut().find(|node| node.name == name).unwrap());
    };
    let message = |change: &dyn Fn(&mut ModelProto)| import_changed(change).unwrap_err().to_string();
    let attribute = |model: &mut ModelProto, name: &str, attribute: &str, values: &[i64]| {
        node(model, name, &|node| {
            let found = node.attribute.iter_mut().find(|candidate| candidate.name == attribute).unwrap();
            if found.ints.is_empty() { found.i = Some(values[0]) } else { found.ints = values.to_vec() }
        });
    };
    for (reason, error) in [
        ("expected weight [128, 64, 3, 3], stride 2", message(&|m| attribute(m, "layer2.0.conv1", "strides", &[1, 1]))),
        ("equal numbers", message(&|m| attribute(m, "layer2.0.conv1", "strides", &[2, 1]))),
        ("without dilation", message(&|m| attribute(m, "layer1.0.conv1", "dilations", &[2, 2]))),
        ("a positive number", message(&|m| attribute(m, "conv1", "group", &[0]))),
        ("max-pool", message(&|m| attribute(m, "maxpool", "kernel_shape", &[2, 2]))),
        ("layer1.0.conv1.relu (Elu)", message(&|m| node(m, "layer1.0.conv1.relu", &|n| n.op_type = "Elu".to_owned()))),
        ("conv1.relu (com.example)", message(&|m| node(m, "conv1.relu", &|n| n.domain = "com.example".to_owned()))),
        (
            "to its shortcut",
            message(&|m| {
                node(m, "layer1.0.add", &|n| n.input[1] = "fc.bias".to_owned());
                node(m, "layer1.1.add", &|n| n.input[1] = "maxpool".to_owned());
            }),
        ),
        ("needs an initialiser", message(&|m| node(m, "conv1", &|n| n.input[1] = "layer1.0.conv1".to_owned()))),
        ("scales or transposes", message(&|m| node(m, "logits", &|n| n.attribute[0].name = "transA".to_owned()))),
        ("not the output", message(&|m| graph(m).output[0].name = "flatten".to_owned())),
        ("0 inputs", message(&|m| graph(m).input.clear())),
        ("operator set 8", message(&|m| m.opset_import[0].version = 8)),
        ("no graph", message(&|m| m.graph = None)),
        ("\"bn1.bias\" has the data type 7", message(&|m| tensor(m, "bn1.bias").data_type = data_type::INT64)),
        ("\"bn1.bias\" has the shape [63]", message(&|m| tensor(m, "bn1.bias").dims = vec![63])),
        ("\"bn1.bias\" has 255 bytes", message(&|m| tensor(m, "bn1.bias").raw_data.as_mut().unwrap().truncate(255))),
        ("write the value \"bn1.bias\"", message(&|m| tensor(m, "bn1.weight").name = "bn1.bias".to_owned())),
        ("number of classes 0", message(&|m| tensor(m, "fc.weight").dims = vec![0, 512])),
        ("four sizes", message(&|m| tensor(m, "conv1.weight").dims = vec![-64, 3, 7, 7])),
    ] {
        assert!(error.contains(reason), "expected {reason:?}, got {error:?}");
    }
}

#[test]
fn metadata_of_another_architecture_is_rejected() {
    let metadata = network("resnet34", Stem::Imagenet).metadata().to_json().unwrap();
    let entry = StringStringEntryProto { key: METADATA_KEY.to_owned(), value: metadata };
    let error = import_changed(|model| model.metadata_props.push(entry)).unwrap_err();
    assert!(matches!(error, OnnxError::OtherArchitecture { .. }), "{error}");
}

/// Moves all values into a file.
fn with_external_data(location: &str) -> (Vec<u8>, Vec<u8>, Checkpoint) {
    let checkpoint = random::checkpoint(Architecture::new("resnet18", 2).unwrap());
    let bytes = export(&checkpoint, &options(OnnxWeights::F32WithBatchNorms)).unwrap();
    let mut model = ModelProto::decode(&bytes[..]).unwrap();
    let mut values = vec![0; 16];
    for tensor in &mut graph(&mut model).initializer {
        let bytes = tensor.raw_data.take().unwrap();
        let entries = [
            ("location", location.to_owned()),
            ("offset", values.len().to_string()),
            ("length", bytes.len().to_string()),
        ];
        let entry = |(key, value): (&str, String)| StringStringEntryProto { key: key.to_owned(), value };
        tensor.external_data = entries.map(entry).to_vec();
        tensor.data_location = Some(EXTERNAL);
        values.extend(bytes);
    }
    (model.encode_to_vec(), values, checkpoint)
}

#[test]
fn values_are_read_from_files_in_the_folder_of_the_model_only() {
    let folder = TempDir::new().unwrap();
    let (model, values, checkpoint) = with_external_data("weights.bin");
    let missing = import_in(&folder, &model).unwrap_err();
    assert!(matches!(missing, OnnxError::ExternalFile { .. }), "{missing}");
    fs::write(folder.path().join("weights.bin"), &values).unwrap();
    assert_eq!(import_in(&folder, &model).unwrap().to_bytes(), checkpoint.to_bytes());
    fs::write(folder.path().join("weights.bin"), &values[..values.len() - 1]).unwrap();
    let short = import_in(&folder, &model).unwrap_err();
    assert!(short.to_string().contains("are required"), "{short}");

    let outside = TempDir::new().unwrap();
    let file = outside.path().join("weights.bin");
    fs::write(&file, &values).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(&file, folder.path().join("link.bin")).unwrap();
    for location in ["../weights.bin", file.to_str().unwrap(), "a/../../weights.bin", "", "link.bin"] {
        let error = import_in(&folder, &with_external_data(location).0).unwrap_err();
        assert!(matches!(error, OnnxError::ExternalLocation { .. }), "{location}: {error}");
    }
}

/// Broken files give an error or other weights, never a panic.
#[test]
fn broken_files_never_panic() {
    let folder = TempDir::new().unwrap();
    let (model, values, _) = with_external_data("weights.bin");
    fs::write(folder.path().join("weights.bin"), values).unwrap();
    for length in (0..model.len()).step_by(7) {
        assert!(import_in(&folder, &model[..length]).is_err(), "cut to {length}");
    }
    let mut state = 7u32;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    for _ in 0..300 {
        let mut bytes = model.clone();
        for _ in 0..1 + random(4) {
            let at = random(bytes.len());
            bytes[at] = random(256) as u8;
        }
        import_in(&folder, &bytes).ok();
    }
}
