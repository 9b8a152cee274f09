//! Runs that are killed or interrupted, and resumed.

mod common;

use common::{command, fail, folder, json_lines, succeed, text, train_arguments};
use model::checkpoint::Checkpoint;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Instant;

/// Uses everything that a state contains: momentum, an EMA, an incomplete epoch, and states within epochs.
const RECIPE: [&str; 6] = ["--epochs", "4", "--set", "ema-decay=0.5", "--save-every", "0.005"];

fn weights(run: &Path) -> BTreeMap<String, Vec<f32>> {
    Checkpoint::from_path(run.join("last.safetensors")).unwrap().into_values()
}

/// Asserts that the last checkpoints of two runs are bit-identical.
fn assert_same_weights(found: &Path, expected: &Path) {
    let (found, expected) = (weights(found), weights(expected));
    let different: Vec<_> =
        expected.iter().filter(|(name, values)| found[*name] != **values).map(|(name, _)| name).collect();
    assert!(different.is_empty(), "{} of {} tensors differ: {different:?}", different.len(), expected.len());
}

/// Number of times a run is killed: the value of `SHORTCUT_KILLS`, by default 5.
fn kills() -> u32 {
    std::env::var("SHORTCUT_KILLS").map_or(5, |count| count.parse().expect("SHORTCUT_KILLS is a number"))
}

