//! Replays the corpus of a fuzz target without a fuzzer, as a regression test.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;
use std::{fs, thread};

/// Time limit of one file. Almost all files take a thousandth of it.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Runs `check` on every file of `fuzz/corpus/<target>`; panics with the path of a file that fails or exceeds the
/// time limit.
pub fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let listed = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = listed.map(|file| file.expect("the folder is readable").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    for file in files {
        let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let (sender, receiver) = mpsc::channel();
        let run = thread::spawn(move || {
            check(&bytes);
            sender.send(()).ok();
        });
        match receiver.recv_timeout(TIME_LIMIT) {
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("{} takes longer than {TIME_LIMIT:?}", file.display()),
            _ => assert!(run.join().is_ok(), "{} fails; see the panic message above", file.display()),
        }
    }
}
