//! Fuzzes the reading of checkpoints. The inputs of a fuzzer are too small for a whole network, so a header without
//! data is completed.
#![cfg_attr(fuzzing, no_main)]

use model::checkpoint::{Checkpoint, CheckpointError, CheckpointStream};
use model::plan::Plan;

#[cfg(fuzzing)]
#[path = "../peak.rs"]
mod peak;
#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check(bytes));

/// Maximum size of a completed file, in bytes; an int8 ResNet-18 fits.
const MAX_FILE: u64 = 12 << 20;

/// Checks that a file gives a checkpoint or an error with a message, the same at once and in pieces, and that a
/// checkpoint can be folded, written and read again.
pub fn check(bytes: &[u8]) {
    let (read, peak) = crate::peak::measure(|| Checkpoint::from_bytes(bytes));
    // A header of many small tensors takes memory for names, shapes and maps.
    let allowed = 32 * bytes.len() + (1 << 20);
    assert!(peak <= allowed, "a file of {} bytes took {peak} bytes of memory; {allowed} are allowed", bytes.len());
    let in_pieces = in_pieces(bytes, bytes.len() as u64);
    match (read, in_pieces) {
        (Ok(checkpoint), Ok(_)) => check_accepted(&checkpoint),
        (Err(error), Err(same)) => {
            assert_same_error(&error, &same);
            if let CheckpointError::Truncated { needed, .. } = error
                && needed <= MAX_FILE
            {
                check_completed(bytes, needed);
            }
        }
        (read, in_pieces) => panic!("{:?} at once, {:?} in pieces", read.err(), in_pieces.err()),
    }
}

fn in_pieces(bytes: &[u8], length: u64) -> Result<Checkpoint, CheckpointError> {
    let mut stream = CheckpointStream::new(length);
    // The pieces end within the header's length, within the header and within tensors.
    for piece in bytes.chunks(5 + bytes.len() / 7) {
        stream.push(piece)?;
    }
    stream.finish()
}

/// Checks the file after repeating its last bytes up to the length that its header declares.
fn check_completed(bytes: &[u8], length: u64) {
    // Most headers are rejected, for which no data is needed.
    if let Err(error) = CheckpointStream::new(length).push(bytes) {
        return assert!(!error.to_string().is_empty());
    }
    let last = &bytes[bytes.len().saturating_sub(8)..];
    let mut file = bytes.to_vec();
    file.extend(last.iter().cycle().take(length as usize - bytes.len()));
    let (read, peak) = crate::peak::measure(|| Checkpoint::from_bytes(&file));
    let allowed = 32 * bytes.len() + 4 * file.len() + (1 << 20);
    assert!(peak <= allowed, "a file of {} bytes took {peak} bytes of memory; {allowed} are allowed", file.len());
    match read {
        Ok(checkpoint) => check_accepted(&checkpoint),
        Err(error) => assert_same_error(&error, &in_pieces(&file, length).expect_err("the file was rejected at once")),
    }
}

fn check_accepted(checkpoint: &Checkpoint) {
    let bytes = checkpoint.to_bytes();
    let again = Checkpoint::from_bytes(&bytes).expect("a written checkpoint is valid");
    assert!(again.to_bytes() == bytes, "equal content gives equal bytes");
    assert_eq!(again.metadata(), checkpoint.metadata());
    Plan::new(checkpoint);
}

fn assert_same_error(error: &CheckpointError, same: &CheckpointError) {
    let message = error.to_string();
    assert_eq!(message, same.to_string());
    assert!(!message.is_empty());
}
