//! The Open Inference Protocol, with photos preprocessed by the tests: it returns the same results as `/predict`.

use crate::http::{SharedServer, photo, send};
use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::checkpoint::Checkpoint;
use model::classifier::PreparedPhoto;
use model::engine::{Device, Engine, Input};
use model::explain::{Scaling, image_grid};
use model::plan::{Plan, Stage, Tap};
use model::preprocess::{ImageBatch, Limits, Photo};
use pollster::block_on;
use serde_json::{Value, json};
use tests::workspace::{SMALL_MODEL, checkpoint};

/// Decodes and crops a sample for the small model.
fn prepared(name: &str) -> Result<ImageBatch> {
    let checkpoint = Checkpoint::from_path(checkpoint(SMALL_MODEL))?;
    Ok(PreparedPhoto::from_bytes(&photo(name)?, &Limits::default(), checkpoint.metadata())?.image)
}

/// Normalises an image like the engine: f32 `[3, height, width]`.
fn normalised(image: &ImageBatch) -> Vec<f32> {
    let value = |channel: usize| {
        let (mean, std) = (image.mean()[channel], image.std()[channel]);
        image.pixels().chunks_exact(3).map(move |pixel| (f32::from(pixel[channel]) / 255.0 - mean) / std)
    };
    (0..3).flat_map(value).collect()
}

/// Sends an inference request with one input, whose binary data may be empty. `output` holds the parameters of the
/// output.
fn infer(shared: &SharedServer, input: Value, binary: &[u8], output: Value) -> Result<Value> {
    let json = json!({ "inputs": [input], "outputs": [{ "name": "logits", "parameters": output }] }).to_string();
    let mut request = shared.post(&format!("/v2/models/{SMALL_MODEL}/infer"))?;
    if !binary.is_empty() {
        request = request.header("Inference-Header-Content-Length", json.len());
    }
    send(request.body([json.as_bytes(), binary].concat()))?.json(200)
}

fn logits(response: &Value) -> Result<Vec<f32>> {
    Ok(serde_json::from_value(response["outputs"][0]["data"].clone())?)
}

pub fn tensors(shared: &SharedServer) -> Result<()> {
    let photos = ["cat.jpg", "palace.jpg"].map(prepared).into_iter().collect::<Result<Vec<_>>>()?;
    let pixels: Vec<u8> = photos.iter().flat_map(|image| image.pixels()).copied().collect();
    let input = json!({
        "name": "images", "datatype": "UINT8", "shape": [2, 224, 224, 3],
        "parameters": { "binary_data_size": pixels.len() },
    });
    let pixel_logits = logits(&infer(shared, input, &pixels, json!({}))?)?;
    ensure!(pixel_logits.len() == 20, "{pixel_logits:?}");
    let version = send(shared.get(&format!("/v2/models/{SMALL_MODEL}/versions/1"))?)?.json(200)?;
    ensure!(version["name"] == SMALL_MODEL, "{version}");
    let statistics = send(shared.get(&format!("/v2/models/{SMALL_MODEL}/versions/1/stats"))?)?.json(200)?;
    let images = statistics["model_stats"][0]["inference_count"].as_u64();
    ensure!(images.is_some_and(|images| images >= 2), "{statistics}");

    let values: Vec<f32> = photos.iter().flat_map(normalised).collect();
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let shape = [2, 3, 224, 224];
    let binary = json!({
        "name": "input", "datatype": "FP32", "shape": shape, "parameters": { "binary_data_size": bytes.len() },
    });
    let as_json = json!({ "name": "input", "datatype": "FP32", "shape": shape, "data": values });
    for (input, binary) in [(binary, &bytes[..]), (as_json, &[])] {
        let actual = logits(&infer(shared, input, binary, json!({}))?)?;
        let largest = pixel_logits.iter().fold(0f32, |largest, logit| largest.max(logit.abs()));
        let is_close = actual.iter().zip(&pixel_logits).all(|(a, b)| (a - b).abs() < 1e-4 * largest);
        ensure!(is_close, "expected {pixel_logits:?}, got {actual:?}");
    }
    Ok(())
}

/// Values for which the network overflows are a client error.
pub fn overflow(shared: &SharedServer) -> Result<()> {
    let bytes = 3e38f32.to_le_bytes().repeat(3 * 224 * 224);
    let input = json!({
        "name": "input", "datatype": "FP32", "shape": [1, 3, 224, 224],
        "parameters": { "binary_data_size": bytes.len() },
    });
    let json = json!({ "inputs": [input] }).to_string();
    let request = shared.post(&format!("/v2/models/{SMALL_MODEL}/infer"))?;
    let request = request.header("Inference-Header-Content-Length", json.len());
    let rejected = send(request.body([json.as_bytes(), &bytes].concat()))?.json(422)?;
    ensure!(rejected["error"].as_str().is_some_and(|error| error.contains("not a finite number")), "{rejected}");
    Ok(())
}

