//! Headless Chromium, controlled through WebDriver. Starting a browser takes longer than most tests, so browsers are
//! reused: each test gets a new tab, and the site has no stored data, as on a first visit.

use anyhow::{Context, Result, bail};
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use parking_lot::{Mutex, RwLock};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, ErrorKind};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tests::server::Server;
use tests::shared::Shared;
use tokio::runtime::{self, Runtime};

/// Time limit for the driver to close its browser; after it, the driver is killed.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of attempts to start the driver on a free port.
const MAX_STARTS: usize = 10;

/// What tests share: browsers, and servers whose state no test changes.
pub struct Environment {
    /// Server with both bundled models.
    bundled: Shared<Server>,
    /// Server with only the small model.
    small: Shared<Server>,
    /// Browsers that no test uses at the moment.
    idle: Mutex<Vec<Session>>,
    /// Locked for writing by tests that measure time and therefore must run alone, and for reading by all others.
    lock: RwLock<()>,
    /// Runs the clients of all browsers. Dropped after the browsers.
    runtime: Runtime,
}

impl Environment {
    pub fn new() -> Result<Self> {
        Ok(Environment {
            bundled: Shared::new(Server::start),
            small: Shared::new(Server::start_small),
            idle: Mutex::default(),
            lock: RwLock::new(()),
            runtime: runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?,
        })
    }

    /// Runs `test` in a browser, with pages from the given server.
    pub fn with_browser<F>(&self, server: &Server, test: impl FnOnce(Browser) -> F) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let _shared = self.lock.read();
        let idle = self.idle.lock().pop();
        let session = idle.map_or_else(|| Session::start(&self.runtime), Ok)?;
        self.runtime.block_on(session.run(server, test))?;
        // Browsers of failed tests are not reused.
        self.idle.lock().push(session);
        Ok(())
    }

    /// Like [`Environment::with_browser`], with both bundled models.
    pub fn with_bundled_models<F>(&self, test: impl FnOnce(Browser) -> F) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.with_browser(self.bundled.get()?, test)
    }

    /// Like [`Environment::with_browser`], with only the small model, which loads and runs faster.
    pub fn with_small_model<F>(&self, test: impl FnOnce(Browser) -> F) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.with_browser(self.small.get()?, test)
    }

    /// Like [`Environment::with_bundled_models`], in a new browser while no other one is in use.
    pub fn with_exclusive_browser<F>(&self, test: impl FnOnce(Browser) -> F) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let _exclusive = self.lock.write();
        let session = Session::start(&self.runtime)?;
        self.runtime.block_on(session.run(self.bundled.get()?, test))
    }
}

/// A running browser with its driver and a new profile.
struct Session {
    client: Client,
    /// Closes the browser when dropped, before its profile is removed.
    driver: Driver,
    _profile: TempDir,
}

impl Session {
    fn start(runtime: &Runtime) -> Result<Self> {
        let profile = TempDir::new()?;
        let driver = Driver::start()?;
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
            &format!("--user-data-dir={}", profile.path().display()),
        ];
        let Value::Object(capabilities) = json!({ "goog:chromeOptions": { "args": arguments } }) else {
            unreachable!()
        };
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let client = runtime.block_on(builder.capabilities(capabilities).connect(&driver.url));
        Ok(Session { client: client.context("chromedriver cannot start Chromium")?, driver, _profile: profile })
    }

    /// Runs `test` in a new tab, with pages from the given server.
    async fn run<F>(&self, server: &Server, test: impl FnOnce(Browser) -> F) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        // Scripts that run before those of the page belong to their tab.
        let tab = self.client.new_window(true).await?.handle;
        self.client.close_window().await?;
        self.client.switch_to_window(tab).await?;
        let id = self.client.session_id().await?.context("the session has no id")?;
        let session = format!("{}/session/{id}", self.driver.url);
        let browser = Browser { client: self.client.clone(), site: server.url().to_owned(), session };
        let site_data = json!({ "origin": browser.site, "storageTypes": "all" });
        browser.execute_devtools_command("Storage.clearDataForOrigin", site_data).await?;
        // Spawned as a task, so that a panic does not prevent the clean-up.
        tokio::spawn(test(browser)).await.context("the test panicked")??;
        // Ends the worker, which would compete with other tests for the processor.
        self.client.goto("about:blank").await?;
        Ok(())
    }
}

/// A tab of a browser.
#[derive(Clone)]
pub struct Browser {
    pub client: Client,
    /// URL of the server, without a trailing slash.
    pub site: String,
    /// URL of the WebDriver session.
    session: String,
}

impl Browser {
    /// Runs a script in every page before the page's own scripts.
    pub async fn run_before_page_scripts(&self, script: &str) -> Result<()> {
        self.execute_devtools_command("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script })).await
    }

    /// Executes a command of the Chrome DevTools Protocol.
    async fn execute_devtools_command(&self, command: &str, parameters: Value) -> Result<()> {
        let url = format!("{}/goog/cdp/execute", self.session);
        let request = reqwest::Client::new().post(url).json(&json!({ "cmd": command, "params": parameters }));
        request.send().await?.error_for_status().with_context(|| command.to_owned())?;
        Ok(())
    }
}

/// The `chromedriver` process. Dropping it closes its browser.
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
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Errors are ignored here: a driver that is not ready, or that does not respond, is killed.
        let shut_down = |client: reqwest::blocking::Client| client.get(format!("{}/shutdown", self.url)).send();
        let _ = reqwest::blocking::Client::builder().timeout(SHUTDOWN_TIMEOUT).build().and_then(shut_down);
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
