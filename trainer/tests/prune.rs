//! `trainer prune` with random weights on a few small photos.

mod common;

use common::{command, expect_failure, expect_success, expect_success_with_stderr, test_folder};
use model::architecture::Architecture;
use model::checkpoint::{Checkpoint, Metadata};
use model::preprocess::Preprocessing;
use model::random;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Returns a folder with photos, and a ResNet-18 with random weights and the classes of the photos.
fn folder() -> tempfile::TempDir {
    let folder = test_folder();
    let random = random::checkpoint(Architecture::new("resnet18", 2).unwrap());
    let metadata = Metadata {
        classes: ["green_thing", "red_thing"].map(str::to_owned).to_vec(),
        preprocessing: Preprocessing { resize: 32, crop: 32, ..Preprocessing::default() },
        provenance: Some("made by a test".to_owned()),
        ..random.metadata().clone()
    };
    random.with_metadata(metadata).unwrap().save(folder.path().join("whole.safetensors")).unwrap();
    folder
}

fn open(root: &Path, name: &str) -> Checkpoint {
    Checkpoint::from_path(root.join(name)).unwrap()
}

/// Arguments of structured pruning in two rounds.
const STRUCTURED: [&str; 18] = [
    "prune",
    "whole.safetensors",
    "--data",
    "photos",
    "--structured",
    "--macs",
    "0.5",
    "--epochs",
    "4",
    "--rounds",
    "2",
    "--set",
    "batch-size=8",
    "--sensitivity-photos",
    "4",
    "--output",
    "half.safetensors",
    "--importance=taylor",
];

