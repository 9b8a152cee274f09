//! Trainings that are killed or interrupted, and go on.

mod common;

use common::{command, fail, folder, lines, succeed, text, with};
use model::checkpoint::Checkpoint;
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

#[test]
fn a_training_that_is_killed_ends_with_the_weights_of_one_that_is_not() {
    let folder = folder();
    let at = folder.path();
    let begun = Instant::now();
    succeed(at, &with(&[&RECIPE[..], &["--output", "whole"]].concat()));
    let whole = begun.elapsed();

    // At moments spread over all of a run, in an order that is not theirs.
    let (kills, mut landed) = (kills(), 0);
    let output = at.join("killed");
    let mut arguments = with(&[&RECIPE[..], &["--output", "killed"]].concat());
    for kill in 0..kills {
        let mut child = command(at, &arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        sleep(whole * (1 + kill * 7 % kills) / (kills + 1) / 2);
        child.kill().unwrap();
        landed += u32::from(!child.wait().unwrap().success());
        // Killed before the first state there is nothing to go on from, and nothing lost.
        let states = fs::read_dir(output.join("states"));
        let is_state = |name: &str| !name.starts_with('.');
        let has_state = states.is_ok_and(|states| {
            states.into_iter().any(|entry| is_state(&entry.unwrap().file_name().to_string_lossy()))
        });
        if has_state {
            arguments = vec!["--resume", "killed", "--save-every", "0.005", "--device", "cpu"];
        } else {
            fs::remove_dir_all(&output).ok();
        }
    }
    assert!(landed > 0, "every training ended before it was killed");
    succeed(at, &arguments);
    assert_same(&output, &at.join("whole"));

    let epochs = |run: &str| -> Vec<_> {
        let records = lines(&at.join(run).join("metrics.jsonl"));
        let epochs = records.into_iter().filter(|record| record["kind"] == "epoch");
        epochs.map(|record| (record["epoch"].clone(), record["val"].clone(), record["train"]["loss"].clone())).collect()
    };
    assert_eq!(epochs("killed"), epochs("whole"), "each epoch is told once, and as if nothing had happened");
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
    assert!(said.contains("copy goes on in epoch 1 after step 3"), "{said}");
    assert_same(&copy, &run);
    let log = fs::read_to_string(copy.join("log.txt")).unwrap();
    assert!(log.contains("left aside: ") && log.contains("is no state of a training"), "{log}");
}

#[test]
fn what_cannot_go_on_is_said() {
    let folder = folder();
    let at = folder.path();
    succeed(at, &with(&["--epochs", "1", "--output", "run"]));
    let again = succeed(at, &["--resume", "run"]);
    assert!(again.contains("epoch 1 after step 3") && again.ends_with("run/best.safetensors\n"), "{again}");
    assert!(fail(at, &["--resume", "run", "--epochs", "2"]).contains("cannot be used with"));
    assert!(fail(at, &["--resume", "photos"]).contains("photos/setup.toml cannot be read"));
    fs::remove_file(at.join("photos/train/red_thing/3.bmp")).unwrap();
    let stderr = fail(at, &["--resume", "run"]);
    assert!(
        stderr.contains("25 photos to train on and 8 to validate with were there, and 2, 24 and 8 are now"),
        "{stderr}"
    );
    fs::remove_dir_all(at.join("run/states")).unwrap();
    fs::create_dir(at.join("run/states")).unwrap();
    assert!(fail(at, &["--resume", "run"]).contains("run holds no state to go on from"));
}

/// A limit on the size of files stands for a disk that is full.
#[cfg(unix)]
#[test]
fn a_disk_that_is_full_costs_nothing_that_was_saved() {
    let folder = folder();
    let at = folder.path();
    succeed(at, &with(&["--epochs", "2", "--output", "whole"]));
    succeed(at, &with(&["--epochs", "1", "--output", "run"]));
    let before = weights(&at.join("run"));
    let limited = format!(
        "trap '' XFSZ; ulimit -f 20000; exec {} {}",
        env!("CARGO_BIN_EXE_trainer"),
        with(&["--epochs", "2", "--output", "full"]).join(" ")
    );
    let output = std::process::Command::new("bash").args(["-c", &limited]).current_dir(at).output().unwrap();
    let stderr = text(&output.stderr);
    assert!(!output.status.success() && stderr.contains("states/epoch-000001-step-00000000.safetensors"), "{stderr}");
    assert!(stderr.contains("cannot be written"), "{stderr}");
    let names = fs::read_dir(at.join("full/states")).unwrap().count();
    assert_eq!(names, 0, "no half of a state stays");
    assert!(weights(&at.join("run")) == before);
}
