//! `trainer fetch` beside servers of every kind: what it leaves in its cache, and what it says.

mod broken;
mod hub;
mod hugging_face;
mod server;
mod torchvision;

use server::Server;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Over servers in place of the services, and a cache in `folder`.
pub fn fetch(folder: &Path, server: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainer"));
    command.current_dir(folder).arg("fetch").args(arguments);
    command.env("SHORTCUT_CACHE", folder.join("cache")).env("SHORTCUT_TORCHVISION", server).env("HF_ENDPOINT", server);
    command.env("NO_PROXY", "127.0.0.1").env_remove("HF_TOKEN");
    command
}

/// The path on its last line, and its words; or a panic with all that it said.
pub fn succeed(command: &mut Command) -> (PathBuf, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert!(status.success(), "{stdout}{stderr}");
    let path = stdout.strip_suffix('\n').unwrap();
    assert!(!path.contains('\n'), "words belong on stderr: {stdout}");
    (PathBuf::from(path), stderr)
}

/// What it says when it fails.
pub fn fail(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(!status.success() && stdout.is_empty(), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

/// The names of all files in a part of the cache, but for locks.
pub fn files(folder: &Path, part: &str) -> Vec<String> {
    let entries = fs::read_dir(folder.join("cache").join(part)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.ends_with(".lock")).collect();
    names.sort();
    names
}

/// One that is gone: nothing listens at its address.
pub fn nobody() -> String {
    Server::start(|_, request| panic!("nobody is to ask for {}", request.path)).address()
}
