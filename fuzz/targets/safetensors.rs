//! A checkpoint. No whole network fits into what a fuzzer makes up, so a header whose data is missing gets some.
#![cfg_attr(fuzzing, no_main)]

use model::checkpoint::{Checkpoint, CheckpointError, Incoming};
use model::plan::Plan;

#[cfg(fuzzing)]
#[path = "../peak.rs"]
mod peak;
#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check(bytes));

/// Of a file that is filled up: a ResNet-18 of int8 fits.
const MAX_FILE: u64 = 12 << 20;

/// A checkpoint or an error that says something, whether the file comes at once or in pieces; and what is accepted can be
/// folded, written, and read again.
pub fn check(bytes: &[u8]) {
    let (read, taken) = crate::peak::of(|| Checkpoint::from_bytes(bytes));
    // Of a header of many small tensors: its names, shapes and maps of them.
    let allowed = 32 * bytes.len() + (1 << 20);
    assert!(taken <= allowed, "{} bytes took {taken} bytes of memory; {allowed} are allowed", bytes.len());
    let in_pieces = in_pieces(bytes, bytes.len() as u64);
    match (read, in_pieces) {
        (Ok(checkpoint), Ok(_)) => check_accepted(&checkpoint),
        (Err(error), Err(same)) => {
            assert_clear(&error, &same);
            if let CheckpointError::Truncated { needed, .. } = error
                && needed <= MAX_FILE
            {
                check_filled(bytes, needed);
            }
        }
        (read, in_pieces) => panic!("{:?} at once, {:?} in pieces", read.err(), in_pieces.err()),
    }
}

fn in_pieces(bytes: &[u8], length: u64) -> Result<Checkpoint, CheckpointError> {
    let mut incoming = Incoming::new(length);
    // Some end within the length of the header, some within the header, some within tensors.
    for piece in bytes.chunks(5 + bytes.len() / 7) {
        incoming.push(piece)?;
    }
    incoming.finish()
}

/// The file as long as its header says, its last bytes repeated.
fn check_filled(bytes: &[u8], length: u64) {
    // Most headers are refused, which needs no data.
    if let Err(error) = Incoming::new(length).push(bytes) {
        return assert!(!error.to_string().is_empty());
    }
    let last = &bytes[bytes.len().saturating_sub(8)..];
    let mut file = bytes.to_vec();
    file.extend(last.iter().cycle().take(length as usize - bytes.len()));
    let (read, taken) = crate::peak::of(|| Checkpoint::from_bytes(&file));
    let allowed = 32 * bytes.len() + 4 * file.len() + (1 << 20);
    assert!(taken <= allowed, "{} bytes took {taken} bytes of memory; {allowed} are allowed", file.len());
    match read {
        Ok(checkpoint) => check_accepted(&checkpoint),
        Err(error) => assert_clear(&error, &in_pieces(&file, length).expect_err("it was refused")),
    }
}

fn check_accepted(checkpoint: &Checkpoint) {
    let bytes = checkpoint.to_bytes();
    let again = Checkpoint::from_bytes(&bytes).expect("we wrote it");
    assert!(again.to_bytes() == bytes, "written again, it has other bytes");
    assert_eq!(again.metadata(), checkpoint.metadata());
    Plan::new(checkpoint);
}

fn assert_clear(error: &CheckpointError, same: &CheckpointError) {
    let message = error.to_string();
    assert_eq!(message, same.to_string());
    assert!(!message.is_empty());
}
