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
mod hugging_face;
mod imagenet;
mod name;
mod part;
mod progress;
mod retries;
mod roots;
mod timm;
mod torchvision;

pub use address::{Addresses, HUGGING_FACE_VARIABLE, TORCHVISION_VARIABLE};
pub use cache::Cache;
pub use client::{Client, Unreached};
pub use name::Name;
pub use torchvision::{WEIGHTS, Weights};

use crate::commands::remark;
use anyhow::{Context, Result};
use download::{Source, download};
use model::checkpoint::{Checkpoint, Dtype};
use std::path::PathBuf;

/// All that fetching needs beside a name.
pub struct Fetcher {
    pub cache: Cache,
    pub addresses: Addresses,
    pub client: Client,
    /// How often in a row a download may come no further.
    pub retries: u32,
    /// Whether to ask what a name means now, be the cache as it may.
    pub update: bool,
}

impl Fetcher {
    /// The checkpoint of this name, with matrices stored as `dtype`, and where it lies in the cache. What is there
    /// opens no connection.
    pub fn fetch(&self, name: &Name, dtype: Dtype) -> Result<(PathBuf, Checkpoint)> {
        let path = self.cache.checkpoint(&format!("{}.{dtype}.safetensors", name.stem()));
        // One that cannot be read, as it is of another version of this program, is made anew.
        let kept = || Checkpoint::from_path(&path).ok();
        if let Some(checkpoint) = kept().filter(|_| !self.update) {
            return Ok((path, checkpoint));
        }
        let _lock = self.cache.lock(&path, || waiting(name))?;
        if let Some(checkpoint) = kept().filter(|_| !self.update) {
            return Ok((path, checkpoint));
        }
        let checkpoint = match name {
            Name::Torchvision(weights) => torchvision::checkpoint(weights, self)?,
            Name::HuggingFace(repository) => hugging_face::checkpoint(repository, self)?,
        };
        let checkpoint = checkpoint.convert(dtype).with_context(|| name.to_string())?;
        checkpoint.save(&path)?;
        Ok((path, checkpoint))
    }

    /// Sees to it that the source's file is there, and is what it should be.
    fn obtain(&self, source: &Source) -> Result<()> {
        let Source { path, expected, address, .. } = source;
        // The same file can be on its way to another checkpoint.
        let _lock = self.cache.lock(path, || waiting(address))?;
        if path.exists() {
            let found = part::sha256(path).with_context(|| path.display().to_string())?;
            if expected.is_met_by(&found) {
                return Ok(());
            }
            remark(&format!(
                "{} has the SHA-256 {found}, but {expected} is right: it is downloaded anew",
                path.display()
            ));
        }
        download(&self.client, source, self.retries)
    }
}

fn waiting(what: impl std::fmt::Display) {
    remark(&format!("another process fetches {what}; waiting for it"));
}
