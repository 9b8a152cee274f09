//! What each of two models says of each photo, asked one by one while nothing else happens.

use crate::{TOKEN, photo, put};
use anyhow::{Context, Result, ensure};
use model::architecture::Architecture;
use model::checkpoint::Checkpoint;
use model::classifier::Prepared;
use model::preprocess::Limits;
use model::random;
use serde_json::Value;
use std::collections::BTreeMap;
use tempfile::TempDir;
use tests::workspace;

pub const MODEL: &str = "mine";
pub const PHOTOS: [&str; 5] = ["cat.jpg", "coffee.jpg", "flower.jpg", "palace.jpg", "rocket.jpg"];

pub struct Expected {
    pub photos: Vec<Vec<u8>>,
    /// u8 RGB `[224, 224, 3]`
    pub tensors: Vec<Vec<u8>>,
    /// By version: for each photo, its predictions.
    predictions: BTreeMap<String, Vec<Value>>,
}

/// The bundled model of ten classes, and a random one.
pub fn weights() -> Result<[Vec<u8>; 2]> {
    let bundled = std::fs::read(workspace::root().join("checkpoints/resnet18-imagenette.safetensors"))?;
    Ok([bundled, random::checkpoint(Architecture::new("resnet18", 10)?).to_bytes()])
}

impl Expected {
    pub async fn ask(url: &str, folder: &TempDir, weights: &[Vec<u8>; 2]) -> Result<Self> {
        let photos = PHOTOS.map(photo).into_iter().collect::<Result<Vec<_>>>()?;
        let checkpoint = Checkpoint::from_bytes(&weights[0])?;
        let prepared = |photo: &Vec<u8>| {
            let prepared = Prepared::from_bytes(photo, &Limits::default(), checkpoint.metadata())?;
            anyhow::Ok(prepared.image.pixels().to_vec())
        };
        let tensors = photos.iter().map(prepared).collect::<Result<_>>()?;
        let client = reqwest::Client::new();
        let mut predictions = BTreeMap::new();
        // The first one last, for that is served.
        for weights in weights.iter().rev() {
            put(folder, weights)?;
            let load =
                client.post(format!("{url}/v2/repository/models/{MODEL}/load")).bearer_auth(TOKEN).send().await?;
            ensure!(load.status() == 200, "{}", load.text().await?);
            let mut version = String::new();
            let mut of_version = Vec::new();
            for photo in &photos {
                let answer = client.post(format!("{url}/predict?top_k=10")).body(photo.clone()).send().await?;
                let mut answer: Value = answer.error_for_status()?.json().await?;
                version = answer["version"].as_str().context("no version")?.to_owned();
                of_version.push(answer["predictions"].take());
            }
            let different = of_version.iter().enumerate().all(|(index, one)| !of_version[..index].contains(one));
            ensure!(different, "two photos get the same answer, so none can be told from the other");
            predictions.insert(version, of_version);
        }
        ensure!(predictions.len() == 2, "both models have one version");
        Ok(Expected { photos, tensors, predictions })
    }

    /// Whether this is the answer for that photo, by the weights that it names.
    pub fn check(&self, photo: usize, answer: &Value) -> Result<()> {
        let version = answer["version"].as_str().context("no version")?;
        let of_version = self.predictions.get(version).with_context(|| format!("nobody knows {version}"))?;
        let (found, expected) = (&answer["predictions"], &of_version[photo]);
        ensure!(found == expected, "{}: {found} instead of {expected}", PHOTOS[photo]);
        Ok(())
    }

    /// The same of classes as the Open Inference Protocol gives them, `logit:index:label`.
    pub fn check_classes(&self, photo: usize, version: &Value, classes: &[Value]) -> Result<()> {
        let version = version.as_str().context("no version")?;
        let of_version = self.predictions.get(version).with_context(|| format!("nobody knows {version}"))?;
        let ranked = of_version[photo].as_array().context("no predictions")?;
        ensure!(classes.len() == ranked.len(), "{classes:?}");
        for (class, ranked) in classes.iter().zip(ranked) {
            let index = class.as_str().and_then(|class| class.split(':').nth(1)?.parse::<u64>().ok());
            ensure!(
                ranked["index"].as_u64() == Some(index.context("no class")?),
                "{}: {classes:?} instead of {ranked:?}",
                PHOTOS[photo]
            );
        }
        Ok(())
    }
}
