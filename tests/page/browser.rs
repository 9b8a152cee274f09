//! Headless Chromium, controlled through WebDriver. Each test starts its own browser, which is stopped even if the test
//! fails.

use crate::SMALL_MODEL;
use anyhow::{Context, Result, bail};
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use parking_lot::RwLock;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, ErrorKind};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tests::server::Server;
use tests::workspace;

/// Time limit for the driver to close its browser; after it, the driver is killed.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of attempts to start the driver on a free port.
const MAX_STARTS: usize = 5;

/// Locked for writing by tests that measure time and therefore must run alone, and for reading by all others.
static BROWSER_LOCK: RwLock<()> = RwLock::new(());

/// Runs `test` in a new browser, with pages from the given server.
pub fn with_browser<F>(server: &Server, test: impl FnOnce(Browser) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let _shared = BROWSER_LOCK.read();
    run(server, test)
}

/// Like [`with_browser`], with a server that has only the small model, which loads and runs faster.
pub fn with_small_model<F>(test: impl FnOnce(Browser) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let checkpoint = workspace::root().join(format!("checkpoints/{SMALL_MODEL}.safetensors"));
    with_browser(&Server::start_with(["--model".to_owned(), format!("{SMALL_MODEL}={}", checkpoint.display())])?, test)
}

/// Like [`with_browser`], while no other browser is running.
pub fn with_exclusive_browser<F>(server: &Server, test: impl FnOnce(Browser) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let _exclusive = BROWSER_LOCK.write();
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
        driver.shut_down().await;
        outcome
    })
}

/// Runs `test` in a new WebDriver session and closes the session.
async fn in_session<F>(
    driver: &Driver,
    profile: &TempDir,
    server: &Server,
    test: impl FnOnce(Browser) -> F,
) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let browser = Browser::launch(driver, profile, server.url()).await?;
    let client = browser.client.clone();
    // Spawned as a task, so that a panic does not prevent the clean-up.
    let outcome = tokio::spawn(test(browser)).await;
    let closed = client.close().await;
    outcome.context("the test panicked")??;
    closed.context("cannot close the browser")
}

/// A WebDriver session with one browser.
#[derive(Clone)]
pub struct Browser {
    pub client: Client,
    /// URL of the server, without a trailing slash.
    pub site: String,
    /// URL of the WebDriver session.
    session: String,
}

impl Browser {
    async fn launch(driver: &Driver, profile: &TempDir, site: &str) -> Result<Self> {
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
        let id = client.session_id().await?.context("the session has no id")?;
        Ok(Browser { client, site: site.to_owned(), session: format!("{}/session/{id}", driver.url) })
    }

    /// Runs a script in every page before the page's own scripts.
    pub async fn run_before_page_scripts(&self, script: &str) -> Result<()> {
        let command = json!({ "cmd": "Page.addScriptToEvaluateOnNewDocument", "params": { "source": script } });
        let url = format!("{}/goog/cdp/execute", self.session);
        reqwest::Client::new().post(url).json(&command).send().await?.error_for_status()?;
        Ok(())
    }
}

/// The `chromedriver` process, which is killed on drop.
struct Driver {
    process: Child,
    url: String,
}

impl Driver {
    /// Starts the driver. The driver takes a free IPv6 port and then needs the same IPv4 port. If that port is in use,
    /// the driver is started again, so that it takes another port.
    fn start() -> Result<Self> {
        let mut output = String::new();
        for _ in 0..MAX_STARTS {
            match Self::start_once()? {
                Ok(driver) => return Ok(driver),
                Err(lines) if lines.contains("port not available") => output = lines,
                Err(lines) => bail!("chromedriver exited before it was ready; its output: {lines}"),
            }
        }
        bail!("chromedriver found no free port in {MAX_STARTS} attempts; its output: {output}")
    }

    /// Starts the driver once. Returns its output if it exited before it was ready.
    fn start_once() -> Result<Result<Self, String>> {
        let process = Command::new("chromedriver").arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let process = process.map_err(|error| match error.kind() {
            ErrorKind::NotFound => anyhow::anyhow!("chromedriver is not installed; `make test` installs it"),
            _ => anyhow::Error::new(error).context("cannot start chromedriver"),
        })?;
        // Created before the driver is ready, so that the process is killed on drop if it never becomes ready.
        let mut driver = Driver { process, url: String::new() };
        let stdout = driver.process.stdout.take().expect("stdout is piped");
        let mut lines = BufReader::new(stdout).lines();
        let mut output = Vec::new();
        for line in lines.by_ref() {
            let line = line?;
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                driver.url = format!("http://127.0.0.1:{}", port.trim_end_matches('.'));
                // Continue to read the output, since the driver would block on a full pipe.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(Ok(driver));
            }
            output.push(line);
        }
        Ok(Err(output.join(" ")))
    }

    /// Shuts the driver down, which also closes browsers of failed sessions.
    async fn shut_down(&self) {
        let request = reqwest::Client::new().get(format!("{}/shutdown", self.url)).timeout(SHUTDOWN_TIMEOUT);
        // Errors are ignored: the process is killed on drop.
        let _ = request.send().await;
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Fails if the process has already exited.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
