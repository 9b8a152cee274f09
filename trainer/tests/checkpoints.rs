//! `trainer import`, `convert`, `calibrate` and `inspect` on files: results and error messages.

mod common;

use common::{command, expect_success, expect_success_with_stderr, test_folder, text, train_arguments};
use model::architecture::Architecture;
use model::checkpoint::{Checkpoint, Metadata};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Runs the trainer in `folder` and returns its stderr.
///
/// # Panics
/// Panics if the exit status is 0, or if anything was printed to stdout.
fn expect_failure(folder: &Path, arguments: &[&str]) -> String {
    let output = command(folder, arguments).output().unwrap();
    assert!(!output.status.success(), "{arguments:?}");
    assert!(output.stdout.is_empty(), "errors do not go to stdout");
    text(&output.stderr)
}

/// Creates a folder with `weights.safetensors`: a checkpoint of this architecture with three classes, in which every
/// value is `value`.
fn folder_with_weights(architecture: &str, value: f32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let architecture = Architecture::new(architecture, 3).unwrap();
    let tensors = architecture.tensors().into_iter();
    let tensors = tensors.map(|spec| (spec.name, vec![value; spec.shape.iter().product()])).collect();
    let checkpoint = Checkpoint::new(Metadata::new(architecture), tensors).unwrap();
    checkpoint.save(folder.path().join("weights.safetensors")).unwrap();
    folder
}

