//! Sequential reading of a pickle's bytes, which counts them and never allocates more than the file holds.

use super::PthError;
use std::io::{self, BufRead, Read};

/// Maximum size of one pickle, and of one string in it, in bytes. A ResNet-152 needs a few hundred thousand.
pub(super) const MAX_BYTES: u64 = 1 << 26;

pub(super) struct ByteReader<R> {
    reader: R,
    /// Offset of the next byte.
    offset: u64,
    /// Size of the data, in bytes.
    length: u64,
}

impl<R: BufRead> ByteReader<R> {
    /// Creates a reader; `reader` is at the first byte of a file, or of a part of one, of `length` bytes.
    pub(super) fn new(reader: R, length: u64) -> Self {
        ByteReader { reader, offset: 0, length }
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], PthError> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(|error| self.read_error(error))?;
        self.offset += N as u64;
        Ok(bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8, PthError> {
        Ok(self.array::<1>()?[0])
    }

    /// Reads `count` bytes; memory is allocated only if that many bytes remain.
    pub(super) fn bytes(&mut self, count: u64) -> Result<Vec<u8>, PthError> {
        self.check(count)?;
        if count > MAX_BYTES {
            return Err(PthError::PickleTooLarge { what: "bytes", limit: MAX_BYTES });
        }
        let mut bytes = vec![0; count as usize];
        self.reader.read_exact(&mut bytes).map_err(|error| self.read_error(error))?;
        self.offset += count;
        Ok(bytes)
    }

    /// Skips `count` bytes.
    pub(super) fn skip(&mut self, count: u64) -> Result<(), PthError> {
        self.check(count)?;
        io::copy(&mut self.reader.by_ref().take(count), &mut io::sink())?;
        self.offset += count;
        Ok(())
    }

    /// Reads up to the end of the line, and drops the newline.
    pub(super) fn line(&mut self) -> Result<Vec<u8>, PthError> {
        // Lines hold the names of modules and classes, and numbers.
        const MAX_LINE: u64 = 1024;
        let mut line = Vec::new();
        self.reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        self.offset += line.len() as u64;
        match line.pop() {
            Some(b'\n') => Ok(line),
            Some(_) if line.len() as u64 + 1 == MAX_LINE => {
                Err(PthError::PickleTooLarge { what: "bytes in a line", limit: MAX_LINE })
            }
            _ => Err(PthError::PickleTruncated { offset: self.offset }),
        }
    }

    fn check(&self, count: u64) -> Result<(), PthError> {
        match count <= self.length.saturating_sub(self.offset) {
            true => Ok(()),
            false => Err(PthError::PickleTruncated { offset: self.offset }),
        }
    }

    fn read_error(&self, error: io::Error) -> PthError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => PthError::PickleTruncated { offset: self.offset },
            _ => error.into(),
        }
    }
}
