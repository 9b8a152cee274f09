//! `trainer train` and `evaluate` on a few small photos made here: what a run leaves behind, and what stops one.

use model::architecture::Architecture;
use model::checkpoint::{Checkpoint, Metadata};
use model::random::{self, Uniform};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainer"));
    command.current_dir(folder).args(arguments);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What it wrote to stdout, or a panic with all that it said.
fn succeed(folder: &Path, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = command(folder, arguments).output().unwrap();
    assert!(status.success(), "{arguments:?}: {}{}", text(&stdout), text(&stderr));
    text(&stdout)
}

/// What it says on stderr when it fails.
fn fail(folder: &Path, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = command(folder, arguments).output().unwrap();
    let stderr = text(&stderr);
    assert!(!status.success(), "{arguments:?}: {}", text(&stdout));
    assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
    stderr
}

/// A BMP of 40x36 in noise around a colour.
fn photo(colour: [f32; 3], seed: u64) -> Vec<u8> {
    const SIZE: u32 = 40 * 36 * 3;
    let mut file = b"BM".to_vec();
    let fields = [54 + SIZE, 0, 54, 40, 40, 36, 1 | 24 << 16, 0, SIZE, 0, 0, 0, 0];
    file.extend(fields.into_iter().flat_map(u32::to_le_bytes));
    let noise = Uniform::new(seed).take(SIZE as usize).enumerate();
    file.extend(noise.map(|(index, noise)| (colour[index % 3] + 60.0 * noise) as u8));
    file
}

/// Red and green things in `photos`, 12 of each to train on and 4 to validate with, and a file that is no photo; weights of
/// a network that knows three other classes in `start.safetensors`.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (split, count) in [("train", 12), ("val", 4)] {
        for (class, colour) in [("red_thing", [60.0, 60.0, 180.0]), ("green_thing", [60.0, 180.0, 60.0])] {
            let place = folder.path().join("photos").join(split).join(class);
            fs::create_dir_all(&place).unwrap();
            for index in 0..count {
                fs::write(place.join(format!("{index}.bmp")), photo(colour, index)).unwrap();
            }
        }
    }
    fs::write(folder.path().join("photos/train/red_thing/broken.jpg"), "no photo").unwrap();
    let start = random::checkpoint(Architecture::new("resnet18", 3).unwrap());
    start.save(folder.path().join("start.safetensors")).unwrap();
    folder
}

/// Over the folder's photos, and in steps of eight on the CPU if nothing else is said.
fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let photos =
        ["--data", "photos", "--recipe", "finetune", "--checkpoint", "start.safetensors", "--image-size", "32"];
    let defaults = [["--batch-size", "8"], ["--device", "cpu"]];
    let defaults = defaults.into_iter().filter(|[flag, _]| !more.contains(flag));
    [&photos, defaults.flatten().collect::<Vec<_>>().as_slice(), more].concat()
}

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_run_explains_itself_and_its_checkpoints_are_used_as_any_other() {
    let folder = folder();
    let at = folder.path();
    let said = succeed(at, &with(&["--epochs", "4", "--output", "run"]));
    assert!(said.starts_with("resnet18, 2 classes, 25 photos to train on and 8 to validate with, 32 px"), "{said}");
    assert_eq!(said.matches("broken.jpg").count(), 1, "named once: {said}");
    assert_eq!(said.lines().last(), Some("run/best.safetensors"));

    let run = at.join("run");
    assert_eq!(fs::read_to_string(run.join("classes.txt")).unwrap(), "green_thing\nred_thing\n");
    assert_eq!(fs::read_to_string(run.join("labels.txt")).unwrap(), "green thing\nred thing\n");
    let log = fs::read_to_string(run.join("log.txt")).unwrap();
    assert!(log.contains("--recipe finetune") && log.contains("broken.jpg"), "{log}");
    let epochs = lines(&run.join("metrics.jsonl"));
    let epochs: Vec<_> = epochs.iter().filter(|line| line["kind"] == "epoch").collect();
    assert_eq!(epochs.len(), 4);
    assert_eq!((&epochs[3]["skipped"], &epochs[3]["val"]["photos"]), (&1.into(), &8.into()));
    let loss = |index: usize| epochs[index]["train"]["loss"].as_f64().unwrap();
    // Of three steps, an epoch can be an unlucky one.
    let least = (1..4).map(loss).fold(f64::MAX, f64::min);
    assert!(least < 0.7 * loss(0), "it learns: {} to {least}", loss(0));

    let last = Checkpoint::from_path(run.join("last.safetensors")).unwrap();
    let Metadata { labels, preprocessing, recipe, metrics, .. } = last.metadata();
    assert_eq!(*labels, ["green thing", "red thing"]);
    assert_eq!((preprocessing.crop, preprocessing.resize), (32, 37));
    assert_eq!(recipe.as_ref().unwrap()["image-size"], 32);
    let metrics = metrics.as_ref().unwrap();
    assert_eq!((&metrics["epoch"], &metrics["top1"]), (&4.into(), &epochs[3]["val"]["top1"]));
    let best = Checkpoint::from_path(run.join("best.safetensors")).unwrap();
    assert!(best.metadata().metrics.as_ref().unwrap()["top1"].as_f64() >= metrics["top1"].as_f64());

    // A val with one class less, and one photo that is none.
    fs::write(at.join("photos/val/red_thing/broken.jpg"), "no photo").unwrap();
    let evaluate = ["evaluate", "--checkpoint", "run/last.safetensors", "--data", "photos", "--batch-size", "3"];
    let json: Value = serde_json::from_str(&succeed(at, &[&evaluate[..], &["--json"]].concat())).unwrap();
    assert_eq!((&json["photos"], &json["skipped"]), (&8.into(), &1.into()));
    assert_eq!(json["top1"], metrics["top1"]);
    assert!((json["loss"].as_f64().unwrap() - metrics["loss"].as_f64().unwrap()).abs() < 1e-5, "{json} {metrics}");
    fs::remove_dir_all(at.join("photos/val/red_thing")).unwrap();
    assert!(succeed(at, &evaluate).contains("4 photos, 0 skipped"));

    let photo = "photos/val/green_thing/0.bmp";
    let answer = succeed(at, &["predict", photo, "--checkpoint", "run/best.safetensors"]);
    assert!(answer.contains("green thing") && answer.contains("red thing"), "{answer}");
}

