//! The bytes of a pickle: read in order, counted, and never more of them than there are.

use super::PthError;
use std::io::{self, BufRead, Read};

/// Bytes of one pickle, or of one string in it. A ResNet-152 needs some hundred thousand.
pub(super) const MAX_BYTES: u64 = 1 << 26;

pub(super) struct Source<R> {
    reader: R,
    /// Of the next byte.
    offset: u64,
    /// Where the pickle must have ended.
    end: u64,
}

impl<R: BufRead> Source<R> {
    /// `reader` stands at the first byte of a file, or part of one, with `length` bytes.
    pub(super) fn new(reader: R, length: u64) -> Self {
        Source { reader, offset: 0, end: length }
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], PthError> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(|error| self.ended(error))?;
        self.offset += N as u64;
        Ok(bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8, PthError> {
        Ok(self.array::<1>()?[0])
    }

    /// `count` bytes; memory is taken only if the file has that many left.
    pub(super) fn bytes(&mut self, count: u64) -> Result<Vec<u8>, PthError> {
        self.check(count)?;
        if count > MAX_BYTES {
            return Err(PthError::PickleTooLarge { what: "bytes", limit: MAX_BYTES });
        }
        let mut bytes = vec![0; count as usize];
        self.reader.read_exact(&mut bytes).map_err(|error| self.ended(error))?;
        self.offset += count;
        Ok(bytes)
    }

    /// The same without keeping them.
    pub(super) fn skip(&mut self, count: u64) -> Result<(), PthError> {
        self.check(count)?;
        io::copy(&mut self.reader.by_ref().take(count), &mut io::sink())?;
        self.offset += count;
        Ok(())
    }

    /// Up to the end of a line, which is dropped.
    pub(super) fn line(&mut self) -> Result<Vec<u8>, PthError> {
        // Module and class names, and numbers: no honest line is longer.
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
        match count <= self.end.saturating_sub(self.offset) {
            true => Ok(()),
            false => Err(PthError::PickleTruncated { offset: self.offset }),
        }
    }

    fn ended(&self, error: io::Error) -> PthError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => PthError::PickleTruncated { offset: self.offset },
            _ => error.into(),
        }
    }
}
