//! Clients that send valid requests and check the predictions.

use super::{ClientContext, Tally, successful_json};
use crate::model_updates::{LOADED_MODEL, WATCHED_MODEL};
use crate::photos::{LARGE_PHOTO, SAMPLES};
use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::multipart::{Form, Part};
use serde_json::json;

pub async fn photo(context: &ClientContext, index: usize, tally: &mut Tally) -> Result<()> {
    predict(context, LOADED_MODEL, index % SAMPLES.len(), "photos", tally).await
}

pub async fn photo_for_watched_model(context: &ClientContext, index: usize, tally: &mut Tally) -> Result<()> {
    predict(context, WATCHED_MODEL, index % SAMPLES.len(), "photos", tally).await
}

pub async fn large_photo(context: &ClientContext, _: usize, tally: &mut Tally) -> Result<()> {
    predict(context, LOADED_MODEL, LARGE_PHOTO, "large photos", tally).await
}

async fn predict(
    context: &ClientContext,
    model: &str,
    photo: usize,
    kind: &'static str,
    tally: &mut Tally,
) -> Result<()> {
    let request = context.http.post(format!("{}/predict?top_k=10&model={model}", context.url));
    let response = request.body(context.expected.photos[photo].clone()).send().await?;
    if tally.is_accepted(&response)? {
        let response = successful_json(response).await?;
        context.expected.check(model, photo, &response)?;
        tally.count(kind);
        tally.versions.insert((model.to_owned(), response["version"].to_string()));
    }
    Ok(())
}

/// Sends three photos and an invalid one, alternately in a JSON document and in a form.
pub async fn several_photos(context: &ClientContext, index: usize, tally: &mut Tally) -> Result<()> {
    let photos: Vec<usize> = (0..3).map(|offset| (index + offset) % SAMPLES.len()).collect();
    let mut images: Vec<Vec<u8>> = photos.iter().map(|photo| context.expected.photos[*photo].clone()).collect();
    images.push(b"no photo".to_vec());
    let request = context.http.post(format!("{}/predict?top_k=10", context.url));
    let request = if index.is_multiple_of(2) {
        let images: Vec<String> = images.iter().map(|image| STANDARD.encode(image)).collect();
        request.json(&json!({ "images": images }))
    } else {
        request.multipart(images.into_iter().fold(Form::new(), |form, image| form.part("file", Part::bytes(image))))
    };
    let response = request.send().await?;
    if tally.is_accepted(&response)? {
        let response = successful_json(response).await?;
        let results = response["results"].as_array().context("no results")?;
        ensure!(results.len() == 4 && results[3]["error"]["code"] == "unsupported_format", "{response}");
        for (photo, result) in photos.iter().zip(results) {
            context.expected.check(LOADED_MODEL, *photo, result)?;
            tally.count("photos");
        }
    }
    Ok(())
}

/// Sends a binary tensor of one to three images.
pub async fn tensors(context: &ClientContext, index: usize, tally: &mut Tally) -> Result<()> {
    let photos: Vec<usize> = (0..1 + index % 3).map(|offset| (index + offset) % SAMPLES.len()).collect();
    let binary: Vec<u8> = photos.iter().flat_map(|photo| &context.expected.tensors[*photo]).copied().collect();
    let json = json!({
        "inputs": [{
            "name": "images", "datatype": "UINT8", "shape": [photos.len(), 224, 224, 3],
            "parameters": { "binary_data_size": binary.len() },
        }],
        "outputs": [{ "name": "logits", "parameters": { "classification": 10 } }],
    })
    .to_string();
    let request = context.http.post(format!("{}/v2/models/{LOADED_MODEL}/infer", context.url));
    let request = request.header("inference-header-content-length", json.len());
    let response = request.body([json.into_bytes(), binary].concat()).send().await?;
    if tally.is_accepted(&response)? {
        let response = successful_json(response).await?;
        let classes = response["outputs"][0]["data"].as_array().context("no classes")?;
        ensure!(classes.len() == 10 * photos.len(), "{} classes for {} images", classes.len(), photos.len());
        for (photo, classes) in photos.iter().zip(classes.chunks(10)) {
            context.expected.check_classes(*photo, &response["model_version"], classes)?;
            tally.count("tensors");
        }
    }
    Ok(())
}