#[test]
fn import_convert_and_inspect_work_together() {
    let folder = folder_with_weights("resnet18", 0.25);
    let root = folder.path();
    fs::write(root.join("classes.json"), r#"["n1", "n2", "n3"]"#).unwrap();
    fs::write(root.join("labels.txt"), "ant\nbee\ngreat white shark\n").unwrap();
    let before = fs::read(root.join("weights.safetensors")).unwrap();

    let (_, notes) = expect_success_with_stderr(root, &["import", "weights.safetensors", "plain.safetensors"]);
    assert!(notes.contains("--labels"), "missing labels cause a note: {notes}");
    let names = ["--classes", "classes.json", "--labels", "labels.txt", "--provenance", "a test", "--resize", "232"];
    let (_, notes) = expect_success_with_stderr(
        root,
        &[&["import", "weights.safetensors", "named.safetensors"][..], &names].concat(),
    );
    assert_eq!(notes, "");
    let small = ["convert", "named.safetensors", "small.safetensors", "--dtype", "i8", "--tensor", "conv1.weight=f16"];
    let result = expect_success(root, &small);
    assert!(result.starts_with("small.safetensors: resnet18, 3 classes: 20 i8, 1 f16, 81 f32 tensors"), "{result}");

    let json = expect_success(root, &["inspect", "small.safetensors", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["metadata"]["classes"], serde_json::json!(["n1", "n2", "n3"]));
    assert_eq!(json["metadata"]["labels"][2], "great white shark");
    assert_eq!(json["metadata"]["provenance"], "a test");
    assert_eq!(json["metadata"]["preprocessing"]["resize"], 232);
    assert_eq!(json["stored"]["i8"]["tensors"], 20);
    assert_eq!(json["parameters"], 11_178_051);
    let table = expect_success(root, &["inspect", "small.safetensors"]);
    for part in ["resnet18", "11,178,051", "1.814 G", "ant, bee, great white shark", "a test"] {
        assert!(table.contains(part), "{part} is missing:\n{table}");
    }

    expect_success(root, &["convert", "small.safetensors", "again.safetensors", "--dtype", "f32"]);
    let again = Checkpoint::from_path(root.join("again.safetensors")).unwrap();
    assert!(again.values("fc.weight").iter().all(|value| (value - 0.25).abs() < 1e-6));
    assert_eq!(fs::read(root.join("weights.safetensors")).unwrap(), before, "the input file is not modified");
}

#[test]
fn errors_name_the_file_and_the_problem() {
    let folder = folder_with_weights("resnet18", 1e6);
    let root = folder.path();
    fs::write(root.join("two.txt"), "ant\nbee\n").unwrap();
    let import = |more: &[&str]| {
        expect_failure(root, &[&["import", "weights.safetensors", "out.safetensors"][..], more].concat())
    };
    assert!(import(&["--labels", "two.txt"]).contains("two.txt has 2 names, but the network has 3 classes"));
    assert!(import(&["--labels", "none.txt"]).contains("none.txt"));
    assert!(import(&["--architecture", "resnet34"]).contains("resnet34"));
    assert!(import(&["--architecture", "vgg16"]).contains("resnet50_v1"), "known architectures are listed");
    assert!(import(&["--dtype", "f8"]).contains("f32, f16, i8"));
    assert!(import(&["--dtype", "f16"]).contains("conv1.weight"), "1e6 overflows f16");
    assert!(import(&["--dtype", "i8", "--tensor", "bn1.weight=f16"]).contains("bn1.weight"));
    assert!(!root.join("out.safetensors").exists());
    let same_file = expect_failure(root, &["convert", "weights.safetensors", "./weights.safetensors", "--dtype", "i8"]);
    assert!(same_file.contains("another file"), "{same_file}");
    let stderr = expect_failure(root, &["inspect", "two.txt"]);
    assert_eq!(stderr.matches("two.txt").count(), 1, "the file is named once: {stderr}");
    assert_eq!(stderr.matches("safetensors file?").count(), 1, "the problem is reported once: {stderr}");
    assert!(expect_failure(root, &["inspect", "none.safetensors"]).contains("none.safetensors"));
}

/// The tensors of ResNet-50 v1 and v1.5 are the same. Without this project's metadata, the user has to choose.
#[test]
fn ambiguous_architecture_causes_a_note() {
    let folder = folder_with_weights("resnet50", 0.5);
    let root = folder.path();
    let path = root.join("weights.safetensors");
    // Misspell the key `shortcut` of the metadata, so that the file has none.
    let mut bytes = fs::read(&path).unwrap();
    let key = bytes.windows(8).position(|window| window == b"shortcut").unwrap();
    bytes[key] = b'S';
    fs::write(&path, bytes).unwrap();

    let (_, notes) = expect_success_with_stderr(root, &["inspect", "weights.safetensors"]);
    assert!(notes.contains("resnet50_v1"), "{notes}");
    let v1 = ["import", "weights.safetensors", "v1.safetensors", "--architecture", "resnet50_v1", "--dtype", "i8"];
    let (result, notes) = expect_success_with_stderr(root, &v1);
    assert!(result.contains("resnet50_v1") && !notes.contains("v1.5"), "{result}{notes}");
    let (result, notes) = expect_success_with_stderr(root, &["inspect", "v1.safetensors"]);
    assert!(result.contains("resnet50_v1") && notes.is_empty(), "{result}{notes}");

    expect_success(root, &["import", "v1.safetensors", "stride1.safetensors", "--stem", "imagenet-stride1"]);
    let result = expect_success(root, &["inspect", "stride1.safetensors"]);
    assert!(result.contains("resnet50_v1, stem imagenet-stride1"), "{result}");
}

#[test]
fn calibrate_stores_temperature_and_threshold_and_training_drops_them() {
    let folder = test_folder();
    let root = folder.path();
    expect_success(root, &train_arguments(&["--epochs", "2", "--output", "run"]));
    let input = "run/last.safetensors";
    let calibrate = |more: &[&'static str]| [&["calibrate", input, "--data", "photos/train"][..], more].concat();
    let (json, notes) = expect_success_with_stderr(root, &calibrate(&["--output", "out.safetensors", "--json"]));
    assert!(notes.contains("broken.jpg") && notes.contains("imprecise with only 24 photos"), "{notes}");
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&report["photos"], &report["skipped"]), (&24.into(), &1.into()));
    assert!(report["after"]["loss"].as_f64() <= report["before"]["loss"].as_f64(), "{report}");

    let [before, after] = [input, "out.safetensors"].map(|file| Checkpoint::from_path(root.join(file)).unwrap());
    let Metadata { version, temperature, rejection_threshold, .. } = *after.metadata();
    assert_eq!(version, 2);
    let number = |key: &str| report[key].as_f64().map(|number| number as f32);
    assert_eq!((number("temperature"), number("rejection_threshold")), (temperature, rejection_threshold));
    let without = Metadata { temperature: None, rejection_threshold: None, ..after.metadata().clone() };
    assert_eq!(after.with_metadata(without).unwrap().to_bytes(), before.to_bytes(), "nothing else is changed");
    let evaluate = ["evaluate", "--checkpoint", "out.safetensors", "--data", "photos/train", "--json"];
    let evaluation: Value = serde_json::from_str(&expect_success(root, &evaluate)).unwrap();
    assert_eq!(evaluation["top1"], report["top1"]);
    let loss = |value: &Value| value["loss"].as_f64().unwrap();
    assert!((loss(&evaluation) - loss(&report["after"])).abs() < 1e-9, "{evaluation} {report}");
    assert!(expect_success(root, &calibrate(&["--output", "out.safetensors"])).contains("rejection threshold"));

    let train = ["--data", "photos", "--recipe", "finetune", "--checkpoint", "out.safetensors", "--image-size", "32"];
    expect_success(
        root,
        &[&train[..], &["--device", "cpu", "--batch-size", "8", "--epochs", "1", "--output", "again"]].concat(),
    );
    let again = Checkpoint::from_path(root.join("again/last.safetensors")).unwrap();
    assert_eq!((again.metadata().version, again.metadata().temperature), (1, None));

    let error = |arguments: &[&str]| expect_failure(root, arguments);
    assert!(error(&calibrate(&["--output", input])).contains("choose another file"));
    assert!(error(&calibrate(&["--output", "none/out.safetensors"])).contains("no folder none"));
    assert!(error(&calibrate(&[])).contains("--output"));
    let few = ["calibrate", input, "--data", "photos", "--output", "few.safetensors"];
    assert!(error(&few).contains("at least 10 photos, but only 8"));
}

#[test]
fn prints_help_without_a_command() {
    let folder = tempfile::tempdir().unwrap();
    let help = expect_success(folder.path(), &[]);
    assert!(help.contains("trainer import"), "{help}");
}
