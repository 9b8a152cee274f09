//! The page's files: embedded, or in a folder that is still being built when the server starts.

use crate::http::{SharedServer, send};
use anyhow::{Context, Result, ensure};
use reqwest::blocking::Client;
use reqwest::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use std::fs;
use tests::server::Server;
use tests::workspace;

pub fn embedded(shared: &SharedServer) -> Result<()> {
    let page = send(shared.get("/")?)?;
    ensure!(page.status == 200 && page.header(CONTENT_TYPE).starts_with("text/html"), "{}", page.text());
    ensure!(page.header(CACHE_CONTROL) == "no-cache", "{:?}", page.headers);
    // The document refers to its module by a name with a hash.
    let text = page.text();
    let module = text.split("href=\"./page-").nth(1).and_then(|rest| rest.split('"').next());
    let module = format!("/page-{}", module.with_context(|| format!("no module in {text}"))?);
    let module = send(shared.get(&module)?)?;
    ensure!(module.status == 200 && module.header(CACHE_CONTROL).contains("immutable"), "{:?}", module.headers);
    Ok(())
}

pub fn appears_when_it_is_built() -> Result<()> {
    let root = tempfile::tempdir()?;
    let (unfinished, folder) = (root.path().join("unfinished"), root.path().join("page"));
    let models = workspace::root().join("checkpoints");
    let server = Server::start_with(["--page".as_ref(), folder.as_os_str(), "--models".as_ref(), models.as_os_str()])?;
    let get = |path: &str| send(Client::new().get(format!("{}{path}", server.url())));
    let waiting = get("/")?;
    ensure!(waiting.status == 503 && waiting.text().contains("being built"), "{} {}", waiting.status, waiting.text());
    ensure!(waiting.header("refresh") == "3" && waiting.header("retry-after") == "3", "{:?}", waiting.headers);
    ensure!(get("/worker.js")?.status == 404);

    fs::create_dir(&unfinished)?;
    fs::write(unfinished.join("index.html"), "<script>start()</script>")?;
    fs::write(unfinished.join("worker.js"), "work()")?;
    fs::rename(&unfinished, &folder)?;
    let page = get("/")?;
    ensure!(page.status == 200 && page.text() == "<script>start()</script>", "{} {}", page.status, page.text());
    // `printf 'start()' | openssl dgst -sha256 -binary | base64`
    let hash = "'sha256-DIm7WJS6ZKDYe5qFLPy+h4JFI9Bol5QmYC57mt3Fb00='";
    for (path, kind) in [("/", "text/html"), ("/worker.js", "text/javascript")] {
        let file = get(path)?;
        ensure!(file.header(CONTENT_TYPE).starts_with(kind), "{path}: {:?}", file.headers);
        ensure!(file.header(CONTENT_SECURITY_POLICY).contains(hash), "{path}: {:?}", file.headers);
    }
    Ok(())
}
