//! `trainer --resume` after a run was killed or its disk was full: the resumed run must end like an uninterrupted one.

mod common;

use common::{command, expect_failure, expect_success, json_lines, test_folder, text, train_arguments};
use model::checkpoint::{Checkpoint, Metadata};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Instant;

/// Arguments of a run whose states contain momentum, an EMA and positions within epochs.
const ARGUMENTS: [&str; 6] = ["--epochs", "2", "--set", "ema-decay=0.5", "--save-every", "0.005"];

/// Returns the tensors of a run's last checkpoint.
fn weights(run: &Path) -> BTreeMap<String, Vec<f32>> {
    Checkpoint::from_path(run.join("last.safetensors")).unwrap().into_values()
}

/// Asserts that the last checkpoints of two runs hold identical values.
fn assert_same_weights(actual: &Path, expected: &Path) {
    let (actual, expected) = (weights(actual), weights(expected));
    let different: Vec<_> =
        expected.iter().filter(|(name, values)| actual[*name] != **values).map(|(name, _)| name).collect();
    assert!(different.is_empty(), "{} of {} tensors differ: {different:?}", different.len(), expected.len());
}

/// Returns how many times a run is killed and resumed: the value of `SHORTCUT_KILLS`, by default 3.
fn kills() -> u32 {
    std::env::var("SHORTCUT_KILLS").map_or(3, |count| count.parse().expect("SHORTCUT_KILLS is a number"))
}

