//! `trainer compare` with random weights on a few small photos.

mod common;

use common::{expect_failure, expect_success, expect_success_with_stderr, test_folder};
use model::architecture::Architecture;
use model::checkpoint::Checkpoint;
use model::random;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const PHOTOS: usize = 8;

/// Saves a ResNet-18 with these classes, whose classifier has been changed by `change`: it gets the weights
/// `[class][feature]` and the biases.
fn save(file: &Path, classes: [&str; 2], change: impl Fn(&mut Vec<Vec<f32>>, &mut Vec<f32>)) {
    let random = random::checkpoint(Architecture::new("resnet18", 2).unwrap());
    let mut metadata = random.metadata().clone();
    metadata.classes = classes.map(str::to_owned).to_vec();
    metadata.labels = classes.map(|class| class.replace('_', " ")).to_vec();
    let mut tensors: BTreeMap<_, _> = random.into_values();
    let weights = &tensors["fc.weight"];
    let mut rows: Vec<Vec<f32>> = weights.chunks_exact(weights.len() / 2).map(<[f32]>::to_vec).collect();
    change(&mut rows, tensors.get_mut("fc.bias").unwrap());
    tensors.insert("fc.weight".to_owned(), rows.concat());
    Checkpoint::new(metadata, tensors).unwrap().save(file).unwrap();
}

/// Returns a folder with photos and three checkpoints: `first`, `swapped`, which is the same network with its classes in
/// another order, and `opposite`, whose logits have the opposite signs. Two validation photos cannot be decoded.
fn folder() -> tempfile::TempDir {
    let folder = test_folder();
    let root = folder.path();
    let classes = ["green_thing", "red_thing"];
    save(&root.join("first.safetensors"), classes, |_, _| ());
    save(&root.join("swapped.safetensors"), [classes[1], classes[0]], |weights, biases| {
        weights.reverse();
        biases.reverse();
    });
    save(&root.join("opposite.safetensors"), classes, |weights, biases| {
        weights.iter_mut().flatten().chain(biases).for_each(|value| *value = -*value);
    });
    fs::write(root.join("photos/val/red_thing/broken.jpg"), "not a photo").unwrap();
    fs::write(root.join("photos/val/green_thing/empty.png"), "").unwrap();
    folder
}

fn compare(root: &Path, more: &[&str]) -> Value {
    let arguments = [&["compare", "--data", "photos", "--json"], more].concat();
    serde_json::from_str(&expect_success(root, &arguments)).unwrap()
}

#[test]
fn order_of_the_classes_does_not_matter() {
    let folder = folder();
    let result = compare(folder.path(), &["first.safetensors", "swapped.safetensors", "--skip-timing"]);
    assert_eq!((&result["photos"], &result["skipped"]), (&PHOTOS.into(), &2.into()));
    assert_eq!(result["skipped_files"].as_array().unwrap().len(), 2);
    assert_eq!(result["disagreements"], serde_json::json!([]));
    let [first, swapped] = [0, 1].map(|index| &result["checkpoints"][index]);
    assert_eq!(first["metrics"]["top1"], swapped["metrics"]["top1"]);
    assert!(first["versus_first"].is_null());
    let versus = &swapped["versus_first"];
    assert_eq!(versus["same_class"], PHOTOS);
    assert_eq!(versus["mcnemar_p"], 1.0);
    let zero = serde_json::json!({ "value": 0.0, "low": 0.0, "high": 0.0, "excludes_zero": false });
    assert_eq!(versus["difference"]["top1"], zero);
    let loss = versus["difference"]["loss"]["value"].as_f64().unwrap();
    assert!(loss.abs() < 1e-6, "{loss}");
    assert_eq!((&result["timings"], &result["device"]), (&serde_json::json!([]), &"cpu".into()));
}