#[test]
fn structured_pruning_writes_a_smaller_network_that_every_command_loads() {
    let folder = folder();
    let root = folder.path();
    let (stdout, stderr) = expect_success_with_stderr(root, &STRUCTURED);
    for part in [
        "without half of the channels of one layer",
        "layer4.1.conv1",
        "before",
        "pruned resnet18",
        "multiply-adds",
        "cpu, batch 8",
    ] {
        assert!(stdout.contains(part), "{part} is missing:\n{stdout}");
    }
    assert!(stdout.ends_with("half.safetensors\n"), "{stdout}");
    for part in ["round 2 of 2: pruning", "round 2 of 2: fine-tuning for 2 epochs"] {
        assert!(stderr.contains(part), "{part} is missing:\n{stderr}");
    }

    let (whole, half) = (open(root, "whole.safetensors"), open(root, "half.safetensors"));
    let macs = |checkpoint: &Checkpoint| checkpoint.architecture().multiply_adds(32) as f64;
    let fraction = macs(&half) / macs(&whole);
    assert!((0.44..=0.5).contains(&fraction), "{fraction}");
    let Metadata { version, classes, preprocessing, provenance, .. } = half.metadata();
    assert_eq!((*version, classes, preprocessing), (2, &whole.metadata().classes, &whole.metadata().preprocessing));
    let expected = "pruned and fine-tuned by `trainer prune`, from whole: made by a test";
    assert_eq!(provenance.as_deref(), Some(expected));

    let table = expect_success(root, &["inspect", "half.safetensors"]);
    assert!(table.contains("pruned resnet18") && table.contains("channels"), "{table}");
    let predict = ["predict", "photos/val/red_thing/0.bmp", "--json", "--checkpoint"];
    for dtype in ["f16", "i8"] {
        expect_success(root, &["convert", "half.safetensors", "converted.safetensors", "--dtype", dtype]);
        assert!(expect_success(root, &[&predict[..], &["converted.safetensors"]].concat()).contains("red_thing"));
    }
    for device in ["cpu", "flex"] {
        let json = expect_success(root, &[&predict[..], &["half.safetensors", "--device", device]].concat());
        assert!(json.contains(r#""architecture":"resnet18""#), "{json}");
    }
    let train = ["--data", "photos", "--recipe", "finetune", "--checkpoint", "half.safetensors", "--output", "run"];
    expect_success(root, &[&train[..], &["--epochs", "1", "--batch-size", "8"]].concat());
    assert_eq!(open(root, "run/best.safetensors").architecture(), half.architecture());
    // Pruning can be repeated, from the smaller network.
    let again = ["prune", "half.safetensors", "--data", "photos", "--structured", "--params", "0.7", "--epochs", "0"];
    let more = ["--importance", "l2", "--sensitivity-photos", "0", "--output", "again.safetensors"];
    expect_success(root, &[&again[..], &more].concat());
    let parameters = |name: &str| open(root, name).architecture().parameter_count() as f64;
    let fraction = parameters("again.safetensors") / parameters("half.safetensors");
    assert!((0.6..=0.7).contains(&fraction), "{fraction}");
}

/// Starts the command, and kills it with SIGKILL as soon as a file exists.
fn kill_when_exists(root: &Path, arguments: &[&str], file: &Path) {
    let mut child = command(root, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while !file.exists() {
        assert!(child.try_wait().unwrap().is_none(), "the command has ended before {} exists", file.display());
        assert!(start.elapsed() < Duration::from_secs(120), "{} does not appear", file.display());
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn killed_pruning_continues_with_the_same_result() {
    let [uninterrupted, killed] = [folder(), folder()];
    expect_success(uninterrupted.path(), &STRUCTURED);
    let root = killed.path();
    for file in [
        "sensitivity.txt",
        "round-1-pruned.safetensors",
        "round-1-training/states/epoch-000001-step-00000003.safetensors",
        "round-1.safetensors",
        "round-2-training/states/epoch-000001-step-00000000.safetensors",
    ] {
        kill_when_exists(root, &STRUCTURED, &root.join("half-work").join(file));
        assert!(!root.join("half.safetensors").exists(), "{file}");
    }
    let (_, stderr) = expect_success_with_stderr(root, &STRUCTURED);
    assert!(stderr.contains("continuing the pruning in half-work"), "{stderr}");
    assert!(!stderr.contains("round 1 of 2: pruning") && !stderr.contains("measuring the sensitivity"), "{stderr}");
    let [expected, actual] = [uninterrupted.path(), root].map(|root| open(root, "half.safetensors"));
    assert_eq!(actual.architecture(), expected.architecture());
    assert!(actual.into_values() == expected.into_values(), "the weights differ");

    let other = STRUCTURED.map(|argument| if argument == "0.5" { "0.4" } else { argument });
    let stderr = expect_failure(root, &other);
    assert!(stderr.contains("half-work belongs to a pruning with other settings"), "{stderr}");
}

#[test]
fn single_weights_stay_zero_during_fine_tuning() {
    let folder = folder();
    let root = folder.path();
    let arguments = ["prune", "whole.safetensors", "--unstructured", "0.3", "--output"];
    let stdout = expect_success(root, &[&arguments[..], &["sparse.safetensors"]].concat());
    assert!(stdout.starts_with("30.00 % of the weights of the convolutions are zero."), "{stdout}");
    assert!(stdout.contains("makes nothing faster") && stdout.contains("gzip reduces the file"), "{stdout}");
    let tuned = ["tuned.safetensors", "--data", "photos", "--epochs", "2", "--rounds", "2", "--set", "batch-size=8"];
    let stdout = expect_success(root, &[&arguments[..], &tuned].concat());
    assert!(stdout.contains("30.00 %") && stdout.contains("top-1 difference"), "{stdout}");

    let count = |name: &str| -> usize {
        let checkpoint = open(root, name);
        let layers = checkpoint.architecture().convolutions();
        let weights = layers.iter().map(|layer| checkpoint.values(&format!("{}.weight", layer.name)));
        weights.map(|weights| weights.iter().filter(|weight| **weight == 0.0).count()).sum()
    };
    let all: usize = open(root, "whole.safetensors")
        .architecture()
        .convolutions()
        .iter()
        .map(|layer| layer.weight_shape().iter().product::<usize>())
        .sum();
    let expected = (0.3 * all as f64).round() as usize;
    assert_eq!(["sparse.safetensors", "tuned.safetensors"].map(count), [expected; 2]);
    let name = "layer1.0.conv1.weight";
    assert_ne!(open(root, "tuned.safetensors").values(name), open(root, "sparse.safetensors").values(name));
}

#[test]
fn invalid_arguments_are_reported_before_anything_is_written() {
    let folder = folder();
    let root = folder.path();
    let output = ["--output", "new.safetensors"];
    let structured = ["--structured", "--data", "photos"];
    let cases: [(&[&str], &str); 10] = [
        (&["whole.safetensors"], "--unstructured <FRACTION>"),
        (&["whole.safetensors", "--structured", "--macs", "0.5"], "--data <FOLDER>"),
        (&[&["whole.safetensors"][..], &structured].concat(), "--macs <FRACTION>|--params <FRACTION>"),
        (
            &[&["whole.safetensors", "--macs", "0.5", "--params", "0.5"][..], &structured].concat(),
            "cannot be used with",
        ),
        (&["whole.safetensors", "--unstructured", "1.5"], "expected a fraction between 0 and 1"),
        (&["whole.safetensors", "--unstructured", "0.3", "--epochs", "3"], "choose them with --data"),
        (&[&["start.safetensors", "--macs", "0.5"][..], &structured].concat(), "not those of the checkpoint"),
        (
            &[&["whole.safetensors", "--macs", "0.5"][..], &structured].concat(),
            "`batch-size` is 32, but there are only",
        ),
        (
            &[&["whole.safetensors", "--macs", "0.5", "--epochs", "1", "--rounds", "2"][..], &structured].concat(),
            "--rounds 2 needs at least as many epochs",
        ),
        (
            &[&["whole.safetensors", "--macs", "0.5", "--set", "epoch=1"][..], &structured].concat(),
            "unknown field `epoch`",
        ),
    ];
    for (arguments, expected) in cases {
        let stderr = expect_failure(root, &[&["prune"], arguments, &output].concat());
        assert!(stderr.contains(expected), "{arguments:?} says {stderr:?}, not {expected:?}");
        assert!(!root.join("new-work").exists() && !root.join("new.safetensors").exists(), "{arguments:?}");
    }
    let impossible = [&["prune", "whole.safetensors", "--macs", "0.01", "--epochs", "0"][..], &structured].concat();
    let impossible = [&impossible[..], &["--sensitivity-photos", "0"], &output].concat();
    assert!(expect_failure(root, &impossible).contains("the smallest is --macs 0."));
}
