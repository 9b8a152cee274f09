//! Tests of whole checkpoints: round trips, files that the crate `safetensors` reads and writes, and errors.

use super::*;
use crate::architecture::{ChannelGroup, Stem};
use CheckpointError as E;
use safetensors::{SafeTensors, tensor::TensorView};
use std::sync::LazyLock;

/// Returns a small network with pseudo-random values and metadata.
fn checkpoint() -> Checkpoint {
    static CHECKPOINT: LazyLock<Checkpoint> = LazyLock::new(small_network);
    CHECKPOINT.clone()
}

/// Returns the same network as int8, with a quarter of the bytes, for tests that rewrite files.
fn int8() -> (Checkpoint, Vec<u8>) {
    static INT8: LazyLock<(Checkpoint, Vec<u8>)> = LazyLock::new(|| {
        let checkpoint = checkpoint().convert(Dtype::I8).unwrap();
        let bytes = checkpoint.to_bytes();
        (checkpoint, bytes)
    });
    INT8.clone()
}

fn small_network() -> Checkpoint {
    let architecture = Architecture { stem: Stem::Small, ..Architecture::new("resnet18", 3).unwrap() };
    let names = |prefix: &str| (0..3).map(|index| format!("{prefix}{index}")).collect();
    let metadata = Metadata {
        classes: names("n"),
        labels: names("thing \"é\" "),
        provenance: Some("made by a test".to_owned()),
        recipe: Some(serde_json::json!({"epochs": 2, "augment": {"mixup": 0.2, "flip": true}})),
        metrics: Some(serde_json::json!({"top5": 0.1 + 0.2, "top1": 1e-300})),
        ..Metadata::new(architecture)
    };
    let mut state = 1u32;
    let mut number = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let tensors = architecture.tensors().into_iter();
    let tensors = tensors.map(|spec| {
        let least = if spec.name.ends_with(".running_var") { 0.5 } else { 0.0 };
        (spec.name, (0..spec.shape.iter().product()).map(|_| least + number()).collect())
    });
    Checkpoint::new(metadata, tensors.collect()).unwrap()
}

