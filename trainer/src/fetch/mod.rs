//! `trainer fetch`: published weights by name, downloaded once, verified, imported, and cached.
//!
//! This is the only part of the workspace that connects to other machines; the server never does.
//!
//! ```text
//! name --> URL and hash --> partial download --> download --> checkpoint with labels and preprocessing
//!          torchvision | hugging_face            (cache)      (cache)
//! ```

mod cache;
mod client;
mod download;
mod endpoints;
mod fetcher;
mod hugging_face;
mod imagenet;
mod partial_download;
mod retry;
mod timm;
mod tls_roots;
mod torchvision;
mod weights_name;

pub use cache::DownloadCache;
pub use client::{Client, Unreachable};
pub use endpoints::{Endpoints, HUGGING_FACE_VARIABLE, TORCHVISION_VARIABLE};
pub use fetcher::Fetcher;
pub use torchvision::{TORCHVISION_WEIGHTS, TorchvisionWeights};
pub use weights_name::WeightsName;

use anyhow::{Context, Result};
use model::checkpoint::{Checkpoint, Dtype};
use std::path::PathBuf;

/// Returns the checkpoint of this name, with matrices stored as `dtype`, and its path in the cache. Unless
/// [`Fetcher::update`] is set, a cached checkpoint is returned without connecting to a server.
///
/// # Errors
/// Returns an error if the weights cannot be downloaded, verified or imported.
pub fn fetch(name: &WeightsName, dtype: Dtype, fetcher: &Fetcher) -> Result<(PathBuf, Checkpoint)> {
    let path = fetcher.cache.checkpoint(&format!("{}.{dtype}.safetensors", name.stem()));
    // An unreadable checkpoint, such as one of another version of this program, is replaced.
    let cached = || Checkpoint::from_path(&path).ok().filter(|_| !fetcher.update);
    if let Some(checkpoint) = cached() {
        return Ok((path, checkpoint));
    }
    let _lock = fetcher.lock(&path, name)?;
    if let Some(checkpoint) = cached() {
        return Ok((path, checkpoint));
    }
    let checkpoint = match name {
        WeightsName::Torchvision(weights) => torchvision::checkpoint(weights, fetcher)?,
        WeightsName::HuggingFace(repository) => hugging_face::checkpoint(repository, fetcher)?,
    };
    let checkpoint = checkpoint.convert(dtype).with_context(|| name.to_string())?;
    checkpoint.save(&path)?;
    Ok((path, checkpoint))
}
