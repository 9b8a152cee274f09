//! The built `server` as a child process on its own port; dropping the handle ends it.

use crate::workspace::{self, SMALL_MODEL};
use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

/// A running server.
pub struct Server {
    process: Child,
    url: String,
}

impl Server {
    /// Starts a server with the bundled checkpoints, and waits until it is ready.
    pub fn start() -> Result<Self> {
        Self::start_with([OsStr::new("--models"), workspace::root().join("checkpoints").as_os_str()])
    }

    /// Starts a server with only the small bundled model, which loads and runs faster.
    pub fn start_small() -> Result<Self> {
        Self::start_with(small_model())
    }

    /// Starts a server with these arguments in addition to `--listen`, and waits until it is ready.
    pub fn start_with(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Self> {
        let mut command = command()?;
        command.args(arguments);
        Self::run(command)
    }

    /// Starts a server with this command line, to which `--listen` is added, and waits until it is ready.
    pub fn run(mut command: Command) -> Result<Self> {
        let process = command.args(["--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn();
        let mut process = process.context("failed to start the server")?;
        let stdout = process.stdout.take().expect("stdout is piped");
        // Created before waiting, so that a server that never becomes ready is ended too.
        let mut server = Server { process, url: String::new() };
        server.url = wait_until_ready(stdout)?;
        Ok(server)
    }

    /// Returns the address of the server, `http://127.0.0.1:PORT`, without a trailing slash.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the process of the server, for sending signals to it.
    pub fn process(&mut self) -> &mut Child {
        &mut self.process
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Errors are ignored: the process may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the arguments that serve the small bundled model.
pub fn small_model() -> [String; 2] {
    ["--model".to_owned(), format!("{SMALL_MODEL}={}", workspace::checkpoint(SMALL_MODEL).display())]
}

/// Returns the server's command line without arguments. It runs in the root of the workspace and logs only warnings.
pub fn command() -> Result<Command> {
    let mut command = Command::new(workspace::binary("server")?);
    command.current_dir(workspace::root()).env("RUST_LOG", "warn").stdin(Stdio::null());
    Ok(command)
}

/// Reads the server's output until it is ready; returns its URL.
fn wait_until_ready(stdout: ChildStdout) -> Result<String> {
    let mut lines = BufReader::new(stdout).lines();
    let mut url = None;
    for line in lines.by_ref() {
        let line = line?;
        if let Some(address) = line.strip_prefix("listening on ") {
            url = Some(address.to_owned());
        } else if line.starts_with("ready") {
            // The rest of the output is read and dropped, since the server would block on a full pipe.
            std::thread::spawn(move || lines.for_each(drop));
            return url.context("the server reported that it is ready before it reported its address");
        }
    }
    bail!("the server exited before it was ready; see its output on stderr")
}
