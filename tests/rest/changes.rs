//! Models that come, change and go while the server runs.

use crate::own::{Own, SMALL, checkpoint};
use crate::shared::{Answer, answer, photo};
use anyhow::{Context, Result, ensure};
use model::architecture::Architecture;
use model::checkpoint::Checkpoint;
use model::random;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

const TOKEN: &str = "hush";

/// A folder with one model, `mine`.
fn folder() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::copy(checkpoint(SMALL), folder.path().join("mine.safetensors"))?;
    Ok(folder)
}

fn replace(folder: &Path, bytes: &[u8]) -> Result<()> {
    let next = folder.join("next");
    std::fs::write(&next, bytes)?;
    Ok(std::fs::rename(next, folder.join("mine.safetensors"))?)
}

/// Another network with as many classes.
fn other() -> Result<Vec<u8>> {
    Ok(random::checkpoint(Architecture::new("resnet18", 10)?).to_bytes())
}

/// One whose logits are no numbers, though its weights are.
fn overflowing() -> Result<Vec<u8>> {
    let checkpoint = random::checkpoint(Architecture::new("resnet18", 10)?);
    let metadata = checkpoint.metadata().clone();
    let mut values = checkpoint.into_values();
    values.get_mut("fc.weight").context("no classifier")?.fill(f32::MAX);
    Ok(Checkpoint::new(metadata, values)?.to_bytes())
}

fn start(folder: &TempDir, more: &[&str]) -> Result<Own> {
    let folder = folder.path().to_str().context("the path is no text")?;
    Own::start_bare([&["--models", folder, "--admin-token", TOKEN], more].concat())
}

fn change(own: &Own, name: &str, how: &str) -> Result<Answer> {
    answer(own.post(&format!("/v2/repository/models/{name}/{how}")).bearer_auth(TOKEN))
}

fn version(own: &Own) -> Result<String> {
    let models = answer(own.get("/models"))?.json(200)?;
    Ok(models["models"][0]["sha256"].as_str().unwrap_or_default().to_owned())
}

pub fn with_a_token_only() -> Result<()> {
    let own = Own::start([])?;
    let refused = change(&own, SMALL, "unload")?;
    ensure!(refused.status == 403, "{}", refused.text());
    let folder = folder()?;
    let own = start(&folder, &[])?;
    let refused = answer(own.post("/v2/repository/models/mine/unload"))?;
    ensure!(refused.status == 401, "{}", refused.text());
    let refused = answer(own.post("/v2/repository/index").bearer_auth("hus"))?;
    ensure!(refused.status == 403, "{}", refused.text());
    ensure!(answer(own.get("/models"))?.json(200)?["models"][0]["name"] == "mine", "it is gone");
    Ok(())
}

/// While somebody asks all the time, a model is replaced, and replaced by what cannot work; nobody fails.
pub fn while_requests_come() -> Result<()> {
    let folder = folder()?;
    let own = start(&folder, &[])?;
    let (cat, first) = (photo("cat.jpg")?, version(&own)?);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ask = || {
            let mut versions = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let prediction = answer(own.post("/predict").body(cat.clone()))?.json(200)?;
                versions.push(prediction["version"].as_str().context("no version")?.to_owned());
            }
            anyhow::Ok(versions)
        };
        let clients: Vec<_> = (0..3).map(|_| scope.spawn(ask)).collect();
        let changed = (|| {
            for bad in [b"no checkpoint".to_vec(), overflowing()?] {
                replace(folder.path(), &bad)?;
                let refused = change(&own, "mine", "load")?;
                ensure!(refused.status == 422, "{} {}", refused.status, refused.text());
                ensure!(!refused.text().contains(folder.path().to_str().unwrap_or("?")), "a path: {}", refused.text());
                ensure!(version(&own)? == first, "a checkpoint that does not work took over");
            }
            replace(folder.path(), &other()?)?;
            let loaded = change(&own, "mine", "load")?;
            ensure!(loaded.status == 200, "{}", loaded.text());
            version(&own)
        })();
        done.store(true, Ordering::Relaxed);
        let second = changed?;
        ensure!(second != first, "nothing changed");
        for client in clients {
            let versions = client.join().expect("a client does not panic")?;
            ensure!(versions.iter().all(|version| [&first, &second].contains(&version)), "{versions:?}");
            ensure!(versions.is_sorted_by_key(|version| *version == second), "the old one answered after the new one");
        }
        let weights = answer(own.get(&format!("/weights/{second}")))?;
        ensure!(weights.status == 200 && weights.body == other()?, "the new weights are not there");
        answer(own.get(&format!("/weights/{first}")))?.failure(404, "not_found")
    })
}

