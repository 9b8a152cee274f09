//! Data that lies beside the checkout and may be absent: `SHORTCUT_DATA`, by default `../shared/data`.

use crate::workspace;
use anyhow::{Context, Result};
use libtest_mimic::{Failed, Trial};
use serde::de::DeserializeOwned;
use std::path::PathBuf;

const VARIABLE: &str = "SHORTCUT_DATA";

/// Where the optional data lies, whether or not it is there; a relative path is one from the workspace's root.
pub fn folder() -> PathBuf {
    let folder = std::env::var_os(VARIABLE).map_or_else(|| "../shared/data".into(), PathBuf::from);
    workspace::root().join(folder)
}

/// A test that needs the optional data: listed as ignored, with the reason, where that is absent. Who names a folder
/// that is not there has made a mistake, and the test fails.
pub fn trial(name: &str, test: fn() -> Result<()>) -> Trial {
    let trial = Trial::test(name, move || test().map_err(failed));
    if folder().is_dir() || std::env::var_os(VARIABLE).is_some() {
        trial
    } else {
        trial.with_kind("no data: set SHORTCUT_DATA").with_ignored_flag(true)
    }
}

/// A test that a bare clone can run.
pub fn bare_trial(name: &str, test: fn() -> Result<()>) -> Trial {
    Trial::test(name, move || test().map_err(failed))
}

/// With all its causes, which `Failed` would drop.
fn failed(error: anyhow::Error) -> Failed {
    Failed::from(format!("{error:#}"))
}

/// A file of the data.
pub fn read(path: &str) -> Result<Vec<u8>> {
    let path = folder().join(path);
    std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))
}

/// A JSON file of the data.
pub fn read_json<T: DeserializeOwned>(path: &str) -> Result<T> {
    serde_json::from_slice(&read(path)?).with_context(|| format!("{path} is not what was expected"))
}
