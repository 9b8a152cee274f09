//! Files in the download cache: downloaded unless present, and always compared with their hash.

use super::cache::{CacheLock, DownloadCache};
use super::client::Client;
use super::download::{RemoteFile, download};
use super::endpoints::Endpoints;
use super::partial_download::sha256;
use crate::console;
use anyhow::{Context, Result};
use std::fmt::Display;
use std::path::Path;

/// Everything needed to fetch weights except their name.
pub struct Fetcher {
    pub cache: DownloadCache,
    pub endpoints: Endpoints,
    pub client: Client,
    /// Number of retries in a row without progress.
    pub retries: u32,
    /// Whether to ask the server again what a name refers to, even if the cache has the answer.
    pub update: bool,
}

impl Fetcher {
    /// Ensures that the file is in the cache and has the expected hash.
    ///
    /// # Errors
    /// Returns an error if the file cannot be downloaded, or if its hash is wrong.
    pub fn ensure_downloaded(&self, remote: &RemoteFile) -> Result<()> {
        let RemoteFile { path, expected, url, .. } = remote;
        // Another process may download the same file for a checkpoint with another name.
        let _lock = self.lock(path, url)?;
        if path.exists() {
            let actual = sha256(path).with_context(|| path.display().to_string())?;
            if expected.matches(&actual) {
                return Ok(());
            }
            console::note(format_args!(
                "{}: SHA-256 is {actual}, expected {expected}; downloading it again",
                path.display()
            ));
        }
        download(&self.client, remote, self.retries)
    }

    /// Locks a file of the cache, waiting while another process fetches `what`.
    ///
    /// # Errors
    /// Returns an error if the file system does not support locks.
    pub fn lock(&self, path: &Path, what: impl Display) -> Result<CacheLock> {
        let on_wait = || console::note(format_args!("another process is fetching {what}; waiting for it to finish"));
        self.cache.lock(path, on_wait)
    }
}
