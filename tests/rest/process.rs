//! Start, failures to start, health, logging and shutdown of the server.

use crate::http::{SharedServer, photo, send};
use crate::model_changes::overflowing_checkpoint;
use crate::test_server::{TIMEOUT, TestServer, read_to_end, terminate};
use anyhow::{Context, Result, ensure};
use reqwest::blocking::Client;
use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tests::server::{self, Server};
use tests::workspace::{self, SMALL_MODEL};

pub fn health(shared: &SharedServer) -> Result<()> {
    for path in ["/healthz", "/readyz"] {
        let response = send(shared.get(path)?)?;
        ensure!(response.status == 200, "{path}: {} {}", response.status, response.text());
    }
    Ok(())
}

pub fn port_in_use(shared: &SharedServer) -> Result<()> {
    let address = shared.url()?.trim_start_matches("http://");
    fails_with(["--listen", address], &[address, "--listen"])
}

pub fn bad_checkpoint() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("bad.safetensors");
    std::fs::write(&path, "no checkpoint")?;
    let path = path.to_str().context("the path is not UTF-8")?;
    fails_with(["--listen", "127.0.0.1:0", "--model", &format!("mine={path}")], &["mine", path])?;
    fails_with(["--listen", "127.0.0.1:0", "--model", "mine=no/such.safetensors"], &["mine", "no/such.safetensors"])
}

pub fn duplicate_name() -> Result<()> {
    fails_with(["--model", "mine=1.safetensors", "--model", "mine=2.safetensors"], &["mine", "1.safetensors"])
}

/// A request that has started when SIGTERM arrives is completed.
pub fn sigterm() -> Result<()> {
    let mut server = Server::start_small()?;
    let photo = photo("cat.jpg")?;
    let (first, second) = photo.split_at(photo.len() / 2);
    let mut connection = TcpStream::connect(server.url().trim_start_matches("http://"))?;
    write!(
        connection,
        "POST /predict HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        photo.len()
    )?;
    let mut response = BufReader::new(connection.try_clone()?);
    let mut line = String::new();
    // The server sends this line when it starts to read the body, so the request has started.
    response.read_line(&mut line)?;
    ensure!(line.starts_with("HTTP/1.1 100"), "{line}");
    connection.write_all(first)?;

    let pid = server.process().id().to_string();
    ensure!(Command::new("kill").args(["-TERM", &pid]).status()?.success(), "failed to send the signal");
    connection.write_all(second)?;
    let mut rest = String::new();
    response.read_to_string(&mut rest)?;
    ensure!(rest.contains("HTTP/1.1 200 OK") && rest.contains("predictions"), "{rest}");
    let status = server.process().wait()?;
    ensure!(status.success(), "the server exited with {status}");
    Ok(())
}

/// The server survives the terminal that it was started in.
pub fn sighup() -> Result<()> {
    let mut server = TestServer::start([])?;
    let pid = server.process().id().to_string();
    for _ in 0..2 {
        ensure!(Command::new("kill").args(["-HUP", &pid]).status()?.success(), "failed to send the signal");
        send(server.post("/predict").body(photo("cat.jpg")?))?.json(200)?;
    }
    server.terminate()?;
    let status = server.process().wait()?;
    ensure!(status.success(), "the server exited with {status}");
    Ok(())
}

/// Files of the model folder that cannot be loaded do not stop the server, unless it is strict.
pub fn bad_files() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().to_str().context("the path is not UTF-8")?;
    std::fs::write(folder.path().join("bad.safetensors"), "no checkpoint")?;
    std::os::unix::fs::symlink("nowhere", folder.path().join("link.safetensors"))?;
    fails_with(["--listen", "127.0.0.1:0", "--models", path], &["no model of the folder", "bad", "link"])?;

    std::fs::copy(workspace::checkpoint(SMALL_MODEL), folder.path().join("good.safetensors"))?;
    std::fs::write(folder.path().join("overflowing.safetensors"), overflowing_checkpoint()?)?;
    let server = TestServer::start_without_model(["--models", path])?;
    let models = send(server.get("/models"))?.json(200)?;
    let names = |list: &str| -> Vec<_> {
        models[list].as_array().into_iter().flatten().filter_map(|model| model["name"].as_str()).collect()
    };
    ensure!(names("models") == ["good"] && names("failures") == ["bad", "link", "overflowing"], "{models}");
    let errors = models["failures"].to_string();
    ensure!(!errors.contains(path) && errors.contains("symbolic link"), "{errors}");
    ensure!(server.metric("shortcut_model_load_failed{model=\"bad\"}")? == 1.0, "the failure is not in the metrics");
    ensure!(send(server.get("/readyz"))?.status == 200, "not ready");
    send(server.post("/predict").body(photo("cat.jpg")?))?.json(200)?;

    fails_with(["--listen", "127.0.0.1:0", "--models", path, "--strict"], &["bad", path])?;
    fails_with(
        ["--listen", "127.0.0.1:0", "--models", path, "--default", "bad"],
        &["--default bad", "cannot be loaded"],
    )
}

