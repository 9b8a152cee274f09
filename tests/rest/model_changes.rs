//! Loading, replacing and unloading models while the server runs.

use crate::http::{Response, photo, send};
use crate::test_server::TestServer;
use anyhow::{Context, Result, ensure};
use model::architecture::Architecture;
use model::checkpoint::Checkpoint;
use model::random;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;
use tests::workspace::{SMALL_MODEL, checkpoint};

const TOKEN: &str = "hush";

/// Creates a folder with one model, `mine`.
fn model_folder() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::copy(checkpoint(SMALL_MODEL), folder.path().join("mine.safetensors"))?;
    Ok(folder)
}

/// Replaces the checkpoint of the model atomically.
fn replace(folder: &Path, bytes: &[u8]) -> Result<()> {
    let next = folder.join("next");
    std::fs::write(&next, bytes)?;
    Ok(std::fs::rename(next, folder.join("mine.safetensors"))?)
}

/// Returns a checkpoint of another network with the same number of classes.
fn other_checkpoint() -> Result<Vec<u8>> {
    Ok(random::checkpoint(Architecture::new("resnet18", 10)?).to_bytes())
}

/// Returns a checkpoint with finite weights whose logits overflow.
pub fn overflowing_checkpoint() -> Result<Vec<u8>> {
    let checkpoint = random::checkpoint(Architecture::new("resnet18", 10)?);
    let metadata = checkpoint.metadata().clone();
    let mut values = checkpoint.into_values();
    values.get_mut("fc.weight").context("no classifier")?.fill(f32::MAX);
    Ok(Checkpoint::new(metadata, values)?.to_bytes())
}

fn start(folder: &TempDir, more: &[&str]) -> Result<TestServer> {
    let folder = folder.path().to_str().context("the path is not UTF-8")?;
    TestServer::start_without_model([&["--models", folder, "--admin-token", TOKEN], more].concat())
}

fn change(server: &TestServer, name: &str, action: &str) -> Result<Response> {
    send(server.post(&format!("/v2/repository/models/{name}/{action}")).bearer_auth(TOKEN))
}

/// Checks that the model `mine` cannot be loaded, and that the error does not reveal the path of the folder.
fn expect_load_error(server: &TestServer, folder: &TempDir) -> Result<()> {
    let rejected = change(server, "mine", "load")?;
    let text = rejected.text();
    ensure!(rejected.status == 422, "{} {text}", rejected.status);
    ensure!(!text.contains(folder.path().to_str().unwrap_or("?")), "the error reveals a path: {text}");
    Ok(())
}

/// Returns the version of the first served model.
fn version(server: &TestServer) -> Result<String> {
    let models = send(server.get("/models"))?.json(200)?;
    Ok(models["models"][0]["sha256"].as_str().unwrap_or_default().to_owned())
}

pub fn admin_token(server: &TestServer) -> Result<()> {
    let rejected = change(server, SMALL_MODEL, "unload")?;
    ensure!(rejected.status == 403, "{}", rejected.text());
    let folder = model_folder()?;
    let server = start(&folder, &[])?;
    let rejected = send(server.post("/v2/repository/models/mine/unload"))?;
    ensure!(rejected.status == 401, "{}", rejected.text());
    let rejected = send(server.post("/v2/repository/index").bearer_auth("hus"))?;
    ensure!(rejected.status == 403, "{}", rejected.text());
    ensure!(send(server.get("/models"))?.json(200)?["models"][0]["name"] == "mine", "the model was unloaded");
    Ok(())
}

