//! `trainer train` and `trainer evaluate` on a few small generated photos: the files of a run, and error messages.

mod common;

use common::{
    command, expect_failure, expect_success, expect_success_with_stderr, json_lines, test_folder, text, train_arguments,
};
use model::checkpoint::{Checkpoint, Metadata};
use model::preprocess::{Limits, Photo};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

#[test]
fn run_folder_is_complete_and_its_checkpoints_are_usable() {
    let folder = test_folder();
    let root = folder.path();
    let stdout = expect_success(root, &train_arguments(&["--epochs", "5", "--output", "run"]));
    assert!(stdout.starts_with("resnet18, 2 classes, 25 training and 8 validation photos, 32 px"), "{stdout}");
    assert_eq!(stdout.matches("broken.jpg").count(), 1, "skipped files are reported once: {stdout}");
    assert_eq!(stdout.lines().last(), Some("run/best.safetensors"));

    let run = root.join("run");
    assert_eq!(fs::read_to_string(run.join("classes.txt")).unwrap(), "green_thing\nred_thing\n");
    assert_eq!(fs::read_to_string(run.join("labels.txt")).unwrap(), "green thing\nred thing\n");
    let log = fs::read_to_string(run.join("log.txt")).unwrap();
    assert!(log.contains("--recipe finetune") && log.contains("broken.jpg"), "{log}");
    let epochs = json_lines(&run.join("metrics.jsonl"));
    let epochs: Vec<_> = epochs.iter().filter(|line| line["kind"] == "epoch").collect();
    assert_eq!(epochs.len(), 5);
    assert_eq!((&epochs[4]["skipped"], &epochs[4]["val"]["photos"]), (&1.into(), &8.into()));
    let loss = |index: usize| epochs[index]["train"]["loss"].as_f64().unwrap();
    assert!(loss(4) < 0.7 * loss(0), "the loss decreases from {} to {} only", loss(0), loss(4));

    let names = fs::read_dir(&run).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let events: Vec<_> = names.filter(|name| name.contains("tfevents")).collect();
    assert_eq!(events.len(), 1, "{events:?}");
    let seconds = events[0].strip_prefix("events.out.tfevents.").and_then(|name| name.strip_suffix(".shortcut"));
    assert!(seconds.is_some_and(|seconds| seconds.parse::<u64>().is_ok()), "{events:?}");

    let last = Checkpoint::from_path(run.join("last.safetensors")).unwrap();
    let Metadata { labels, preprocessing, recipe, metrics, .. } = last.metadata();
    assert_eq!(*labels, ["green thing", "red thing"]);
    assert_eq!((preprocessing.crop, preprocessing.resize), (32, 37));
    assert_eq!(recipe.as_ref().unwrap()["image-size"], 32);
    let metrics = metrics.as_ref().unwrap();
    assert_eq!((&metrics["epoch"], &metrics["top1"]), (&5.into(), &epochs[4]["val"]["top1"]));
    let best = Checkpoint::from_path(run.join("best.safetensors")).unwrap();
    assert!(best.metadata().metrics.as_ref().unwrap()["top1"].as_f64() >= metrics["top1"].as_f64());

    // Evaluate with an undecodable photo, and then without the photos of one class.
    fs::write(root.join("photos/val/red_thing/broken.jpg"), "not a photo").unwrap();
    let evaluate = ["evaluate", "--checkpoint", "run/last.safetensors", "--data", "photos", "--batch-size", "3"];
    let json: Value = serde_json::from_str(&expect_success(root, &[&evaluate[..], &["--json"]].concat())).unwrap();
    assert_eq!((&json["photos"], &json["skipped"]), (&8.into(), &1.into()));
    assert_eq!(json["top1"], metrics["top1"]);
    assert!((json["loss"].as_f64().unwrap() - metrics["loss"].as_f64().unwrap()).abs() < 1e-5, "{json} {metrics}");
    fs::remove_dir_all(root.join("photos/val/red_thing")).unwrap();
    assert!(expect_success(root, &evaluate).contains("4 photos, 0 skipped"));

    let photo = "photos/val/green_thing/0.bmp";
    let table = expect_success(root, &["predict", photo, "--checkpoint", "run/best.safetensors"]);
    assert!(table.contains("green thing") && table.contains("red thing"), "{table}");
}

