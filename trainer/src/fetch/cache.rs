//! The folder where what was fetched stays: `downloads` as they came, `checkpoints` as they were made of them.

use super::address::variable_of;
use anyhow::{Context, Result, bail};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

pub struct Cache {
    folder: PathBuf,
}

/// Held by the process that fills a part of the cache; the system lets go of it when that process ends.
#[must_use]
pub struct Lock(#[expect(dead_code, reason = "it is open as long as it is held")] File);

/// The variable of the environment that names the folder.
pub const VARIABLE: &str = "SHORTCUT_CACHE";

impl Cache {
    /// The folder that is named, or that of the environment, or else the user's.
    ///
    /// # Errors
    /// If there is no home, or the folder cannot be made.
    pub fn open(named: Option<PathBuf>) -> Result<Self> {
        let of = |variable: &str| variable_of(variable).map(PathBuf::from);
        // A relative one is to be ignored, says the XDG Base Directory Specification.
        let xdg = || of("XDG_CACHE_HOME").filter(|folder| folder.is_absolute());
        let users =
            || xdg().or_else(|| Some(std::env::home_dir()?.join(".cache"))).map(|folder| folder.join("shortcut"));
        let Some(folder) = named.or_else(|| of(VARIABLE)).or_else(users) else {
            bail!("there is no home to keep a cache in: name a folder with --cache or {VARIABLE}");
        };
        let cache = Cache { folder: std::path::absolute(folder)? };
        for part in ["downloads", "checkpoints"] {
            let part = cache.folder.join(part);
            fs::create_dir_all(&part).with_context(|| {
                format!("the cache {} cannot be made; name another with --cache or {VARIABLE}", part.display())
            })?;
        }
        Ok(cache)
    }

    /// Where a file of this name lies, or is to lie.
    pub fn download(&self, name: &str) -> PathBuf {
        self.folder.join("downloads").join(name)
    }

    pub fn checkpoint(&self, name: &str) -> PathBuf {
        self.folder.join("checkpoints").join(name)
    }

    /// Waits until no other process fetches the same. `waiting` is called if there is one.
    ///
    /// # Errors
    /// If the file system knows no locks.
    pub fn lock(&self, path: &Path, waiting: impl FnOnce()) -> Result<Lock> {
        let path = with_suffix(path, ".lock");
        let lock = || -> std::io::Result<File> {
            // It stays: whoever deleted it would part those who wait for it from those who come.
            let file = File::options().create(true).append(true).open(&path)?;
            match file.try_lock() {
                Ok(()) => (),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => {
                    waiting();
                    file.lock()?;
                }
            }
            Ok(file)
        };
        Ok(Lock(lock().with_context(|| format!("{} cannot be locked", path.display()))?))
    }
}

/// `model.safetensors.part`, whatever the name ends with.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut whole = path.as_os_str().to_owned();
    whole.push(suffix);
    PathBuf::from(whole)
}
