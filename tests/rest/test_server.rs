//! A server for one test, with its own settings and, by default, the small bundled model.

use crate::http::send;
use anyhow::{Context, Result, bail, ensure};
use reqwest::blocking::{Client, RequestBuilder};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use tests::server::{self, Server};

/// Timeout for events that the tests wait for.
pub const TIMEOUT: Duration = Duration::from_secs(20);

pub struct TestServer {
    server: Server,
    client: Client,
}

impl TestServer {
    /// Starts a server with the small model and these arguments.
    pub fn start<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let arguments = arguments.into_iter().map(str::to_owned);
        Self::start_without_model(server::small_model().into_iter().chain(arguments))
    }

    /// Starts a server with these arguments only, which also name its models.
    pub fn start_without_model(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Self> {
        Self::new(Server::start_with(arguments)?)
    }

    /// Starts a server with this command.
    pub fn run(command: Command) -> Result<Self> {
        Self::new(Server::run(command)?)
    }

    fn new(server: Server) -> Result<Self> {
        // Some tests count connections, so none is kept open.
        let client = Client::builder().pool_max_idle_per_host(0).timeout(TIMEOUT).build()?;
        Ok(TestServer { server, client })
    }

    /// Returns the base URL.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    pub fn process(&mut self) -> &mut Child {
        self.server.process()
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.server.url()))
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.server.url()))
    }

    /// Opens a connection without sending anything.
    pub fn connect(&self) -> Result<TcpStream> {
        let connection = TcpStream::connect(self.server.url().trim_start_matches("http://"))?;
        connection.set_read_timeout(Some(TIMEOUT))?;
        Ok(connection)
    }

    /// Opens a connection and sends these bytes.
    pub fn send_raw(&self, bytes: &[u8]) -> Result<TcpStream> {
        let mut connection = self.connect()?;
        connection.write_all(bytes)?;
        Ok(connection)
    }

    /// Returns the value of a metric.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let text = send(self.get("/metrics"))?.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.with_context(|| format!("no {name} in {text}"))?.parse().context("the value of the metric is not a number")
    }

    /// Polls until `condition` holds. `description` is for the error message.
    pub fn wait_until(&self, description: &str, mut condition: impl FnMut(&Self) -> Result<bool>) -> Result<()> {
        let start = Instant::now();
        while !condition(self)? {
            ensure!(start.elapsed() < TIMEOUT, "timed out after {TIMEOUT:?}: {description}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    pub fn terminate(&mut self) -> Result<()> {
        terminate(self.process())
    }
}

/// Sends SIGTERM.
pub fn terminate(process: &Child) -> Result<()> {
    let sent = Command::new("kill").args(["-TERM", &process.id().to_string()]).status()?;
    ensure!(sent.success(), "failed to send the signal");
    Ok(())
}

/// Reads until the server closes the connection.
pub fn read_to_end(connection: &mut TcpStream) -> Result<String> {
    let mut bytes = Vec::new();
    match connection.read_to_end(&mut bytes) {
        Ok(_) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        // The connection is reset if the server has not read all that was sent.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        Err(error) => bail!("the server did not close the connection: {error}"),
    }
}
