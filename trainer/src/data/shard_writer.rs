//! Writes a split of a dataset as WebDataset shards.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// Writes tar files `SPLIT-000000.tar`... with at most `photos_per_shard` photos each. The output is deterministic.
pub struct ShardWriter {
    folder: PathBuf,
    split: &'static str,
    photos_per_shard: NonZero<usize>,
    photos: usize,
    /// Total size of the photos, in bytes.
    bytes: usize,
    shard: Option<(PathBuf, Builder<BufWriter<File>>)>,
}

/// Size of a written split.
#[derive(Clone, Copy, Debug, Default)]
pub struct SplitStats {
    pub photos: usize,
    pub shards: usize,
    /// Total size of the photos, in bytes.
    pub bytes: usize,
}

impl ShardWriter {
    /// Creates a writer of the shards `SPLIT-*.tar` in `folder`. They are created when photos are added.
    pub fn new(folder: &Path, split: &'static str, photos_per_shard: NonZero<usize>) -> Self {
        ShardWriter { folder: folder.to_owned(), split, photos_per_shard, photos: 0, bytes: 0, shard: None }
    }

    /// Appends a photo as `00000000.EXTENSION` (numbered consecutively) and its class as `00000000.cls`.
    ///
    /// # Errors
    /// Returns an error if the shard cannot be written.
    pub fn add(&mut self, photo: &[u8], extension: &str, class: usize) -> Result<()> {
        if self.photos.is_multiple_of(self.photos_per_shard.get()) {
            self.close()?;
            let number = self.photos / self.photos_per_shard;
            let path = self.folder.join(format!("{}-{number:06}.tar", self.split));
            let file = File::create_new(&path).with_context(|| write_error(&path))?;
            self.shard = Some((path, Builder::new(BufWriter::new(file))));
        }
        let (path, tar) = self.shard.as_mut().expect("the first photo opens the first shard");
        let key = format!("{:08}", self.photos);
        append_member(tar, &format!("{key}.{extension}"), photo).with_context(|| write_error(path))?;
        append_member(tar, &format!("{key}.cls"), class.to_string().as_bytes()).with_context(|| write_error(path))?;
        self.photos += 1;
        self.bytes += photo.len();
        Ok(())
    }

    /// Finishes the last shard, flushes it to the operating system, and returns the size of the split.
    ///
    /// # Errors
    /// Returns an error if the shard cannot be written.
    pub fn finish(mut self) -> Result<SplitStats> {
        self.close()?;
        let ShardWriter { photos, bytes, photos_per_shard, .. } = self;
        Ok(SplitStats { photos, shards: photos.div_ceil(photos_per_shard.get()), bytes })
    }

    fn close(&mut self) -> Result<()> {
        let Some((path, tar)) = self.shard.take() else { return Ok(()) };
        tar.into_inner().and_then(|mut file| file.flush()).with_context(|| write_error(&path))
    }
}

fn write_error(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

/// Appends a file with owner 0 and modification time 0, so that the output is deterministic.
fn append_member(tar: &mut Builder<BufWriter<File>>, name: &str, data: &[u8]) -> std::io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    tar.append_data(&mut header, name, data)
}
