//! A server for one trial, with settings of its own and the small bundled model.

use crate::shared::{Answer, answer};
use anyhow::{Context, Result, bail, ensure};
use reqwest::blocking::{Client, RequestBuilder};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use tests::server::Server;
use tests::workspace;

pub const SMALL: &str = "resnet18-imagenette";

/// How long something may take that is to happen soon.
pub const SOON: Duration = Duration::from_secs(20);

pub struct Own {
    pub server: Server,
    client: Client,
}

impl Own {
    pub fn start<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let model = format!("{SMALL}={}", checkpoint(SMALL).display());
        let own = ["--model".to_owned(), model].into_iter();
        Self::start_bare(own.chain(arguments.into_iter().map(str::to_owned)))
    }

    /// Without a model but those of the arguments.
    pub fn start_bare(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Self> {
        Self::of(Server::start_with(arguments)?)
    }

    /// By this command line.
    pub fn run(command: Command) -> Result<Self> {
        Self::of(Server::run(command)?)
    }

    fn of(server: Server) -> Result<Self> {
        // Connections are counted by some trials, so none is kept.
        let client = Client::builder().pool_max_idle_per_host(0).timeout(SOON).build()?;
        Ok(Own { server, client })
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.server.url()))
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.server.url()))
    }

    /// A connection on which nothing was said yet.
    pub fn connect(&self) -> Result<TcpStream> {
        let connection = TcpStream::connect(self.server.url().trim_start_matches("http://"))?;
        connection.set_read_timeout(Some(SOON))?;
        Ok(connection)
    }

    /// A connection that has said this.
    pub fn say(&self, words: &[u8]) -> Result<TcpStream> {
        let mut connection = self.connect()?;
        connection.write_all(words)?;
        Ok(connection)
    }

    /// The value of a metric.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let text = answer(self.get("/metrics"))?.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.with_context(|| format!("no {name} in {text}"))?.parse().context("a metric is a number")
    }

    /// Asks again and again until what comes is as it should be.
    pub fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        while !holds(self)? {
            ensure!(begun.elapsed() < SOON, "{what}: not within {SOON:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    pub fn terminate(&mut self) -> Result<()> {
        terminate(self.server.process())
    }
}

/// Sends SIGTERM.
pub fn terminate(process: &Child) -> Result<()> {
    let sent = Command::new("kill").args(["-TERM", &process.id().to_string()]).status()?;
    ensure!(sent.success(), "the signal was not sent");
    Ok(())
}

pub fn checkpoint(name: &str) -> std::path::PathBuf {
    workspace::root().join(format!("checkpoints/{name}.safetensors"))
}

/// What comes until the other side ends the connection.
pub fn rest(connection: &mut TcpStream) -> Result<String> {
    let mut bytes = Vec::new();
    match connection.read_to_end(&mut bytes) {
        Ok(_) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        // What was sent and not read ends it less politely.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        Err(error) => bail!("the connection stays open: {error}"),
    }
}

impl Answer {
    /// An overload that says when to come again.
    pub fn overloaded(&self) -> Result<()> {
        self.failure(503, "overloaded")?;
        ensure!(self.header("retry-after") == "1", "{:?}", self.headers);
        Ok(())
    }
}
