//! Size of a checkpoint after compression, which shows what zeros save.

use anyhow::Result;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{self, Write};

/// Returns the size of the checkpoint's file compressed with gzip at its default level, in bytes.
///
/// # Errors
/// Returns an error if the compressor fails.
pub fn gzip_bytes(file: &[u8]) -> Result<u64> {
    let mut encoder = GzEncoder::new(ByteCounter(0), Compression::default());
    encoder.write_all(file)?;
    Ok(encoder.finish()?.0)
}

/// Counts the bytes that are written.
struct ByteCounter(u64);

impl Write for ByteCounter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::random;

    #[test]
    fn zeros_take_almost_no_space() {
        let random = random::pixels(1, 50_000);
        let half = [random.clone(), vec![0; 50_000]].concat();
        let [random, half] = [random, half].map(|bytes| gzip_bytes(&bytes).unwrap());
        assert!(random > 49_000 && half < random + 500, "{random} {half}");
    }
}
