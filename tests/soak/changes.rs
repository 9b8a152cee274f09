//! Models that are replaced while they are asked: one through the admin route, one by files that are moved into the folder that
//! the server watches.

use anyhow::{Context, Result, ensure};
use model::prediction::ModelId;
use reqwest::Client;
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::time::sleep;

/// The default model.
pub const BY_HAND: &str = "mine";
pub const WATCHED: &str = "watched";
pub const TOKEN: &str = "hush";

/// How long a model stays at least.
const STAYS: Duration = Duration::from_millis(1500);
/// How long the server may take to notice a file and load it.
const NOTICED: Duration = Duration::from_secs(60);
const LOOKS: Duration = Duration::from_millis(100);

pub struct Changes {
    pub url: String,
    pub folder: TempDir,
    pub checkpoints: [Vec<u8>; 2],
}

impl Changes {
    /// Has the default model loaded from these bytes, or refused.
    pub async fn load(&self, client: &Client, checkpoint: &[u8], status: u16) -> Result<()> {
        put(self.folder.path(), BY_HAND, checkpoint)?;
        let load = client.post(format!("{}/v2/repository/models/{BY_HAND}/load", self.url));
        let answer = load.bearer_auth(TOKEN).send().await?;
        ensure!(answer.status() == status, "{} instead of {status}: {}", answer.status(), answer.text().await?);
        Ok(())
    }

    /// Replaces both models by one checkpoint and the other, and the default one by what is none; says how often. One after the
    /// other, for models that are loaded side by side would make it chance how much memory is taken at most.
    pub async fn repeat(&self, until: Instant) -> Result<u64> {
        let client = Client::new();
        let mut changed = 0;
        while Instant::now() < until {
            for checkpoint in self.checkpoints.iter().rev() {
                self.load(&client, checkpoint, 200).await?;
                sleep(STAYS).await;
                self.load(&client, b"no checkpoint", 422).await?;
                self.move_in(&client, checkpoint).await?;
                sleep(STAYS).await;
                changed += 2;
            }
        }
        Ok(changed)
    }

    /// Waits until the server has noticed.
    async fn move_in(&self, client: &Client, checkpoint: &[u8]) -> Result<()> {
        put(self.folder.path(), WATCHED, checkpoint)?;
        let (version, moved) = (ModelId::of_bytes(WATCHED, checkpoint).version, Instant::now());
        while served(client, &self.url).await? != version {
            ensure!(moved.elapsed() < NOTICED, "nobody noticed a file that was moved");
            sleep(LOOKS).await;
        }
        Ok(())
    }
}

/// The version of the model that is watched.
async fn served(client: &Client, url: &str) -> Result<String> {
    let models: Value = client.get(format!("{url}/models")).send().await?.json().await?;
    let models = models["models"].as_array().context("no models")?;
    let watched = models.iter().find(|model| model["name"] == WATCHED).context("it is gone")?;
    Ok(watched["sha256"].as_str().context("no version")?.to_owned())
}

/// In the place of the one of before, in one step.
pub fn put(folder: &Path, model: &str, checkpoint: &[u8]) -> Result<()> {
    let next = folder.join(format!("{model}.next"));
    std::fs::write(&next, checkpoint)?;
    Ok(std::fs::rename(next, folder.join(format!("{model}.safetensors")))?)
}
