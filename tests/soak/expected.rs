//! What each of two checkpoints says of each photo, asked one by one while nothing else happens.

use crate::changes::Changes;
use crate::photos;
use anyhow::{Context, Result, ensure};
use model::architecture::Architecture;
use model::checkpoint::Checkpoint;
use model::classifier::Prepared;
use model::preprocess::Limits;
use model::random;
use serde_json::Value;
use std::collections::BTreeMap;
use tests::workspace;

pub struct Expected {
    pub photos: Vec<Vec<u8>>,
    /// u8 RGB `[224, 224, 3]`
    pub tensors: Vec<Vec<u8>>,
    /// By version: for each photo, its predictions.
    predictions: BTreeMap<String, Vec<Value>>,
}

/// The bundled checkpoint of ten classes, and a random one.
pub fn checkpoints() -> Result<[Vec<u8>; 2]> {
    let bundled = std::fs::read(workspace::root().join("checkpoints/resnet18-imagenette.safetensors"))?;
    Ok([bundled, random::checkpoint(Architecture::new("resnet18", 10)?).to_bytes()])
}

impl Expected {
    pub async fn ask(changes: &Changes) -> Result<Self> {
        let photos = photos::all()?;
        let checkpoint = Checkpoint::from_bytes(&changes.checkpoints[0])?;
        let prepared = |photo: &Vec<u8>| {
            let prepared = Prepared::from_bytes(photo, &Limits::default(), checkpoint.metadata())?;
            anyhow::Ok(prepared.image.pixels().to_vec())
        };
        let tensors = photos.iter().map(prepared).collect::<Result<_>>()?;
        let client = reqwest::Client::new();
        let mut predictions = BTreeMap::new();
        // The first one last, for that is served.
        for checkpoint in changes.checkpoints.iter().rev() {
            changes.load(&client, checkpoint, 200).await?;
            let mut version = String::new();
            let mut of_version = Vec::new();
            for photo in &photos {
                let answer =
                    client.post(format!("{}/predict?top_k=10", changes.url)).body(photo.clone()).send().await?;
                let mut answer: Value = answer.error_for_status()?.json().await?;
                version = answer["version"].as_str().context("no version")?.to_owned();
                of_version.push(answer["predictions"].take());
            }
            let different = of_version.iter().enumerate().all(|(index, one)| !of_version[..index].contains(one));
            ensure!(different, "two photos get the same answer, so none can be told from the other");
            predictions.insert(version, of_version);
        }
        ensure!(predictions.len() == 2, "both checkpoints have one version");
        Ok(Expected { photos, tensors, predictions })
    }

    pub fn versions(&self) -> Vec<&str> {
        self.predictions.keys().map(String::as_str).collect()
    }

    /// Whether this is the answer of that model for that photo, by the checkpoint that it names.
    pub fn check(&self, model: &str, photo: usize, answer: &Value) -> Result<()> {
        let expected = &self.of(&answer["version"])?[photo];
        let found = &answer["predictions"];
        ensure!(answer["model"] == model, "{} instead of {model}", answer["model"]);
        ensure!(found == expected, "photo {photo}: {found} instead of {expected}");
        Ok(())
    }

    /// The same of classes as the Open Inference Protocol gives them, `logit:index:label`.
    pub fn check_classes(&self, photo: usize, version: &Value, classes: &[Value]) -> Result<()> {
        let ranked = self.of(version)?[photo].as_array().context("no predictions")?;
        ensure!(classes.len() == ranked.len(), "{classes:?}");
        for (class, expected) in classes.iter().zip(ranked) {
            let index = class.as_str().and_then(|class| class.split(':').nth(1)?.parse::<u64>().ok());
            let index = index.context("no class")?;
            ensure!(expected["index"] == index, "photo {photo}: {classes:?} instead of {ranked:?}");
        }
        Ok(())
    }

    fn of(&self, version: &Value) -> Result<&[Value]> {
        let version = version.as_str().context("no version")?;
        Ok(self.predictions.get(version).with_context(|| format!("nobody knows {version}"))?)
    }
}
