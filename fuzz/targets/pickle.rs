//! Fuzzes the import of PyTorch files. An input that is neither an archive nor a legacy file is used as the pickle of
//! an archive, since a fuzzer cannot generate the checksums of a valid archive.
#![cfg_attr(fuzzing, no_main)]

use model::checkpoint::pth::{PthError, StateDict};
use std::io::{Cursor, Write};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

#[cfg(fuzzing)]
#[path = "../peak.rs"]
mod peak;
#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check(bytes));

/// Maximum memory in bytes for the directory of an archive that declares 65,535 entries which do not exist.
const MAX_DIRECTORY: usize = 16 << 20;

/// Maximum memory in bytes for tensors that are expanded views of small storages: as stored, and as returned.
const MAX_EXPANDED: usize = 4 << 24;

/// Checks that a file gives weights, or an error with a message, and that memory is bounded by a multiple of its size.
pub fn check(bytes: &[u8]) {
    if let Err(error) = check_file(bytes)
        && matches!(error, PthError::NotTorch)
    {
        check_file(&archive(bytes)).ok();
    }
}

fn check_file(bytes: &[u8]) -> Result<(), PthError> {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file can be created");
    file.write_all(bytes).expect("the temporary file can be written");
    let (read, peak) = crate::peak::measure(|| read_all(file.path()));
    let allowed = 256 * bytes.len() + MAX_DIRECTORY + MAX_EXPANDED;
    assert!(peak <= allowed, "a file of {} bytes took {peak} bytes of memory; {allowed} are allowed", bytes.len());
    let reason = match read {
        Ok(()) => return Ok(()),
        Err(PthError::File { reason, .. }) => *reason,
        Err(error) => error,
    };
    assert!(!reason.to_string().is_empty());
    assert!(!matches!(reason, PthError::Io(_)), "an invalid file must have a specific error: {reason}");
    Err(reason)
}

/// Calls all functions that read the file.
fn read_all(path: &Path) -> Result<(), PthError> {
    let mut weights = StateDict::open(path)?;
    let values = weights.values()?;
    for (name, shape) in weights.shapes() {
        assert_eq!(values[name].len(), shape.iter().product::<usize>(), "{name}");
    }
    assert_eq!(values.len(), weights.shapes().count());
    weights.into_checkpoint().map(drop)
}

/// Wraps a pickle in an archive as `torch.save` writes it, with a few storages.
fn archive(pickle: &[u8]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let numbers: Vec<u8> = (0..64).collect();
    let storages = ["weights/data/0", "weights/data/1", "weights/data/2"].map(|name| (name, numbers.as_slice()));
    for (name, bytes) in [("weights/data.pkl", pickle)].into_iter().chain(storages) {
        archive
            .start_file(name, stored)
            .and_then(|()| Ok(archive.write_all(bytes)?))
            .expect("writing to memory succeeds");
    }
    archive.finish().expect("writing to memory succeeds").into_inner()
}
