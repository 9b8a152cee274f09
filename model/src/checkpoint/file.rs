//! Checkpoints on a disk: read by path, and written so that a reader sees the old file or the new one, never a half.

use super::{Checkpoint, CheckpointError, Incoming};
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

pub(super) fn from_path(path: &Path) -> Result<Checkpoint, CheckpointError> {
    let open = || -> io::Result<(File, u64)> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("not a file"));
        }
        Ok((file, metadata.len()))
    };
    let result = open().map_err(CheckpointError::from);
    result.and_then(|(file, length)| read(BufReader::new(file), length)).map_err(|error| in_file(path, error))
}

/// The header is judged as a whole before memory is taken for the tensors.
fn read(mut reader: impl Read, length: u64) -> Result<Checkpoint, CheckpointError> {
    let mut incoming = Incoming::new(length);
    // One for all: memory that is touched for the first time is what reading spends most of its time on.
    let mut bytes = Vec::new();
    while let Some(needed) = incoming.needed()? {
        bytes.resize(needed, 0);
        reader.read_exact(&mut bytes)?;
        incoming.take(&bytes)?;
    }
    incoming.finish()
}

pub(super) fn save(checkpoint: &Checkpoint, path: &Path) -> Result<(), CheckpointError> {
    write_atomically(path, &checkpoint.to_bytes()).map_err(|error| in_file(path, error.into()))
}

fn in_file(path: &Path, reason: CheckpointError) -> CheckpointError {
    CheckpointError::File { path: path.to_owned(), reason: Box::new(reason) }
}

/// Writes a neighbour, brings it to the disk, and renames it: whenever the machine stops, the file is the old one or the
/// new one.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::other("no file name"))?;
    // The parent of a bare name is the empty path, which cannot be opened.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        let message = format!("there is no folder {}", folder.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    let prefix = format!(".{}.", name.to_string_lossy());
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".partial");
    // Temporary files are private by default; a checkpoint is as readable as any file that the user makes.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    // The rename itself; a folder that cannot be opened for it has the file all the same.
    #[cfg(unix)]
    File::open(folder).and_then(|folder| folder.sync_all()).ok();
    Ok(())
}
