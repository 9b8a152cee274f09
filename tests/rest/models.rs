//! The models and their weights, as the page requests them.

use crate::http::{SharedServer, send};
use anyhow::{Context, Result, ensure};
use reqwest::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

pub fn list(shared: &SharedServer) -> Result<()> {
    let large = model(shared, "resnet50_v1-imagenet")?;
    ensure!(large["default"] == true && large["classes"] == 1000 && large["architecture"] == "resnet50_v1", "{large}");
    ensure!(large["labels"].as_array().is_some_and(|labels| labels.len() == 1000), "{large}");
    let small = model(shared, "resnet18-imagenette")?;
    ensure!(small["default"] == false && small["classes"] == 10 && small["architecture"] == "resnet18", "{small}");
    ensure!(small["input"]["size"] == serde_json::json!([224, 224]), "{small}");
    ensure!(small["input"]["mean"].as_array().is_some_and(|mean| mean.len() == 3), "{small}");
    Ok(())
}

pub fn weights(shared: &SharedServer) -> Result<()> {
    for name in ["resnet50_v1-imagenet", "resnet18-imagenette"] {
        let model = model(shared, name)?;
        let path = model["weights"].as_str().context("no path of weights")?;
        let weights = send(shared.get(path)?)?;
        ensure!(weights.status == 200 && model["bytes"] == weights.body.len(), "{name}: {}", weights.status);
        ensure!(weights.header(CONTENT_LENGTH) == weights.body.len().to_string(), "{:?}", weights.headers);
        ensure!(weights.header(CACHE_CONTROL).contains("immutable"), "{:?}", weights.headers);
        ensure!(weights.header(ACCEPT_RANGES) == "bytes", "{:?}", weights.headers);
        let sha256 = hex::encode(Sha256::digest(&weights.body));
        ensure!(model["sha256"] == sha256 && path == format!("/weights/{sha256}"), "{name}: {sha256}, {path}");

        let head = send(shared.head(path)?)?;
        ensure!(head.status == 200 && head.body.is_empty(), "{name}: {}", head.status);
        ensure!(head.header(CONTENT_LENGTH) == weights.body.len().to_string(), "{:?}", head.headers);
    }
    Ok(())
}

pub fn ranges(shared: &SharedServer) -> Result<()> {
    let path = weights_path(shared)?;
    let whole = send(shared.get(&path)?)?;
    let size = whole.body.len();
    let half = size / 2;
    let first = send(shared.get(&path)?.header(RANGE, format!("bytes=0-{}", half - 1)))?;
    let resumed = shared.get(&path)?.header(RANGE, format!("bytes={half}-")).header(IF_RANGE, whole.header(ETAG));
    let second = send(resumed)?;
    ensure!(first.status == 206 && second.status == 206, "{} and {}", first.status, second.status);
    ensure!(first.header(CONTENT_RANGE) == format!("bytes 0-{}/{size}", half - 1), "{:?}", first.headers);
    ensure!([first.body, second.body].concat() == whole.body, "the halves do not add up to the whole");

    let other = shared.get(&path)?.header(RANGE, format!("bytes={half}-")).header(IF_RANGE, "\"other\"");
    ensure!(send(other)?.status == 200, "a part of other content was resumed");

    let beyond_end = send(shared.get(&path)?.header(RANGE, format!("bytes={size}-")))?;
    ensure!(beyond_end.header(CONTENT_RANGE) == format!("bytes */{size}"), "{:?}", beyond_end.headers);
    beyond_end.expect_error(416, "range_not_satisfiable")
}

pub fn revalidation(shared: &SharedServer) -> Result<()> {
    let path = weights_path(shared)?;
    let tag = send(shared.head(&path)?)?.header(ETAG).to_owned();
    let again = send(shared.get(&path)?.header(IF_NONE_MATCH, &tag))?;
    ensure!(again.status == 304 && again.body.is_empty() && !tag.is_empty(), "{tag:?}: {}", again.status);
    Ok(())
}

fn model(shared: &SharedServer, name: &str) -> Result<Value> {
    let models = send(shared.get("/models")?)?.json(200)?;
    let list = models["models"].as_array().context("no list")?;
    let model = list.iter().find(|model| model["name"] == name);
    model.cloned().with_context(|| format!("{name} is not listed: {models}"))
}

/// Returns the path of the smaller weights.
fn weights_path(shared: &SharedServer) -> Result<String> {
    let model = model(shared, "resnet18-imagenette")?;
    Ok(model["weights"].as_str().context("no path of weights")?.to_owned())
}
