//! The server without settings, in a folder without checkpoints: it serves the bundled ones.

use crate::http::{photo, send};
use crate::test_server::TestServer;
use anyhow::{Context, Result, ensure};
use reqwest::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_RANGE, ETAG, IF_NONE_MATCH, RANGE};
use sha2::{Digest, Sha256};
use tests::server;
use tests::workspace::{SMALL_MODEL, checkpoint};

const TOKEN: &str = "hush";

/// Starts a server with the bundled models and these arguments in an empty folder.
fn start(arguments: &[&str]) -> Result<TestServer> {
    let folder = tempfile::tempdir()?;
    let mut command = server::command()?;
    command.current_dir(folder.path()).args(["--admin-token", TOKEN]).args(arguments);
    TestServer::run(command)
}

fn change(server: &TestServer, action: &str) -> Result<u16> {
    let path = format!("/v2/repository/models/{SMALL_MODEL}/{action}");
    Ok(send(server.post(&path).bearer_auth(TOKEN))?.status)
}

/// Returns the status of a prediction by the small model.
fn predict(server: &TestServer) -> Result<u16> {
    let path = format!("/predict?model={SMALL_MODEL}");
    Ok(send(server.post(&path).body(photo("cat.jpg")?))?.status)
}

/// The models have the names and the weights of the files, and weights are served like those of files.
pub fn served_by_default() -> Result<()> {
    let server = start(&[])?;
    let models = send(server.get("/models"))?.json(200)?;
    let names: Vec<_> = models["models"].as_array().context("no list")?.iter().map(|model| &model["name"]).collect();
    ensure!(names == [SMALL_MODEL, "resnet50_v1-imagenet"], "{names:?}");
    let prediction = send(server.post("/predict").body(photo("cat.jpg")?))?.json(200)?;
    ensure!(prediction["model"] == "resnet50_v1-imagenet", "{prediction}");

    let file = std::fs::read(checkpoint(SMALL_MODEL))?;
    let path = format!("/weights/{}", hex::encode(Sha256::digest(&file)));
    ensure!(models["models"][0]["weights"] == path, "{}", models["models"][0]["weights"]);
    let weights = send(server.get(&path))?;
    ensure!(weights.status == 200 && weights.body == file, "the weights are not those of the file");
    ensure!(weights.header(CACHE_CONTROL).contains("immutable"), "{:?}", weights.headers);
    ensure!(weights.header(ACCEPT_RANGES) == "bytes", "{:?}", weights.headers);
    let revalidated = send(server.get(&path).header(IF_NONE_MATCH, weights.header(ETAG)))?;
    ensure!(revalidated.status == 304, "{}", revalidated.status);
    let part = send(server.get(&path).header(RANGE, "bytes=0-7"))?;
    ensure!(part.status == 206 && part.body == file[..8], "{} {:?}", part.status, part.body);
    ensure!(part.header(CONTENT_RANGE) == format!("bytes 0-7/{}", file.len()), "{:?}", part.headers);
    Ok(())
}

/// Bundled models are unloaded and loaded like those of a folder.
pub fn load_and_unload() -> Result<()> {
    let server = start(&["--model", &format!("{SMALL_MODEL}={SMALL_MODEL}")])?;
    ensure!(change(&server, "unload")? == 200, "not unloaded");
    ensure!(predict(&server)? == 404, "an unloaded model responds");
    let index = send(server.post("/v2/repository/index").bearer_auth(TOKEN))?.json(200)?;
    ensure!(index[0]["name"] == SMALL_MODEL && index[0]["state"] == "UNAVAILABLE", "{index}");
    ensure!(change(&server, "load")? == 200, "not loaded");
    ensure!(predict(&server)? == 200, "a loaded model does not respond");
    Ok(())
}

/// While the folder is watched, unloaded models are loaded again if their checkpoint exists; a bundled one always does.
pub fn watch() -> Result<()> {
    let server = start(&["--model", &format!("{SMALL_MODEL}={SMALL_MODEL}"), "--watch", "50ms"])?;
    ensure!(change(&server, "unload")? == 200, "not unloaded");
    server.wait_until("the model is loaded again", |server| Ok(predict(server)? == 200))
}
