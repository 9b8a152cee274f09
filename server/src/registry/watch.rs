//! A folder whose checkpoints are served as they come, change and go.

use super::{ModelFile, Registry};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What tells that a file is another than before, without reading it.
type Stamp = (u64, Option<SystemTime>);

/// Looks every so often, for as long as the server runs. Asking works where notifications do not: on network file systems
/// and mounted volumes. A file is loaded when it has stayed the same from one look to the next, for who copies one takes a
/// while.
pub async fn watch(registry: Arc<Registry>, every: Duration) {
    let mut served = stamps(&registry).unwrap_or_default();
    let mut seen = served.clone();
    loop {
        tokio::time::sleep(every).await;
        // A folder that cannot be read at the moment says nothing about what is served.
        let Some(now) = stamps(&registry) else { continue };
        for (name, stamp) in &now {
            if served.get(name) != Some(stamp) && seen.get(name) == Some(stamp) {
                if let Err(error) = registry.load(name).await {
                    tracing::warn!("model {name:?}: {error:#}; what was served before still is");
                }
                // Tried once, whatever came of it.
                served.insert(name.clone(), *stamp);
            }
        }
        let gone: Vec<String> = served.keys().filter(|name| !now.contains_key(*name)).cloned().collect();
        for name in gone {
            // Seen twice, for a file is gone for a moment when another one is moved to its place.
            if !seen.contains_key(&name) {
                registry.unload(&name).await;
                served.remove(&name);
            }
        }
        seen = now;
    }
}

fn stamps(registry: &Registry) -> Option<BTreeMap<String, Stamp>> {
    let files = match registry.files.list() {
        Ok(files) => files,
        Err(error) => {
            tracing::warn!("{error:#}");
            return None;
        }
    };
    Some(files.into_iter().filter_map(|ModelFile { name, path }| Some((name, stamp(&path)?))).collect())
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()))
}