/// Returns the file as the crate `safetensors` writes it, with this metadata, after applying `change` to each tensor.
fn rewritten(
    bytes: &[u8],
    metadata: Option<&str>,
    change: impl Fn(&str, TensorView<'static>) -> Option<TensorView<'static>>,
) -> Vec<u8> {
    let bytes: &'static [u8] = bytes.to_vec().leak();
    let parsed = SafeTensors::deserialize(bytes).unwrap();
    let mut tensors: Vec<(String, TensorView<'_>)> =
        parsed.tensors().into_iter().filter_map(|(name, view)| Some((name.clone(), change(&name, view)?))).collect();
    tensors.sort_by(|left, right| left.0.cmp(&right.0));
    let metadata = metadata.map(|json| [(METADATA_KEY.to_owned(), json.to_owned())].into());
    safetensors::serialize(tensors, metadata).unwrap()
}

#[test]
fn round_trips_through_bytes_and_equal_content_gives_equal_bytes() {
    let original = checkpoint();
    for dtype in Dtype::ALL {
        let written = original.convert(dtype).unwrap();
        let bytes = written.to_bytes();
        let read = Checkpoint::from_bytes(&bytes).unwrap();
        assert_eq!(read.metadata(), original.metadata());
        assert_eq!(read.tensors, written.tensors);
        assert_eq!(read.to_bytes(), bytes, "{dtype}");
        assert_eq!(read.assumption(), None);
    }
}

#[test]
fn written_file_conforms_to_the_format() {
    let (_, bytes) = int8();
    let (header, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header % 8, 0);
    assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
    for (name, info) in metadata.tensors() {
        assert_eq!(info.data_offsets.0 % (info.dtype.bitsize() / 8), 0, "{name} is not aligned");
    }
    let scale = metadata.info("layer1.0.conv1.weight.scale").unwrap();
    assert_eq!((scale.dtype, &scale.shape[..]), (safetensors::Dtype::F32, &[64][..]));
}

#[test]
fn vectors_stay_fp32_and_matrices_are_converted_individually() {
    let stem = |spec: &TensorSpec| if spec.name == "conv1.weight" { Dtype::F16 } else { Dtype::I8 };
    let mixed = checkpoint().convert_each(stem).unwrap();
    let read = Checkpoint::from_bytes(&mixed.to_bytes()).unwrap();
    let dtype = |name: &str| read.entries().find(|entry| entry.name == name).unwrap().dtype;
    assert_eq!(dtype("conv1.weight"), Dtype::F16);
    assert_eq!(dtype("layer4.1.conv2.weight"), Dtype::I8);
    assert_eq!(dtype("fc.weight"), Dtype::I8);
    assert_eq!(dtype("fc.bias"), Dtype::F32);
    assert_eq!(dtype("bn1.running_var"), Dtype::F32);
    let back = read.convert(Dtype::F32).unwrap();
    assert_eq!(back.values("fc.weight"), mixed.values("fc.weight"));
}

#[test]
fn architecture_of_a_file_without_metadata_is_inferred() {
    let (original, bytes) = int8();
    let foreign = rewritten(&bytes, None, |_, view| Some(view));
    let read = Checkpoint::from_bytes(&foreign).unwrap();
    assert_eq!(read.architecture(), original.architecture());
    assert_eq!(read.metadata().labels, ["0", "1", "2"]);
    assert_eq!(read.tensors, original.tensors);
}

#[test]
fn counters_are_ignored_and_unknown_tensors_rejected() {
    let (_, bytes) = int8();
    let with_extra_tensor = |name: &str, count: usize| {
        let text = String::from_utf8_lossy(&bytes[..8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize]);
        let json = text[8..].trim_end().strip_suffix('}').unwrap();
        let end = SafeTensors::read_metadata(&bytes).unwrap().1.data_len();
        let info = format!(r#"{{"dtype":"I64","shape":[],"data_offsets":[{end},{}]}}"#, end + count);
        let json = format!(r#"{json},"{name}":{info}}}"#);
        let data = &bytes[bytes.len() - end..];
        [&(json.len() as u64).to_le_bytes(), json.as_bytes(), data, &[7; 8][..count]].concat()
    };
    let read = Checkpoint::from_bytes(&with_extra_tensor("bn1.num_batches_tracked", 8)).unwrap();
    assert_eq!(read.to_bytes(), bytes);
    for name in ["extra", "fc.bias.scale", "bn1.weight.scale"] {
        let error = Checkpoint::from_bytes(&with_extra_tensor(name, 8)).unwrap_err();
        assert!(matches!(&error, E::UnexpectedTensor { name: found, .. } if found == name), "{error}");
    }
}

#[test]
fn missing_misshapen_and_mistyped_tensors_are_named() {
    let (_, original) = int8();
    let json = checkpoint().metadata().to_json().unwrap();
    let read = |change: &dyn Fn(TensorView<'static>) -> Option<TensorView<'static>>| {
        let change = |name: &str, view| if name == "layer2.0.bn1.bias" { change(view) } else { Some(view) };
        let error = Checkpoint::from_bytes(&rewritten(&original, Some(&json), change)).unwrap_err();
        assert!(error.to_string().contains("layer2.0.bn1.bias"), "{error}");
        error
    };
    assert!(matches!(read(&|_| None), E::MissingTensor { .. }));
    let view = |dtype, shape: &[usize], bytes| Some(TensorView::new(dtype, shape.to_vec(), bytes).unwrap());
    use safetensors::Dtype as F;
    assert!(matches!(read(&|old| view(F::F32, &[127], &old.data()[4..])), E::WrongShape { .. }));
    assert!(matches!(read(&|old| view(F::F32, &[128, 1], old.data())), E::WrongShape { .. }));
    assert!(matches!(read(&|old| view(F::I32, &[128], old.data())), E::UnsupportedDtype { .. }));
    assert!(matches!(read(&|old| view(F::I8, &[128], &old.data()[..128])), E::UnsupportedDtype { .. }), "not a matrix");
}

#[test]
fn int8_requires_valid_scales() {
    let (_, bytes) = int8();
    let json = checkpoint().metadata().to_json().unwrap();
    let read = |change: &dyn Fn(TensorView<'static>) -> Option<TensorView<'static>>| {
        let change = |name: &str, view| if name == "fc.weight.scale" { change(view) } else { Some(view) };
        Checkpoint::from_bytes(&rewritten(&bytes, Some(&json), change)).unwrap_err()
    };
    let is_invalid = |error| matches!(error, E::InvalidScales { name, rows: 3 } if name == "fc.weight");
    assert!(is_invalid(read(&|_| None)));
    assert!(is_invalid(read(&|old| TensorView::new(safetensors::Dtype::F32, vec![2], &old.data()[4..]).ok())));
    let infinite: &'static [u8] = f32::INFINITY.to_le_bytes().repeat(3).leak();
    assert!(is_invalid(read(&|_| TensorView::new(safetensors::Dtype::F32, vec![3], infinite).ok())));
}

#[test]
fn rejects_invalid_metadata() {
    let (_, bytes) = int8();
    let json = checkpoint().metadata().to_json().unwrap();
    let read = |json: &str| Checkpoint::from_bytes(&rewritten(&bytes, Some(json), |_, view| Some(view)));
    assert!(read(&json).is_ok());
    for version in [0, 3] {
        let error = read(&json.replace(r#""version":1"#, &format!(r#""version":{version}"#))).unwrap_err();
        let expected = format!("unsupported metadata version {version}; this program reads versions 1 to 2");
        assert_eq!(error.to_string(), expected);
    }
    let error = read(&json.replace(r#""n0","#, "")).unwrap_err();
    assert!(matches!(error, E::ClassCount { what: "classes", found: 2, expected: 3 }), "{error}");
    let error = read(&json.replace(r#"resnet18"#, "resnet34")).unwrap_err();
    assert!(matches!(error, E::MissingTensor { .. }), "{error}");
    for (from, to) in [("resnet18", "vgg16"), ("0.485", "NaN"), ("0.485", "null"), ("}", ""), ("3", "1e99")] {
        assert!(matches!(read(&json.replace(from, to)), Err(E::InvalidMetadata(_))), "{from} -> {to}");
    }
    assert!(matches!(read(""), Err(E::InvalidMetadata(_))));
}

/// Returns the metadata of the small network with the fields of version 2.
fn calibrated() -> Metadata {
    Metadata { temperature: Some(1.3), rejection_threshold: Some(0.61), ..checkpoint().metadata().clone() }
}

#[test]
fn version_2_round_trips_and_version_1_is_unchanged() {
    let (original, bytes) = int8();
    let written = original.clone().with_metadata(calibrated()).unwrap();
    let json = written.metadata().to_json().unwrap();
    let fields = r#""std":[0.229,0.224,0.225]},"temperature":1.3,"rejection_threshold":0.61,"provenance""#;
    assert!(json.starts_with(r#"{"version":2,"#) && json.contains(fields), "{json}");

    let read = Checkpoint::from_bytes(&written.to_bytes()).unwrap();
    assert_eq!(read.metadata(), written.metadata());
    assert_eq!((read.metadata().version, read.metadata().temperature), (2, Some(1.3)));
    assert_eq!(read.to_bytes(), written.to_bytes());
    let converted = read.convert(Dtype::F16).unwrap();
    assert_eq!(converted.metadata(), written.metadata());

    let without = Metadata { temperature: None, rejection_threshold: None, ..read.metadata().clone() };
    let without = read.with_metadata(without).unwrap();
    assert_eq!(without.to_bytes(), bytes, "the bytes are those of a checkpoint that was never calibrated");
    assert!(original.metadata().to_json().unwrap().starts_with(r#"{"version":1,"architecture""#));
}

#[test]
fn unknown_fields_are_ignored_in_version_1_and_rejected_in_version_2() {
    let (original, bytes) = int8();
    let read = |json: &str| Checkpoint::from_bytes(&rewritten(&bytes, Some(json), |_, view| Some(view)));
    let version_1 = original.metadata().to_json().unwrap();
    let version_2 = calibrated().to_json().unwrap();
    for (name, at) in [("smoothing", r#"{"version""#), ("depths", r#"{"name""#)] {
        let field = at.replacen('{', &format!(r#"{{"{name}":[1],"#), 1);
        assert_eq!(read(&version_1.replace(at, &field)).unwrap().metadata(), original.metadata());
        let error = read(&version_2.replace(at, &field)).unwrap_err();
        let expected = format!(
            "unknown metadata field {name:?}; a newer version of this program is needed to read this checkpoint"
        );
        assert_eq!(error.to_string(), expected);
    }
    let unknown = r#"{"temperature":"warm","rejection_threshold":7,"version""#;
    let ignored = read(&version_1.replace(r#"{"version""#, unknown)).unwrap();
    assert_eq!(ignored.metadata(), original.metadata(), "version 1 does not have the fields of version 2");
}

#[test]
fn widths_are_a_field_of_version_2() {
    let architecture = Architecture { stem: Stem::Small, ..Architecture::new("resnet18", 3).unwrap() };
    let mut widths = architecture.widths();
    widths.set(ChannelGroup::Inner { stage: 3, block: 1, convolution: 0 }, 64);
    let pruned = crate::random::checkpoint(architecture.with_widths(widths).unwrap());
    assert_eq!(pruned.metadata().version, 2);
    let bytes = pruned.to_bytes();
    let read = Checkpoint::from_bytes(&bytes).unwrap();
    assert_eq!(read.metadata(), pruned.metadata());
    assert_eq!(read.to_bytes(), bytes);
    assert_eq!(read.clone().with_architecture("resnet18").unwrap().architecture(), pruned.architecture());
    assert!(read.with_architecture("resnet34").is_err());

    let json = pruned.metadata().to_json().unwrap();
    let with = |json: &str| Checkpoint::from_bytes(&rewritten(&bytes, Some(json), |_, view| Some(view)));
    let ignored = with(&json.replace(r#"{"version":2"#, r#"{"version":1"#)).unwrap_err();
    assert!(ignored.to_string().contains("but resnet18 needs"), "version 1 has no widths: {ignored}");
    let (original, int8_bytes) = int8();
    let malformed = original.metadata().to_json().unwrap().replace(r#"{"name""#, r#"{"widths":[1],"name""#);
    let ignored = Checkpoint::from_bytes(&rewritten(&int8_bytes, Some(&malformed), |_, view| Some(view))).unwrap();
    assert_eq!(ignored.metadata(), original.metadata());
    let other = with(&json.replace(",64]", ",80]")).unwrap_err().to_string();
    assert!(other.contains("but pruned resnet18 needs [80"), "{other}");
    let invalid = with(&json.replace(",64]", ",65]")).unwrap_err().to_string();
    assert!(
        invalid.contains("invalid width 65 of layer4.1.conv1: must be a multiple of 16, and at most 512"),
        "{invalid}"
    );

    let without = rewritten(&bytes, None, |_, view| Some(view));
    let inferred = Checkpoint::from_bytes(&without).unwrap();
    assert_eq!(inferred.architecture(), pruned.architecture());
}

#[test]
fn fields_of_version_2_have_bounds() {
    let (original, bytes) = int8();
    let read = |json: &str| Checkpoint::from_bytes(&rewritten(&bytes, Some(json), |_, view| Some(view)));
    let json = calibrated().to_json().unwrap();
    for (field, values, range) in [
        ("\"temperature\":1.3", ["0", "-1", "0.049", "20.1", "1e30", "null", "\"1\""], "0.05 to 20"),
        ("\"rejection_threshold\":0.61", ["-0.1", "1.01", "1e30", "null", "[]", "true", "\"1\""], "0 to 1"),
    ] {
        let name = field.split(':').next().unwrap();
        for value in values {
            let error = read(&json.replace(field, &format!("{name}:{value}"))).unwrap_err();
            assert_eq!(error.to_string(), format!("metadata field {name} must be a number from {range}"), "{value}");
        }
    }
    for number in ["0.05", "20"] {
        assert!(read(&json.replace("1.3", number)).is_ok(), "{number}");
    }
    for temperature in [f32::NAN, f32::INFINITY, 0.0] {
        let invalid = Metadata { temperature: Some(temperature), ..calibrated() };
        let error = original.clone().with_metadata(invalid).unwrap_err();
        assert!(matches!(error, E::MetadataRange { .. }), "{error}");
    }
    assert!(matches!(read(&json.replace("1.3", "NaN")), Err(E::InvalidMetadata(_))));
}

#[test]
fn new_applies_the_checks_of_reading() {
    let original = checkpoint();
    let values = || -> BTreeMap<String, Vec<f32>> {
        original.entries().map(|entry| (entry.name.to_owned(), original.values(entry.name))).collect()
    };
    let mut nan = original.metadata().clone();
    nan.preprocessing.mean[1] = f32::NAN;
    assert!(matches!(Checkpoint::new(nan, values()), Err(E::InvalidMetadata(_))));
    let mut few = original.metadata().clone();
    few.labels.pop();
    assert!(matches!(Checkpoint::new(few, values()), Err(E::ClassCount { what: "labels", .. })));

    let with = |name: &str, value: Option<Vec<f32>>| {
        let mut values = values();
        values.remove(name);
        values.extend(value.map(|value| (name.to_owned(), value)));
        Checkpoint::new(original.metadata().clone(), values).unwrap_err()
    };
    assert!(matches!(with("fc.bias", None), E::MissingTensor { .. }));
    assert!(matches!(with("fc.bias", Some(vec![0.0; 4])), E::ValueCount { found: 4, expected: 3, .. }));
    assert!(matches!(with("fc.scale", Some(vec![0.0])), E::UnexpectedTensor { .. }));
}

#[test]
fn with_architecture_requires_the_same_tensors() {
    let error = checkpoint().with_architecture("resnet34").unwrap_err();
    assert!(matches!(error, E::MissingTensor { .. }), "{error}");
    assert!(matches!(checkpoint().with_architecture("resnet18_v1"), Err(E::Architecture(_))));
    let same = checkpoint().with_architecture("resnet18").unwrap();
    assert_eq!(same.architecture(), checkpoint().architecture(), "the stem stays");
}

/// Tensors do not distinguish v1 from v1.5, so the assumption is reported until the user decides.
#[test]
fn inferred_bottlenecks_are_reported_as_an_assumption() {
    let architecture = Architecture::new("resnet50", 2).unwrap();
    let zeros = architecture.tensors().into_iter();
    let zeros = zeros.map(|spec| (spec.name, vec![0.0; spec.shape.iter().product()])).collect();
    let described = Checkpoint::new(Metadata::new(architecture), zeros).unwrap().convert(Dtype::I8).unwrap();
    assert_eq!(described.assumption(), None);
    let inferred = Checkpoint { architecture_inferred: true, ..described };
    assert!(inferred.assumption().unwrap().contains("resnet50_v1"));
    assert!(inferred.convert(Dtype::F16).unwrap().assumption().is_some());
    let decided = inferred.with_architecture("resnet50_v1").unwrap();
    assert_eq!((decided.assumption(), decided.architecture().name()), (None, "resnet50_v1".to_owned()));
}

#[cfg(not(target_arch = "wasm32"))]
mod on_disk {
    use super::*;

    #[test]
    fn saving_replaces_the_file_and_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        std::fs::write(&path, "old").unwrap();
        let (checkpoint, _) = int8();
        checkpoint.save(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), checkpoint.to_bytes());
        assert_eq!(Checkpoint::from_path(&path).unwrap().tensors, checkpoint.tensors);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn errors_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broken.safetensors");
        std::fs::write(&path, [0; 9]).unwrap();
        let missing_folder = folder.path().join("none");
        for result in [
            Checkpoint::from_path(&path).map(drop),
            Checkpoint::from_path(folder.path()).map(drop),
            checkpoint().save(missing_folder.join("model.safetensors")),
        ] {
            let error = result.unwrap_err();
            assert!(error.to_string().starts_with(&folder.path().display().to_string()), "{error}");
        }
    }
}

#[test]
fn rejects_non_finite_values_and_negative_variances_by_name() {
    for (name, index, value) in
        [("fc.bias", 1, f32::NAN), ("conv1.weight", 7, f32::INFINITY), ("bn1.running_var", 3, -1.0)]
    {
        let checkpoint = checkpoint();
        let names = checkpoint.architecture().tensors().into_iter().map(|spec| spec.name);
        let mut tensors: BTreeMap<_, _> = names.map(|name| (name.clone(), checkpoint.values(&name))).collect();
        tensors.get_mut(name).unwrap()[index] = value;
        let error = Checkpoint::new(checkpoint.metadata().clone(), tensors).unwrap_err();
        let expected = matches!(&error, E::InvalidValue { name: n, index: i, .. } if n == name && *i == index);
        assert!(expected, "{error}");
    }
}

#[test]
fn pytorch_files_have_their_own_error() {
    for bytes in [&b"PK\x03\x04\0\0\x08\x08\0\0\0\0"[..], &b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."[..]] {
        assert!(matches!(Checkpoint::from_bytes(bytes), Err(E::PyTorchFile)));
    }
}

#[test]
fn stream_yields_tensors_early_and_the_same_checkpoint() {
    let (checkpoint, bytes) = int8();
    for piece in [1000, 4096, 70_000, bytes.len()] {
        let mut stream = CheckpointStream::new(bytes.len() as u64);
        let mut complete_counts = Vec::new();
        for chunk in bytes.chunks(piece) {
            assert!(!stream.has("layer4.1.conv2.weight"), "it is the last tensor");
            stream.push(chunk).unwrap();
            complete_counts.push(checkpoint.entries().filter(|entry| stream.has(entry.name)).count());
        }
        assert_eq!(stream.metadata(), Some(checkpoint.metadata()));
        assert!(complete_counts.is_sorted(), "{complete_counts:?}");
        assert_eq!(complete_counts.last(), Some(&checkpoint.entries().count()));
        assert_eq!(stream.values("layer4.1.conv2.weight"), checkpoint.values("layer4.1.conv2.weight"));
        assert_eq!(stream.finish().unwrap().to_bytes(), bytes);
    }
}

#[test]
fn stream_rejects_too_few_and_too_many_bytes() {
    let (_, bytes) = int8();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for received in [0, 5, 8, header - 1, header, header + 10, bytes.len() / 2, bytes.len() - 1] {
        let mut stream = CheckpointStream::new(bytes.len() as u64);
        stream.push(&bytes[..received]).unwrap();
        let error = stream.finish().err().unwrap();
        let E::Truncated { length, needed } = error else { panic!("{error}") };
        assert_eq!((length, needed), (received as u64, bytes.len() as u64));
    }
    let mut stream = CheckpointStream::new(bytes.len() as u64);
    stream.push(&bytes).unwrap();
    assert!(matches!(stream.push(&[0]), Err(E::TrailingBytes { .. })));
}

/// A page would otherwise download 25 MB before it reports the error.
#[test]
fn stream_rejects_an_invalid_file_before_it_is_complete() {
    let (_, mut bytes) = int8();
    bytes[20] = b'!';
    let mut stream = CheckpointStream::new(bytes.len() as u64);
    let rejected = bytes.chunks(1000).position(|chunk| stream.push(chunk).is_err());
    assert!(rejected.is_some_and(|piece| piece < 20), "{rejected:?}");
}
