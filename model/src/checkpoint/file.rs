//! Checkpoints on disk: reading by path, and atomic writing, so that a reader sees either the old or the new file.

use super::{Checkpoint, CheckpointError, CheckpointStream};
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

impl Checkpoint {
    /// Reads a file like [`Checkpoint::from_bytes`]. Its header is validated before memory is allocated for the
    /// tensors.
    ///
    /// # Errors
    /// Returns the errors of [`Checkpoint::from_bytes`] and of reading the file, with its path.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let path = path.as_ref();
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

    /// Writes [`Checkpoint::to_bytes`] to a file, atomically: see [`write_atomically`].
    ///
    /// # Errors
    /// Returns an error with the path if the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), CheckpointError> {
        let path = path.as_ref();
        write_atomically(path, &self.to_bytes()).map_err(|error| in_file(path, error.into()))
    }
}

/// Reads a file of `length` bytes. The whole header is validated before memory is allocated for the tensors.
fn read(mut reader: impl Read, length: u64) -> Result<Checkpoint, CheckpointError> {
    let mut stream = CheckpointStream::new(length);
    // One buffer for all tensors: most of the time of reading is spent on touching memory for the first time.
    let mut bytes = Vec::new();
    while let Some(size) = stream.next_part_size()? {
        bytes.resize(size, 0);
        reader.read_exact(&mut bytes)?;
        stream.push_part(&bytes)?;
    }
    stream.finish()
}

fn in_file(path: &Path, reason: CheckpointError) -> CheckpointError {
    CheckpointError::File { path: path.to_owned(), reason: Box::new(reason) }
}

/// Writes a file by writing a temporary file in the same folder, syncing it to disk and renaming it. If the machine
/// crashes at any time, the file is either the old or the new one.
///
/// # Errors
/// Returns an error if `path` has no file name, if its folder does not exist, or if writing fails.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::other("no file name"))?;
    // The parent of a bare file name is the empty path, which cannot be opened.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        let message = format!("there is no folder {}", folder.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    let prefix = format!(".{}.", name.to_string_lossy());
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".partial");
    // Temporary files are private by default; a checkpoint gets the permissions of any new file of the user.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    // Syncs the rename itself. If the folder cannot be opened for that, the file has been written nevertheless.
    #[cfg(unix)]
    File::open(folder).and_then(|folder| folder.sync_all()).ok();
    Ok(())
}
