//! Replaces models while they are in use: one through the admin API, one by moving files into the folder that the
//! server watches.

use anyhow::{Context, Result, ensure};
use model::prediction::ModelId;
use reqwest::Client;
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::time::sleep;

/// The default model, which is loaded through the API.
pub const LOADED_MODEL: &str = "mine";
/// The model that the server reloads when its file changes.
pub const WATCHED_MODEL: &str = "watched";
pub const ADMIN_TOKEN: &str = "hush";

/// Minimum time between two updates of a model.
const UPDATE_PAUSE: Duration = Duration::from_secs(1);
/// Time limit for the server to detect a changed file and load it.
const WATCH_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// What is needed to replace the models of a server.
pub struct ModelUpdates {
    /// Base URL of the server.
    pub url: String,
    /// Model folder of the server.
    pub folder: TempDir,
    /// The checkpoints that replace each other.
    pub checkpoints: [Vec<u8>; 2],
}

impl ModelUpdates {
    /// Writes the checkpoint of the default model, loads it through the API, and expects this status.
    pub async fn load(&self, client: &Client, checkpoint: &[u8], status: u16) -> Result<()> {
        write_checkpoint(self.folder.path(), LOADED_MODEL, checkpoint)?;
        let load = client.post(format!("{}/v2/repository/models/{LOADED_MODEL}/load", self.url));
        let response = load.bearer_auth(ADMIN_TOKEN).send().await?;
        ensure!(response.status() == status, "{} instead of {status}: {}", response.status(), response.text().await?);
        Ok(())
    }

    /// Replaces both models by alternating checkpoints, attempts to load an invalid one in between, and returns the
    /// number of updates. The models are updated one after the other, because the peak memory of simultaneous loads
    /// would vary with their timing.
    pub async fn repeat_until(&self, end: Instant) -> Result<u64> {
        let client = Client::new();
        let mut updates = 0;
        for checkpoint in self.checkpoints.iter().rev().cycle().take_while(|_| Instant::now() < end) {
            self.load(&client, checkpoint, 200).await?;
            sleep(UPDATE_PAUSE).await;
            self.load(&client, b"no checkpoint", 422).await?;
            self.replace_watched(&client, checkpoint).await?;
            sleep(UPDATE_PAUSE).await;
            updates += 2;
        }
        Ok(updates)
    }

    /// Replaces the file of the watched model, and waits until the server has loaded it.
    async fn replace_watched(&self, client: &Client, checkpoint: &[u8]) -> Result<()> {
        write_checkpoint(self.folder.path(), WATCHED_MODEL, checkpoint)?;
        let (version, start) = (ModelId::from_bytes(WATCHED_MODEL, checkpoint).version, Instant::now());
        while watched_version(client, &self.url).await? != version {
            ensure!(start.elapsed() < WATCH_TIMEOUT, "the server did not load a replaced file");
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }
}

/// Returns the served version of the watched model.
async fn watched_version(client: &Client, url: &str) -> Result<String> {
    let models: Value = client.get(format!("{url}/models")).send().await?.json().await?;
    let models = models["models"].as_array().context("no models")?;
    let watched = models.iter().find(|model| model["name"] == WATCHED_MODEL).context("watched model is not served")?;
    Ok(watched["sha256"].as_str().context("no version")?.to_owned())
}

/// Replaces the checkpoint of a model atomically.
pub fn write_checkpoint(folder: &Path, model: &str, checkpoint: &[u8]) -> Result<()> {
    let temporary = folder.join(format!("{model}.next"));
    std::fs::write(&temporary, checkpoint)?;
    Ok(std::fs::rename(temporary, folder.join(format!("{model}.safetensors")))?)
}
