//! Who asks what is answered.

use super::{Tally, Visit, json_of};
use crate::changes::{BY_HAND, WATCHED};
use crate::photos::{LARGE, SAMPLES};
use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::multipart::{Form, Part};
use serde_json::json;

pub async fn one(visit: &Visit, count: usize, tally: &mut Tally) -> Result<()> {
    predict(visit, BY_HAND, count % SAMPLES.len(), "photos", tally).await
}

pub async fn of_watched(visit: &Visit, count: usize, tally: &mut Tally) -> Result<()> {
    predict(visit, WATCHED, count % SAMPLES.len(), "photos", tally).await
}

pub async fn large(visit: &Visit, _: usize, tally: &mut Tally) -> Result<()> {
    predict(visit, BY_HAND, LARGE, "large photos", tally).await
}

async fn predict(visit: &Visit, model: &str, photo: usize, what: &'static str, tally: &mut Tally) -> Result<()> {
    let request = visit.client.post(format!("{}/predict?top_k=10&model={model}", visit.url));
    let answer = request.body(visit.expected.photos[photo].clone()).send().await?;
    if tally.took(&answer)? {
        let answer = json_of(answer).await?;
        visit.expected.check(model, photo, &answer)?;
        tally.count(what);
        tally.seen.insert((model.to_owned(), answer["version"].to_string()));
    }
    Ok(())
}

/// Three photos and one that is none, in a JSON document or a form.
pub async fn several(visit: &Visit, count: usize, tally: &mut Tally) -> Result<()> {
    let photos: Vec<usize> = (0..3).map(|index| (count + index) % SAMPLES.len()).collect();
    let mut images: Vec<Vec<u8>> = photos.iter().map(|photo| visit.expected.photos[*photo].clone()).collect();
    images.push(b"no photo".to_vec());
    let request = visit.client.post(format!("{}/predict?top_k=10", visit.url));
    let request = if count.is_multiple_of(2) {
        let images: Vec<String> = images.iter().map(|image| STANDARD.encode(image)).collect();
        request.json(&json!({ "images": images }))
    } else {
        request.multipart(images.into_iter().fold(Form::new(), |form, image| form.part("file", Part::bytes(image))))
    };
    let answer = request.send().await?;
    if tally.took(&answer)? {
        let answer = json_of(answer).await?;
        let results = answer["results"].as_array().context("no results")?;
        ensure!(results.len() == 4 && results[3]["error"]["code"] == "unsupported_format", "{answer}");
        for (photo, result) in photos.iter().zip(results) {
            visit.expected.check(BY_HAND, *photo, result)?;
            tally.count("photos");
        }
    }
    Ok(())
}

/// A tensor of several images, binary.
pub async fn tensors(visit: &Visit, count: usize, tally: &mut Tally) -> Result<()> {
    let photos: Vec<usize> = (0..1 + count % 3).map(|index| (count + index) % SAMPLES.len()).collect();
    let binary: Vec<u8> = photos.iter().flat_map(|photo| &visit.expected.tensors[*photo]).copied().collect();
    let json = json!({
        "inputs": [{
            "name": "images", "datatype": "UINT8", "shape": [photos.len(), 224, 224, 3],
            "parameters": { "binary_data_size": binary.len() },
        }],
        "outputs": [{ "name": "logits", "parameters": { "classification": 10 } }],
    })
    .to_string();
    let request = visit.client.post(format!("{}/v2/models/{BY_HAND}/infer", visit.url));
    let request = request.header("inference-header-content-length", json.len());
    let answer = request.body([json.into_bytes(), binary].concat()).send().await?;
    if tally.took(&answer)? {
        let answer = json_of(answer).await?;
        let classes = answer["outputs"][0]["data"].as_array().context("no classes")?;
        ensure!(classes.len() == 10 * photos.len(), "{} classes of {} images", classes.len(), photos.len());
        for (photo, classes) in photos.iter().zip(classes.chunks(10)) {
            visit.expected.check_classes(*photo, &answer["model_version"], classes)?;
            tally.count("tensors");
        }
    }
    Ok(())
}
