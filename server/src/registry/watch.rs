//! Watches the model folder, and loads and unloads models as checkpoints are added, changed and removed.
//!
//! `notify` was considered: its notifications do not work on network file systems and mounted volumes; polling does.

use super::{Fingerprint, ModelSource, ModelSources, Registry};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;

/// Maximum number of scans to skip before a checkpoint that failed to load is tried again.
const MAX_SKIP: u32 = 64;

/// Scans the folder every `interval`, for as long as the server runs. A file is loaded when two successive scans find
/// it unchanged, because copying one takes a while.
pub async fn watch(registry: Arc<Registry>, interval: Duration) {
    let mut warnings = Vec::new();
    let mut previous = scan(&registry.sources, &mut warnings).await.unwrap_or_default();
    let mut backoffs: BTreeMap<String, Backoff> = BTreeMap::new();
    loop {
        tokio::time::sleep(interval).await;
        // A folder that is temporarily unreadable changes nothing.
        let Some(current) = scan(&registry.sources, &mut warnings).await else { continue };
        for (name, fingerprint) in &current {
            if registry.loaded_fingerprint(name) == Some(*fingerprint) || previous.get(name) != Some(fingerprint) {
                continue;
            }
            if !backoffs.entry(name.clone()).or_insert(Backoff::new(*fingerprint)).is_due(*fingerprint) {
                continue;
            }
            match registry.load_if_changed(name, *fingerprint).await {
                Ok(()) => drop(backoffs.remove(name)),
                Err(error) => tracing::warn!("cannot load model {name:?}: {error:#}"),
            }
        }
        for model in registry.current().iter() {
            // Missing in two successive scans, because a file can be absent for a moment while another one replaces it.
            let name = model.name();
            if !current.contains_key(name) && !previous.contains_key(name) {
                registry.unload(name).await;
                backoffs.remove(name);
            }
        }
        previous = current;
    }
}

/// Exponential backoff for a checkpoint that failed to load, possibly for a temporary reason: the attempts skip 1, 2,
/// 4, ... scans in between.
struct Backoff {
    fingerprint: Fingerprint,
    /// Scans to skip after the next attempt.
    next_skip: u32,
    /// Scans still to skip before the next attempt.
    remaining: u32,
}

impl Backoff {
    /// Creates a backoff whose first attempt is due immediately.
    fn new(fingerprint: Fingerprint) -> Self {
        Backoff { fingerprint, next_skip: 1, remaining: 0 }
    }

    /// Returns whether to try at this scan; a changed file is tried immediately.
    fn is_due(&mut self, fingerprint: Fingerprint) -> bool {
        if self.fingerprint != fingerprint {
            *self = Backoff::new(fingerprint);
        }
        if self.remaining > 0 {
            self.remaining -= 1;
            return false;
        }
        self.remaining = self.next_skip;
        self.next_skip = (2 * self.next_skip).min(MAX_SKIP);
        true
    }
}

/// Lists the checkpoints with their fingerprints, or returns `None` if that fails. Logs warnings that differ from those of
/// the last scan.
async fn scan(sources: &Arc<ModelSources>, last_warnings: &mut Vec<String>) -> Option<BTreeMap<String, Fingerprint>> {
    let sources = sources.clone();
    let listing = spawn_blocking(move || {
        let (sources, warnings) = sources.list()?;
        let fingerprints = sources
            .into_iter()
            .filter_map(|ModelSource { name, checkpoint }| Some((name, Fingerprint::of(&checkpoint)?)));
        anyhow::Ok((fingerprints.collect(), warnings))
    });
    let (fingerprints, warnings) = match listing.await.ok()? {
        Ok((fingerprints, warnings)) => (Some(fingerprints), warnings),
        Err(error) => (None, vec![format!("{error:#}")]),
    };
    if *last_warnings != warnings {
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        *last_warnings = warnings;
    }
    fingerprints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_loads_are_retried_with_exponential_backoff() {
        let folder = tempfile::tempdir().unwrap();
        let [fingerprint, other] = ["a", "ab"].map(|content| {
            let path = folder.path().join(content);
            std::fs::write(&path, content).unwrap();
            Fingerprint::of(&path.into()).unwrap()
        });
        let mut backoff = Backoff::new(fingerprint);
        let due: Vec<u32> = (0..40).filter(|_| backoff.is_due(fingerprint)).collect();
        assert_eq!(due, [0, 2, 5, 10, 19, 36]);
        assert!(backoff.is_due(other), "a changed file is tried immediately");
    }
}
