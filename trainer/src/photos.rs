//! Photos as they lie in folders.

use anyhow::{Context, Result};
use model::prediction::Failure;
use model::preprocess::Limits;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What is taken from a folder; a file that is named itself may be called anything.
pub const EXTENSIONS: [&str; 6] = ["jpg", "jpeg", "png", "webp", "gif", "bmp"];

/// One's own photos on one's own machine: far beyond what a server accepts, but not the whole memory.
pub const LIMITS: Limits = Limits { bytes: 256 << 20, pixels: 1 << 29, memory: 4 << 30 };

/// The bytes of a file, unless there are too many: whatever it is, no more are read than a photo may have.
pub fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let limit = LIMITS.bytes as u64 + 1;
    let read = File::open(file).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    read.map_err(|error| Failure::new("unreadable", error))?;
    Ok(bytes)
}

/// Appends the photos of a folder and its subfolders, in order of their names; links to folders are not followed.
pub fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    walk(folder, &mut |file| files.extend(is_photo(&file).then_some(file)))
}

/// By its name.
pub fn is_photo(file: &Path) -> bool {
    let extension = file.extension().unwrap_or_default().to_ascii_lowercase();
    EXTENSIONS.iter().any(|known| extension == *known)
}

/// Every file of a folder and its subfolders, in order of their names; links to folders are not followed.
pub fn walk(folder: &Path, visit: &mut impl FnMut(PathBuf)) -> Result<()> {
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let mut entries = entries.with_context(|| format!("{} cannot be listed", folder.display()))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        // A link to a folder may lead round in circles.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, visit)?;
        } else if path.is_file() {
            visit(path);
        }
    }
    Ok(())
}
