//! A file that is coming: `NAME.part`, hashed as it grows, and what must be known to go on with it another time.

use super::cache::with_suffix;
use anyhow::{Context, Error, Result, anyhow};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// No checkpoint of a network here is a quarter as large.
pub const MAX_BYTES: u64 = 2_000_000_000;

pub struct Part {
    /// What it becomes.
    whole: PathBuf,
    path: PathBuf,
    file: File,
    length: u64,
    hash: Sha256,
    /// Whether there is anything of another process in it.
    is_inherited: bool,
    /// The server's word for the version that these bytes are of, if it had one (`ETag`).
    version: Option<String>,
}

impl Part {
    /// What came before, or nothing yet.
    pub fn open(whole: &Path) -> Result<Self> {
        let path = with_suffix(whole, ".part");
        let open = || -> io::Result<(File, u64, Sha256)> {
            let mut file = File::options().read(true).append(true).create(true).open(&path)?;
            let mut hash = Sha256::new();
            let length = hash_into(&mut file, &mut hash)?;
            Ok((file, length, hash))
        };
        let (file, length, hash) = open().with_context(|| path.display().to_string())?;
        let version = fs::read_to_string(version_path(&path)).ok();
        Ok(Part { whole: whole.to_owned(), path, file, length, hash, is_inherited: length > 0, version })
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn is_inherited(&self) -> bool {
        self.is_inherited
    }

    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Begins anew, with the bytes of another version.
    pub fn restart(&mut self, version: Option<String>) -> Result<()> {
        let begin = || -> io::Result<()> {
            self.file.set_len(0)?;
            match &version {
                Some(version) => fs::write(version_path(&self.path), version),
                None => gone(fs::remove_file(version_path(&self.path))),
            }
        };
        begin().map_err(|error| self.unwritable(error))?;
        (self.length, self.hash, self.version) = (0, Sha256::new(), version);
        self.is_inherited = false;
        Ok(())
    }

    /// # Errors
    /// If the disk is full, or if it becomes too large.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.length + bytes.len() as u64 > MAX_BYTES {
            return Err(anyhow!("more than {MAX_BYTES} bytes came, which is no checkpoint of a ResNet"));
        }
        self.file.write_all(bytes).map_err(|error| self.unwritable(error))?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// The SHA-256 of what is there, in hexadecimal digits.
    pub fn hash(&self) -> String {
        hexadecimal(self.hash.clone())
    }

    /// Brings it to the disk and gives it its name.
    pub fn finish(self) -> Result<()> {
        let finish = || -> io::Result<()> {
            self.file.sync_all()?;
            fs::rename(&self.path, &self.whole)?;
            gone(fs::remove_file(version_path(&self.path)))?;
            // The rename itself; a folder that cannot be opened for it has the file all the same.
            #[cfg(unix)]
            if let Some(folder) = self.whole.parent() {
                File::open(folder).and_then(|folder| folder.sync_all()).ok();
            }
            Ok(())
        };
        finish().map_err(|error| self.unwritable(error))
    }

    pub fn delete(self) -> Result<()> {
        gone(fs::remove_file(version_path(&self.path)))?;
        gone(fs::remove_file(&self.path)).with_context(|| self.path.display().to_string())
    }

    fn unwritable(&self, error: io::Error) -> Error {
        let full = [ErrorKind::StorageFull, ErrorKind::FileTooLarge, ErrorKind::QuotaExceeded].contains(&error.kind());
        let path = self.path.display();
        match full {
            true => {
                anyhow!(error).context(format!("{path}: the disk is full: make room, and the same command goes on"))
            }
            false => anyhow!(error).context(format!("{path} cannot be written")),
        }
    }
}

fn version_path(part: &Path) -> PathBuf {
    with_suffix(part, ".etag")
}

/// Whether something was there before does not matter.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Of a whole file.
pub fn sha256(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    hash_into(&mut File::open(path)?, &mut hash)?;
    Ok(hexadecimal(hash))
}

fn hash_into(file: &mut File, hash: &mut Sha256) -> io::Result<u64> {
    let (mut length, mut buffer) = (0, vec![0; 1 << 18]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(length),
            count => {
                hash.update(&buffer[..count]);
                length += count as u64;
            }
        }
    }
}

fn hexadecimal(hash: Sha256) -> String {
    hex::encode(hash.finalize())
}
