//! `trainer import`, `convert` and `inspect` on files: results and error messages.

use model::architecture::Architecture;
use model::checkpoint::{Checkpoint, Metadata};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn trainer(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trainer")).current_dir(folder).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs the trainer and returns its stdout and stderr; panics if it fails.
fn succeed(folder: &Path, arguments: &[&str]) -> (String, String) {
    let output = trainer(folder, arguments);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {out}{err}");
    (out, err)
}

/// Runs the trainer and returns its stderr; panics if it succeeds.
fn fail(folder: &Path, arguments: &[&str]) -> String {
    let output = trainer(folder, arguments);
    assert!(!output.status.success(), "{arguments:?}");
    assert!(output.stdout.is_empty(), "errors do not go to stdout");
    text(&output.stderr)
}

/// Creates a folder with `weights.safetensors`, a checkpoint of the architecture in which all weights have one value.
fn folder(architecture: &str, value: f32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let architecture = Architecture::new(architecture, 3).unwrap();
    let tensors = architecture.tensors().into_iter();
    let tensors = tensors.map(|spec| (spec.name, vec![value; spec.shape.iter().product()])).collect();
    let checkpoint = Checkpoint::new(Metadata::new(architecture), tensors).unwrap();
    checkpoint.save(folder.path().join("weights.safetensors")).unwrap();
    folder
}

#[test]
fn imports_converts_and_inspects() {
    let folder = folder("resnet18", 0.25);
    let at = folder.path();
    fs::write(at.join("classes.json"), r#"["n1", "n2", "n3"]"#).unwrap();
    fs::write(at.join("labels.txt"), "ant\nbee\ngreat white shark\n").unwrap();
    let before = fs::read(at.join("weights.safetensors")).unwrap();

    let (_, remarks) = succeed(at, &["import", "weights.safetensors", "plain.safetensors"]);
    assert!(remarks.contains("--labels"), "nameless classes are worth a remark: {remarks}");
    let names = ["--classes", "classes.json", "--labels", "labels.txt", "--provenance", "a test", "--resize", "232"];
    let (_, remarks) = succeed(at, &[&["import", "weights.safetensors", "named.safetensors"][..], &names].concat());
    assert_eq!(remarks, "");
    let small = ["convert", "named.safetensors", "small.safetensors", "--dtype", "i8", "--tensor", "conv1.weight=f16"];
    let (result, _) = succeed(at, &small);
    assert!(result.starts_with("small.safetensors: resnet18, 3 classes: 20 i8, 1 f16, 81 f32 tensors"), "{result}");

    let (json, _) = succeed(at, &["inspect", "small.safetensors", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["metadata"]["classes"], serde_json::json!(["n1", "n2", "n3"]));
    assert_eq!(json["metadata"]["labels"][2], "great white shark");
    assert_eq!(json["metadata"]["provenance"], "a test");
    assert_eq!(json["metadata"]["preprocessing"]["resize"], 232);
    assert_eq!(json["stored"]["i8"]["tensors"], 20);
    assert_eq!(json["parameters"], 11_178_051);
    let (table, _) = succeed(at, &["inspect", "small.safetensors"]);
    for part in ["resnet18", "11,178,051", "1.814 G", "ant, bee, great white shark", "a test"] {
        assert!(table.contains(part), "{part} is missing:\n{table}");
    }

    succeed(at, &["convert", "small.safetensors", "again.safetensors", "--dtype", "f32"]);
    let again = Checkpoint::from_path(at.join("again.safetensors")).unwrap();
    assert!(again.values("fc.weight").iter().all(|value| (value - 0.25).abs() < 1e-6));
    assert_eq!(fs::read(at.join("weights.safetensors")).unwrap(), before, "the input file is not modified");
}

#[test]
fn errors_name_the_file_and_the_problem() {
    let folder = folder("resnet18", 1e6);
    let at = folder.path();
    fs::write(at.join("two.txt"), "ant\nbee\n").unwrap();
    let import = |more: &[&str]| fail(at, &[&["import", "weights.safetensors", "out.safetensors"][..], more].concat());
    assert!(import(&["--labels", "two.txt"]).contains("two.txt has 2 names, but the network has 3 classes"));
    assert!(import(&["--labels", "none.txt"]).contains("none.txt"));
    assert!(import(&["--architecture", "resnet34"]).contains("resnet34"));
    assert!(import(&["--architecture", "vgg16"]).contains("resnet50_v1"), "known architectures are listed");
    assert!(import(&["--dtype", "f8"]).contains("f32, f16, i8"));
    assert!(import(&["--dtype", "f16"]).contains("conv1.weight"), "overflows fp16");
    assert!(import(&["--dtype", "i8", "--tensor", "bn1.weight=f16"]).contains("bn1.weight"));
    assert!(!at.join("out.safetensors").exists());
    let same_file = fail(at, &["convert", "weights.safetensors", "./weights.safetensors", "--dtype", "i8"]);
    assert!(same_file.contains("another file"), "{same_file}");
    let text = fail(at, &["inspect", "two.txt"]);
    assert_eq!(text.matches("two.txt").count(), 1, "said once: {text}");
    assert_eq!(text.matches("safetensors file?").count(), 1, "said once: {text}");
    assert!(fail(at, &["inspect", "none.safetensors"]).contains("none.safetensors"));
}

/// A checkpoint of a bottleneck network without our metadata: the user has to choose between v1 and v1.5.
#[test]
fn ambiguous_architecture_is_reported() {
    let folder = folder("resnet50", 0.5);
    let at = folder.path();
    let path = at.join("weights.safetensors");
    // Misspell the key of our metadata, so that the file has none.
    let mut bytes = fs::read(&path).unwrap();
    let key = bytes.windows(8).position(|window| window == b"shortcut").unwrap();
    bytes[key] = b'S';
    fs::write(&path, bytes).unwrap();

    let (_, remarks) = succeed(at, &["inspect", "weights.safetensors"]);
    assert!(remarks.contains("resnet50_v1"), "{remarks}");
    let v1 = ["import", "weights.safetensors", "v1.safetensors", "--architecture", "resnet50_v1", "--dtype", "i8"];
    let (result, remarks) = succeed(at, &v1);
    assert!(result.contains("resnet50_v1") && !remarks.contains("v1.5"), "{result}{remarks}");
    let (result, remarks) = succeed(at, &["inspect", "v1.safetensors"]);
    assert!(result.contains("resnet50_v1") && remarks.is_empty(), "{result}{remarks}");

    succeed(at, &["import", "v1.safetensors", "stride1.safetensors", "--stem", "imagenet-stride1"]);
    let (result, _) = succeed(at, &["inspect", "stride1.safetensors"]);
    assert!(result.contains("resnet50_v1, stem imagenet-stride1"), "{result}");
}

#[test]
fn prints_help_without_a_command() {
    let folder = tempfile::tempdir().unwrap();
    let (help, _) = succeed(folder.path(), &[]);
    assert!(help.contains("trainer import"), "{help}");
}
