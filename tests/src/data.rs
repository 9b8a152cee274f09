//! Optional test data outside the checkout, in the folder `SHORTCUT_DATA` (default: `../shared/data`).

use crate::workspace;
use anyhow::{Context, Result};
use libtest_mimic::{Failed, Trial};
use serde::de::DeserializeOwned;
use std::path::PathBuf;

const VARIABLE: &str = "SHORTCUT_DATA";

/// Returns the folder of the optional data, which may not exist. Relative paths are relative to the root of the
/// workspace.
pub fn folder() -> PathBuf {
    let folder = std::env::var_os(VARIABLE).map_or_else(|| "../shared/data".into(), PathBuf::from);
    workspace::root().join(folder)
}

/// Creates a test that requires the optional data. Without the data, the test is listed as ignored, with the reason;
/// but if `SHORTCUT_DATA` names a folder that does not exist, it fails.
pub fn trial(name: &str, test: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    let trial = Trial::test(name, move || test().map_err(failed));
    if folder().is_dir() || std::env::var_os(VARIABLE).is_some() {
        trial
    } else {
        trial.with_kind("no data: set SHORTCUT_DATA").with_ignored_flag(true)
    }
}

/// Creates a test that needs only the files of a clone.
pub fn bare_trial(name: &str, test: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || test().map_err(failed))
}

/// Formats an error with all its causes, which `Failed` would drop.
fn failed(error: anyhow::Error) -> Failed {
    Failed::from(format!("{error:#}"))
}

/// Reads a file of the data.
pub fn read(path: &str) -> Result<Vec<u8>> {
    let path = folder().join(path);
    std::fs::read(&path).with_context(|| format!("failed to read {}", path.display()))
}

/// Reads a JSON file of the data.
pub fn read_json<T: DeserializeOwned>(path: &str) -> Result<T> {
    serde_json::from_slice(&read(path)?).with_context(|| format!("{path} has an unexpected structure"))
}