#[test]
fn show_batch_writes_a_grid_and_does_not_train() {
    let folder = test_folder();
    let root = folder.path();
    let show = |more: &[&str]| {
        let arguments = train_arguments(&[&["--show-batch", "batch.png"], more].concat());
        let (stdout, stderr) = expect_success_with_stderr(root, &arguments);
        assert!(stderr.ends_with("wrote batch.png\n"), "{stderr}");
        let rows: Vec<_> = stdout.lines().map(|line| line.split_once(": ").unwrap().1.split(", ").count()).collect();
        assert_eq!(rows, [3, 3, 2], "{stdout}");
        assert_eq!(stdout.contains(" % + "), more.contains(&"mixup-alpha=1"), "{stdout}");
        Photo::decode(&fs::read(root.join("batch.png")).unwrap(), &Limits::default()).unwrap()
    };
    let grid = show(&[]);
    // Eight images of 32 pixels in three columns, with gaps of 2 pixels.
    assert_eq!((grid.width(), grid.height()), (100, 100));
    assert_eq!(show(&[]), grid, "the same seed gives the same images");
    assert_ne!(show(&["--seed", "1"]), grid);
    assert_ne!(show(&["--set", "random-erasing=1"]), grid);
    assert_ne!(show(&["--set", "mixup-alpha=1"]), grid);
    assert!(!root.join("runs").exists());
    let stderr = expect_failure(root, &train_arguments(&["--show-batch", "missing/batch.png"]));
    assert!(stderr.contains("cannot write missing/batch.png"), "{stderr}");
}

#[test]
fn equal_seeds_give_equal_weights_for_any_number_of_threads() {
    let folder = test_folder();
    let train = |output: &str, more: &[&str]| {
        expect_success(folder.path(), &train_arguments(&[&["--epochs", "1", "--output", output], more].concat()));
        Checkpoint::from_path(folder.path().join(output).join("last.safetensors")).unwrap().values("conv1.weight")
    };
    let expected = train("one-thread", &["--loader-threads", "1"]);
    assert_eq!(train("three-threads", &["--loader-threads", "3"]), expected);
    assert_ne!(train("other", &["--seed", "1"]), expected);
    // The resolved recipe in the folder of a run can be used for another run.
    expect_success(
        folder.path(),
        &["train", "--data", "photos", "--recipe", "one-thread/recipe.toml", "--output", "again"],
    );
    let again = Checkpoint::from_path(folder.path().join("again/last.safetensors")).unwrap();
    assert_eq!(again.values("conv1.weight"), expected);
}

