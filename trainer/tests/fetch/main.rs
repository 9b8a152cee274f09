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

/// A `trainer fetch` that uses `server` as mirror of both services, with its cache in `folder`.
pub fn fetch(folder: &Path, server: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainer"));
    command.current_dir(folder).arg("fetch").args(arguments);
    command.env("SHORTCUT_CACHE", folder.join("cache")).env("SHORTCUT_TORCHVISION", server).env("HF_ENDPOINT", server);
    command.env("NO_PROXY", "127.0.0.1").env_remove("HF_TOKEN");
    command
}

/// Runs a command that must succeed, and returns the path it prints to stdout, and its stderr.
pub fn succeed(command: &mut Command) -> (PathBuf, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert!(status.success(), "{stdout}{stderr}");
    let path = stdout.strip_suffix('\n').unwrap();
    assert!(!path.contains('\n'), "stdout has the path only: {stdout}");
    (PathBuf::from(path), stderr)
}

/// Runs a command that must fail with an empty stdout, and returns its stderr.
pub fn fail(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(!status.success() && stdout.is_empty(), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

/// Returns the names of all files in a subfolder of the cache except locks.
pub fn files(folder: &Path, subfolder: &str) -> Vec<String> {
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