/// No request fails while a model is replaced, or while attempts to load invalid checkpoints fail.
pub fn under_load() -> Result<()> {
    let folder = model_folder()?;
    let server = start(&folder, &[])?;
    let (cat, first) = (photo("cat.jpg")?, version(&server)?);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let predict = || {
            let mut versions = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let prediction = send(server.post("/predict").body(cat.clone()))?.json(200)?;
                versions.push(prediction["version"].as_str().context("no version")?.to_owned());
            }
            anyhow::Ok(versions)
        };
        let clients: Vec<_> = (0..3).map(|_| scope.spawn(predict)).collect();
        let changed = (|| {
            for invalid in [b"no checkpoint".to_vec(), overflowing_checkpoint()?] {
                replace(folder.path(), &invalid)?;
                expect_load_error(&server, &folder)?;
                ensure!(version(&server)? == first, "an invalid checkpoint replaced the model");
            }
            replace(folder.path(), &other_checkpoint()?)?;
            let loaded = change(&server, "mine", "load")?;
            ensure!(loaded.status == 200, "{}", loaded.text());
            version(&server)
        })();
        done.store(true, Ordering::Relaxed);
        let second = changed?;
        ensure!(second != first, "the model was not replaced");
        for client in clients {
            let versions = client.join().expect("client threads do not panic")?;
            ensure!(versions.iter().all(|version| [&first, &second].contains(&version)), "{versions:?}");
            ensure!(
                versions.is_sorted_by_key(|version| *version == second),
                "the old model responded after the new one"
            );
        }
        let weights = send(server.get(&format!("/weights/{second}")))?;
        ensure!(weights.status == 200 && weights.body == other_checkpoint()?, "the new weights are not served");
        send(server.get(&format!("/weights/{first}")))?.expect_error(404, "not_found")
    })
}

pub fn load_and_unload() -> Result<()> {
    let folder = model_folder()?;
    let server = start(&folder, &[])?;
    ensure!(change(&server, "mine", "unload")?.status == 200, "not unloaded");
    ensure!(change(&server, "mine", "unload")?.status == 404, "unloaded twice");
    send(server.post("/predict").body(photo("cat.jpg")?))?.expect_error(404, "unknown_model")?;
    send(server.get("/readyz"))?.expect_error(503, "not_ready")?;
    let index = || send(server.post("/v2/repository/index").bearer_auth(TOKEN))?.json(200);
    ensure!(index()?[0]["state"] == "UNAVAILABLE", "{}", index()?);
    ensure!(change(&server, "nonesuch", "load")?.status == 404, "loaded a model without a checkpoint");
    ensure!(change(&server, "mine", "load")?.status == 200, "not loaded");
    ensure!(index()?[0]["state"] == "READY", "{}", index()?);
    send(server.post("/predict").body(photo("cat.jpg")?))?.json(200)?;
    Ok(())
}