/// The server still answers requests during the shutdown delay, in which load balancers notice that it is not ready.
pub fn shutdown_delay() -> Result<()> {
    let mut server = TestServer::start(["--shutdown-delay", "1s"])?;
    server.terminate()?;
    server.wait_until("not ready", |server| Ok(send(server.get("/readyz"))?.status == 503))?;
    send(server.post("/predict").body(photo("cat.jpg")?))?.json(200)?;
    let status = server.process().wait()?;
    ensure!(status.success(), "the server exited with {status}");
    Ok(())
}

/// Idle connections are closed at shutdown.
pub fn idle_connections() -> Result<()> {
    let mut server = TestServer::start([])?;
    let mut idle = server.send_raw(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n")?;
    ensure!(idle.read(&mut [0; 1000])? > 0, "no response");
    let _silent = server.connect()?;
    let start = Instant::now();
    server.terminate()?;
    let status = server.process().wait()?;
    ensure!(status.success() && start.elapsed() < Duration::from_millis(1500), "{status} after {:?}", start.elapsed());
    Ok(())
}

/// An upload that never ends does not prevent the shutdown.
pub fn grace_period() -> Result<()> {
    let mut server = TestServer::start(["--shutdown-grace", "300ms", "--stall-timeout", "60s"])?;
    let mut stuck =
        server.send_raw(b"POST /predict HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\nten bytes.")?;
    server.wait_until("the upload has started", |server| Ok(server.metric("shortcut_in_flight_bytes")? == 10.0))?;
    let start = Instant::now();
    server.terminate()?;
    let status = server.process().wait()?;
    ensure!(status.success() && start.elapsed() < TIMEOUT, "{status} after {:?}", start.elapsed());
    let response = read_to_end(&mut stuck)?;
    ensure!(response.is_empty(), "{response}");
    Ok(())
}

pub fn json_log() -> Result<()> {
    let mut process = server::command()?
        .args(["--listen", "127.0.0.1:0", "--log-format", "json", "--log", "info"])
        .args(server::small_model())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (stdout, stderr) = (process.stdout.take().context("no stdout")?, process.stderr.take().context("no stderr")?);
    let line = BufReader::new(stdout).lines().next().context("the server printed nothing")??;
    let url = line.strip_prefix("listening on ").context(line.clone())?;
    let health = send(Client::new().get(format!("{url}/healthz")).header("x-request-id", "mine"));
    // The log is written completely when the server exits.
    terminate(&process)?;
    process.wait()?;
    ensure!(health?.status == 200, "not healthy");
    let lines: Vec<Value> =
        BufReader::new(stderr).lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect::<Result<_>>()?;
    let answered = lines.iter().find(|line| line["message"] == "answered").with_context(|| format!("{lines:?}"))?;
    ensure!(answered["status"] == 200 && answered["ms"].is_number() && answered["span"]["id"] == "mine", "{answered}");
    Ok(())
}

/// The server runs and shuts down although its log is not read.
pub fn unread_log() -> Result<()> {
    let run_server = |is_closed: bool| -> Result<()> {
        let mut command = server::command()?;
        command
            .args(server::small_model())
            .args(["--listen", "127.0.0.1:0", "--log", "info"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = command.spawn()?;
        // Either kept open without being read, or closed.
        let stderr = process.stderr.take().filter(|_| !is_closed);
        let stdout = process.stdout.take().context("no stdout")?;
        let line = BufReader::new(stdout).lines().next().context("the server printed nothing")??;
        let url = line.strip_prefix("listening on ").context(line.clone())?;
        // Three times as many bytes as fit in a pipe.
        let client = Client::new();
        let requests = (0..300).try_for_each(|_| {
            let response = send(client.get(format!("{url}/{}", "x".repeat(500))))?;
            ensure!(response.status == 404, "{}", response.status);
            Ok(())
        });
        let outcome = requests.and_then(|()| {
            terminate(&process)?;
            let start = Instant::now();
            while process.try_wait()?.is_none() {
                ensure!(start.elapsed() < TIMEOUT, "the server does not exit");
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        });
        let _ = process.kill();
        drop(stderr);
        outcome
    };
    run_server(false).context("blocked log")?;
    run_server(true).context("closed log")
}

/// Checks that the server fails to start with an error that contains these words.
fn fails_with(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>, words: &[&str]) -> Result<()> {
    let output = server::command()?.args(arguments).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "the server started");
    ensure!(words.iter().all(|word| error.contains(word)), "not all of {words:?} in: {error}");
    ensure!(!error.contains("panicked"), "{error}");
    Ok(())
}
