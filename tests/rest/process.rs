//! How the server starts, fails to, says that it is there, and ends.

use crate::own::{Own, SOON, rest, terminate};
use crate::shared::{Shared, answer, photo};
use anyhow::{Context, Result, ensure};
use reqwest::blocking::Client;
use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
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

/// As long as who sends requests needs to notice, it still answers them.
pub fn not_ready() -> Result<()> {
    let mut own = Own::start(["--shutdown-delay", "1s"])?;
    own.terminate()?;
    own.until("not ready", |own| Ok(answer(own.get("/readyz"))?.status == 503))?;
    answer(own.post("/predict").body(photo("cat.jpg")?))?.json(200)?;
    let status = own.server.process().wait()?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}

/// Connections on which nothing is asked at the moment are closed when it is to end.
pub fn idle_connections() -> Result<()> {
    let mut own = Own::start([])?;
    let mut idle = own.say(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n")?;
    ensure!(idle.read(&mut [0; 1000])? > 0, "no answer");
    let _silent = own.connect()?;
    let begun = Instant::now();
    own.terminate()?;
    let status = own.server.process().wait()?;
    ensure!(status.success() && begun.elapsed() < Duration::from_millis(1500), "{status} after {:?}", begun.elapsed());
    Ok(())
}

/// An upload that never ends does not keep the server.
pub fn grace() -> Result<()> {
    let mut own = Own::start(["--shutdown-grace", "300ms", "--stall-timeout", "60s"])?;
    let mut stuck = own.say(b"POST /predict HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\nten bytes.")?;
    own.until("the upload has begun", |own| Ok(own.metric("shortcut_in_flight_bytes")? == 10.0))?;
    let begun = Instant::now();
    own.terminate()?;
    let status = own.server.process().wait()?;
    ensure!(status.success() && begun.elapsed() < SOON, "{status} after {:?}", begun.elapsed());
    let answer = rest(&mut stuck)?;
    ensure!(answer.is_empty(), "{answer}");
    Ok(())
}

pub fn json_log() -> Result<()> {
    let mut process = server::command()?
        .args(["--listen", "127.0.0.1:0", "--log-format", "json", "--log", "info"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (stdout, stderr) = (process.stdout.take().context("no stdout")?, process.stderr.take().context("no stderr")?);
    let line = BufReader::new(stdout).lines().next().context("it says nothing")??;
    let url = line.strip_prefix("listening on ").context(line.clone())?;
    let asked = answer(Client::new().get(format!("{url}/healthz")).header("x-request-id", "mine"));
    // What it has said is written when it ends.
    terminate(&process)?;
    process.wait()?;
    ensure!(asked?.status == 200, "not healthy");
    let lines: Vec<Value> =
        BufReader::new(stderr).lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect::<Result<_>>()?;
    let answered = lines.iter().find(|line| line["message"] == "answered").with_context(|| format!("{lines:?}"))?;
    ensure!(answered["status"] == 200 && answered["ms"].is_number() && answered["span"]["id"] == "mine", "{answered}");
    Ok(())
}

/// Nobody reads its log: it serves, and ends, nevertheless.
pub fn unread_log() -> Result<()> {
    let own = |stderr_is_read: bool| -> Result<()> {
        let mut command = server::command()?;
        command.args(["--listen", "127.0.0.1:0", "--log", "info"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn()?;
        // Kept open and not read, or closed.
        let stderr = process.stderr.take().filter(|_| !stderr_is_read);
        let stdout = process.stdout.take().context("no stdout")?;
        let line = BufReader::new(stdout).lines().next().context("it says nothing")??;
        let url = line.strip_prefix("listening on ").context(line.clone())?;
        // More lines than a pipe holds.
        let client = Client::new();
        let asked = (0..1000).try_for_each(|_| {
            let answer = answer(client.get(format!("{url}/{}", "x".repeat(500))))?;
            ensure!(answer.status == 404, "{}", answer.status);
            Ok(())
        });
        let ended = asked.and_then(|()| {
            terminate(&process)?;
            let begun = Instant::now();
            while process.try_wait()?.is_none() {
                ensure!(begun.elapsed() < SOON, "it does not end");
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        });
        let _ = process.kill();
        drop(stderr);
        ended
    };
    own(false).context("a log that is stuck")?;
    own(true).context("a log whose reader has gone")
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
