//! `trainer feature-maps`: the files that it writes, their values, and its errors.

mod common;

use common::{expect_failure, expect_success};
use model::explain::{Scaling, image_grid};
use model::preprocess::{Limits, Photo};
use safetensors::SafeTensors;
use serde_json::Value;
use std::fs;
use std::path::Path;

const CHECKPOINT: &str = "resnet18-imagenette";

fn sample() -> String {
    format!("{}/../samples/palace.jpg", env!("CARGO_MANIFEST_DIR"))
}

/// Writes feature maps to `maps` in `folder`, and returns what `--json` lists.
fn feature_maps(folder: &Path, more: &[&str]) -> Value {
    let photo = sample();
    let arguments = ["feature-maps", &photo, "--checkpoint", CHECKPOINT, "--output", "maps", "--json"];
    serde_json::from_str(&expect_success(folder, &[&arguments[..], more].concat())).unwrap()
}

fn decode(path: &Path) -> Photo {
    Photo::decode(&fs::read(path).unwrap(), &Limits::default()).unwrap()
}

/// Returns the sorted names of the files in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn stem_and_stages_filters_and_activation_maps_are_written_by_default() {
    let folder = tempfile::tempdir().unwrap();
    let report = feature_maps(folder.path(), &[]);
    let files = names(&folder.path().join("maps"));
    let layers = ["layer1.png", "layer2.png", "layer3.png", "layer4.png", "stem.png"];
    assert_eq!(files.len(), 9, "{files:?}");
    assert!(files[..3].iter().enumerate().all(|(index, file)| file.starts_with(&format!("cam-{}-class", index + 1))));
    assert_eq!(files[3], "conv1.weight.png");
    assert_eq!(files[4..], layers);
    for picture in report["pictures"].as_array().unwrap() {
        let decoded = decode(&folder.path().join(picture["file"].as_str().unwrap()));
        let shape = picture["shape"].as_array().unwrap();
        if picture["content"] == "class-activation-map" {
            assert_eq!((decoded.width(), decoded.height(), shape.len()), (224, 224, 2), "{picture}");
        }
        assert!(picture["minimum"].as_f64().unwrap() < picture["maximum"].as_f64().unwrap(), "{picture}");
    }
    let stem = report["pictures"].as_array().unwrap().iter().find(|picture| picture["layer"] == "stem").unwrap();
    assert_eq!((&stem["shape"], &stem["device"]), (&serde_json::json!([64, 56, 56]), &"cpu".into()));
}

#[test]
fn pictures_show_the_values_of_any_layer() {
    let folder = tempfile::tempdir().unwrap();
    let layers = ["layer1.0.conv1", "layer2.0.downsample.1", "layer3.1", "bn1"];
    let mut arguments: Vec<&str> = layers.iter().flat_map(|layer| ["--layer", layer]).collect();
    arguments.extend(["--top-k", "1", "--values"]);
    let report = feature_maps(folder.path(), &arguments);
    let maps = folder.path().join("maps");
    assert_eq!(names(&maps).len(), 7);
    let values = fs::read(folder.path().join(report["values"].as_str().unwrap())).unwrap();
    let values = SafeTensors::deserialize(&values).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        let tensor = values.tensor(name).unwrap();
        tensor.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    assert_eq!(values.tensor("input").unwrap().shape(), [1, 3, 224, 224]);
    assert_eq!(values.tensor("logits").unwrap().shape(), [1, 10]);
    for layer in layers {
        let [_, channels, height, width] = values.tensor(layer).unwrap().shape().try_into().unwrap();
        let grid = image_grid(&floats(layer), [channels, 1, height, width], Scaling::EachImage);
        assert!(decode(&maps.join(format!("{layer}.png"))) == grid, "{layer}: the picture shows other values");
    }
    let filters = image_grid(&floats("conv1.weight"), [64, 3, 7, 7], Scaling::AllImages);
    assert!(decode(&maps.join("conv1.weight.png")) == filters, "the picture shows other filters");

    // The mean of a class activation map is the logit of its class without the bias.
    let class =
        report["pictures"].as_array().unwrap().iter().find(|picture| picture["rank"] == 1).unwrap()["index"].clone();
    let (map, logits) = (floats(&format!("cam.{class}")), floats("logits"));
    let (mean, logit) = (map.iter().sum::<f32>() / map.len() as f32, logits[class.as_u64().unwrap() as usize]);
    assert!((mean - logit).abs() < 1.0 && logits.iter().all(|other| *other <= logit), "{mean}, {logits:?}");
}

#[test]
fn invalid_arguments_are_rejected_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let photo = sample();
    let run = |photo: &str, more: &[&str]| {
        let arguments = ["feature-maps", photo, "--checkpoint", CHECKPOINT, "--output", "maps"];
        expect_failure(folder.path(), &[&arguments[..], more].concat())
    };
    let unknown = run(&photo, &["--layer", "layer1.2"]);
    assert!(unknown.contains("\"layer1.2\"") && unknown.contains("layer1.1.bn2, layer1.1, layer1"), "{unknown}");
    assert!(run("missing.jpg", &[]).contains("cannot read missing.jpg"));
    fs::write(folder.path().join("broken.jpg"), "not a photo").unwrap();
    assert!(run("broken.jpg", &[]).contains("cannot read broken.jpg"));
    assert!(!folder.path().join("maps").exists());
    fs::create_dir(folder.path().join("maps")).unwrap();
    fs::write(folder.path().join("maps/mine.png"), "").unwrap();
    assert!(run(&photo, &[]).contains("is not empty"));
}