/// Errors have one message of reasonable length, which clients of the protocol display.
pub fn errors(shared: &SharedServer) -> Result<()> {
    let long = "x".repeat(1_000_000);
    let unknown = format!(r#"{{"{long}": 1, "inputs": [{{"name": "{long}", "datatype": "UINT8", "shape": [1]}}]}}"#);
    for (request, status) in [
        (shared.get("/v2/models/nonesuch")?, 404),
        (shared.get("/v2/models/%ff")?, 400),
        (shared.get("/v2/models/stats/of/nothing")?, 404),
        (shared.post("/v2/health/live")?, 405),
        (shared.post(&format!("/v2/models/{SMALL_MODEL}/infer"))?.body(unknown), 400),
    ] {
        let response = send(request)?;
        let message_length = response.json(status)?["error"].as_str().map(str::len);
        ensure!(message_length.is_some_and(|length| (10..2000).contains(&length)), "{}", response.text());
    }
    Ok(())
}

pub fn classification(shared: &SharedServer) -> Result<()> {
    let image = prepared("palace.jpg")?;
    let input = json!({
        "name": "images", "datatype": "UINT8", "shape": [1, 224, 224, 3],
        "parameters": { "binary_data_size": image.pixels().len() },
    });
    let response = infer(shared, input, image.pixels(), json!({ "classification": 3 }))?;
    let classes = response["outputs"][0]["data"].as_array().context("no classes")?.clone();
    let prediction = shared.predict(&format!("/predict?top_k=3&model={SMALL_MODEL}"), photo("palace.jpg")?)?;
    ensure!(response["model_version"] == prediction["version"], "{response}");
    for (class, ranked) in classes.iter().zip(prediction["predictions"].as_array().context("no predictions")?) {
        let (index, label) = (&ranked["index"], ranked["label"].as_str().unwrap_or("?"));
        ensure!(class.as_str().is_some_and(|class| class.ends_with(&format!(":{index}:{label}"))), "{class}, {ranked}");
    }
    Ok(())
}

pub fn explanation(shared: &SharedServer) -> Result<()> {
    let path = format!("/predict?explain=cam&model={SMALL_MODEL}");
    let json = shared.predict(&path, photo("palace.jpg")?)?;
    let map = &json["explanation"]["map"];
    let values: Vec<f32> = serde_json::from_value(map["values"].clone())?;
    ensure!(map["height"] == 7 && map["width"] == 7 && values.len() == 49, "{map}");
    ensure!(values.iter().all(|value| (0.0..=1.0).contains(value)) && values.contains(&1.0), "{map}");
    let plain = shared.predict(&format!("/predict?model={SMALL_MODEL}"), photo("palace.jpg")?)?;
    ensure!(plain["predictions"] == json["predictions"] && plain["explanation"].is_null(), "{plain}");

    let png = send(shared.post(&path)?.header("accept", "image/png").body(photo("palace.jpg")?))?;
    ensure!(png.status == 200 && png.header("content-type") == "image/png", "{:?}", png.headers);
    let overlaid = Photo::decode(&png.body, &Limits::default())?;
    ensure!((overlaid.width(), overlaid.height()) == (224, 224), "{}x{}", overlaid.width(), overlaid.height());
    let cropped = prepared("palace.jpg")?;
    ensure!(overlaid.pixels() != cropped.pixels(), "the map was not overlaid");
    Ok(())
}

/// The picture equals the one of the activations that our own engine computes.
pub fn feature_maps(shared: &SharedServer) -> Result<()> {
    let path = format!("/predict?explain=feature-maps&layer=layer2&model={SMALL_MODEL}");
    let json = shared.predict(&path, photo("palace.jpg")?)?;
    let maps = &json["feature_maps"];
    ensure!(maps["layer"] == "layer2" && maps["channels"] == 128 && maps["height"] == 28, "{maps}");
    let engine = block_on(Engine::prepare(Plan::from(Checkpoint::from_path(checkpoint(SMALL_MODEL))?), Device::Cpu))?;
    let input = Input::Pixels(prepared("palace.jpg")?);
    let output = block_on(engine.run(&input, &[Tap::Stage(Stage::Two)]))?;
    let expected = image_grid(&output.activations[0].values, [128, 1, 28, 28], Scaling::EachImage);
    let png = STANDARD.decode(maps["png"].as_str().context("no png")?)?;
    ensure!(Photo::decode(&png, &Limits::default())? == expected, "the picture shows other values");

    let response = send(shared.post(&path)?.header("accept", "image/png").body(photo("palace.jpg")?))?;
    ensure!(response.status == 200 && response.header("content-type") == "image/png", "{:?}", response.headers);
    ensure!(response.body == png, "the PNG differs from the one in JSON");
    let unknown = path.replace("layer2", "layer9");
    let rejected = send(shared.post(&unknown)?.body(photo("palace.jpg")?))?.json(400)?;
    ensure!(rejected["error"]["message"].as_str().is_some_and(|message| message.contains("layer4")), "{rejected}");
    Ok(())
}
