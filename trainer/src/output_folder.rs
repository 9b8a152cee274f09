//! Folders into which a command writes.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;

/// Creates the folder, or accepts an existing empty one. `flag` is the flag with which the user chose it.
///
/// # Errors
/// Returns an error if the folder is not empty, or if it cannot be created.
pub fn create_empty(folder: &Path, flag: &str) -> Result<()> {
    let context = || format!("cannot create {}", folder.display());
    ensure!(!folder.is_file(), "{} is a file; choose a new or empty folder with {flag}", folder.display());
    fs::create_dir_all(folder).with_context(context)?;
    let is_empty = folder.read_dir().with_context(context)?.next().is_none();
    ensure!(is_empty, "{} is not empty; choose another folder with {flag}", folder.display());
    Ok(())
}
