//! The trainer with its bundled checkpoints, in folders without any checkpoint.

mod common;

use common::{expect_failure, expect_success, test_folder};
use model::checkpoint::Checkpoint;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// The file of this bundled checkpoint.
fn checkpoint_file(name: &str) -> String {
    format!("{}/../checkpoints/{name}.safetensors", env!("CARGO_MANIFEST_DIR"))
}

/// Classifies a sample photo in `folder`, and returns the answer without its timing.
fn predict(folder: &Path, checkpoint: &str) -> Value {
    let photo = format!("{}/../samples/cat.jpg", env!("CARGO_MANIFEST_DIR"));
    let line = expect_success(folder, &["predict", &photo, "--checkpoint", checkpoint, "--json"]);
    let mut answer: Value = serde_json::from_str(&line).unwrap();
    assert!(answer["timing_ms"].take().is_object(), "{line}");
    answer
}

#[test]
fn bundled_names_are_equivalent_to_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for name in ["resnet18-imagenette", "resnet50_v1-imagenet"] {
        let answer = predict(root, name);
        assert_eq!(answer["model"], name);
        assert_eq!(answer, predict(root, &checkpoint_file(name)));
    }
    expect_success(root, &["convert", "resnet18-imagenette", "half.safetensors", "--dtype", "f16"]);
    let names_from = ["import", "half.safetensors", "named.safetensors", "--names-from", "resnet18-imagenette"];
    expect_success(root, &names_from);
    let inspect =
        |file: &str| -> Value { serde_json::from_str(&expect_success(root, &["inspect", file, "--json"])).unwrap() };
    let bundled = inspect("resnet18-imagenette");
    assert_eq!(bundled["file_bytes"], fs::metadata(checkpoint_file("resnet18-imagenette")).unwrap().len());
    assert_eq!(bundled["metadata"], inspect("named.safetensors")["metadata"]);
    let bench = ["bench", "--checkpoint", "resnet18-imagenette", "--size", "32", "--iterations", "1", "--json"];
    assert!(expect_success(root, &bench).contains("\"architecture\":\"resnet18\""));
}

#[test]
fn finetunes_without_any_file_and_resumes() {
    let folder = test_folder();
    let root = folder.path();
    fs::remove_file(root.join("start.safetensors")).unwrap();
    let train =
        ["--data", "photos", "--recipe", "finetune", "--image-size", "32", "--batch-size", "8", "--device", "cpu"];
    expect_success(root, &[&train[..], &["--epochs", "2", "--output", "run"]].concat());
    let recipe = fs::read_to_string(root.join("run/recipe.toml")).unwrap();
    assert!(recipe.contains("checkpoint = \"resnet18-imagenette\"\n"), "{recipe}");
    let last = fs::read(root.join("run/last.safetensors")).unwrap();
    let provenance = Checkpoint::from_bytes(&last).unwrap().metadata().provenance.clone().unwrap();
    let bundled = Checkpoint::from_path(checkpoint_file("resnet18-imagenette")).unwrap();
    let origin = bundled.metadata().provenance.as_deref().unwrap();
    assert_eq!(provenance, format!("trained by `trainer train`, from resnet18-imagenette: {origin}"));

    // Resume from the state after the first epoch.
    fs::remove_file(root.join("run/states/epoch-000002-step-00000003.safetensors")).unwrap();
    let resumed = expect_success(root, &["--resume", "run"]);
    assert!(resumed.contains("resuming run in epoch 1 after step 3"), "{resumed}");
    assert!(fs::read(root.join("run/last.safetensors")).unwrap() == last, "the resumed run ends with other weights");
    let evaluated = expect_success(root, &["evaluate", "--checkpoint", "run/best.safetensors", "--data", "photos"]);
    assert!(evaluated.contains("8 photos"), "{evaluated}");
}

#[test]
fn missing_files_are_reported_with_the_bundled_names() {
    let folder = test_folder();
    let root = folder.path();
    let cases: [&[&str]; 5] = [
        &["predict", "cat.jpg", "--checkpoint", "nowhere"],
        &["evaluate", "--data", "photos", "--checkpoint", "nowhere"],
        &["inspect", "nowhere"],
        &["bench", "--checkpoint", "nowhere"],
        &["--data", "photos", "--recipe", "finetune", "--checkpoint", "nowhere"],
    ];
    for arguments in cases {
        let stderr = expect_failure(root, arguments);
        assert!(stderr.contains("nowhere: no such file"), "{arguments:?}: {stderr}");
        assert!(stderr.contains("resnet18-imagenette, resnet50_v1-imagenet"), "{arguments:?}: {stderr}");
    }
    assert!(!root.join("runs").exists());
}