#[test]
fn opposite_networks_disagree_on_every_photo() {
    let folder = folder();
    let arguments = ["first.safetensors", "opposite.safetensors", "swapped.safetensors", "--skip-timing"];
    let result = compare(folder.path(), &arguments);
    let [first, opposite] = [0, 1].map(|index| &result["checkpoints"][index]);
    let top1 = |checkpoint: &Value| checkpoint["metrics"]["top1"]["value"].as_f64().unwrap();
    assert!((top1(first) + top1(opposite) - 1.0).abs() < 1e-9, "{} {}", top1(first), top1(opposite));
    assert_eq!(opposite["metrics"]["top5"]["value"], 1.0, "there are only two classes");
    let versus = &opposite["versus_first"];
    let counts = ["both_correct", "both_wrong", "same_class"].map(|name| versus[name].as_u64());
    assert_eq!(counts, [Some(0); 3]);
    let alone = ["only_first_correct", "only_this_correct"].map(|name| versus[name].as_u64().unwrap());
    assert_eq!(alone.iter().sum::<u64>(), PHOTOS as u64);
    assert!((alone[0] as f64 / PHOTOS as f64 - top1(first)).abs() < 1e-9);

    let disagreements = result["disagreements"].as_array().unwrap();
    assert_eq!(disagreements.len(), PHOTOS);
    for disagreement in disagreements {
        let correct: Vec<_> =
            (0..3).map(|index| disagreement["predictions"][index]["correct"].as_bool().unwrap()).collect();
        assert_eq!([correct[0], correct[2]], [!correct[1], !correct[1]]);
        let class = disagreement["class"].as_str().unwrap();
        assert!(disagreement["file"].as_str().unwrap().contains(class), "{disagreement}");
        assert_eq!(disagreement["label"], class.replace('_', " "));
    }
    for class in result["classes"].as_array().unwrap() {
        assert_eq!(class["support"], 4);
        let recall: Vec<f64> = serde_json::from_value(class["recall"].clone()).unwrap();
        assert!((recall[0] + recall[1] - 1.0).abs() < 1e-9 && recall[0] == recall[2], "{recall:?}");
    }
}

#[test]
fn prints_tables_and_writes_a_page() {
    let folder = folder();
    let root = folder.path();
    let arguments = ["compare", "first.safetensors", "opposite.safetensors", "swapped.safetensors", "--data", "photos"];
    let options = ["--report", "page.html", "--disagreements", "3"];
    let (stdout, stderr) = expect_success_with_stderr(root, &[&arguments[..], &options].concat());
    for part in ["top-1 difference", "only this correct", "cpu, batch 1", "cpu, batch 8", "8 photos, 2 skipped"] {
        assert!(stdout.contains(part), "{part} is missing:\n{stdout}");
    }
    assert!(stdout.contains("classify differently: 8 (3 shown; --json lists all)"), "{stdout}");
    let widest = stdout.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(100), "{widest:?}:\n{stdout}");
    assert!(stderr.contains("note: skipped photos/val/red_thing/broken.jpg"), "{stderr}");

    let page = fs::read_to_string(root.join("page.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("red thing"), "{page}");
    assert_eq!(page.matches("src=\"data:image/jpeg;base64,").count(), PHOTOS);
    assert!(!page.contains("http:") && !page.contains("https:"), "the page needs no network");
    expect_success(root, &[&arguments[..], &["--report", "page.html", "--no-photos", "--skip-timing"]].concat());
    let page = fs::read_to_string(root.join("page.html")).unwrap();
    assert!(!page.contains("<img") && page.contains("val/red_thing/0.bmp"), "{page}");
}

#[test]
fn invalid_arguments_are_reported_before_photos_are_classified() {
    let folder = folder();
    let root = folder.path();
    let cases: [(&[&str], &str); 6] = [
        (&["first.safetensors"], "2 values required"),
        (&["first.safetensors", "first.safetensors"], "first.safetensors is given twice"),
        (&["first.safetensors", "nowhere"], "nowhere: no such file"),
        (&["first.safetensors", "start.safetensors"], "start lacks the 2 classes green_thing, red_thing of first"),
        (&["first.safetensors", "opposite.safetensors", "--report", "none/page.html"], "folder none does not exist"),
        (&["first.safetensors", "opposite.safetensors", "--no-photos"], "--report"),
    ];
    for (arguments, expected) in cases {
        let stderr = expect_failure(root, &[&["compare", "--data", "photos"], arguments].concat());
        assert!(stderr.contains(expected), "{arguments:?} says {stderr:?}, not {expected:?}");
        assert!(!stderr.contains("classifying"), "{stderr}");
    }
}
