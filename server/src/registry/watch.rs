//! A folder whose checkpoints are served as they come, change and go.

use super::{ModelFile, Registry, Stamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Looks every so often, for as long as the server runs. Asking works where notifications do not: on network file systems
/// and mounted volumes. A file is loaded when it has stayed the same from one look to the next, for who copies one takes a
/// while.
pub async fn watch(registry: Arc<Registry>, every: Duration) {
    let mut seen = stamps(&registry).unwrap_or_default();
    // Tried once, whatever came of it.
    let mut tried: BTreeMap<String, Stamp> = BTreeMap::new();
    loop {
        tokio::time::sleep(every).await;
        // A folder that cannot be read at the moment says nothing about what is served.
        let Some(now) = stamps(&registry) else { continue };
        for (name, stamp) in &now {
            let served = registry.current().find(name).and_then(|model| model.stamp);
            if served != Some(*stamp) && tried.get(name) != Some(stamp) && seen.get(name) == Some(stamp) {
                if let Err(error) = registry.load(name).await {
                    tracing::warn!("model {name:?}: {error:#}; what was served before still is");
                }
                tried.insert(name.clone(), *stamp);
            }
        }
        for model in registry.current().iter() {
            // Missing twice, for a file is gone for a moment when another one is moved to its place.
            let name = model.name();
            if !now.contains_key(name) && !seen.contains_key(name) {
                registry.unload(name).await;
                tried.remove(name);
            }
        }
        seen = now;
    }
}

fn stamps(registry: &Registry) -> Option<BTreeMap<String, Stamp>> {
    let files = registry.files.list().inspect_err(|error| tracing::warn!("{error:#}")).ok()?;
    Some(files.into_iter().filter_map(|ModelFile { name, path }| Some((name, Stamp::of(&path)?))).collect())
}
