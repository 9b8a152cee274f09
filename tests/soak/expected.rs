//! The predictions of two checkpoints for each photo, collected one by one while the server is otherwise idle.

use crate::model_updates::ModelUpdates;
use crate::photos;
use anyhow::{Context, Result, ensure};
use model::architecture::Architecture;
use model::checkpoint::{Checkpoint, Dtype};
use model::classifier::PreparedPhoto;
use model::preprocess::Limits;
use model::random;
use serde_json::Value;
use std::collections::BTreeMap;
use tests::workspace::{self, SMALL_MODEL};

pub struct ExpectedPredictions {
    pub photos: Vec<Vec<u8>>,
    /// The photos as u8 RGB `[224, 224, 3]`.
    pub tensors: Vec<Vec<u8>>,
    /// Predictions for each photo, by checkpoint version.
    predictions: BTreeMap<String, Vec<Value>>,
}

/// Returns the bundled checkpoint with ten classes, and a random one in the same format.
pub fn checkpoints() -> Result<[Vec<u8>; 2]> {
    let bundled = std::fs::read(workspace::checkpoint(SMALL_MODEL))?;
    Ok([bundled, random::checkpoint(Architecture::new("resnet18", 10)?).convert(Dtype::I8)?.to_bytes()])
}

impl ExpectedPredictions {
    /// Collects the predictions of both checkpoints. The first one is served afterwards.
    pub async fn collect(updates: &ModelUpdates) -> Result<Self> {
        let photos = photos::all()?;
        let checkpoint = Checkpoint::from_bytes(&updates.checkpoints[0])?;
        let prepared = |photo: &Vec<u8>| {
            let prepared = PreparedPhoto::from_bytes(photo, &Limits::default(), checkpoint.metadata())?;
            anyhow::Ok(prepared.image.pixels().to_vec())
        };
        let tensors = photos.iter().map(prepared).collect::<Result<_>>()?;
        let client = reqwest::Client::new();
        let mut predictions = BTreeMap::new();
        // In reverse order, so that the first checkpoint is served at the end.
        for checkpoint in updates.checkpoints.iter().rev() {
            updates.load(&client, checkpoint, 200).await?;
            let mut version = String::new();
            let mut photo_predictions = Vec::new();
            for photo in &photos {
                let response =
                    client.post(format!("{}/predict?top_k=10", updates.url)).body(photo.clone()).send().await?;
                let mut response: Value = response.error_for_status()?.json().await?;
                version = response["version"].as_str().context("no version")?.to_owned();
                photo_predictions.push(response["predictions"].take());
            }
            let mut numbered = photo_predictions.iter().enumerate();
            let all_differ = numbered.all(|(index, prediction)| !photo_predictions[..index].contains(prediction));
            ensure!(all_differ, "two photos have the same predictions, so mixed-up responses would not be detected");
            predictions.insert(version, photo_predictions);
        }
        ensure!(predictions.len() == 2, "both checkpoints have the same version");
        Ok(ExpectedPredictions { photos, tensors, predictions })
    }

    /// Returns the versions of both checkpoints.
    pub fn versions(&self) -> Vec<&str> {
        self.predictions.keys().map(String::as_str).collect()
    }

    /// Checks that a response of `/predict` names this model, and has the predictions of the version that it names for
    /// this photo.
    pub fn check(&self, model: &str, photo: usize, response: &Value) -> Result<()> {
        let expected = &self.for_version(&response["version"])?[photo];
        let predictions = &response["predictions"];
        ensure!(response["model"] == model, "{} instead of {model}", response["model"]);
        ensure!(predictions == expected, "photo {photo}: {predictions} instead of {expected}");
        Ok(())
    }

    /// Checks classes in the format of the Open Inference Protocol's classification extension, `logit:index:label`.
    pub fn check_classes(&self, photo: usize, version: &Value, classes: &[Value]) -> Result<()> {
        let ranked = self.for_version(version)?[photo].as_array().context("no predictions")?;
        ensure!(classes.len() == ranked.len(), "{classes:?}");
        for (class, expected) in classes.iter().zip(ranked) {
            let index = class.as_str().and_then(|class| class.split(':').nth(1)?.parse::<u64>().ok());
            let index = index.context("invalid class")?;
            ensure!(expected["index"] == index, "photo {photo}: {classes:?} instead of {ranked:?}");
        }
        Ok(())
    }

    /// Returns the predictions of a version for each photo.
    fn for_version(&self, version: &Value) -> Result<&[Value]> {
        let version = version.as_str().context("no version")?;
        Ok(self.predictions.get(version).with_context(|| format!("unknown version {version}"))?)
    }
}
