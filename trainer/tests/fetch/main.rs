//! `trainer fetch` against scripted servers: the requests it sends, the files in its cache, and its messages.

mod broken;
mod hub;
mod hugging_face;
mod server;
mod torchvision;

use server::Server;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Returns a command `trainer fetch` that uses `server` as mirror of both services, and `cache` in `folder` as cache.
pub fn fetch(folder: &Path, server: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainer"));
    command.current_dir(folder).arg("fetch").args(arguments);
    command.env("SHORTCUT_CACHE", folder.join("cache")).env("SHORTCUT_TORCHVISION", server).env("HF_ENDPOINT", server);
    command.env("NO_PROXY", "127.0.0.1").env_remove("HF_TOKEN");
    command
}

/// Runs a command, and returns the path that it prints to stdout, and its stderr.
///
/// # Panics
/// Panics if the exit status is not 0, or if stdout has more than one line.
pub fn expect_success(command: &mut Command) -> (PathBuf, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert!(status.success(), "{stdout}{stderr}");
    let path = stdout.strip_suffix('\n').unwrap();
    assert!(!path.contains('\n'), "stdout contains only the path: {stdout}");
    (PathBuf::from(path), stderr)
}

/// Runs a command, and returns its stderr.
///
/// # Panics
/// Panics if the exit status is 0, if anything was printed to stdout, or if the trainer panicked.
pub fn expect_failure(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(!status.success() && stdout.is_empty(), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

/// Returns the sorted names of the files in a subfolder of the cache, without locks.
pub fn cached_files(folder: &Path, subfolder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder.join("cache").join(subfolder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.ends_with(".lock")).collect();
    names.sort();
    names
}

/// Returns the address of a server that refuses connections.
pub fn unreachable_server() -> String {
    Server::start(|_, request| panic!("unexpected request for {}", request.path)).address()
}
