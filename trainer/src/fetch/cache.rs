//! The download cache: a folder that contains `downloads` (files as published) and `checkpoints` (imported from them).

use super::endpoints::env_var;
use anyhow::{Context, Result, bail};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// Environment variable that sets the cache folder.
const VARIABLE: &str = "SHORTCUT_CACHE";

/// The folder of the cache.
pub struct DownloadCache {
    folder: PathBuf,
}

/// A lock on one file of the cache. The operating system releases it when the process ends.
#[must_use]
pub struct CacheLock(#[expect(dead_code, reason = "the lock is held while the file is open")] File);

impl DownloadCache {
    /// Opens the given folder, otherwise that of the environment variable, otherwise `shortcut` in the user's cache
    /// folder.
    ///
    /// # Errors
    /// Returns an error if there is no home directory, or if the folder cannot be created.
    pub fn open(folder: Option<PathBuf>) -> Result<Self> {
        let from_env = |variable: &str| env_var(variable).map(PathBuf::from);
        // The XDG Base Directory Specification says that relative paths are to be ignored.
        let xdg = || from_env("XDG_CACHE_HOME").filter(|folder| folder.is_absolute());
        let default =
            || xdg().or_else(|| Some(std::env::home_dir()?.join(".cache"))).map(|folder| folder.join("shortcut"));
        let Some(folder) = folder.or_else(|| from_env(VARIABLE)).or_else(default) else {
            bail!("no home directory for the cache; set a folder with --cache or {VARIABLE}");
        };
        let cache = DownloadCache { folder: std::path::absolute(folder)? };
        for subfolder in ["downloads", "checkpoints"] {
            let subfolder = cache.folder.join(subfolder);
            fs::create_dir_all(&subfolder).with_context(|| {
                format!(
                    "cannot create the cache folder {}; set another with --cache or {VARIABLE}",
                    subfolder.display()
                )
            })?;
        }
        Ok(cache)
    }

    /// Returns the path of the download of this name, whether it exists or not.
    pub fn download(&self, name: &str) -> PathBuf {
        self.folder.join("downloads").join(name)
    }

    /// Returns the path of the checkpoint of this name, whether it exists or not.
    pub fn checkpoint(&self, name: &str) -> PathBuf {
        self.folder.join("checkpoints").join(name)
    }

    /// Locks a file of the cache, waiting while another process holds the lock. Calls `on_wait` before it waits.
    ///
    /// # Errors
    /// Returns an error if the file system does not support locks.
    pub fn lock(&self, path: &Path, on_wait: impl FnOnce()) -> Result<CacheLock> {
        let path = with_suffix(path, ".lock");
        let lock = || -> std::io::Result<File> {
            // The lock file is never deleted: waiting and new processes would then lock different files.
            let file = File::options().create(true).append(true).open(&path)?;
            match file.try_lock() {
                Ok(()) => (),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => {
                    on_wait();
                    file.lock()?;
                }
            }
            Ok(file)
        };
        Ok(CacheLock(lock().with_context(|| format!("cannot lock {}", path.display()))?))
    }
}

/// Appends a suffix to the file name, after its extension: `model.safetensors.part`.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}