/// Triton's clients send a body with every request. Parameters of a load request are rejected, because they are not
/// supported.
pub fn request_bodies() -> Result<()> {
    let folder = model_folder()?;
    let server = start(&folder, &[])?;
    let change = |action: &str, body: &str| {
        let request = server.post(&format!("/v2/repository/models/mine/{action}")).bearer_auth(TOKEN);
        send(request.body(body.to_owned()))
    };
    for (action, body, status, words) in [
        ("load", "null", 200, ""),
        ("load", "{}", 200, ""),
        ("load", r#"{"parameters": {}}"#, 200, ""),
        ("load", r#"{"parameters": null}"#, 200, ""),
        ("load", r#"{"parameters": {"config": "{}"}}"#, 400, "`config`"),
        ("load", r#"{"parameters": {"file:1/model.onnx": "AAAA"}}"#, 400, "load requests have no parameters"),
        ("load", r#"{"config": "{}"}"#, 400, "`config`"),
        ("load", "{", 400, "load requests have no parameters"),
        ("load", "no JSON", 400, "load requests have no parameters"),
        ("unload", "no JSON", 400, "unload requests need no body"),
        ("unload", r#"{"parameters": 1}"#, 400, "an object"),
        ("load", &" ".repeat(20_000), 413, "16384 bytes"),
        ("unload", &" ".repeat(100_000), 413, "16384 bytes"),
        ("unload", r#"{"parameters": {"unload_dependents": false}}"#, 200, ""),
        ("unload", "{}", 404, "mine"),
    ] {
        let response = change(action, body)?;
        let (actual, text) = (response.status, response.text());
        ensure!(actual == status && text.contains(words), "{action} {:.50}: {actual} {text}", body);
    }
    Ok(())
}

pub fn watched_folder() -> Result<()> {
    let folder = model_folder()?;
    let server = start(&folder, &["--watch", "50ms"])?;
    let first = version(&server)?;
    replace(folder.path(), &other_checkpoint()?)?;
    server.wait_until("the new weights are served", |server| Ok(version(server)? != first))?;
    std::fs::copy(checkpoint(SMALL_MODEL), folder.path().join("another.safetensors"))?;
    server.wait_until("another model is served", |server| {
        Ok(send(server.post("/predict?model=another").body(photo("cat.jpg")?))?.status == 200)
    })?;
    for (name, remaining) in [("mine", 1), ("another", 0)] {
        std::fs::remove_file(folder.path().join(format!("{name}.safetensors")))?;
        server.wait_until("a removed model is not served any more", |server| {
            let models = send(server.get("/models"))?.json(200)?;
            Ok(models["models"].as_array().is_some_and(|models| models.len() == remaining))
        })?;
    }
    send(server.post("/predict").body(photo("cat.jpg")?))?.expect_error(404, "unknown_model")
}

/// A changed file is loaded although its size and modification time are the same, and a model whose checkpoint became
/// unreadable stays served.
pub fn watched_files() -> Result<()> {
    let folder = model_folder()?;
    let path = folder.path().join("mine.safetensors");
    let modified = std::fs::metadata(&path)?.modified()?;
    let server = start(&folder, &["--watch", "50ms"])?;
    let first = version(&server)?;
    let mut bytes = std::fs::read(&path)?;
    *bytes.last_mut().context("the file is empty")? ^= 1;
    std::fs::write(&path, bytes)?;
    std::fs::File::options().write(true).open(&path)?.set_modified(modified)?;
    server.wait_until("the new weights are served", |server| Ok(version(server)? != first))?;

    let second = version(&server)?;
    std::fs::remove_file(&path)?;
    std::os::unix::fs::symlink("nowhere", &path)?;
    server.wait_until("the link is reported", |server| {
        Ok(send(server.get("/models"))?.json(200)?["failures"][0]["name"] == "mine")
    })?;
    // More scans than it takes to unload a model.
    std::thread::sleep(std::time::Duration::from_millis(300));
    ensure!(version(&server)? == second, "the model was dropped");
    std::fs::remove_file(&path)?;
    server.wait_until("the model is not served any more", |server| Ok(version(server)?.is_empty()))?;
    server.wait_until("the failure is forgotten", |server| {
        Ok(send(server.get("/models"))?.json(200)?["failures"] == serde_json::json!([]))
    })
}

/// Pipes and folders that are named like checkpoints block neither other models nor the shutdown.
pub fn irregular_files() -> Result<()> {
    let folder = model_folder()?;
    let mut server = start(&folder, &["--watch", "50ms"])?;
    let pipe = folder.path().join("pipe.safetensors");
    ensure!(Command::new("mkfifo").arg(&pipe).status()?.success(), "mkfifo failed");
    std::fs::create_dir(folder.path().join("folder.safetensors"))?;
    for name in ["pipe", "folder"] {
        let rejected = change(&server, name, "load")?;
        ensure!(
            rejected.status == 422 && rejected.text().contains("not a regular file"),
            "{} {}",
            rejected.status,
            rejected.text()
        );
    }
    ensure!(change(&server, "mine", "load")?.status == 200, "other models cannot be loaded");
    server.terminate()?;
    ensure!(server.process().wait()?.success(), "the server failed");
    Ok(())
}

/// A second checkpoint with the name of another model does not affect other models.
pub fn duplicate_names() -> Result<()> {
    let folder = model_folder()?;
    let named = format!("named={}", checkpoint(SMALL_MODEL).display());
    let server = start(&folder, &["--model", &named])?;
    std::fs::copy(checkpoint(SMALL_MODEL), folder.path().join("named.safetensors"))?;
    ensure!(change(&server, "mine", "load")?.status == 200, "other models cannot be loaded");
    std::fs::remove_dir_all(folder.path())?;
    expect_load_error(&server, &folder)?;
    ensure!(change(&server, "named", "load")?.status == 200, "a model outside the folder cannot be loaded");
    Ok(())
}
