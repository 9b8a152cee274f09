//! `trainer bench` on small images: its output, and the arguments that it rejects.

mod common;

use common::{expect_failure, expect_success};
use serde_json::Value;
use std::fs;

#[test]
fn random_weights_have_a_text_report() {
    let folder = tempfile::tempdir().unwrap();
    let stdout = expect_success(folder.path(), &["bench", "--size", "32", "--iterations", "3"]);
    assert!(stdout.starts_with("resnet18 on cpu, f32, batch 1, 32x32\nmedian of 3 runs"), "{stdout}");
    assert!(stdout.contains("bytes to first logits"), "{stdout}");
}

#[test]
fn reports_the_logits_of_given_pixels() {
    let folder = tempfile::tempdir().unwrap();
    let image: Vec<u8> = (0..32 * 32 * 3).map(|index| (index * 7 % 256) as u8).collect();
    fs::write(folder.path().join("pixels.u8"), [image.clone(), image].concat()).unwrap();
    let bench = ["bench", "--size", "32", "--batch", "2", "--seconds", "0.05", "--json", "--pixels", "pixels.u8"];
    let report: Value = serde_json::from_str(&expect_success(folder.path(), &bench)).unwrap();

    let logits: Vec<f64> = serde_json::from_value(report["logits"].clone()).unwrap();
    let (first, second) = logits.split_at(1000);
    assert_eq!(second.len(), 1000);
    assert!(first.iter().zip(second).all(|(a, b)| (a - b).abs() < 1e-3), "both images are the same");
    let times = ["min_ms", "median_ms", "p90_ms"].map(|name| report[name].as_f64().unwrap());
    assert!(times[0] > 0.0 && times.is_sorted(), "{times:?}");
    assert!(report["runs"].as_u64().unwrap() >= 3);
    assert!(report["start_ms"]["total"].as_f64().unwrap() > 0.0);
    if cfg!(target_os = "linux") {
        let memory = &report["memory"];
        // The 11.7 million weights are in memory at least once.
        assert!(memory["peak"].as_u64() >= memory["resident"].as_u64(), "{memory}");
        assert!(memory["resident"].as_u64().unwrap() > 40_000_000, "{memory}");
    }
}

#[test]
fn rejects_invalid_arguments() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("short.u8"), "too few pixels").unwrap();
    let cases: [(&[&str], &str); 5] = [
        (&["--architecture", "vgg16"], "resnet50_v1"),
        (&["--pixels", "short.u8"], "224x224"),
        (&["--checkpoint", "nowhere.safetensors"], "nowhere.safetensors"),
        (&["--batch", "0"], "--batch"),
        (&["--seconds", "soon"], "number of seconds"),
    ];
    for (arguments, expected) in cases {
        let stderr = expect_failure(folder.path(), &[&["bench"], arguments].concat());
        assert!(stderr.contains(expected), "{arguments:?} says {stderr:?}, not {expected:?}");
    }
}
