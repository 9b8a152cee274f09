//! A file of PyTorch's, as the trainer imports it. What is neither an archive nor a legacy file is taken for the pickle
//! of an archive, which a fuzzer cannot make up for its checksums.
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

/// What an archive can take whose end announces 65,535 entries that are not there.
const DIRECTORY: usize = 16 << 20;

/// What tensors can take that are views of little: as they are stored, and as they are returned.
const EXPANDED: usize = 4 << 24;

/// Weights or an error that says something; memory within a multiple of the file.
pub fn check(bytes: &[u8]) {
    if let Err(error) = check_file(bytes)
        && matches!(error, PthError::NotTorch)
    {
        check_file(&archive(bytes)).ok();
    }
}

fn check_file(bytes: &[u8]) -> Result<(), PthError> {
    let mut file = tempfile::NamedTempFile::new().expect("there is a folder for temporary files");
    file.write_all(bytes).expect("it can be written");
    let (read, taken) = crate::peak::of(|| weights(file.path()));
    let allowed = 256 * bytes.len() + DIRECTORY + EXPANDED;
    assert!(taken <= allowed, "{} bytes took {taken} bytes of memory; {allowed} are allowed", bytes.len());
    let reason = match read {
        Ok(()) => return Ok(()),
        Err(PthError::File { reason, .. }) => *reason,
        Err(error) => error,
    };
    assert!(!reason.to_string().is_empty());
    assert!(!matches!(reason, PthError::Io(_)), "whatever is wrong with the file has a name of its own: {reason}");
    Err(reason)
}

/// All that can be asked for.
fn weights(path: &Path) -> Result<(), PthError> {
    let mut weights = StateDict::open(path)?;
    let values = weights.values()?;
    for (name, shape) in weights.shapes() {
        assert_eq!(values[name].len(), shape.iter().product::<usize>(), "{name}");
    }
    assert_eq!(values.len(), weights.shapes().count());
    weights.into_checkpoint().map(drop)
}

/// The pickle in an archive as `torch.save` writes them, with a few storages.
fn archive(pickle: &[u8]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let numbers: Vec<u8> = (0..64).collect();
    let storages = ["weights/data/0", "weights/data/1", "weights/data/2"].map(|name| (name, numbers.as_slice()));
    for (name, bytes) in [("weights/data.pkl", pickle)].into_iter().chain(storages) {
        archive.start_file(name, stored).and_then(|()| Ok(archive.write_all(bytes)?)).expect("it is written to memory");
    }
    archive.finish().expect("it is written to memory").into_inner()
}
