//! What a page asks for: the models, their weights, and itself.

use crate::shared::{Shared, answer};
use anyhow::{Context, Result, ensure};
use reqwest::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

pub fn list(shared: &Shared) -> Result<()> {
    let large = described(shared, "resnet50_v1-imagenet")?;
    ensure!(large["default"] == true && large["classes"] == 1000 && large["architecture"] == "resnet50_v1", "{large}");
    ensure!(large["labels"].as_array().is_some_and(|labels| labels.len() == 1000), "{large}");
    let small = described(shared, "resnet18-imagenette")?;
    ensure!(small["default"] == false && small["classes"] == 10 && small["architecture"] == "resnet18", "{small}");
    ensure!(small["input"]["size"] == serde_json::json!([224, 224]), "{small}");
    ensure!(small["input"]["mean"].as_array().is_some_and(|mean| mean.len() == 3), "{small}");
    Ok(())
}

pub fn weights(shared: &Shared) -> Result<()> {
    for name in ["resnet50_v1-imagenet", "resnet18-imagenette"] {
        let model = described(shared, name)?;
        let address = model["weights"].as_str().context("no address")?;
        let weights = answer(shared.get(address)?)?;
        ensure!(weights.status == 200 && model["bytes"] == weights.body.len(), "{name}: {}", weights.status);
        ensure!(weights.header(CONTENT_LENGTH) == weights.body.len().to_string(), "{:?}", weights.headers);
        ensure!(weights.header(CACHE_CONTROL).contains("immutable"), "{:?}", weights.headers);
        ensure!(weights.header(ACCEPT_RANGES) == "bytes", "{:?}", weights.headers);
        let sha256: String = Sha256::digest(&weights.body).iter().map(|byte| format!("{byte:02x}")).collect();
        ensure!(model["sha256"] == sha256 && address == format!("/weights/{sha256}"), "{name}: {sha256}, {address}");

        let head = answer(shared.head(address)?)?;
        ensure!(head.status == 200 && head.body.is_empty(), "{name}: {}", head.status);
        ensure!(head.header(CONTENT_LENGTH) == weights.body.len().to_string(), "{:?}", head.headers);
    }
    Ok(())
}

pub fn parts(shared: &Shared) -> Result<()> {
    let address = address(shared)?;
    let whole = answer(shared.get(&address)?)?;
    let size = whole.body.len();
    let half = size / 2;
    let first = answer(shared.get(&address)?.header(RANGE, format!("bytes=0-{}", half - 1)))?;
    let resumed = shared.get(&address)?.header(RANGE, format!("bytes={half}-")).header(IF_RANGE, whole.header(ETAG));
    let second = answer(resumed)?;
    ensure!(first.status == 206 && second.status == 206, "{} and {}", first.status, second.status);
    ensure!(first.header(CONTENT_RANGE) == format!("bytes 0-{}/{size}", half - 1), "{:?}", first.headers);
    ensure!([first.body, second.body].concat() == whole.body, "the halves do not make the whole");

    let other = shared.get(&address)?.header(RANGE, format!("bytes={half}-")).header(IF_RANGE, "\"other\"");
    ensure!(answer(other)?.status == 200, "a part of other content was resumed");

    let behind = answer(shared.get(&address)?.header(RANGE, format!("bytes={size}-")))?;
    ensure!(behind.header(CONTENT_RANGE) == format!("bytes */{size}"), "{:?}", behind.headers);
    behind.failure(416, "range_not_satisfiable")
}

pub fn known(shared: &Shared) -> Result<()> {
    let address = address(shared)?;
    let tag = answer(shared.head(&address)?)?.header(ETAG).to_owned();
    let again = answer(shared.get(&address)?.header(IF_NONE_MATCH, &tag))?;
    ensure!(again.status == 304 && again.body.is_empty() && !tag.is_empty(), "{tag:?}: {}", again.status);
    Ok(())
}

pub fn page(shared: &Shared) -> Result<()> {
    let page = answer(shared.get("/")?)?;
    ensure!(page.status == 200 && page.header(CONTENT_TYPE).starts_with("text/html"), "{}", page.text());
    ensure!(page.header(CACHE_CONTROL) == "no-cache", "{:?}", page.headers);
    Ok(())
}

fn described(shared: &Shared, name: &str) -> Result<Value> {
    let models = answer(shared.get("/models")?)?.json(200)?;
    let list = models["models"].as_array().context("no list")?;
    let model = list.iter().find(|model| model["name"] == name);
    model.cloned().with_context(|| format!("there is no {name}: {models}"))
}

/// Of the smaller weights.
fn address(shared: &Shared) -> Result<String> {
    let model = described(shared, "resnet18-imagenette")?;
    Ok(model["weights"].as_str().context("no address")?.to_owned())
}
