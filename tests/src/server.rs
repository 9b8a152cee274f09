//! The built `server` as a child process on a port of its own; it ends when the handle is dropped.

use crate::workspace;
use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

pub struct Server {
    process: Child,
    url: String,
}

impl Server {
    /// With the bundled checkpoints, ready to answer.
    pub fn start() -> Result<Self> {
        Self::start_with([OsStr::new("--models"), workspace::root().join("checkpoints").as_os_str()])
    }

    /// With these arguments beside `--listen`, ready to answer.
    pub fn start_with(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Self> {
        let mut command = command()?;
        command.args(arguments);
        Self::run(command)
    }

    /// By this command line, to which `--listen` is added, ready to answer.
    pub fn run(mut command: Command) -> Result<Self> {
        let process = command.args(["--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn();
        let mut process = process.context("the server cannot be started")?;
        let stdout = process.stdout.take().expect("stdout is piped");
        // Made first, so that a server that never gets ready is ended too.
        let mut server = Server { process, url: String::new() };
        server.url = wait_until_ready(stdout)?;
        Ok(server)
    }

    /// `http://127.0.0.1:PORT`, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The process, to send it signals.
    pub fn process(&mut self) -> &mut Child {
        &mut self.process
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which is no reason to fail.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The server's command line to complete, run in the workspace's root and quiet but for warnings.
pub fn command() -> Result<Command> {
    let mut command = Command::new(workspace::binary("server")?);
    command.current_dir(workspace::root()).env("RUST_LOG", "warn").stdin(Stdio::null());
    Ok(command)
}

/// Reads what the server says until it is ready; returns its address.
fn wait_until_ready(stdout: ChildStdout) -> Result<String> {
    let mut lines = BufReader::new(stdout).lines();
    let mut url = None;
    for line in lines.by_ref() {
        let line = line?;
        if let Some(address) = line.strip_prefix("listening on ") {
            url = Some(address.to_owned());
        } else if line.starts_with("ready") {
            // Read on, or the server would hang on a full pipe.
            std::thread::spawn(move || lines.for_each(drop));
            return url.context("the server was ready before it listened");
        }
    }
    bail!("the server ended before it was ready; what it wrote to stderr says why")
}
