//! Headless Chromium behind its WebDriver, one for each test; both end with it, whatever the test does.

use crate::TEN;
use anyhow::{Context, Result, bail};
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, ErrorKind};
use std::process::{Child, Command, Stdio};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;
use tempfile::TempDir;
use tests::server::Server;
use tests::workspace;

/// How long the driver may take to end its browser before it is killed.
const FAREWELL: Duration = Duration::from_secs(10);

/// How often the driver is started for a port of its own.
const STARTS: usize = 5;

/// Browsers share the machine, but for those whose clock is looked at.
static MACHINE: RwLock<()> = RwLock::new(());

/// Runs `test` in a browser of its own, against this server.
pub fn with_browser<F>(server: &Server, test: impl FnOnce(Browser) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    run(server, test)
}

/// The same with a server of one model, and a small one: for what does not depend on it. Emulation is slow, and loading too.
pub fn with_small_model<F>(test: impl FnOnce(Browser) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let checkpoint = workspace::root().join(format!("checkpoints/{TEN}.safetensors"));
    with_browser(&Server::start_with(["--model".to_owned(), format!("{TEN}={}", checkpoint.display())])?, test)
}

/// As [`with_browser`] while no other test has one.
pub fn with_browser_alone<F>(server: &Server, test: impl FnOnce(Browser) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
    run(server, test)
}

fn run<F>(server: &Server, test: impl FnOnce(Browser) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let profile = TempDir::new()?;
    let driver = Driver::start()?;
    runtime.block_on(async {
        let outcome = in_session(&driver, &profile, server, test).await;
        driver.end().await;
        outcome
    })
}

async fn in_session<F>(
    driver: &Driver,
    profile: &TempDir,
    server: &Server,
    test: impl FnOnce(Browser) -> F,
) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let browser = Browser::open(driver, profile, server.url()).await?;
    let client = browser.client.clone();
    // As a task, so that a panic ends the test and not its clean-up.
    let outcome = tokio::spawn(test(browser)).await;
    let closed = client.close().await;
    outcome.context("the test panicked")??;
    closed.context("the browser did not end")
}

#[derive(Clone)]
pub struct Browser {
    pub client: Client,
    /// The address of the server, without a slash at the end.
    pub site: String,
    /// The session's address below the driver's.
    session: String,
}

impl Browser {
    async fn open(driver: &Driver, profile: &TempDir, site: &str) -> Result<Self> {
        let profile = format!("--user-data-dir={}", profile.path().display());
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--no-first-run",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--enable-unsafe-webgpu",
            "--use-webgpu-adapter=swiftshader",
            "--window-size=1200,900",
            &profile,
        ];
        let Value::Object(capabilities) = json!({ "goog:chromeOptions": { "args": arguments } }) else {
            unreachable!()
        };
        let client = ClientBuilder::new(HttpConnector::new()).capabilities(capabilities).connect(&driver.url).await;
        let client = client.context("chromedriver cannot start Chromium")?;
        let id = client.session_id().await?.context("a session without an id")?;
        Ok(Browser { client, site: site.to_owned(), session: format!("{}/session/{id}", driver.url) })
    }

    /// Has every page run this script before its own.
    pub async fn prelude(&self, script: &str) -> Result<()> {
        let command = json!({ "cmd": "Page.addScriptToEvaluateOnNewDocument", "params": { "source": script } });
        let address = format!("{}/goog/cdp/execute", self.session);
        reqwest::Client::new().post(address).json(&command).send().await?.error_for_status()?;
        Ok(())
    }
}

struct Driver {
    process: Child,
    url: String,
}

impl Driver {
    /// It listens on a free port of IPv6 and then on the same of IPv4, where somebody's connection may have it: then another
    /// port does.
    fn start() -> Result<Self> {
        let mut said = String::new();
        for _ in 0..STARTS {
            match Self::start_once()? {
                Ok(driver) => return Ok(driver),
                Err(lines) if lines.contains("port not available") => said = lines,
                Err(lines) => bail!("chromedriver ended before it was ready; it said: {lines}"),
            }
        }
        bail!("chromedriver found no port in {STARTS} attempts; it said: {said}")
    }

    /// The driver, or what it said before it ended.
    fn start_once() -> Result<Result<Self, String>> {
        let process = Command::new("chromedriver").arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let process = process.map_err(|error| match error.kind() {
            ErrorKind::NotFound => anyhow::anyhow!("chromedriver is not installed; `make test` does that"),
            _ => anyhow::Error::new(error).context("chromedriver cannot be started"),
        })?;
        // Made first, so that a driver that never gets ready is ended too.
        let mut driver = Driver { process, url: String::new() };
        let stdout = driver.process.stdout.take().expect("stdout is piped");
        let mut lines = BufReader::new(stdout).lines();
        let mut said = Vec::new();
        for line in lines.by_ref() {
            let line = line?;
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                driver.url = format!("http://127.0.0.1:{}", port.trim_end_matches('.'));
                // Read on, or the driver would hang on a full pipe.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(Ok(driver));
            }
            said.push(line);
        }
        Ok(Err(said.join(" ")))
    }

    /// Asks the driver to end, which ends browsers that a failed session left.
    async fn end(&self) {
        let request = reqwest::Client::new().get(format!("{}/shutdown", self.url)).timeout(FAREWELL);
        // No answer means that it has ended already; else it is killed.
        let _ = request.send().await;
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It may have ended by itself, which is no reason to fail.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
