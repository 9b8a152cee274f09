//! Photos in folders: which files are photos, their limits, and reading them.

use anyhow::{Context, Result};
use model::prediction::Failure;
use model::preprocess::Limits;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Extensions of the files that count as photos in a folder. A file that is given explicitly may have any name.
pub const EXTENSIONS: [&str; 6] = ["jpg", "jpeg", "png", "webp", "gif", "bmp"];

/// Limits for decoding a user's own photos. They are far above those of the server, but a photo still fits into the
/// memory of a common machine.
pub const LIMITS: Limits = Limits { bytes: 256 << 20, pixels: 1 << 29, memory: 4 << 30 };

/// Reads a file, but at most one byte more than [`LIMITS`] allows, so that decoding rejects larger files.
///
/// # Errors
/// Returns a failure with the code `unreadable` if the file cannot be read.
pub fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let limit = LIMITS.bytes as u64 + 1;
    let read = File::open(file).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    read.map_err(|error| Failure::new("unreadable", error))?;
    Ok(bytes)
}

/// Appends the photos of a folder and its subfolders to `files`, in order of their names. Links to folders are not
/// followed.
///
/// # Errors
/// Returns an error if a folder cannot be listed.
pub fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    walk(folder, &mut |file| files.extend(is_photo(&file).then_some(file)))
}

/// Returns whether the file has a photo's extension.
pub fn is_photo(file: &Path) -> bool {
    let extension = file.extension().unwrap_or_default().to_ascii_lowercase();
    EXTENSIONS.iter().any(|known| extension == *known)
}

/// Visits all files of a folder and its subfolders, in order of their names. Links to folders are not followed.
///
/// # Errors
/// Returns an error if a folder cannot be listed.
pub fn walk(folder: &Path, visit: &mut impl FnMut(PathBuf)) -> Result<()> {
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let mut entries = entries.with_context(|| format!("cannot list {}", folder.display()))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        // `file_type` does not follow links, which may form cycles.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, visit)?;
        } else if path.is_file() {
            visit(path);
        }
    }
    Ok(())
}