pub fn by_hand() -> Result<()> {
    let folder = folder()?;
    let own = start(&folder, &[])?;
    ensure!(change(&own, "mine", "unload")?.status == 200, "not unloaded");
    ensure!(change(&own, "mine", "unload")?.status == 404, "unloaded twice");
    answer(own.post("/predict").body(photo("cat.jpg")?))?.failure(404, "unknown_model")?;
    answer(own.get("/readyz"))?.failure(503, "not_ready")?;
    let index = || answer(own.post("/v2/repository/index").bearer_auth(TOKEN))?.json(200);
    ensure!(index()?[0]["state"] == "UNAVAILABLE", "{}", index()?);
    ensure!(change(&own, "nonesuch", "load")?.status == 404, "loaded from nowhere");
    ensure!(change(&own, "mine", "load")?.status == 200, "not loaded");
    ensure!(index()?[0]["state"] == "READY", "{}", index()?);
    answer(own.post("/predict").body(photo("cat.jpg")?))?.json(200)?;
    Ok(())
}

/// Triton's clients send a body with every change. What it asks of a load is refused, for it would not be done.
pub fn bodies() -> Result<()> {
    let folder = folder()?;
    let own = start(&folder, &[])?;
    let change = |how: &str, body: &str| {
        let request = own.post(&format!("/v2/repository/models/mine/{how}")).bearer_auth(TOKEN);
        answer(request.body(body.to_owned()))
    };
    for (how, body, status, words) in [
        ("load", "null", 200, ""),
        ("load", "{}", 200, ""),
        ("load", r#"{"parameters": {}}"#, 200, ""),
        ("load", r#"{"parameters": null}"#, 200, ""),
        ("load", r#"{"parameters": {"config": "{}"}}"#, 400, "`config`"),
        ("load", r#"{"parameters": {"file:1/model.onnx": "AAAA"}}"#, 400, "no parameters are taken"),
        ("load", r#"{"config": "{}"}"#, 400, "`config`"),
        ("load", "{", 400, "no parameters are taken"),
        ("load", "no JSON", 400, "no parameters are taken"),
        ("unload", "no JSON", 400, "nothing need be sent"),
        ("unload", r#"{"parameters": 1}"#, 400, "an object"),
        ("load", &" ".repeat(20_000), 413, "16384 bytes"),
        ("unload", &" ".repeat(100_000), 413, "16384 bytes"),
        ("unload", r#"{"parameters": {"unload_dependents": false}}"#, 200, ""),
        ("unload", "{}", 404, "mine"),
    ] {
        let answer = change(how, body)?;
        let (found, text) = (answer.status, answer.text());
        ensure!(found == status && text.contains(words), "{how} {:.50}: {found} {text}", body);
    }
    Ok(())
}

pub fn in_a_folder() -> Result<()> {
    let folder = folder()?;
    let own = start(&folder, &["--watch", "50ms"])?;
    let first = version(&own)?;
    replace(folder.path(), &other()?)?;
    own.until("the new weights are served", |own| Ok(version(own)? != first))?;
    std::fs::copy(checkpoint(SMALL), folder.path().join("another.safetensors"))?;
    own.until("another model is served", |own| {
        Ok(answer(own.post("/predict?model=another").body(photo("cat.jpg")?))?.status == 200)
    })?;
    for (name, left) in [("mine", 1), ("another", 0)] {
        std::fs::remove_file(folder.path().join(format!("{name}.safetensors")))?;
        own.until("a model that is gone is not served", |own| {
            let models = answer(own.get("/models"))?.json(200)?;
            Ok(models["models"].as_array().is_some_and(|models| models.len() == left))
        })?;
    }
    answer(own.post("/predict").body(photo("cat.jpg")?))?.failure(404, "unknown_model")
}

/// What is called a checkpoint and never ends to be read holds nobody up.
pub fn no_files() -> Result<()> {
    let folder = folder()?;
    let mut own = start(&folder, &["--watch", "50ms"])?;
    let pipe = folder.path().join("pipe.safetensors");
    ensure!(Command::new("mkfifo").arg(&pipe).status()?.success(), "no pipe was made");
    std::fs::create_dir(folder.path().join("folder.safetensors"))?;
    for name in ["pipe", "folder"] {
        let refused = change(&own, name, "load")?;
        ensure!(refused.status == 422 && refused.text().contains("no file"), "{} {}", refused.status, refused.text());
    }
    ensure!(change(&own, "mine", "load")?.status == 200, "others cannot be loaded");
    own.terminate()?;
    ensure!(own.server.process().wait()?.success(), "it did not end well");
    Ok(())
}

/// A second checkpoint of a name that another has does not stop the others.
pub fn clashes() -> Result<()> {
    let folder = folder()?;
    let named = format!("named={}", checkpoint(SMALL).display());
    let own = start(&folder, &["--model", &named])?;
    std::fs::copy(checkpoint(SMALL), folder.path().join("named.safetensors"))?;
    ensure!(change(&own, "mine", "load")?.status == 200, "others cannot be loaded");
    std::fs::remove_dir_all(folder.path())?;
    let refused = change(&own, "mine", "load")?;
    ensure!(refused.status == 422, "{} {}", refused.status, refused.text());
    ensure!(!refused.text().contains(folder.path().to_str().unwrap_or("?")), "a path: {}", refused.text());
    ensure!(change(&own, "named", "load")?.status == 200, "a file of its own is not in the folder");
    Ok(())
}
