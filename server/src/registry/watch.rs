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
    previous.record_failures(&registry);
    let mut backoffs: BTreeMap<String, Backoff> = BTreeMap::new();
    loop {
        tokio::time::sleep(interval).await;
        // A folder that is temporarily unreadable changes nothing.
        let Some(current) = scan(&registry.sources, &mut warnings).await else { continue };
        current.record_failures(&registry);
        for (name, fingerprint) in &current.usable {
            if registry.loaded_fingerprint(name) == Some(*fingerprint) || previous.usable.get(name) != Some(fingerprint)
            {
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
            if !current.contains(name) && !previous.contains(name) {
                tracing::warn!("model {name:?} is unloaded, because its checkpoint was removed");
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

/// The checkpoints that a scan found, by the names of their models.
#[derive(Default)]
struct Scan {
    usable: BTreeMap<String, Fingerprint>,
    /// Checkpoints that cannot be read, such as folders and dangling links, and why. Models that were loaded before stay
    /// served.
    unusable: BTreeMap<String, anyhow::Error>,
}

impl Scan {
    fn contains(&self, name: &str) -> bool {
        self.usable.contains_key(name) || self.unusable.contains_key(name)
    }

    /// Records why checkpoints cannot be loaded, and forgets the failures of those that do not exist any more.
    fn record_failures(&self, registry: &Registry) {
        registry.retain_failures(|name| self.contains(name));
        self.unusable.iter().for_each(|(name, error)| registry.record_failure(name, error));
    }
}

/// Lists the checkpoints with their fingerprints, or returns `None` if that fails. Logs warnings that differ from those of
/// the last scan.
async fn scan(sources: &Arc<ModelSources>, last_warnings: &mut Vec<String>) -> Option<Scan> {
    let sources = sources.clone();
    let listing = spawn_blocking(move || {
        let (sources, mut warnings) = sources.list()?;
        let mut scan = Scan::default();
        for ModelSource { name, checkpoint } in sources {
            match Fingerprint::of(&checkpoint) {
                Ok(fingerprint) => drop(scan.usable.insert(name, fingerprint)),
                Err(error) => {
                    warnings.push(format!("{checkpoint} is skipped: {error:#}"));
                    scan.unusable.insert(name, error);
                }
            }
        }
        anyhow::Ok((scan, warnings))
    });
    let (scan, warnings) = match listing.await.ok()? {
        Ok((scan, warnings)) => (Some(scan), warnings),
        Err(error) => (None, vec![format!("{error:#}")]),
    };
    if *last_warnings != warnings {
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        *last_warnings = warnings;
    }
    scan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn changes_of_equal_size_and_time_are_detected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let time = std::time::SystemTime::UNIX_EPOCH;
        let write = |content: &str| {
            std::fs::write(&path, content).unwrap();
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
            Fingerprint::of(&path.clone().into()).unwrap()
        };
        let first = write("one");
        assert_eq!(Fingerprint::of(&path.clone().into()).unwrap(), first);
        // Timestamps of files advance with the ticks of the kernel.
        std::thread::sleep(Duration::from_millis(50));
        assert_ne!(write("two"), first);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn scans_report_files_that_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("folder.safetensors")).unwrap();
        std::fs::write(folder.path().join("good.safetensors"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("link.safetensors")).unwrap();
        let arguments = ["server", "--models", folder.path().to_str().unwrap()];
        let sources = Arc::new(ModelSources::from_settings(&clap::Parser::parse_from(arguments)));
        let mut warnings = Vec::new();
        let scan = scan(&sources, &mut warnings).await.unwrap();
        assert_eq!(scan.usable.keys().collect::<Vec<_>>(), ["good"]);
        for (name, reason) in
            [("folder", "not a regular file"), ("link", "symbolic link to a file that cannot be read")]
        {
            assert!(scan.contains(name) && scan.unusable[name].to_string().contains(reason), "{name}");
            let is_expected = |warning: &String| warning.contains(name) && warning.contains(reason);
            assert!(warnings.iter().any(is_expected), "{warnings:?}");
        }
    }

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
