//! timm's `config.json`, which accompanies its weights: architecture, preprocessing, classes.
//!
//! timm's plain ResNets have torchvision's tensors. Some of its variants have the same tensors but compute something
//! else (`resnetaa50` blurs activations before it reduces their resolution, which needs no weights), so that only the
//! name of the architecture tells them apart.

use super::imagenet;
use anyhow::{Context, Result, bail, ensure};
use model::architecture::Architecture;
use model::checkpoint::Metadata;
use model::preprocess::{Interpolation, Preprocessing};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The relevant keys of the file. Every key is optional.
#[derive(Debug, Default, Deserialize)]
pub struct TimmConfig {
    /// timm's name of the architecture.
    architecture: Option<String>,
    /// Arguments of the network's constructor that differ from its defaults.
    model_args: Option<Map<String, Value>>,
    /// Kind of global pooling.
    global_pool: Option<String>,
    #[serde(flatten)]
    names: LabelFields,
    pretrained_cfg: Option<PretrainedConfig>,
    /// Before timm 0.9, the keys of `pretrained_cfg` were at the top level.
    #[serde(flatten)]
    top_level: PretrainedConfig,
}

/// Names of the classes, at the top level or in `pretrained_cfg`.
#[derive(Clone, Debug, Default, Deserialize)]
struct LabelFields {
    #[serde(alias = "labels")]
    label_names: Option<LabelNames>,
    /// Readable names, by label name.
    label_descriptions: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum LabelNames {
    List(Vec<String>),
    /// Indices are strings, as all keys of JSON objects.
    ByIndex(BTreeMap<String, String>),
}

#[derive(Clone, Debug, Default, Deserialize)]
struct PretrainedConfig {
    #[serde(flatten)]
    names: LabelFields,
    /// `[channels, height, width]`
    input_size: Option<[u32; 3]>,
    crop_pct: Option<f64>,
    crop_mode: Option<String>,
    interpolation: Option<String>,
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
    license: Option<String>,
}

/// Constructor arguments that the tensors determine, or that matter only during training.
const IGNORED_ARGUMENTS: [&str; 6] =
    ["num_classes", "in_chans", "drop_rate", "drop_path_rate", "drop_block_rate", "zero_init_last"];

impl TimmConfig {
    /// Parses a `config.json`.
    ///
    /// # Errors
    /// Returns an error if it is not valid JSON, or if a key has another type than in timm.
    pub fn parse(json: &str) -> Result<Self> {
        serde_json::from_str(json).context("not a configuration written by timm")
    }

    /// Returns the name of the architecture, if the file has one.
    ///
    /// # Errors
    /// Returns an error if the network is not one of torchvision's ResNets.
    pub fn architecture(&self) -> Result<Option<&str>> {
        let Some(name) = self.architecture.as_deref() else { return Ok(None) };
        let is_plain =
            Architecture::new(name, 1).is_ok_and(|architecture| architecture.name() == architecture.variant.name);
        ensure!(
            is_plain,
            "timm's {name} is not one of torchvision's ResNets, even if its tensors are the same; supported: {}",
            Architecture::names().into_iter().filter(|name| !name.ends_with("_v1")).collect::<Vec<_>>().join(", ")
        );
        let pool = self.global_pool.clone().map(|pool| ("global_pool".to_owned(), Value::from(pool)));
        for (argument, value) in self.model_args.clone().into_iter().flatten().chain(pool) {
            let is_default = argument == "global_pool" && value == "avg";
            if !is_default && !IGNORED_ARGUMENTS.contains(&argument.as_str()) {
                bail!("{name} with {argument} = {value} is not supported");
            }
        }
        Ok(Some(name))
    }

    /// Returns the license of the weights, if the file names one.
    pub fn license(&self) -> Option<&str> {
        self.pretrained().license.as_deref()
    }

    fn pretrained(&self) -> &PretrainedConfig {
        self.pretrained_cfg.as_ref().unwrap_or(&self.top_level)
    }

    /// Sets preprocessing, classes and labels. Without label names, 1000 classes are assumed to be ImageNet's, as in
    /// timm.
    ///
    /// # Errors
    /// Returns an error if the number of label names is wrong, or if the preprocessing is not supported.
    pub fn apply_to(&self, metadata: &mut Metadata) -> Result<()> {
        metadata.preprocessing = self.preprocessing()?;
        let expected = metadata.architecture.classes;
        let LabelFields { label_names, label_descriptions } = match &self.names.label_names {
            Some(_) => &self.names,
            None => &self.pretrained().names,
        };
        if let Some(names) = label_names {
            let names = match names.clone() {
                LabelNames::List(names) => names,
                // timm allows gaps; a class without a name gets its index.
                LabelNames::ByIndex(mut names) => (0..expected)
                    .map(|index| index.to_string())
                    .map(|index| names.remove(&index).unwrap_or(index))
                    .collect(),
            };
            let found = names.len();
            ensure!(found == expected, "{found} label names for {expected} classes");
            let descriptions = label_descriptions.as_ref();
            let readable = |name: &String| descriptions.and_then(|all| all.get(name)).unwrap_or(name).clone();
            metadata.labels = names.iter().map(readable).collect();
            metadata.classes = names;
        } else if expected == imagenet::CLASSES {
            (metadata.classes, metadata.labels) = imagenet::names();
        }
        Ok(())
    }