#[cfg(unix)]
#[test]
fn interrupted_run_saves_and_stops() {
    let folder = test_folder();
    let arguments = train_arguments(&["--epochs", "100000", "--output", "run"]);
    let mut child = command(folder.path(), &arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let epoch = stdout.lines().map(Result::unwrap).find(|line| line.starts_with("epoch 1/"));
    assert!(epoch.is_some(), "the run ended before its first epoch");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let stderr = text(&output.stderr);
    assert!(!output.status.success() && stderr.contains("error: interrupted"), "{stderr}");
    let log = fs::read_to_string(folder.path().join("run/log.txt")).unwrap();
    assert!(log.lines().last().unwrap().starts_with("error: interrupted"), "{log}");
    Checkpoint::from_path(folder.path().join("run/last.safetensors")).unwrap();
}

#[test]
fn non_finite_loss_ends_the_run_and_keeps_the_last_checkpoint() {
    let folder = test_folder();
    // The warm-up lasts for all epochs: learning rates are low in the first epoch, but later steps multiply the weights
    // by `1 - learning-rate * weight-decay`, which soon is below -10.
    let divergent =
        ["learning-rate=100", "warmup-epochs=20", "warmup-factor=0", "weight-decay=1", "nesterov=false", "momentum=0"];
    let divergent = divergent.iter().flat_map(|change| ["--set", change]);
    for device in ["cpu", "flex"] {
        let more = ["--epochs", "20", "--output", device, "--device", device].into_iter().chain(divergent.clone());
        let stderr = expect_failure(folder.path(), &train_arguments(&more.collect::<Vec<_>>()));
        let last = format!("{device}/last.safetensors");
        assert!(stderr.contains(&format!("--set learning-rate=1e1 (last checkpoint: {last})")), "{stderr}");
        Checkpoint::from_path(folder.path().join(last)).unwrap();
    }
}

#[test]
fn errors_are_reported_before_anything_is_written() {
    let folder = test_folder();
    let root = folder.path();
    fs::create_dir_all(root.join("full/more")).unwrap();
    let cases: [(&[&str], &str); 12] = [
        (&["--replicas", "3"], "1 and 3 replicas it must be a multiple of 3"),
        (&["--gpus", "64"], "--gpus 64: available CUDA devices: "),
        (&["--set", "class-weights=[1, 2, 3]"], "3 weights for 2 classes"),
        (&["--precision", "f8"], "expected one of `f32`, `bf16`, `f16`"),
        (&["--output", "full"], "full is not empty"),
        (&["--batch-size", "26"], "`batch-size` is 26, but there are only 25 training photos"),
        (&["--val-split", "0.2"], "has a validation set (val); remove --val-split"),
        (&["--val-split", "2"], "a fraction between 0 and 1"),
        (&["--device", "webgpu"], "training is not supported on webgpu"),
        (&["--set", "momentun=0.9"], "unknown field `momentun`"),
        (&["--set", "schedule=linear"], "expected one of `constant`, `cosine`, `step` in `schedule`"),
        (&["--architecture", "resnet18"], "cannot be used with"),
    ];
    for (more, expected) in cases {
        let arguments = train_arguments(more);
        let stderr = expect_failure(root, &arguments);
        assert!(stderr.contains(expected), "{more:?}: {stderr:?}, not {expected:?}");
    }
    assert!(!root.join("runs").exists());
    let stderr = expect_failure(root, &["evaluate", "--checkpoint", "start.safetensors", "--data", "photos"]);
    assert!(stderr.contains("green_thing: unknown class; expected one of "), "{stderr}");
}

#[test]
fn replicas_match_accumulation() {
    let folder = test_folder();
    let run = |output: &str, more: &[&str]| {
        expect_success(folder.path(), &train_arguments(&[&["--epochs", "2", "--output", output], more].concat()));
        let last = Checkpoint::from_path(folder.path().join(output).join("last.safetensors")).unwrap();
        (last.values("layer1.0.conv1.weight"), last.metadata().metrics.clone().unwrap())
    };
    let (accumulated, accumulated_metrics) = run("accumulated", &["--set", "accumulate=2"]);
    let (replicas, metrics) = run("replicas", &["--replicas", "2"]);
    let max_abs = |values: &[f32]| values.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
    let differences: Vec<f32> = accumulated.iter().zip(&replicas).map(|(a, b)| a - b).collect();
    let (max_difference, max_weight) = (max_abs(&differences), max_abs(&accumulated));
    assert!(max_difference < 1e-4 * max_weight, "weights up to {max_weight} differ by up to {max_difference}");
    assert_eq!((&accumulated_metrics["epoch"], &metrics["epoch"]), (&2.into(), &2.into()));
    let records = json_lines(&folder.path().join("replicas/metrics.jsonl"));
    assert_eq!(records.last().unwrap()["val"]["photos"], 8, "no photo is counted twice");
}

#[test]
fn layers_head_trains_only_the_classifier() {
    let folder = test_folder();
    let head = ["--set", "layers=head", "--set", "learning-rate=0.05", "--epochs", "8", "--output", "run"];
    expect_success(folder.path(), &train_arguments(&head));
    let open = |path: &str| Checkpoint::from_path(folder.path().join(path)).unwrap();
    let (start, last) = (open("start.safetensors"), open("run/last.safetensors"));
    for name in ["conv1.weight", "bn1.weight", "bn1.running_mean", "layer4.1.conv2.weight"] {
        assert_eq!(last.values(name), start.values(name), "{name} is unchanged");
    }
    let records = json_lines(&folder.path().join("run/metrics.jsonl"));
    let epochs: Vec<_> = records.iter().filter(|line| line["kind"] == "epoch").collect();
    let loss = |index: usize| epochs[index]["train"]["loss"].as_f64().unwrap();
    assert!(loss(7) < 0.8 * loss(0), "the loss decreases from {} to {} only", loss(0), loss(7));
    // Validation on cached features agrees with evaluation on photos.
    let evaluate = ["evaluate", "--checkpoint", "run/last.safetensors", "--data", "photos", "--json"];
    let json: Value = serde_json::from_str(&expect_success(folder.path(), &evaluate)).unwrap();
    let val = &epochs[7]["val"];
    assert_eq!(json["top1"], val["top1"]);
    assert!((json["loss"].as_f64().unwrap() - val["loss"].as_f64().unwrap()).abs() < 1e-3, "{json} {val}");
}

/// Combines keys that no built-in recipe combines. The learning rate is too low for an improvement, so that early
/// stopping ends the run.
#[test]
fn many_recipe_keys_can_be_combined() {
    let folder = test_folder();
    let keys = [
        "optimiser=lamb",
        "momentum=",
        "nesterov=",
        "learning-rate=1e-6",
        "clip-norm=1",
        "ema-decay=0.9",
        "class-weights=balanced",
        "accumulate=2",
        "gradient-checkpointing=true",
        "train-sizes=[[1, 32], [2, 40]]",
        "crop-scale=",
        "crop-ratio=",
        "crop-padding=4",
        "color-jitter=[0.2, 0.2, 0.2, 0.1]",
        "auto-augment=trivialaugment-wide",
        "random-erasing=0.5",
        "mixup-alpha=0.2",
        "cutmix-alpha=1",
        "repetitions=2",
        "early-stopping=2",
    ];
    let keys = keys.iter().flat_map(|key| ["--set", key]);
    let more = ["--epochs", "30", "--precision", "f16", "--replicas", "2", "--output", "run"];
    let stdout = expect_success(folder.path(), &train_arguments(&more.into_iter().chain(keys).collect::<Vec<_>>()));
    assert!(stdout.contains("stopped early: no better top-1 for 2 epochs"), "{stdout}");
    let epochs =
        json_lines(&folder.path().join("run/metrics.jsonl")).iter().filter(|line| line["kind"] == "epoch").count();
    assert!((3..30).contains(&epochs), "{epochs}");
    Checkpoint::from_path(folder.path().join("run/best.safetensors")).unwrap();
}
