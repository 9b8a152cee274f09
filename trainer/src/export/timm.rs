//! Folders that timm loads as `local-dir:PATH` or, after an upload, as `hf-hub:OWNER/NAME`.

use anyhow::{Context, Result};
use model::checkpoint::{Checkpoint, Metadata, write_atomically};
use model::preprocess::{Interpolation, Preprocessing};
use serde_json::{Value, json};
use std::path::Path;

/// File name of the weights in a folder.
const WEIGHTS: &str = "model.safetensors";

/// Writes the weights and timm's configuration to an existing folder. timm has the architectures of this crate under the
/// same names.
///
/// # Errors
/// Returns an error if a file cannot be written.
pub fn write_timm(checkpoint: &Checkpoint, folder: &Path) -> Result<()> {
    checkpoint.save(folder.join(WEIGHTS))?;
    let config = serde_json::to_string_pretty(&config(checkpoint.metadata()))?;
    let path = folder.join("config.json");
    write_atomically(&path, (config + "\n").as_bytes()).with_context(|| path.display().to_string())
}

/// Returns the content of `config.json`.
fn config(metadata: &Metadata) -> Value {
    let architecture = metadata.architecture;
    let Preprocessing { crop, interpolation, mean, std, .. } = metadata.preprocessing;
    let interpolation = match interpolation {
        Interpolation::Bilinear => "bilinear",
        Interpolation::Bicubic => "bicubic",
    };
    json!({
        "architecture": architecture.name(),
        "num_classes": architecture.classes,
        "num_features": architecture.features(),
        "label_names": metadata.classes,
        "label_descriptions": metadata.classes.iter().zip(&metadata.labels).collect::<std::collections::BTreeMap<_, _>>(),
        "pretrained_cfg": {
            "tag": "shortcut",
            "custom_load": false,
            "input_size": [3, crop, crop],
            "fixed_input_size": false,
            "interpolation": interpolation,
            "crop_pct": crop_fraction(&metadata.preprocessing),
            "crop_mode": "center",
            "mean": decimals(mean),
            "std": decimals(std),
            "num_classes": architecture.classes,
            "pool_size": [7, 7],
            "first_conv": "conv1",
            "classifier": "fc",
        }
    })
}

/// Returns the fraction of the resized short side that is cropped, such that timm, which rounds the quotient down, computes
/// the same short side.
fn crop_fraction(preprocessing: &Preprocessing) -> f64 {
    let [crop, resize] = [preprocessing.crop, preprocessing.resize].map(f64::from);
    let exact = crop / resize;
    if (crop / exact).floor() == resize { exact } else { crop / (resize + 0.5) }
}

/// Returns the shortest decimals that stand for these numbers, rather than the digits of the nearest f64.
fn decimals(values: [f32; 3]) -> [f64; 3] {
    values.map(|value| value.to_string().parse().expect("a float is printed as a number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::architecture::Architecture;

    #[test]
    fn configuration_describes_network_and_preprocessing() {
        let mut metadata = Metadata::new(Architecture::new("resnext50_32x4d", 2).unwrap());
        metadata.labels = vec!["ant".to_owned(), "bee".to_owned()];
        let config = config(&metadata);
        assert_eq!(config["architecture"], "resnext50_32x4d");
        assert_eq!(config["num_features"], 2048);
        assert_eq!(config["label_descriptions"]["1"], "bee");
        let pretrained = &config["pretrained_cfg"];
        assert_eq!(pretrained["mean"], json!([0.485, 0.456, 0.406]));
        assert_eq!(pretrained["crop_pct"], 0.875);
        assert_eq!(pretrained["input_size"], json!([3, 224, 224]));
    }

    #[test]
    fn timm_computes_the_same_short_side_from_every_fraction() {
        for resize in 1..=600u32 {
            for crop in [1, resize.div_ceil(3), resize.saturating_sub(24).max(1), resize] {
                let preprocessing = Preprocessing { resize, crop, ..Preprocessing::default() };
                let short_side = (f64::from(crop) / crop_fraction(&preprocessing)).floor();
                assert_eq!(short_side, f64::from(resize), "crop {crop}");
            }
        }
    }
}
