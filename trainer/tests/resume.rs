//! Trainings that are killed or interrupted, and go on.

mod common;

use common::{command, fail, folder, lines, succeed, text, with};
use model::checkpoint::Checkpoint;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Instant;

/// With all that a state has to hold: momentum, an average, an incomplete epoch, and states within epochs.
const RECIPE: [&str; 6] = ["--epochs", "4", "--set", "ema-decay=0.5", "--save-every", "0.005"];

fn weights(run: &Path) -> BTreeMap<String, Vec<f32>> {
    Checkpoint::from_path(run.join("last.safetensors")).unwrap().into_values()
}

/// To the bit.
fn assert_same(found: &Path, expected: &Path) {
    let (found, expected) = (weights(found), weights(expected));
    let different: Vec<_> =
        expected.iter().filter(|(name, values)| found[*name] != **values).map(|(name, _)| name).collect();
    assert!(different.is_empty(), "{} of {} tensors are different: {different:?}", different.len(), expected.len());
}

/// How often a training is killed: as often as `SHORTCUT_KILLS` says, or five times.
fn kills() -> u32 {
    std::env::var("SHORTCUT_KILLS").map_or(5, |count| count.parse().expect("SHORTCUT_KILLS is a number"))
}

/// Kills trainings at moments spread over their time, and has each go on until it is done; from folders or from shards.
fn kill_and_go_on(at: &Path, data: &str, recipe: &[&str], kills: u32) {
    let with = |output: &str| {
        let mut arguments: Vec<String> =
            with(&[recipe, &["--output", output]].concat()).iter().map(|&word| word.to_owned()).collect();
        let place = arguments.iter().position(|word| word == "photos").unwrap();
        arguments[place] = data.to_owned();
        arguments
    };
    let begun = Instant::now();
    let whole = with("whole");
    succeed(at, &whole.iter().map(String::as_str).collect::<Vec<_>>());
    let took = begun.elapsed();

    let output = at.join("killed");
    let afresh = with("killed");
    let resume = ["--resume", "killed", "--save-every", "0.005"].map(str::to_owned).to_vec();
    let (mut arguments, mut landed, mut tries) = (afresh.clone(), 0, 0);
    while landed < kills {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut child = command(at, &words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        sleep(took * (1 + tries * 7 % 11) / 24);
        child.kill().unwrap();
        tries += 1;
        if child.wait().unwrap().success() {
            // One that was done before it was killed proves itself, and another one begins.
            assert_same(&output, &at.join("whole"));
            fs::remove_dir_all(&output).unwrap();
            arguments = afresh.clone();
            continue;
        }
        landed += 1;
        let is_state = |name: &str| !name.starts_with('.');
        let has_state = fs::read_dir(output.join("states"))
            .is_ok_and(|mut states| states.any(|entry| is_state(&entry.unwrap().file_name().to_string_lossy())));
        // Killed before the first state there is nothing to go on from, and nothing lost.
        if has_state {
            arguments = resume.clone();
        } else {
            fs::remove_dir_all(&output).ok();
            arguments = afresh.clone();
        }
    }
    succeed(at, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_same(&output, &at.join("whole"));
    let hidden = fs::read_dir(output.join("states")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(hidden.into_iter().all(|name| !name.to_string_lossy().ends_with(".partial")), "nothing half written stays");

    let epochs = |run: &str| -> Vec<_> {
        let records = lines(&at.join(run).join("metrics.jsonl"));
        let epochs = records.into_iter().filter(|record| record["kind"] == "epoch");
        let told = |record: Value| ["epoch", "val", "skipped", "best"].map(|key| record[key].clone());
        epochs.map(told).collect()
    };
    assert_eq!(epochs("killed"), epochs("whole"), "each epoch is told once, and as if nothing had happened");
}

#[test]
fn a_training_that_is_killed_ends_with_the_weights_of_one_that_is_not() {
    kill_and_go_on(folder().path(), "photos", &RECIPE, kills());
}

#[test]
fn one_from_shards_with_all_that_is_drawn_does_too() {
    let folder = folder();
    succeed(folder.path(), &["pack", "--data", "photos", "--output", "shards"]);
    let keys = ["mixup-alpha=0.2", "random-erasing=0.5", "color-jitter=[0.2, 0.2, 0.2, 0.1]", "accumulate=2"];
    let keys = keys.iter().flat_map(|key| ["--set", key]);
    let more = ["--epochs", "2", "--replicas", "2", "--precision", "f16", "--save-every", "0.005"];
    kill_and_go_on(folder.path(), "shards", &more.into_iter().chain(keys).collect::<Vec<_>>(), 2);
}

#[test]
fn replicas_and_other_optimisers_go_on_too() {
    let folder = folder();
    let at = folder.path();
    let recipe = ["--epochs", "2", "--set", "optimiser=adamw", "--set", "momentum=", "--set", "nesterov="];
    let recipe = [&recipe[..], &["--replicas", "2", "--set", "learning-rate=0.001"]].concat();
    succeed(at, &with(&[&recipe[..], &["--output", "whole"]].concat()));
    let copy = at.join("copy");
    let run = at.join("whole");
    fs::create_dir_all(copy.join("states")).unwrap();
    for file in ["recipe.toml", "setup.toml", "log.txt", "metrics.jsonl"] {
        fs::copy(run.join(file), copy.join(file)).unwrap();
    }
    // As if the second epoch had never been.
    let first = "states/epoch-000001-step-00000003.safetensors";
    fs::copy(run.join(first), copy.join(first)).unwrap();
    fs::write(copy.join("states/epoch-000001-step-00000009.safetensors"), "half a state").unwrap();
    let said = succeed(at, &["--resume", "copy"]);
    assert!(said.contains("resuming copy in epoch 1 after step 3"), "{said}");
    assert_same(&copy, &run);
    let log = fs::read_to_string(copy.join("log.txt")).unwrap();
    assert!(log.contains("ignored unreadable state: ") && log.contains("is not a training state"), "{log}");
}

#[test]
fn what_cannot_go_on_is_said() {
    let folder = folder();
    let at = folder.path();
    succeed(at, &with(&["--epochs", "1", "--output", "run"]));
    let again = succeed(at, &["--resume", "run"]);
    assert!(again.contains("epoch 1 after step 3") && again.ends_with("run/best.safetensors\n"), "{again}");
    assert!(fail(at, &["--resume", "run", "--epochs", "2"]).contains("cannot be used with"));
    assert!(fail(at, &["--resume", "photos"]).contains("photos is not a run folder: cannot read setup.toml"));
    let metrics = fs::read(at.join("run/metrics.jsonl")).unwrap();
    assert!(fail(at, &["--resume", "run", "--data", "nowhere"]).contains("nowhere"));
    assert_eq!(fs::read(at.join("run/metrics.jsonl")).unwrap(), metrics, "what is told stays");
    fs::remove_file(at.join("photos/train/red_thing/3.bmp")).unwrap();
    let stderr = fail(at, &["--resume", "run"]);
    assert!(stderr.contains("differ from those that the run was trained on"), "{stderr}");
    fs::remove_dir_all(at.join("run/states")).unwrap();
    fs::create_dir(at.join("run/states")).unwrap();
    assert!(fail(at, &["--resume", "run"]).contains("run has no state to resume from"));
}

/// A limit on the size of files stands for a disk that is full.
#[cfg(unix)]
#[test]
fn a_disk_that_is_full_costs_nothing_that_was_saved() {
    let folder = folder();
    let at = folder.path();
    succeed(at, &with(&["--epochs", "2", "--output", "run"]));
    let before = weights(&at.join("run"));
    // As if the second epoch had never been.
    fs::remove_file(at.join("run/states/epoch-000002-step-00000003.safetensors")).unwrap();
    let metrics = fs::read(at.join("run/metrics.jsonl")).unwrap();
    let limited = format!("trap '' XFSZ; ulimit -f 20000; exec {} --resume run", env!("CARGO_BIN_EXE_trainer"));
    let output = std::process::Command::new("bash").args(["-c", &limited]).current_dir(at).output().unwrap();
    let stderr = text(&output.stderr);
    assert!(!output.status.success(), "{stderr}");
    assert!(stderr.contains("disk is full; free some space and resume with `trainer --resume run`"), "{stderr}");
    assert!(weights(&at.join("run")) == before, "the last checkpoint is as it was");
    assert!(fs::read(at.join("run/metrics.jsonl")).unwrap().len() <= metrics.len());
    succeed(at, &["--resume", "run"]);
    assert!(weights(&at.join("run")) == before, "and what was cut short ends as it would have");
}
