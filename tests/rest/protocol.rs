//! The Open Inference Protocol, with a photo that was prepared here: it says the same as `/predict`.

use crate::own::{SMALL, checkpoint};
use crate::shared::{Shared, answer, photo};
use anyhow::{Context, Result, ensure};
use model::checkpoint::Checkpoint;
use model::classifier::Prepared;
use model::preprocess::{ImageBatch, Limits};
use serde_json::{Value, json};

fn prepared(name: &str) -> Result<ImageBatch> {
    let checkpoint = Checkpoint::from_path(checkpoint(SMALL))?;
    Ok(Prepared::from_bytes(&photo(name)?, &Limits::default(), checkpoint.metadata())?.image)
}

/// As the engine normalises them: f32 `[3, height, width]`.
fn normalised(image: &ImageBatch) -> Vec<f32> {
    let value = |channel: usize| {
        let (mean, std) = (image.mean()[channel], image.std()[channel]);
        image.pixels().chunks_exact(3).map(move |pixel| (f32::from(pixel[channel]) / 255.0 - mean) / std)
    };
    (0..3).flat_map(value).collect()
}

fn infer(shared: &Shared, input: Value, binary: &[u8], output: Value) -> Result<Value> {
    let json = json!({ "inputs": [input], "outputs": [{ "name": "logits", "parameters": output }] }).to_string();
    let mut request = shared.post(&format!("/v2/models/{SMALL}/infer"))?;
    if !binary.is_empty() {
        request = request.header("Inference-Header-Content-Length", json.len());
    }
    answer(request.body([json.as_bytes(), binary].concat()))?.json(200)
}

fn logits(response: &Value) -> Result<Vec<f32>> {
    Ok(serde_json::from_value(response["outputs"][0]["data"].clone())?)
}

pub fn tensors(shared: &Shared) -> Result<()> {
    let photos = ["cat.jpg", "palace.jpg"].map(prepared).into_iter().collect::<Result<Vec<_>>>()?;
    let pixels: Vec<u8> = photos.iter().flat_map(|image| image.pixels()).copied().collect();
    let input = json!({
        "name": "images", "datatype": "UINT8", "shape": [2, 224, 224, 3],
        "parameters": { "binary_data_size": pixels.len() },
    });
    let of_pixels = logits(&infer(shared, input, &pixels, json!({}))?)?;
    ensure!(of_pixels.len() == 20, "{of_pixels:?}");

    let values: Vec<f32> = photos.iter().flat_map(normalised).collect();
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let shape = [2, 3, 224, 224];
    let binary = json!({
        "name": "input", "datatype": "FP32", "shape": shape, "parameters": { "binary_data_size": bytes.len() },
    });
    let as_json = json!({ "name": "input", "datatype": "FP32", "shape": shape, "data": values });
    for (input, binary) in [(binary, &bytes[..]), (as_json, &[])] {
        let found = logits(&infer(shared, input, binary, json!({}))?)?;
        let largest = of_pixels.iter().fold(0f32, |largest, logit| largest.max(logit.abs()));
        let near = found.iter().zip(&of_pixels).all(|(a, b)| (a - b).abs() < 1e-4 * largest);
        ensure!(near, "{found:?} instead of {of_pixels:?}");
    }
    Ok(())
}

/// Numbers that the network makes none of are their sender's trouble.
pub fn overflow(shared: &Shared) -> Result<()> {
    let bytes = 3e38f32.to_le_bytes().repeat(3 * 224 * 224);
    let input = json!({
        "name": "input", "datatype": "FP32", "shape": [1, 3, 224, 224],
        "parameters": { "binary_data_size": bytes.len() },
    });
    let json = json!({ "inputs": [input] }).to_string();
    let request = shared.post(&format!("/v2/models/{SMALL}/infer"))?;
    let request = request.header("Inference-Header-Content-Length", json.len());
    let refused = answer(request.body([json.as_bytes(), &bytes].concat()))?.json(422)?;
    ensure!(refused["error"].as_str().is_some_and(|error| error.contains("these values")), "{refused}");
    Ok(())
}

/// Clients of the protocol show the sentence, whatever was wrong.
pub fn errors(shared: &Shared) -> Result<()> {
    let long = "x".repeat(1_000_000);
    let unknown = format!(r#"{{"{long}": 1, "inputs": [{{"name": "{long}", "datatype": "UINT8", "shape": [1]}}]}}"#);
    for (request, status) in [
        (shared.get("/v2/models/nonesuch")?, 404),
        (shared.get("/v2/models/%ff")?, 400),
        (shared.get("/v2/models/stats/of/nothing")?, 404),
        (shared.post("/v2/health/live")?, 405),
        (shared.post(&format!("/v2/models/{SMALL}/infer"))?.body(unknown), 400),
    ] {
        let answer = answer(request)?;
        let sentence = answer.json(status)?["error"].as_str().map(str::len);
        ensure!(sentence.is_some_and(|length| (10..2000).contains(&length)), "{}", answer.text());
    }
    Ok(())
}

pub fn classification(shared: &Shared) -> Result<()> {
    let image = prepared("palace.jpg")?;
    let input = json!({
        "name": "images", "datatype": "UINT8", "shape": [1, 224, 224, 3],
        "parameters": { "binary_data_size": image.pixels().len() },
    });
    let response = infer(shared, input, image.pixels(), json!({ "classification": 3 }))?;
    let classes = response["outputs"][0]["data"].as_array().context("no classes")?.clone();
    let prediction = shared.predict(&format!("/predict?top_k=3&model={SMALL}"), photo("palace.jpg")?)?;
    ensure!(response["model_version"] == prediction["version"], "{response}");
    for (class, ranked) in classes.iter().zip(prediction["predictions"].as_array().context("no predictions")?) {
        let (index, label) = (&ranked["index"], ranked["label"].as_str().unwrap_or("?"));
        ensure!(class.as_str().is_some_and(|class| class.ends_with(&format!(":{index}:{label}"))), "{class}, {ranked}");
    }
    Ok(())
}

pub fn explanation(shared: &Shared) -> Result<()> {
    let path = format!("/predict?explain=cam&model={SMALL}");
    let json = shared.predict(&path, photo("palace.jpg")?)?;
    let map = &json["explanation"]["map"];
    let values: Vec<f32> = serde_json::from_value(map["values"].clone())?;
    ensure!(map["height"] == 7 && map["width"] == 7 && values.len() == 49, "{map}");
    ensure!(values.iter().all(|value| (0.0..=1.0).contains(value)) && values.contains(&1.0), "{map}");
    let plain = shared.predict(&format!("/predict?model={SMALL}"), photo("palace.jpg")?)?;
    ensure!(plain["predictions"] == json["predictions"] && plain["explanation"].is_null(), "{plain}");

    let png = answer(shared.post(&path)?.header("accept", "image/png").body(photo("palace.jpg")?))?;
    ensure!(png.status == 200 && png.header("content-type") == "image/png", "{:?}", png.headers);
    let seen = model::preprocess::Photo::decode(&png.body, &Limits::default())?;
    ensure!((seen.width(), seen.height()) == (224, 224), "{}x{}", seen.width(), seen.height());
    let untouched = prepared("palace.jpg")?;
    ensure!(seen.pixels() != untouched.pixels(), "nothing is laid over");
    Ok(())
}
