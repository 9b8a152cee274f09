//! How the server starts, fails to, says that it is there, and ends.

use crate::shared::{Shared, answer, photo};
use anyhow::{Context, Result, ensure};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use tests::server::{self, Server};

pub fn health(shared: &Shared) -> Result<()> {
    for path in ["/healthz", "/readyz"] {
        let answer = answer(shared.get(path)?)?;
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text());
    }
    Ok(())
}

pub fn occupied(shared: &Shared) -> Result<()> {
    let address = shared.url()?.trim_start_matches("http://");
    fails_with(["--listen", address], &[address, "--listen"])
}

pub fn bad_checkpoint() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("bad.safetensors");
    std::fs::write(&path, "no checkpoint")?;
    let path = path.to_str().context("the path is no text")?;
    fails_with(["--listen", "127.0.0.1:0", "--model", &format!("mine={path}")], &["mine", path])?;
    fails_with(["--listen", "127.0.0.1:0", "--model", "mine=no/such.safetensors"], &["mine", "no/such.safetensors"])
}

pub fn name_twice() -> Result<()> {
    fails_with(["--model", "mine=1.safetensors", "--model", "mine=2.safetensors"], &["mine", "1.safetensors"])
}

/// A request that the server has begun when the signal comes is answered.
pub fn sigterm() -> Result<()> {
    let mut server = Server::start()?;
    let photo = photo("cat.jpg")?;
    let (first, second) = photo.split_at(photo.len() / 2);
    let mut connection = TcpStream::connect(server.url().trim_start_matches("http://"))?;
    write!(
        connection,
        "POST /predict HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        photo.len()
    )?;
    let mut answer = BufReader::new(connection.try_clone()?);
    let mut line = String::new();
    // Comes when the body is being read, hence the request was begun.
    answer.read_line(&mut line)?;
    ensure!(line.starts_with("HTTP/1.1 100"), "{line}");
    connection.write_all(first)?;

    let pid = server.process().id().to_string();
    ensure!(Command::new("kill").args(["-TERM", &pid]).status()?.success(), "the signal was not sent");
    connection.write_all(second)?;
    let mut rest = String::new();
    answer.read_to_string(&mut rest)?;
    ensure!(rest.contains("HTTP/1.1 200 OK") && rest.contains("predictions"), "{rest}");
    let status = server.process().wait()?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}

/// The server does not start, and says why in words that hold these.
fn fails_with(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>, words: &[&str]) -> Result<()> {
    let output = server::command()?.args(arguments).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "it started");
    ensure!(words.iter().all(|word| error.contains(word)), "not all of {words:?} in: {error}");
    ensure!(!error.contains("panicked"), "{error}");
    Ok(())
}