#[test]
fn equal_seeds_train_equally_on_any_number_of_threads() {
    let folder = folder();
    let train = |output: &str, more: &[&str]| {
        succeed(folder.path(), &with(&[&["--epochs", "1", "--output", output], more].concat()));
        Checkpoint::from_path(folder.path().join(output).join("last.safetensors")).unwrap().values("conv1.weight")
    };
    let alone = train("alone", &["--loader-threads", "1"]);
    assert_eq!(train("together", &["--loader-threads", "3"]), alone);
    assert_ne!(train("other", &["--seed", "1"]), alone);
    // What a run resolved is a recipe.
    succeed(folder.path(), &["train", "--data", "photos", "--recipe", "alone/recipe.toml", "--output", "again"]);
    let again = Checkpoint::from_path(folder.path().join("again/last.safetensors")).unwrap();
    assert_eq!(again.values("conv1.weight"), alone);
}

#[cfg(unix)]
#[test]
fn an_interrupt_saves_and_stops() {
    let folder = folder();
    let arguments = with(&["--epochs", "100000", "--output", "run"]);
    let mut child = command(folder.path(), &arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let epoch = stdout.lines().map(Result::unwrap).find(|line| line.starts_with("epoch 1/"));
    assert!(epoch.is_some(), "no epoch ended");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let stderr = text(&output.stderr);
    assert!(!output.status.success() && stderr.contains("error: interrupted"), "{stderr}");
    let log = fs::read_to_string(folder.path().join("run/log.txt")).unwrap();
    assert!(log.lines().last().unwrap().starts_with("error: interrupted"), "{log}");
    Checkpoint::from_path(folder.path().join("run/last.safetensors")).unwrap();
}

#[test]
fn a_loss_that_is_not_finite_ends_the_run_and_leaves_the_checkpoint() {
    let folder = folder();
    // A warm-up that never ends: the first epoch is harmless, and later ones multiply the weights by -10 and more in a step.
    let hot =
        ["learning-rate=100", "warmup-epochs=20", "warmup-factor=0", "weight-decay=1", "nesterov=false", "momentum=0"];
    let hot = hot.iter().flat_map(|change| ["--set", change]);
    let more: Vec<&str> = ["--epochs", "20", "--output", "run"].into_iter().chain(hot).collect();
    let stderr = fail(folder.path(), &with(&more));
    assert!(stderr.contains("--set learning-rate=10; run/last.safetensors holds the end of epoch"), "{stderr}");
    Checkpoint::from_path(folder.path().join("run/last.safetensors")).unwrap();
}

#[test]
fn mistakes_are_named_before_anything_is_written() {
    let folder = folder();
    let at = folder.path();
    fs::create_dir_all(at.join("full/more")).unwrap();
    let cases: [(&[&str], &str); 8] = [
        (&["--output", "full"], "full is not empty"),
        (&["--batch-size", "26"], "`batch-size` is 26, but there are 25 photos"),
        (&["--val-split", "0.2"], "val validates already"),
        (&["--val-split", "2"], "a share between 0 and 1"),
        (&["--device", "cuda"], "trained on the device cpu alone, not on cuda"),
        (&["--set", "momentun=0.9"], "unknown field `momentun`"),
        (&["--set", "schedule=linear"], "expected one of `constant`, `cosine`, `step` in `schedule`"),
        (&["--architecture", "resnet18"], "cannot be used with"),
    ];
    for (more, expected) in cases {
        let stderr = fail(at, &with(more));
        assert!(stderr.contains(expected), "{more:?} says {stderr:?}, not {expected:?}");
    }
    assert!(!at.join("runs").exists());
    let stderr = fail(at, &["evaluate", "--checkpoint", "start.safetensors", "--data", "photos"]);
    assert!(stderr.contains("green_thing: none of the 3 classes is called so"), "{stderr}");
}
