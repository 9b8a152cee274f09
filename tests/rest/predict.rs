//! `POST /predict`: predictions for one photo, and results for several, some of them invalid.

use crate::http::{SharedServer, form as photos_form, photo, send};
use anyhow::{Context, Result, ensure};
use serde_json::Value;

const PHOTOS: [&str; 5] = ["cat.jpg", "coffee.jpg", "flower.jpg", "palace.jpg", "rocket.jpg"];

/// Indices of domestic cats in ImageNet.
const CATS: std::ops::RangeInclusive<u64> = 281..=285;

pub fn form(shared: &SharedServer) -> Result<()> {
    let prediction = send(shared.post("/predict")?.multipart(photos_form([photo("cat.jpg")?])))?.json(200)?;
    let indices = indices(&prediction)?;
    ensure!(indices.len() == 5 && CATS.contains(&indices[0]), "not a cat: {prediction}");
    ensure!(probabilities(&prediction)?.is_sorted_by(|a, b| a >= b), "not sorted: {prediction}");
    ensure!(prediction["model"] == "resnet50_v1-imagenet", "{prediction}");
    ensure!(prediction["architecture"] == "resnet50_v1", "{prediction}");
    ensure!(prediction["backend"] == "cpu", "{prediction}");
    for phase in ["decode", "preprocess", "queue", "inference", "total"] {
        ensure!(prediction["timing_ms"][phase].as_f64().is_some_and(|ms| ms > 0.0), "{phase}: {prediction}");
    }
    Ok(())
}

pub fn body(shared: &SharedServer) -> Result<()> {
    let cat = photo("cat.jpg")?;
    let in_form = send(shared.post("/predict")?.multipart(photos_form([cat.clone()])))?.json(200)?;
    for content_type in ["image/jpeg", "application/x-www-form-urlencoded", "text/plain"] {
        let request = shared.post("/predict")?.header("content-type", content_type).body(cat.clone());
        ensure!(send(request)?.json(200)?["predictions"] == in_form["predictions"], "{content_type}");
    }
    Ok(())
}

pub fn several(shared: &SharedServer) -> Result<()> {
    let photos = [photo("cat.jpg")?, b"no photo".to_vec(), photo("rocket.jpg")?, photo("cat.jpg")?[..200].to_vec()];
    let results = send(shared.post("/predict")?.multipart(photos_form(photos)))?.json(200)?;
    let results = results["results"].as_array().context("no results")?;
    ensure!(results.len() == 4, "{results:?}");
    for (result, name) in [(&results[0], "cat.jpg"), (&results[2], "rocket.jpg")] {
        ensure!(result["predictions"] == shared.predict("/predict", photo(name)?)?["predictions"], "{name}: {result}");
    }
    ensure!(results[1]["error"]["code"] == "unsupported_format", "{}", results[1]);
    ensure!(results[3]["error"]["code"] == "undecodable", "{}", results[3]);
    Ok(())
}

pub fn concurrent(shared: &SharedServer) -> Result<()> {
    let photos = PHOTOS.map(photo).into_iter().collect::<Result<Vec<_>>>()?;
    let predict = |photo: &Vec<u8>| Ok(shared.predict("/predict", photo.clone())?["predictions"].take());
    let expected = photos.iter().map(predict).collect::<Result<Vec<_>>>()?;
    std::thread::scope(|scope| {
        let clients: Vec<_> = photos
            .iter()
            .chain(&photos)
            .map(|photo| scope.spawn(move || shared.predict("/predict", photo.clone())))
            .collect();
        for (client, expected) in clients.into_iter().zip(expected.iter().chain(&expected)) {
            let prediction = client.join().expect("client threads do not panic")?;
            ensure!(prediction["predictions"] == *expected, "expected {expected}, got {prediction}");
        }
        Ok(())
    })
}

pub fn top_k(shared: &SharedServer) -> Result<()> {
    let cat = photo("cat.jpg")?;
    for (top_k, classes) in [("1", 1), ("3", 3), ("1000", 1000), ("5000", 1000)] {
        let prediction = shared.predict(&format!("/predict?top_k={top_k}"), cat.clone())?;
        ensure!(ranked(&prediction)?.len() == classes, "top_k={top_k}: {}", ranked(&prediction)?.len());
    }
    let all = shared.predict("/predict?top_k=1000", cat)?;
    let sum: f64 = probabilities(&all)?.iter().sum();
    ensure!((sum - 1.0).abs() < 1e-3, "all probabilities add up to {sum}");
    Ok(())
}

pub fn model(shared: &SharedServer) -> Result<()> {
    let prediction = shared.predict("/predict?top_k=100&model=resnet18-imagenette", photo("cat.jpg")?)?;
    ensure!(prediction["model"] == "resnet18-imagenette" && prediction["architecture"] == "resnet18", "{prediction}");
    ensure!(ranked(&prediction)?.len() == 10, "{prediction}");
    Ok(())
}

fn ranked(prediction: &Value) -> Result<&Vec<Value>> {
    prediction["predictions"].as_array().with_context(|| format!("no prediction: {prediction}"))
}

fn indices(prediction: &Value) -> Result<Vec<u64>> {
    ranked(prediction)?.iter().map(|class| class["index"].as_u64().context("no index")).collect()
}

fn probabilities(prediction: &Value) -> Result<Vec<f64>> {
    ranked(prediction)?.iter().map(|class| class["probability"].as_f64().context("no probability")).collect()
}
