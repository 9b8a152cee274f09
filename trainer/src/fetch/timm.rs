//! `config.json` as timm writes it beside its weights: which network, which preprocessing, which classes.
//!
//! timm's plain ResNets have torchvision's tensors. Its other ones may have them too and still compute something else
//! (`resnetaa50` blurs before it strides, and a blur has no weights), so it is the name that decides.

use super::imagenet;
use anyhow::{Context, Result, bail, ensure};
use model::architecture::Architecture;
use model::checkpoint::Metadata;
use model::preprocess::{Interpolation, Preprocessing};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Of the document, what matters here. Every key may be missing.
#[derive(Debug, Default, Deserialize)]
pub struct Config {
    /// timm's name of the network.
    architecture: Option<String>,
    /// Arguments of the network's constructor that are not its defaults.
    model_args: Option<Map<String, Value>>,
    /// How a photo's features become one vector.
    global_pool: Option<String>,
    #[serde(flatten)]
    names: Names,
    pretrained_cfg: Option<Pretrained>,
    /// Before timm 0.9 these keys stood in the document itself.
    #[serde(flatten)]
    outside: Pretrained,
}

/// These keys stand in the document itself or, in some, in `pretrained_cfg`.
#[derive(Clone, Debug, Default, Deserialize)]
struct Names {
    #[serde(alias = "labels")]
    label_names: Option<ByClass>,
    /// Readable names, by name.
    label_descriptions: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum ByClass {
    InOrder(Vec<String>),
    /// The keys of a JSON object are texts.
    ByIndex(BTreeMap<String, String>),
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Pretrained {
    #[serde(flatten)]
    names: Names,
    /// `[channels, height, width]`
    input_size: Option<[u32; 3]>,
    crop_pct: Option<f64>,
    crop_mode: Option<String>,
    interpolation: Option<String>,
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
    license: Option<String>,
}

/// Arguments that say what the tensors say, or that matter in training only.
const HARMLESS: [&str; 6] =
    ["num_classes", "in_chans", "drop_rate", "drop_path_rate", "drop_block_rate", "zero_init_last"];

impl Config {
    pub fn parse(json: &str) -> Result<Self> {
        serde_json::from_str(json).context("this is no description of a network as timm writes it")
    }

    /// The one network that it names, if it names one.
    ///
    /// # Errors
    /// If it is none of those that are known here.
    pub fn architecture(&self) -> Result<Option<&str>> {
        let Some(name) = self.architecture.as_deref() else { return Ok(None) };
        let is_plain =
            Architecture::new(name, 1).is_ok_and(|architecture| architecture.name() == architecture.variant.name);
        ensure!(
            is_plain,
            "timm's {name} is another network than torchvision's ResNets, be it with the same tensors; known are {}",
            Architecture::names().into_iter().filter(|name| !name.ends_with("_v1")).collect::<Vec<_>>().join(", ")
        );
        let pool = self.global_pool.clone().map(|pool| ("global_pool".to_owned(), Value::from(pool)));
        for (argument, value) in self.model_args.clone().into_iter().flatten().chain(pool) {
            let is_default = argument == "global_pool" && value == "avg";
            if !is_default && !HARMLESS.contains(&argument.as_str()) {
                bail!("this {name} was made with {argument} = {value}, which no network here has");
            }
        }
        Ok(Some(name))
    }

    pub fn license(&self) -> Option<&str> {
        self.pretrained().license.as_deref()
    }

    fn pretrained(&self) -> &Pretrained {
        self.pretrained_cfg.as_ref().unwrap_or(&self.outside)
    }

    /// `metadata` with all that is known. Without names, a thousand classes are ImageNet's, as timm takes them too.
    pub fn describe(&self, metadata: &mut Metadata) -> Result<()> {
        metadata.preprocessing = self.preprocessing()?;
        let expected = metadata.architecture.classes;
        let Names { label_names, label_descriptions } = match &self.names.label_names {
            Some(_) => &self.names,
            None => &self.pretrained().names,
        };
        if let Some(names) = label_names {
            let names = match names.clone() {
                ByClass::InOrder(names) => names,
                // timm allows gaps; what has no name is called by its index.
                ByClass::ByIndex(mut names) => (0..expected)
                    .map(|index| index.to_string())
                    .map(|index| names.remove(&index).unwrap_or(index))
                    .collect(),
            };
            let found = names.len();
            ensure!(found == expected, "{found} classes are named, but the network has {expected}");
            let descriptions = label_descriptions.as_ref();
            let readable = |name: &String| descriptions.and_then(|all| all.get(name)).unwrap_or(name).clone();
            metadata.labels = names.iter().map(readable).collect();
            metadata.classes = names;
        } else if expected == imagenet::CLASSES {
            (metadata.classes, metadata.labels) = imagenet::names();
        }
        Ok(())
    }

    /// As timm's transforms for evaluation: the short side of a photo is the crop's side by `crop_pct`, rounded down.
    fn preprocessing(&self) -> Result<Preprocessing> {
        /// timm's default for networks that say nothing.
        const CROP_PCT: f64 = 0.875;
        let Pretrained { input_size, crop_pct, crop_mode, interpolation, mean, std, .. } = self.pretrained();
        let default = Preprocessing::default();
        let [channels, height, crop] = input_size.unwrap_or([3, default.crop, default.crop]);
        ensure!(
            channels == 3 && height == crop,
            "input_size: {channels}x{height}x{crop}, but photos are cropped to 3xNxN"
        );
        let crop_pct = crop_pct.unwrap_or(CROP_PCT);
        ensure!(
            crop_pct > 0.0 && crop_pct <= 1.0,
            "crop_pct: {crop_pct}, but a part of a photo is wanted, above 0 and up to 1"
        );
        let mode = crop_mode.as_deref().unwrap_or("center");
        ensure!(mode == "center", "crop_mode: {mode:?} is not known here, only \"center\"");
        let preprocessing = Preprocessing {
            resize: (f64::from(crop) / crop_pct).floor() as u32,
            crop,
            interpolation: match interpolation.as_deref() {
                Some("bicubic") => Interpolation::Bicubic,
                Some("bilinear") | None => Interpolation::Bilinear,
                Some(other) => bail!("interpolation: {other:?} is not known here, only \"bilinear\" and \"bicubic\""),
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

    /// What lies beside `timm/resnet18.a1_in1k`, shortened.
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

    fn described(config: &Value, classes: usize) -> Result<Metadata> {
        let config = Config::parse(&config.to_string())?;
        let name = config.architecture()?.unwrap_or("resnet18");
        let mut metadata = Metadata::new(Architecture::new(name, classes)?);
        config.describe(&mut metadata)?;
        Ok(metadata)
    }

    #[test]
    fn preprocessing_and_names_are_timms() {
        let metadata = described(&resnet18(), 1000).unwrap();
        let Preprocessing { resize, crop, interpolation, .. } = metadata.preprocessing;
        assert_eq!((resize, crop, interpolation), (235, 224, Interpolation::Bicubic), "224 / 0.95 is 235.8");
        assert_eq!(metadata.labels[281], "tabby");
    }

    #[test]
    fn names_of_ones_own_come_first() {
        let mut config = resnet18();
        config["label_names"] = json!(["ant", "bee"]);
        config["label_descriptions"] = json!({"bee": "honey bee"});
        let metadata = described(&config, 2).unwrap();
        assert_eq!((metadata.classes[1].as_str(), metadata.labels[1].as_str()), ("bee", "honey bee"));
        assert_eq!(metadata.labels[0], "ant");
        let error = described(&config, 3).unwrap_err().to_string();
        assert!(error.contains("2 classes are named, but the network has 3"), "{error}");

        let mut config = resnet18();
        config["pretrained_cfg"]["label_names"] = json!({"0": "ant", "2": "wasp"});
        assert_eq!(described(&config, 3).unwrap().labels, ["ant", "1", "wasp"]);
    }

    #[test]
    fn older_documents_are_read_and_empty_ones_are_torchvisions() {
        let mut old = resnet18()["pretrained_cfg"].clone();
        old["architecture"] = json!("resnet18");
        assert_eq!(described(&old, 1000).unwrap(), described(&resnet18(), 1000).unwrap());
        let metadata = described(&json!({}), 7).unwrap();
        assert_eq!((metadata.preprocessing, metadata.labels[6].as_str()), (Preprocessing::default(), "6"));
    }

    #[test]
    fn what_computes_something_else_is_refused() {
        for (key, value, reason) in [
            ("architecture", json!("resnet50d"), "timm's resnet50d"),
            ("architecture", json!("resnetaa50"), "known are resnet18, resnet34"),
            ("architecture", json!("resnet50_v1"), "timm's resnet50_v1"),
            ("model_args", json!({"act_layer": "silu"}), "act_layer = \"silu\""),
            ("model_args", json!({"global_pool": "max"}), "global_pool = \"max\""),
            ("global_pool", json!("catavgmax"), "global_pool = \"catavgmax\""),
            ("pretrained_cfg", json!({"input_size": [1, 224, 224]}), "1x224x224"),
            ("pretrained_cfg", json!({"crop_pct": 0.0}), "crop_pct: 0"),
            ("pretrained_cfg", json!({"crop_mode": "squash"}), "squash"),
            ("pretrained_cfg", json!({"interpolation": "lanczos"}), "lanczos"),
            ("pretrained_cfg", json!({"std": [0.0, 1.0, 1.0]}), "above zero"),
            ("label_names", json!(7), "as timm writes it"),
        ] {
            let mut config = resnet18();
            config[key] = value;
            let error = format!("{:#}", described(&config, 1000).unwrap_err());
            assert!(error.contains(reason), "{key}: {error}");
        }
        let mut config = resnet18();
        config["model_args"] = json!({"num_classes": 1000, "global_pool": "avg"});
        config["global_pool"] = json!("avg");
        described(&config, 1000).unwrap();
    }
}
