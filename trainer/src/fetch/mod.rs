//! Weights by name: downloaded once, checked, imported, and kept. It is the only part of the workspace that goes out to
//! the network, and the server knows nothing of it.
//!
//! ```text
//! name --> source: address, hash --> part --> download --> checkpoint, with labels and preprocessing
//!          torchvision | hugging_face       (cache)       (cache)
//! ```

mod address;
mod cache;
mod client;
mod download;
mod fetcher;
mod hugging_face;
mod imagenet;
mod name;
mod part;
mod retry;
mod roots;
mod timm;
mod torchvision;

pub use address::{Addresses, HUGGING_FACE_VARIABLE, TORCHVISION_VARIABLE};
pub use cache::Cache;
pub use client::{Client, Unreachable};
pub use fetcher::Fetcher;
pub use name::Name;
pub use torchvision::{WEIGHTS, Weights};

use anyhow::{Context, Result};
use model::checkpoint::{Checkpoint, Dtype};
use std::path::PathBuf;

/// The checkpoint of this name, with matrices stored as `dtype`, and where it lies in the cache. What is there opens no
/// connection.
pub fn fetch(name: &Name, dtype: Dtype, fetcher: &Fetcher) -> Result<(PathBuf, Checkpoint)> {
    let path = fetcher.cache.checkpoint(&format!("{}.{dtype}.safetensors", name.stem()));
    // One that cannot be read, as it is of another version of this program, is made anew.
    let cached = || Checkpoint::from_path(&path).ok().filter(|_| !fetcher.update);
    if let Some(checkpoint) = cached() {
        return Ok((path, checkpoint));
    }
    let _lock = fetcher.lock(&path, name)?;
    if let Some(checkpoint) = cached() {
        return Ok((path, checkpoint));
    }
    let checkpoint = match name {
        Name::Torchvision(weights) => torchvision::checkpoint(weights, fetcher)?,
        Name::HuggingFace(repository) => hugging_face::checkpoint(repository, fetcher)?,
    };
    let checkpoint = checkpoint.convert(dtype).with_context(|| name.to_string())?;
    checkpoint.save(&path)?;
    Ok((path, checkpoint))
}
