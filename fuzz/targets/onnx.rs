//! Fuzzes the import of ONNX files.
#![cfg_attr(fuzzing, no_main)]

use model::onnx::{OnnxError, import};
use std::io::Write;

#[cfg(fuzzing)]
#[path = "../peak.rs"]
mod peak;
#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check(bytes));

/// Maximum memory in bytes for the layers of all known architectures, with which a network is compared.
const MAX_ARCHITECTURES: usize = 4 << 20;

/// Checks that a file gives a checkpoint, or an error with a message, and that memory is bounded by a multiple of its size.
pub fn check(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder can be created");
    let path = folder.path().join("model.onnx");
    let mut file = std::fs::File::create(&path).expect("the temporary file can be created");
    file.write_all(bytes).expect("the temporary file can be written");
    let (imported, peak) = crate::peak::measure(|| import(&path));
    let allowed = 512 * bytes.len() + MAX_ARCHITECTURES;
    assert!(peak <= allowed, "a file of {} bytes took {peak} bytes of memory; {allowed} are allowed", bytes.len());
    let reason = match imported {
        Ok(_) => return,
        Err(OnnxError::File { reason, .. }) => *reason,
        Err(error) => panic!("the error does not name the file: {error}"),
    };
    assert!(!reason.to_string().is_empty());
    assert!(!matches!(reason, OnnxError::Io(_)), "an invalid file must have a specific error: {reason}");
}