/// Trains on `data` with `more` arguments, kills the run after various times and resumes it, until it has been killed
/// `kills` times after its first state. Asserts that the resumed run ends with the weights and metrics of an
/// uninterrupted one.
fn kill_and_resume(root: &Path, data: &str, more: &[&str], kills: u32) {
    let sub_command = if more.contains(&"--teacher") { "distill" } else { "train" };
    let arguments_for = |output: &str| {
        let arguments = train_arguments(&[more, &["--output", output]].concat());
        let arguments = std::iter::once(sub_command).chain(arguments);
        let with_data = arguments.map(|argument| if argument == "photos" { data } else { argument });
        with_data.map(str::to_owned).collect::<Vec<String>>()
    };
    let start = Instant::now();
    let arguments = arguments_for("uninterrupted");
    expect_success(root, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let duration = start.elapsed();

    let output = root.join("killed");
    let from_scratch = arguments_for("killed");
    let resume = ["--resume", "killed", "--save-every", "0.005"].map(str::to_owned).to_vec();
    let (mut arguments, mut killed, mut attempts) = (from_scratch.clone(), 0, 0);
    while killed < kills {
        let borrowed: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut child = command(root, &borrowed).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        attempts += 1;
        assert!(attempts <= 10 * (kills + 1), "only {killed} of {attempts} runs were killed after their first state");
        // Vary the time between 1/24 and 11/24 of the uninterrupted run's, starting with 8/24.
        sleep(duration * (1 + attempts * 7 % 11) / 24);
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            // The run finished before it was killed. Check its result, and start another one.
            assert_same_weights(&output, &root.join("uninterrupted"));
            fs::remove_dir_all(&output).unwrap();
            arguments = from_scratch.clone();
            continue;
        }
        // States that are still being written are hidden files.
        let is_state = |name: &str| !name.starts_with('.');
        let has_state = fs::read_dir(output.join("states"))
            .is_ok_and(|mut states| states.any(|entry| is_state(&entry.unwrap().file_name().to_string_lossy())));
        // A run that was killed before its first state cannot be resumed; start it again.
        if has_state {
            killed += 1;
            arguments = resume.clone();
        } else {
            fs::remove_dir_all(&output).ok();
            arguments = from_scratch.clone();
        }
    }
    expect_success(root, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_same_weights(&output, &root.join("uninterrupted"));
    let mut names = fs::read_dir(output.join("states")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.all(|name| !name.to_string_lossy().ends_with(".partial")), "partially written files are removed");

    let epochs = |run: &str| -> Vec<_> {
        let records = json_lines(&root.join(run).join("metrics.jsonl"));
        let epochs = records.into_iter().filter(|record| record["kind"] == "epoch");
        let fields = |record: Value| ["epoch", "val", "skipped", "best"].map(|key| record[key].clone());
        epochs.map(fields).collect()
    };
    assert_eq!(epochs("killed"), epochs("uninterrupted"), "each epoch is recorded once");
}

#[test]
fn killed_and_resumed_run_is_bit_identical() {
    kill_and_resume(test_folder().path(), "photos", &ARGUMENTS, kills());
}

/// Burn's devices keep the metrics of a step until the next one is submitted.
#[test]
fn resumed_run_with_burn_is_bit_identical() {
    let folder = test_folder();
    kill_and_resume(folder.path(), "photos", &[&ARGUMENTS[..], &["--device", "flex"]].concat(), 1);
}

#[test]
fn resumed_run_on_shards_with_random_augmentation_is_bit_identical() {
    let folder = test_folder();
    expect_success(folder.path(), &["pack", "--data", "photos", "--output", "shards"]);
    let keys = ["mixup-alpha=0.2", "random-erasing=0.5", "color-jitter=[0.2, 0.2, 0.2, 0.1]", "accumulate=2"];
    let keys = keys.iter().flat_map(|key| ["--set", key]);
    let more = ["--epochs", "2", "--replicas", "2", "--precision", "f16", "--save-every", "0.005"];
    kill_and_resume(folder.path(), "shards", &more.into_iter().chain(keys).collect::<Vec<_>>(), 1);
}

#[test]
fn resumed_distillation_is_bit_identical() {
    let folder = test_folder();
    let root = folder.path();
    let teacher = Checkpoint::from_path(root.join("start.safetensors")).unwrap();
    let classes = ["green_thing", "other", "red_thing"].map(str::to_owned).to_vec();
    let metadata = Metadata { classes, ..teacher.metadata().clone() };
    teacher.with_metadata(metadata).unwrap().save(root.join("teacher.safetensors")).unwrap();
    fs::create_dir(root.join("more")).unwrap();
    for index in 0..4 {
        let photo = format!("{index}.bmp");
        fs::copy(root.join("photos/val/red_thing").join(&photo), root.join("more").join(&photo)).unwrap();
    }
    let distillation = ["--teacher", "teacher.safetensors", "--unlabelled", "more"];
    let mixed = ["--set", "mixup-alpha=0.2", "--set", "random-erasing=0.5", "--replicas", "2"];
    kill_and_resume(root, "photos", &[&ARGUMENTS[..], &distillation, &mixed].concat(), 1);
    for run in ["killed", "uninterrupted"] {
        fs::remove_dir_all(root.join(run)).unwrap();
    }
    // The logits of the teacher are stored.
    let fixed = ["crop-scale=", "crop-ratio=", "crop-padding=0", "flip=0"].map(|key| ["--set", key]).concat();
    kill_and_resume(root, "photos", &[&ARGUMENTS[..], &distillation, &fixed].concat(), 1);
}

#[test]
fn resumed_run_with_replicas_and_adamw_is_bit_identical() {
    let folder = test_folder();
    let root = folder.path();
    let recipe = ["--epochs", "2", "--set", "optimiser=adamw", "--set", "momentum=", "--set", "nesterov="];
    let more = ["--replicas", "2", "--set", "learning-rate=0.001", "--output", "uninterrupted"];
    expect_success(root, &train_arguments(&[&recipe[..], &more].concat()));
    let copy = root.join("copy");
    let run = root.join("uninterrupted");
    fs::create_dir_all(copy.join("states")).unwrap();
    for file in ["recipe.toml", "setup.toml", "log.txt", "metrics.jsonl"] {
        fs::copy(run.join(file), copy.join(file)).unwrap();
    }
    // Copy only the state after the first epoch; a later one is unreadable.
    let state = "states/epoch-000001-step-00000003.safetensors";
    fs::copy(run.join(state), copy.join(state)).unwrap();
    fs::write(copy.join("states/epoch-000001-step-00000009.safetensors"), "truncated state").unwrap();
    let stdout = expect_success(root, &["--resume", "copy"]);
    assert!(stdout.contains("resuming copy in epoch 1 after step 3"), "{stdout}");
    assert_same_weights(&copy, &run);
    let log = fs::read_to_string(copy.join("log.txt")).unwrap();
    assert!(log.contains("ignored unreadable state: ") && log.contains("is not a training state"), "{log}");
}

#[test]
fn rejects_runs_that_cannot_be_resumed() {
    let folder = test_folder();
    let root = folder.path();
    expect_success(root, &train_arguments(&["--epochs", "1", "--output", "run"]));
    let again = expect_success(root, &["--resume", "run"]);
    assert!(again.contains("epoch 1 after step 3") && again.ends_with("run/best.safetensors\n"), "{again}");
    assert!(expect_failure(root, &["--resume", "run", "--epochs", "2"]).contains("cannot be used with"));
    assert!(
        expect_failure(root, &["--resume", "photos"]).contains("photos is not a run folder: cannot read setup.toml")
    );
    let metrics = fs::read(root.join("run/metrics.jsonl")).unwrap();
    assert!(expect_failure(root, &["--resume", "run", "--data", "nowhere"]).contains("nowhere"));
    assert_eq!(
        fs::read(root.join("run/metrics.jsonl")).unwrap(),
        metrics,
        "a failed resume does not change the metrics"
    );
    fs::remove_file(root.join("photos/train/red_thing/3.bmp")).unwrap();
    let stderr = expect_failure(root, &["--resume", "run"]);
    assert!(stderr.contains("differ from those that the run was trained on"), "{stderr}");
    fs::remove_dir_all(root.join("run/states")).unwrap();
    fs::create_dir(root.join("run/states")).unwrap();
    assert!(expect_failure(root, &["--resume", "run"]).contains("run has no state to resume from"));
}

/// Simulates a full disk by a limit on the size of files.
#[cfg(unix)]
#[test]
fn full_disk_does_not_damage_saved_files() {
    let folder = test_folder();
    let root = folder.path();
    expect_success(root, &train_arguments(&["--epochs", "2", "--output", "run"]));
    let before = weights(&root.join("run"));
    // Remove the state after the second epoch, so that the run is resumed after the first.
    fs::remove_file(root.join("run/states/epoch-000002-step-00000003.safetensors")).unwrap();
    let metrics = fs::read(root.join("run/metrics.jsonl")).unwrap();
    // The limit of 20 MB is below the size of a state. Ignoring SIGXFSZ turns exceeding it into an error.
    let limited = format!("trap '' XFSZ; ulimit -f 20000; exec {} --resume run", env!("CARGO_BIN_EXE_trainer"));
    let output = std::process::Command::new("bash").args(["-c", &limited]).current_dir(root).output().unwrap();
    let stderr = text(&output.stderr);
    assert!(!output.status.success(), "{stderr}");
    assert!(stderr.contains("disk is full; free some space and resume with `trainer --resume run`"), "{stderr}");
    assert!(weights(&root.join("run")) == before, "the last checkpoint is unchanged");
    assert!(fs::read(root.join("run/metrics.jsonl")).unwrap().len() <= metrics.len());
    expect_success(root, &["--resume", "run"]);
    assert!(weights(&root.join("run")) == before, "the resumed run ends with the same weights");
}
