//! `trainer distill` with a random teacher on a few small photos.

mod common;

use common::{expect_failure, expect_success, expect_success_with_stderr, test_folder, train_arguments};
use model::architecture::Architecture;
use model::checkpoint::{Checkpoint, Metadata};
use model::random;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Saves a ResNet-18 with random weights and these classes.
fn save_teacher(file: &Path, classes: &[&str]) {
    let random = random::checkpoint(Architecture::new("resnet18", classes.len()).unwrap());
    let names = |rename: &dyn Fn(&str) -> String| classes.iter().map(|class| rename(class)).collect();
    let metadata = Metadata {
        classes: names(&str::to_owned),
        labels: names(&|class| format!("a {class}")),
        ..random.metadata().clone()
    };
    random.with_metadata(metadata).unwrap().save(file).unwrap();
}

/// Returns the folder of [`test_folder`] with `teacher.safetensors`, which has one class more than the photos, and a folder
/// `more` of four unlabelled photos and a file that is not a photo.
fn folder() -> tempfile::TempDir {
    let folder = test_folder();
    let root = folder.path();
    save_teacher(&root.join("teacher.safetensors"), &["red_thing", "blue_thing", "green_thing"]);
    fs::create_dir_all(root.join("more/inner")).unwrap();
    for (index, name) in ["a.bmp", "b.bmp", "inner/c.bmp", "inner/d.bmp"].iter().enumerate() {
        let class = ["red_thing", "green_thing"][index % 2];
        fs::copy(root.join(format!("photos/val/{class}/{index}.bmp")), root.join("more").join(name)).unwrap();
    }
    fs::write(root.join("more/broken.jpg"), "not a photo").unwrap();
    folder
}

/// Returns the arguments of a distillation of one epoch from `teacher.safetensors`.
fn distill_arguments<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["distill", "--teacher", "teacher.safetensors", "--epochs", "1"], train_arguments(more).as_slice()].concat()
}

fn weights(root: &Path, run: &str) -> BTreeMap<String, Vec<f32>> {
    Checkpoint::from_path(root.join(run).join("last.safetensors")).unwrap().into_values()
}

#[test]
fn student_is_trained_and_compared_with_its_teacher() {
    let folder = folder();
    let root = folder.path();
    let architecture = ["distill", "--teacher", "teacher.safetensors", "--epochs", "1", "--data", "photos"];
    let more = ["--architecture", "resnet18", "--image-size", "32", "--batch-size", "8", "--output", "run"];
    let (stdout, stderr) = expect_success_with_stderr(root, &[&architecture[..], &more].concat());
    assert!(stdout.trim_end().ends_with("best.safetensors"), "{stdout}");
    assert!(stderr.contains("was trained with 224 px"), "{stderr}");
    let table = &stderr[stderr.find("top-1").unwrap()..];
    assert!(stderr.contains("teacher") && stderr.contains("best") && table.contains("ratios"), "{stderr}");

    let student = Checkpoint::from_path(root.join("run/last.safetensors")).unwrap();
    let Metadata { classes, labels, provenance, recipe, .. } = student.metadata();
    assert_eq!(
        (&classes[..], &labels[..]),
        (
            &["green_thing", "red_thing"].map(str::to_owned)[..],
            &["a green_thing", "a red_thing"].map(str::to_owned)[..]
        )
    );
    assert_eq!(provenance.as_deref(), Some("trained from scratch by `trainer train`, with teacher as the teacher"));
    let recipe = recipe.as_ref().unwrap();
    assert_eq!((&recipe["distillation-temperature"], &recipe["distillation-weight"]), (&1.0.into(), &0.5.into()));
    let setup = fs::read_to_string(root.join("run/setup.toml")).unwrap();
    assert!(setup.contains("[teacher]") && setup.contains("sha256 = "), "{setup}");
    assert!(!root.join("run/teacher-logits.f32").exists(), "the images differ between epochs");
}

#[test]
fn other_recipes_get_default_keys_and_a_different_result() {
    let folder = folder();
    let root = folder.path();
    expect_success(root, &distill_arguments(&["--output", "distilled"]));
    expect_success(root, &train_arguments(&["--epochs", "1", "--output", "alone"]));
    let recipe = fs::read_to_string(root.join("distilled/recipe.toml")).unwrap();
    assert!(
        recipe.contains("distillation-temperature = 4.0") && recipe.contains("distillation-weight = 0.9"),
        "{recipe}"
    );
    assert_ne!(weights(root, "distilled"), weights(root, "alone"));
}