    /// Returns the preprocessing of timm's evaluation transforms: the short side is `crop / crop_pct`, rounded down.
    fn preprocessing(&self) -> Result<Preprocessing> {
        /// timm's default.
        const CROP_PCT: f64 = 0.875;
        let PretrainedConfig { input_size, crop_pct, crop_mode, interpolation, mean, std, .. } = self.pretrained();
        let default = Preprocessing::default();
        let [channels, height, crop] = input_size.unwrap_or([3, default.crop, default.crop]);
        ensure!(channels == 3 && height == crop, "input_size is {channels}x{height}x{crop}, expected 3xNxN");
        let crop_pct = crop_pct.unwrap_or(CROP_PCT);
        ensure!(crop_pct > 0.0 && crop_pct <= 1.0, "crop_pct is {crop_pct}, expected above 0 and at most 1");
        let mode = crop_mode.as_deref().unwrap_or("center");
        ensure!(mode == "center", "crop_mode {mode:?} is not supported, only \"center\"");
        let preprocessing = Preprocessing {
            resize: (f64::from(crop) / crop_pct).floor() as u32,
            crop,
            interpolation: match interpolation.as_deref() {
                Some("bicubic") => Interpolation::Bicubic,
                Some("bilinear") | None => Interpolation::Bilinear,
                Some(other) => bail!("interpolation {other:?} is not supported, only \"bilinear\" and \"bicubic\""),
            },
            mean: mean.unwrap_or(default.mean),
            std: std.unwrap_or(default.std),
        };
        preprocessing.validate()?;
        Ok(preprocessing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The file of `timm/resnet18.a1_in1k`, abridged.
    fn resnet18() -> Value {
        json!({
            "architecture": "resnet18", "num_classes": 1000, "num_features": 512,
            "pretrained_cfg": {
                "tag": "a1_in1k", "input_size": [3, 224, 224], "test_input_size": [3, 288, 288],
                "interpolation": "bicubic",
                "crop_pct": 0.95, "test_crop_pct": 1.0, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
                "num_classes": 1000, "pool_size": [7, 7], "first_conv": "conv1", "classifier": "fc",
                "license": "apache-2.0"
            }
        })
    }

    fn metadata_of(config: &Value, classes: usize) -> Result<Metadata> {
        let config = TimmConfig::parse(&config.to_string())?;
        let name = config.architecture()?.unwrap_or("resnet18");
        let mut metadata = Metadata::new(Architecture::new(name, classes)?);
        config.apply_to(&mut metadata)?;
        Ok(metadata)
    }

    #[test]
    fn preprocessing_follows_timm() {
        let metadata = metadata_of(&resnet18(), 1000).unwrap();
        let Preprocessing { resize, crop, interpolation, .. } = metadata.preprocessing;
        assert_eq!((resize, crop, interpolation), (235, 224, Interpolation::Bicubic), "224 / 0.95 is 235.8");
        assert_eq!(metadata.labels[281], "tabby");
    }

    #[test]
    fn label_names_take_precedence_over_imagenets() {
        let mut config = resnet18();
        config["label_names"] = json!(["ant", "bee"]);
        config["label_descriptions"] = json!({"bee": "honey bee"});
        let metadata = metadata_of(&config, 2).unwrap();
        assert_eq!((metadata.classes[1].as_str(), metadata.labels[1].as_str()), ("bee", "honey bee"));
        assert_eq!(metadata.labels[0], "ant");
        let error = metadata_of(&config, 3).unwrap_err().to_string();
        assert!(error.contains("2 label names for 3 classes"), "{error}");

        let mut config = resnet18();
        config["pretrained_cfg"]["label_names"] = json!({"0": "ant", "2": "wasp"});
        assert_eq!(metadata_of(&config, 3).unwrap().labels, ["ant", "1", "wasp"]);
    }

    #[test]
    fn reads_old_files_and_empty_ones_mean_torchvisions_preprocessing() {
        let mut old = resnet18()["pretrained_cfg"].clone();
        old["architecture"] = json!("resnet18");
        assert_eq!(metadata_of(&old, 1000).unwrap(), metadata_of(&resnet18(), 1000).unwrap());
        let metadata = metadata_of(&json!({}), 7).unwrap();
        assert_eq!((metadata.preprocessing, metadata.labels[6].as_str()), (Preprocessing::default(), "6"));
    }

    #[test]
    fn rejects_networks_that_compute_something_else() {
        for (key, value, reason) in [
            ("architecture", json!("resnet50d"), "timm's resnet50d"),
            ("architecture", json!("resnetaa50"), "supported: resnet18, resnet34"),
            ("architecture", json!("resnet50_v1"), "timm's resnet50_v1"),
            ("model_args", json!({"act_layer": "silu"}), "act_layer = \"silu\""),
            ("model_args", json!({"global_pool": "max"}), "global_pool = \"max\""),
            ("global_pool", json!("catavgmax"), "global_pool = \"catavgmax\""),
            ("pretrained_cfg", json!({"input_size": [1, 224, 224]}), "1x224x224"),
            ("pretrained_cfg", json!({"crop_pct": 0.0}), "crop_pct is 0"),
            ("pretrained_cfg", json!({"crop_mode": "squash"}), "squash"),
            ("pretrained_cfg", json!({"interpolation": "lanczos"}), "lanczos"),
            ("pretrained_cfg", json!({"std": [0.0, 1.0, 1.0]}), "greater than zero"),
            ("label_names", json!(7), "written by timm"),
        ] {
            let mut config = resnet18();
            config[key] = value;
            let error = format!("{:#}", metadata_of(&config, 1000).unwrap_err());
            assert!(error.contains(reason), "{key}: {error}");
        }
        let mut config = resnet18();
        config["model_args"] = json!({"num_classes": 1000, "global_pool": "avg"});
        config["global_pool"] = json!("avg");
        metadata_of(&config, 1000).unwrap();
    }
}
