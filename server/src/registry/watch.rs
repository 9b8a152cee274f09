//! A folder whose checkpoints are served as they come, change and go.

use super::{ModelFile, ModelFiles, Registry, Stamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;

/// Looks after which what could not be loaded is tried again at the latest.
const PAUSE: u32 = 64;

/// Looks every so often, for as long as the server runs. Asking works where notifications do not: on network file systems
/// and mounted volumes. A file is loaded when it has stayed the same from one look to the next, for who copies one takes a
/// while.
pub async fn watch(registry: Arc<Registry>, every: Duration) {
    let mut remarks = Vec::new();
    let mut seen = look(&registry.files, &mut remarks).await.unwrap_or_default();
    let mut tried: BTreeMap<String, Tried> = BTreeMap::new();
    loop {
        tokio::time::sleep(every).await;
        // A folder that cannot be read at the moment says nothing about what is served.
        let Some(now) = look(&registry.files, &mut remarks).await else { continue };
        for (name, stamp) in &now {
            if registry.served(name) == Some(*stamp) || seen.get(name) != Some(stamp) {
                continue;
            }
            if !tried.entry(name.clone()).or_insert(Tried::never(*stamp)).is_due(*stamp) {
                continue;
            }
            match registry.load_file(name, *stamp).await {
                Ok(()) => drop(tried.remove(name)),
                Err(error) => tracing::warn!("model {name:?} is not loaded: {error:#}"),
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

/// A file that could not be loaded, which may have been the machine's fault: it is tried again, after 1, 2, 4, ... looks.
struct Tried {
    stamp: Stamp,
    /// Looks until it is tried again, of which so many are left.
    pause: u32,
    left: u32,
}

impl Tried {
    fn never(stamp: Stamp) -> Self {
        Tried { stamp, pause: 1, left: 0 }
    }

    /// Whether it is to be tried at this look.
    fn is_due(&mut self, stamp: Stamp) -> bool {
        if self.stamp != stamp {
            *self = Tried::never(stamp);
        }
        if self.left > 0 {
            self.left -= 1;
            return false;
        }
        self.left = self.pause;
        self.pause = (2 * self.pause).min(PAUSE);
        true
    }
}

/// The files that there are. What is odd about them is said when it is other than at the last look.
async fn look(files: &Arc<ModelFiles>, remarks: &mut Vec<String>) -> Option<BTreeMap<String, Stamp>> {
    let files = files.clone();
    let looked = spawn_blocking(move || {
        let (files, remarks) = files.list()?;
        let stamped = files.into_iter().filter_map(|ModelFile { name, path }| Some((name, Stamp::of(&path)?)));
        anyhow::Ok((stamped.collect(), remarks))
    });
    let (stamps, found) = match looked.await.ok()? {
        Ok((stamps, remarks)) => (Some(stamps), remarks),
        Err(error) => (None, vec![format!("{error:#}")]),
    };
    if *remarks != found {
        found.iter().for_each(|remark| tracing::warn!("{remark}"));
        *remarks = found;
    }
    stamps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_loaded_is_tried_again_less_and_less_often() {
        let folder = tempfile::tempdir().unwrap();
        let [stamp, other] = ["a", "ab"].map(|content| {
            let path = folder.path().join(content);
            std::fs::write(&path, content).unwrap();
            Stamp::of(&path).unwrap()
        });
        let mut tried = Tried::never(stamp);
        let due: Vec<u32> = (0..40).filter(|_| tried.is_due(stamp)).collect();
        assert_eq!(due, [0, 2, 5, 10, 19, 36]);
        assert!(tried.is_due(other), "another file is tried at once");
    }
}
