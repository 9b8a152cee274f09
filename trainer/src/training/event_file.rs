//! Event files of TensorBoard, as sequences of records: the TFRecord format, see
//! <https://www.tensorflow.org/tutorials/load_data/tfrecord>. The content of the records is defined in `tensorboard`.
//!
//! A record consists of its length (u64), the checksum of the length, the payload, and the checksum of the payload. All
//! numbers are little-endian, and checksums are masked CRC-32C. The crates `tfrecord` and `tensorboard-rs` were
//! considered, but they depend on old versions of `prost` and `image`, which would be compiled in addition to the
//! current ones.

use anyhow::{Context, Result};
use model::checkpoint::write_atomically;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Parts of the names `events.out.tfevents.SECONDS.shortcut`. TensorBoard reads all files whose name contains
/// `tfevents`, in the order of their names.
const PREFIX: &str = "events.out.tfevents.";
const SUFFIX: &str = ".shortcut";

/// Number of bytes before and after a payload.
const HEADER: usize = 12;
const FOOTER: usize = 4;

/// An event file that is being written.
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Creates a file that is named after the time, and whose name comes after those of the folder's other event files.
    ///
    /// # Errors
    /// Returns an error if the file cannot be created.
    pub fn create(folder: &Path) -> Result<Self> {
        let after_others = list(folder)?.last().map_or(0, |(seconds, _)| seconds + 1);
        let seconds = (seconds_since_1970() as u64).max(after_others);
        let path = folder.join(format!("{PREFIX}{seconds}{SUFFIX}"));
        let file = File::create_new(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(EventFile { path, file })
    }

    /// Appends a record.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn append(&mut self, payload: &[u8]) -> Result<()> {
        let written = self.file.write_all(&encode(payload));
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Removes the records for which `keep` returns false from the event files of a folder, and everything from the first
/// damaged record of a file on: a killed program may have written only a part of the last record.
///
/// # Errors
/// Returns an error if a file cannot be read or written. It is then unchanged.
pub fn retain(folder: &Path, keep: impl Fn(&[u8]) -> bool) -> Result<()> {
    for (_, path) in list(folder)? {
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let kept: Vec<u8> = Records(&bytes).filter(|payload| keep(payload)).flat_map(encode).collect();
        if kept != bytes {
            write_atomically(&path, &kept).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}

/// Returns the time in seconds since 1970.
pub fn seconds_since_1970() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Returns the event files of a folder, in order of the seconds in their names. Files of other programs are left out.
fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let context = || format!("cannot list {}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let seconds = name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(SUFFIX));
        if let Some(seconds) = seconds.and_then(|seconds| seconds.parse().ok()) {
            files.push((seconds, path));
        }
    }
    files.sort();
    Ok(files)
}

/// Iterator over the payloads of the records at the start of a file, up to the first damaged or incomplete one.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk()?;
        let (length_checksum, rest) = rest.split_first_chunk()?;
        if u32::from_le_bytes(*length_checksum) != checksum(length) {
            return None;
        }
        let (payload, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        let (payload_checksum, rest) = rest.split_first_chunk()?;
        if u32::from_le_bytes(*payload_checksum) != checksum(payload) {
            return None;
        }
        self.0 = rest;
        Some(payload)
    }
}

/// Returns the record of a payload.
fn encode(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(HEADER + payload.len() + FOOTER);
    record.extend(length);
    record.extend(checksum(&length).to_le_bytes());
    record.extend(payload);
    record.extend(checksum(payload).to_le_bytes());
    record
}

/// Returns the masked CRC-32C of the TFRecord format.
fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Returns the payloads of all records in the event files of a folder.
///
/// # Panics
/// Panics if a file cannot be read, or has a damaged record.
#[cfg(test)]
pub fn read_all(folder: &Path) -> Vec<Vec<u8>> {
    let read = |(_, path): (u64, PathBuf)| {
        let bytes = fs::read(path).unwrap();
        let payloads: Vec<_> = Records(&bytes).map(<[u8]>::to_vec).collect();
        assert_eq!(payloads.iter().map(|payload| HEADER + payload.len() + FOOTER).sum::<usize>(), bytes.len());
        payloads
    };
    list(folder).unwrap().into_iter().flat_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYLOADS: [&[u8]; 3] = [b"first", b"", b"the third"];
    /// Ends of their records in a file: each record has 16 bytes more than its payload.
    const ENDS: [usize; 3] = [21, 37, 62];

    fn payloads(file: &[u8]) -> Vec<&[u8]> {
        Records(file).collect()
    }

    /// CRC-32C of 32 zero bytes and of 0 to 31: RFC 3720, B.4. The mask is that of TensorFlow's `crc32c::Mask`, applied
    /// with Python: `((crc >> 15 | crc << 17) + 0xa282ead8) & 0xffffffff`.
    #[test]
    fn checksums_match_test_vectors() {
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(checksum(&[0; 32]), 0x0fd7_fffa);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c::crc32c(&ascending), 0x46dd_794e);
        assert_eq!(checksum(&ascending), 0x951f_7892);
    }

    #[test]
    fn truncated_files_have_the_complete_records_before_the_end() {
        let file = PAYLOADS.map(encode).concat();
        assert_eq!(file.len(), ENDS[2]);
        for length in 0..=file.len() {
            let complete = ENDS.iter().filter(|&&end| end <= length).count();
            assert_eq!(payloads(&file[..length]), PAYLOADS[..complete], "{length} bytes");
        }
    }

    #[test]
    fn damaged_records_end_a_file() {
        let file = PAYLOADS.map(encode).concat();
        for index in 0..file.len() {
            let mut damaged = file.clone();
            damaged[index] ^= 0x10;
            let intact = ENDS.iter().filter(|&&end| end <= index).count();
            assert_eq!(payloads(&damaged), PAYLOADS[..intact], "byte {index}");
        }
    }

    #[test]
    fn retain_removes_records_and_leaves_files_of_other_programs_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = EventFile::create(folder.path()).unwrap();
        PAYLOADS.iter().for_each(|payload| file.append(payload).unwrap());
        let incomplete = &encode(b"incomplete")[..20];
        file.file.write_all(incomplete).unwrap();
        let other = folder.path().join("events.out.tfevents.1.host");
        fs::write(&other, incomplete).unwrap();
        retain(folder.path(), |payload| payload != b"first").unwrap();
        assert_eq!(read_all(folder.path()), PAYLOADS[1..]);
        assert_eq!(fs::read(&other).unwrap(), incomplete);
    }

    #[test]
    fn later_files_have_later_names() {
        let folder = tempfile::tempdir().unwrap();
        let future = 1_u64 << 40;
        fs::write(folder.path().join(format!("{PREFIX}{future}{SUFFIX}")), "").unwrap();
        let paths = [0, 1].map(|_| EventFile::create(folder.path()).unwrap().path);
        assert_eq!(paths, [1, 2].map(|later| folder.path().join(format!("{PREFIX}{}{SUFFIX}", future + later))));
    }
}