/// Kills a run at various times and resumes it, until it has been killed `kills` times and then finishes; asserts that the result
/// is identical to that of an uninterrupted run.
fn kill_and_resume(at: &Path, data: &str, recipe: &[&str], kills: u32) {
    let arguments_for = |output: &str| {
        let mut arguments: Vec<String> =
            train_arguments(&[recipe, &["--output", output]].concat()).iter().map(|&word| word.to_owned()).collect();
        let position = arguments.iter().position(|word| word == "photos").unwrap();
        arguments[position] = data.to_owned();
        arguments
    };
    let start = Instant::now();
    let whole = arguments_for("whole");
    succeed(at, &whole.iter().map(String::as_str).collect::<Vec<_>>());
    let duration = start.elapsed();

    let output = at.join("killed");
    let from_scratch = arguments_for("killed");
    let resume = ["--resume", "killed", "--save-every", "0.005"].map(str::to_owned).to_vec();
    let (mut arguments, mut killed, mut attempts) = (from_scratch.clone(), 0, 0);
    while killed < kills {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut child = command(at, &words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        sleep(duration * (1 + attempts * 7 % 11) / 24);
        child.kill().unwrap();
        attempts += 1;
        if child.wait().unwrap().success() {
            // The run finished before it was killed: check its result and start another one.
            assert_same_weights(&output, &at.join("whole"));
            fs::remove_dir_all(&output).unwrap();
            arguments = from_scratch.clone();
            continue;
        }
        killed += 1;
        let is_state = |name: &str| !name.starts_with('.');
        let has_state = fs::read_dir(output.join("states"))
            .is_ok_and(|mut states| states.any(|entry| is_state(&entry.unwrap().file_name().to_string_lossy())));
        // A run that was killed before its first state cannot be resumed, and must start again.
        if has_state {
            arguments = resume.clone();
        } else {
            fs::remove_dir_all(&output).ok();
            arguments = from_scratch.clone();
        }
    }
    succeed(at, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_same_weights(&output, &at.join("whole"));
    let names = fs::read_dir(output.join("states")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(
        names.into_iter().all(|name| !name.to_string_lossy().ends_with(".partial")),
        "partially written files are removed"
    );

    let epochs = |run: &str| -> Vec<_> {
        let records = json_lines(&at.join(run).join("metrics.jsonl"));
        let epochs = records.into_iter().filter(|record| record["kind"] == "epoch");
        let fields = |record: Value| ["epoch", "val", "skipped", "best"].map(|key| record[key].clone());
        epochs.map(fields).collect()
    };
    assert_eq!(epochs("killed"), epochs("whole"), "each epoch is recorded once, as in the uninterrupted run");
}

#[test]
fn killed_and_resumed_run_is_bit_identical() {
    kill_and_resume(folder().path(), "photos", &RECIPE, kills());
}

#[test]
fn resumed_run_on_shards_with_random_augmentation_is_bit_identical() {
    let folder = folder();
    succeed(folder.path(), &["pack", "--data", "photos", "--output", "shards"]);
    let keys = ["mixup-alpha=0.2", "random-erasing=0.5", "color-jitter=[0.2, 0.2, 0.2, 0.1]", "accumulate=2"];
    let keys = keys.iter().flat_map(|key| ["--set", key]);
    let more = ["--epochs", "2", "--replicas", "2", "--precision", "f16", "--save-every", "0.005"];
    kill_and_resume(folder.path(), "shards", &more.into_iter().chain(keys).collect::<Vec<_>>(), 2);
}

#[test]
fn resumed_run_with_replicas_and_adamw_is_bit_identical() {
    let folder = folder();
    let at = folder.path();
    let recipe = ["--epochs", "2", "--set", "optimiser=adamw", "--set", "momentum=", "--set", "nesterov="];
    let recipe = [&recipe[..], &["--replicas", "2", "--set", "learning-rate=0.001"]].concat();
    succeed(at, &train_arguments(&[&recipe[..], &["--output", "whole"]].concat()));
    let copy = at.join("copy");
    let run = at.join("whole");
    fs::create_dir_all(copy.join("states")).unwrap();
    for file in ["recipe.toml", "setup.toml", "log.txt", "metrics.jsonl"] {
        fs::copy(run.join(file), copy.join(file)).unwrap();
    }
    // Remove all traces of the second epoch.
    let first = "states/epoch-000001-step-00000003.safetensors";
    fs::copy(run.join(first), copy.join(first)).unwrap();
    fs::write(copy.join("states/epoch-000001-step-00000009.safetensors"), "truncated state").unwrap();
    let stdout = succeed(at, &["--resume", "copy"]);
    assert!(stdout.contains("resuming copy in epoch 1 after step 3"), "{stdout}");
    assert_same_weights(&copy, &run);
    let log = fs::read_to_string(copy.join("log.txt")).unwrap();
    assert!(log.contains("ignored unreadable state: ") && log.contains("is not a training state"), "{log}");
}

#[test]
fn rejects_runs_that_cannot_be_resumed() {
    let folder = folder();
    let at = folder.path();
    succeed(at, &train_arguments(&["--epochs", "1", "--output", "run"]));
    let again = succeed(at, &["--resume", "run"]);
    assert!(again.contains("epoch 1 after step 3") && again.ends_with("run/best.safetensors\n"), "{again}");
    assert!(fail(at, &["--resume", "run", "--epochs", "2"]).contains("cannot be used with"));
    assert!(fail(at, &["--resume", "photos"]).contains("photos is not a run folder: cannot read setup.toml"));
    let metrics = fs::read(at.join("run/metrics.jsonl")).unwrap();
    assert!(fail(at, &["--resume", "run", "--data", "nowhere"]).contains("nowhere"));
    assert_eq!(fs::read(at.join("run/metrics.jsonl")).unwrap(), metrics, "a failed resume does not change the metrics");
    fs::remove_file(at.join("photos/train/red_thing/3.bmp")).unwrap();
    let stderr = fail(at, &["--resume", "run"]);
    assert!(stderr.contains("differ from those that the run was trained on"), "{stderr}");
    fs::remove_dir_all(at.join("run/states")).unwrap();
    fs::create_dir(at.join("run/states")).unwrap();
    assert!(fail(at, &["--resume", "run"]).contains("run has no state to resume from"));
}

/// Uses a limit on the file size to simulate a full disk.
#[cfg(unix)]
#[test]
fn full_disk_does_not_damage_saved_files() {
    let folder = folder();
    let at = folder.path();
    succeed(at, &train_arguments(&["--epochs", "2", "--output", "run"]));
    let before = weights(&at.join("run"));
    // Remove all traces of the second epoch.
    fs::remove_file(at.join("run/states/epoch-000002-step-00000003.safetensors")).unwrap();
    let metrics = fs::read(at.join("run/metrics.jsonl")).unwrap();
    let limited = format!("trap '' XFSZ; ulimit -f 20000; exec {} --resume run", env!("CARGO_BIN_EXE_trainer"));
    let output = std::process::Command::new("bash").args(["-c", &limited]).current_dir(at).output().unwrap();
    let stderr = text(&output.stderr);
    assert!(!output.status.success(), "{stderr}");
    assert!(stderr.contains("disk is full; free some space and resume with `trainer --resume run`"), "{stderr}");
    assert!(weights(&at.join("run")) == before, "the last checkpoint is unchanged");
    assert!(fs::read(at.join("run/metrics.jsonl")).unwrap().len() <= metrics.len());
    succeed(at, &["--resume", "run"]);
    assert!(weights(&at.join("run")) == before, "the resumed run ends with the same weights");
}
