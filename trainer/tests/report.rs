//! `trainer evaluate --report` and `trainer report`: files that agree with each other, and reports of complete, interrupted
//! and several runs.

mod common;

use common::{expect_failure, expect_success, expect_success_with_stderr, test_folder, train_arguments};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Reads a CSV file as one map per row.
fn rows(path: &Path) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    reader.deserialize().map(Result::unwrap).collect()
}

fn number(text: &str) -> f64 {
    text.parse().unwrap()
}

/// Recomputes all figures from `predictions.csv`.
#[test]
fn files_of_an_evaluation_agree_with_each_other() {
    let folder = test_folder();
    let root = folder.path();
    fs::write(root.join("photos/val/red_thing/broken.jpg"), "not a photo").unwrap();
    expect_success(root, &train_arguments(&["--epochs", "1", "--output", "run"]));
    let evaluate =
        ["evaluate", "--checkpoint", "run/best.safetensors", "--data", "photos", "--json", "--report", "out"];
    let json: Value = serde_json::from_str(&expect_success(root, &evaluate)).unwrap();

    let predictions = rows(&root.join("out/predictions.csv"));
    assert_eq!(predictions.len(), 8);
    let classes = ["green_thing", "red_thing"];
    let count = |actual: &str, predicted: &str| {
        predictions.iter().filter(|row| row["class"] == actual && row["predicted"] == predicted).count() as f64
    };
    let confusion = rows(&root.join("out/confusion.csv"));
    for (row, actual) in confusion.iter().zip(classes) {
        assert_eq!(row["actual \\ predicted"], actual);
        for predicted in classes {
            assert_eq!(number(&row[predicted]), count(actual, predicted), "{actual} as {predicted}");
        }
    }
    for (index, (row, class)) in rows(&root.join("out/classes.csv")).iter().zip(classes).enumerate() {
        let other = classes[1 - index];
        let (hits, misses, false_hits) = (count(class, class), count(class, other), count(other, class));
        assert_eq!((row["class"].as_str(), row["label"].as_str()), (class, class.replace('_', " ").as_str()));
        assert_eq!(number(&row["support"]), hits + misses);
        assert_eq!(number(&row["recall"]), hits / (hits + misses));
        let f1 = 2.0 * hits / (2.0 * hits + misses + false_hits);
        assert!((number(&row["f1"]) - f1).abs() < 1e-12 || f1.is_nan(), "{row:?}");
        assert_eq!(json["classes"][index]["recall"].as_f64().unwrap(), number(&row["recall"]));
        assert_eq!(json["confusion"][index][index].as_f64().unwrap(), hits);
    }
    let correct: f64 = predictions.iter().map(|row| number(&row["correct"])).sum();
    assert_eq!(json["top1"].as_f64().unwrap(), correct / 8.0);
    let loss: f64 = predictions.iter().map(|row| -number(&row["correct_class_probability"]).ln()).sum();
    assert!((json["loss"].as_f64().unwrap() - loss / 8.0).abs() < 1e-4, "{json}");
    for row in &predictions {
        assert!(row["file"].starts_with("photos/val") || row["file"].contains("/photos/val"), "{row:?}");
        assert!((number(&row["probability"]) + number(&row["probability_2"]) - 1.0).abs() < 1e-5, "{row:?}");
    }
    assert!(fs::read(root.join("out/confusion.png")).unwrap().starts_with(b"\x89PNG"));
    assert!(fs::read_to_string(root.join("out/confusion.svg")).unwrap().starts_with("<svg"));
    assert!(fs::read_to_string(root.join("out/report.html")).unwrap().contains("green thing"));
    // Reports of earlier evaluations are not overwritten.
    assert!(expect_failure(root, &evaluate).contains("out is not empty"));
}

#[test]
fn runs_have_reports() {
    let folder = test_folder();
    let root = folder.path();
    let (stdout, stderr) = expect_success_with_stderr(root, &train_arguments(&["--epochs", "2", "--output", "run"]));
    assert!(stderr.contains("wrote run/report.html"), "{stderr}");
    assert_eq!(stdout.lines().last(), Some("run/best.safetensors"));
    let page = fs::read_to_string(root.join("run/report.html")).unwrap();
    assert!(page.contains("data:image/jpeg") && page.contains("--recipe finetune"));

    let (stdout, stderr) =
        expect_success_with_stderr(root, &["report", "run", "--no-photos", "--output", "small.html"]);
    assert!(stdout.is_empty() && stderr.ends_with("wrote small.html\n"), "{stdout}{stderr}");
    let small = fs::read_to_string(root.join("small.html")).unwrap();
    assert!(!small.contains("data:image/jpeg") && small.len() < page.len());

    expect_success(root, &train_arguments(&["--epochs", "1", "--output", "other", "--no-photos", "--seed", "1"]));
    assert!(!fs::read_to_string(root.join("other/report.html")).unwrap().contains("data:image/jpeg"));
    assert!(expect_failure(root, &["report", "run", "other"]).contains("--output FILE is required"));
    expect_success(root, &["report", "run", "other", "--output", "both.html"]);
    let both = fs::read_to_string(root.join("both.html")).unwrap();
    assert!(both.contains("seed") && both.contains("other"), "the recipes differ in their seeds");
    assert!(expect_failure(root, &["report", "photos"]).contains("photos is not a run folder"));
}

/// A run without a checkpoint, and a run whose photos are gone, have reports that say what is missing.
#[test]
fn reports_of_incomplete_runs_say_what_is_missing() {
    let folder = test_folder();
    let root = folder.path();
    expect_success(root, &train_arguments(&["--epochs", "1", "--output", "run"]));
    fs::remove_file(root.join("run/report.html")).unwrap();
    // As if the run had been killed while it wrote its first record.
    fs::copy(root.join("run/best.safetensors"), root.join("best.safetensors")).unwrap();
    fs::remove_file(root.join("run/best.safetensors")).unwrap();
    fs::write(root.join("run/metrics.jsonl"), "{\"kind\":\"st").unwrap();
    expect_success(root, &["report", "run"]);
    let page = fs::read_to_string(root.join("run/report.html")).unwrap();
    assert!(page.contains("best.safetensors does not exist"));

    fs::rename(root.join("best.safetensors"), root.join("run/best.safetensors")).unwrap();
    fs::rename(root.join("photos"), root.join("moved")).unwrap();
    expect_success(root, &["report", "run"]);
    assert!(fs::read_to_string(root.join("run/report.html")).unwrap().contains("was not evaluated"));
    expect_success(root, &["report", "run", "--data", "moved"]);
    assert!(!fs::read_to_string(root.join("run/report.html")).unwrap().contains("was not evaluated"));
}
