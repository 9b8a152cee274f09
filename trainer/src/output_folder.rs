//! The folder that a command fills.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;

/// Makes the folder of `--output`, unless it is there already.
///
/// # Errors
/// If there is something in it, or if it cannot be made.
pub fn take(folder: &Path) -> Result<()> {
    let cannot = || format!("{} cannot be made", folder.display());
    fs::create_dir_all(folder).with_context(cannot)?;
    let is_empty = folder.read_dir().with_context(cannot)?.next().is_none();
    ensure!(is_empty, "{} is not empty: name another folder with --output", folder.display());
    Ok(())
}
