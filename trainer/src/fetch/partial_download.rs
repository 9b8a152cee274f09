//! An incomplete download: the file `NAME.part`, hashed as it grows, and its ETag in `NAME.part.etag`, with which a
//! later process resumes it.

use super::cache::with_suffix;
use anyhow::{Context, Error, Result, anyhow};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// Maximum size of a download, in bytes: almost four times the largest supported checkpoint (Wide ResNet-101-2 in f32).
pub const MAX_BYTES: u64 = 2_000_000_000;

/// An incomplete download of one file.
pub struct PartialDownload {
    /// Path of the complete file.
    destination: PathBuf,
    path: PathBuf,
    file: File,
    length: u64,
    hash: Sha256,
    /// Whether the file contains bytes of an earlier process.
    is_resumed: bool,
    /// `ETag` of the version that the bytes belong to, if the server sent one.
    etag: Option<String>,
}

impl PartialDownload {
    /// Opens the partial download of a file, or creates an empty one.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened or read.
    pub fn open(destination: &Path) -> Result<Self> {
        let path = with_suffix(destination, ".part");
        let open = || -> io::Result<(File, u64, Sha256)> {
            let mut file = File::options().read(true).append(true).create(true).open(&path)?;
            let mut hash = Sha256::new();
            let length = update_from_file(&mut hash, &mut file)?;
            Ok((file, length, hash))
        };
        let (file, length, hash) = open().with_context(|| path.display().to_string())?;
        let etag = fs::read_to_string(etag_path(&path)).ok();
        Ok(PartialDownload {
            destination: destination.to_owned(),
            path,
            file,
            length,
            hash,
            is_resumed: length > 0,
            etag,
        })
    }

    /// Returns the number of bytes so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns whether the file contains bytes of an earlier process.
    pub fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// Returns the `ETag` of the version that the bytes belong to, if the server sent one.
    pub fn etag(&self) -> Option<&str> {
        self.etag.as_deref()
    }

    /// Discards all bytes, and records the ETag of those that follow.
    ///
    /// # Errors
    /// Returns an error if a file cannot be written.
    pub fn restart(&mut self, etag: Option<String>) -> Result<()> {
        let restart = || -> io::Result<()> {
            self.file.set_len(0)?;
            match &etag {
                Some(etag) => fs::write(etag_path(&self.path), etag),
                None => ignore_not_found(fs::remove_file(etag_path(&self.path))),
            }
        };
        restart().map_err(|error| self.write_error(error))?;
        (self.length, self.hash, self.etag) = (0, Sha256::new(), etag);
        self.is_resumed = false;
        Ok(())
    }

    /// Appends bytes to the file and to the hash.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written, or if it would become larger than [`MAX_BYTES`].
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.length + bytes.len() as u64 > MAX_BYTES {
            return Err(anyhow!("download exceeds the limit of {MAX_BYTES} bytes"));
        }
        self.file.write_all(bytes).map_err(|error| self.write_error(error))?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Returns the SHA-256 of all bytes so far, as hexadecimal digits.
    pub fn hash(&self) -> String {
        hex::encode(self.hash.clone().finalize())
    }

    /// Writes the file to the disk and renames it to its destination.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written or renamed.
    pub fn finish(self) -> Result<()> {
        let finish = || -> io::Result<()> {
            self.file.sync_all()?;
            fs::rename(&self.path, &self.destination)?;
            ignore_not_found(fs::remove_file(etag_path(&self.path)))?;
            // Makes the rename durable. If the folder cannot be opened for that, the file is still complete.
            #[cfg(unix)]
            if let Some(folder) = self.destination.parent() {
                File::open(folder).and_then(|folder| folder.sync_all()).ok();
            }
            Ok(())
        };
        finish().map_err(|error| self.write_error(error))
    }

    /// Deletes the file and its ETag.
    ///
    /// # Errors
    /// Returns an error if a file cannot be removed.
    pub fn delete(self) -> Result<()> {
        ignore_not_found(fs::remove_file(etag_path(&self.path)))?;
        ignore_not_found(fs::remove_file(&self.path)).with_context(|| self.path.display().to_string())
    }

    fn write_error(&self, error: io::Error) -> Error {
        let full = [ErrorKind::StorageFull, ErrorKind::FileTooLarge, ErrorKind::QuotaExceeded].contains(&error.kind());
        let path = self.path.display();
        anyhow!(error).context(match full {
            true => format!("{path}: disk is full; free some space and run the same command again to resume"),
            false => format!("cannot write {path}"),
        })
    }
}

fn etag_path(path: &Path) -> PathBuf {
    with_suffix(path, ".etag")
}

fn ignore_not_found(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Returns the SHA-256 of a file, as hexadecimal digits.
pub fn sha256(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    update_from_file(&mut hash, &mut File::open(path)?)?;
    Ok(hex::encode(hash.finalize()))
}

/// Hashes the rest of a file and returns its length.
fn update_from_file(hash: &mut Sha256, file: &mut File) -> io::Result<u64> {
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
