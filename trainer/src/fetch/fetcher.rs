//! Files in the download cache: downloaded unless they are there already, and always compared with their hash.

use super::address::Addresses;
use super::cache::{Cache, Lock};
use super::client::Client;
use super::download::{Source, download};
use super::part;
use crate::console;
use anyhow::{Context, Result};
use std::fmt::Display;
use std::path::Path;

/// Everything needed to fetch weights except their name.
pub struct Fetcher {
    pub cache: Cache,
    pub addresses: Addresses,
    pub client: Client,
    /// Number of retries in a row without progress.
    pub retries: u32,
    /// Whether to ask the server what a name refers to now, even if the cache has an answer.
    pub update: bool,
}

impl Fetcher {
    /// Ensures that the file is in the cache and has the expected hash.
    ///
    /// # Errors
    /// Returns an error if the file cannot be downloaded, or if its hash is wrong.
    pub fn ensure_downloaded(&self, source: &Source) -> Result<()> {
        let Source { path, expected, address, .. } = source;
        // Another checkpoint may be made from the same file at the same time.
        let _lock = self.lock(path, address)?;
        if path.exists() {
            let found = part::sha256(path).with_context(|| path.display().to_string())?;
            if expected.is_met_by(&found) {
                return Ok(());
            }
            console::note(format_args!(
                "{} has the SHA-256 {found}, but {expected} is right: it is downloaded anew",
                path.display()
            ));
        }
        download(&self.client, source, self.retries)
    }

    /// Locks a file of the cache, waiting for another process that fetches `what`.
    pub fn lock(&self, path: &Path, what: impl Display) -> Result<Lock> {
        self.cache.lock(path, || console::note(format_args!("another process fetches {what}; waiting for it")))
    }
}
