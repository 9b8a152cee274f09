//! The corpus of a target, run without a fuzzer: what once went wrong stays mended.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;
use std::{fs, thread};

/// Of one file. Almost all take a thousandth of it.
const LIMIT: Duration = Duration::from_secs(10);

/// Runs every file of `fuzz/corpus/<target>`, and names the one that fails or does not end.
pub fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let listed = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = listed.map(|file| file.expect("it was listed").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    for file in files {
        let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let (done, ended) = mpsc::channel();
        let run = thread::spawn(move || {
            check(&bytes);
            done.send(()).ok();
        });
        match ended.recv_timeout(LIMIT) {
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("{} takes longer than {LIMIT:?}", file.display()),
            _ => assert!(run.join().is_ok(), "{} fails; what went wrong stands above", file.display()),
        }
    }
}