/// The second run has the same images, but its recipe could change them in the second epoch.
#[test]
fn stored_logits_do_not_change_the_result() {
    let folder = folder();
    let root = folder.path();
    let keys = ["crop-scale=", "crop-ratio=", "crop-padding=0", "flip=0"].map(|key| ["--set", key]).concat();
    let more = ["--unlabelled", "more", "--epochs", "2"];
    let arguments = |own: &[&'static str]| {
        let arguments = distill_arguments(&[]);
        // The number of epochs may be given once only.
        let arguments: Vec<_> =
            arguments.into_iter().filter(|&argument| argument != "--epochs" && argument != "1").collect();
        [&arguments[..], &more, &keys, own].concat()
    };
    expect_success(root, &arguments(&["--output", "stored"]));
    expect_success(root, &arguments(&["--output", "computed", "--set", "train-sizes=[[1, 32], [2, 32]]"]));
    // 25 labelled and 5 unlabelled files, and two classes.
    assert_eq!(fs::metadata(root.join("stored/teacher-logits.f32")).unwrap().len(), 30 * 2 * 4);
    assert!(!root.join("computed/teacher-logits.f32").exists());
    assert_eq!(weights(root, "stored"), weights(root, "computed"));
}

#[test]
fn unlabelled_photos_are_trained_on() {
    let folder = folder();
    let root = folder.path();
    expect_success(root, &distill_arguments(&["--unlabelled", "more", "--output", "run"]));
    let log = fs::read_to_string(root.join("run/log.txt")).unwrap();
    assert!(log.contains("25 training, 5 unlabelled and 8 validation photos"), "{log}");
    expect_success(root, &distill_arguments(&["--output", "without"]));
    assert_ne!(weights(root, "run"), weights(root, "without"));

    let error = expect_failure(root, &distill_arguments(&["--unlabelled", "photos", "--output", "none"]));
    assert!(error.contains("has a label; choose a folder without photos of --data"), "{error}");
    assert!(!root.join("none").exists());
}

#[test]
fn invalid_teachers_and_recipes_are_rejected_before_anything_is_written() {
    let folder = folder();
    let root = folder.path();
    save_teacher(&root.join("other.safetensors"), &["red_thing", "blue_thing"]);
    let with_teacher = |teacher: &'static str, more: &[&'static str]| {
        let arguments = distill_arguments(&[&["--output", "none"], more].concat());
        arguments
            .into_iter()
            .map(|argument| if argument == "teacher.safetensors" { teacher } else { argument })
            .collect()
    };
    let cases: [(Vec<&str>, &str); 5] = [
        (with_teacher("other.safetensors", &[]), "1 of the 2 classes of the photos are missing: green_thing"),
        (with_teacher("missing.safetensors", &[]), "cannot open the teacher (--teacher)"),
        (with_teacher("teacher.safetensors", &["--set", "layers=head"]), "`distillation-weight` has no effect without"),
        (
            train_arguments(&[
                "--output",
                "none",
                "--set",
                "distillation-temperature=4",
                "--set",
                "distillation-weight=1",
            ]),
            "there is no teacher; use `trainer distill --teacher CHECKPOINT`",
        ),
        (vec!["distill", "--data", "photos", "--output", "none"], "--teacher <FILE|NAME>"),
    ];
    for (arguments, expected) in cases {
        let error = expect_failure(root, &arguments);
        assert!(error.contains(expected), "{arguments:?}: {error}");
        assert!(!root.join("none").exists());
    }
}

#[test]
fn resumed_run_needs_the_same_teacher_and_photos() {
    let folder = folder();
    let root = folder.path();
    expect_success(root, &distill_arguments(&["--unlabelled", "more", "--output", "run"]));
    fs::remove_file(root.join("run/states/epoch-000001-step-00000003.safetensors")).unwrap();
    let expected = weights(root, "run");

    let teacher = root.join("teacher.safetensors");
    fs::rename(&teacher, root.join("moved.safetensors")).unwrap();
    let error = expect_failure(root, &["--resume", "run"]);
    assert!(error.contains("cannot open the teacher"), "{error}");
    save_teacher(&teacher, &["red_thing", "green_thing"]);
    let error = expect_failure(root, &["--resume", "run"]);
    assert!(error.contains("differs from the one that the run was started with"), "{error}");
    fs::rename(root.join("more/a.bmp"), root.join("more/z.bmp")).unwrap();
    let moved = ["distill", "--teacher", "moved.safetensors", "--resume", "run"];
    let error = expect_failure(root, &moved);
    assert!(error.contains("more differ from those that the run was trained on"), "{error}");
    fs::rename(root.join("more/z.bmp"), root.join("more/a.bmp")).unwrap();
    expect_success(root, &moved);
    assert_eq!(weights(root, "run"), expected);

    expect_success(root, &train_arguments(&["--epochs", "1", "--output", "alone"]));
    let error = expect_failure(root, &["distill", "--resume", "alone"]);
    assert!(error.contains("the run has no teacher"), "{error}");
}
