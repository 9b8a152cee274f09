//! What spoke for an answer, laid over the photo.

use super::browser::{Browser, with_small_model};
use crate::TEN;
use anyhow::{Context, Result, ensure};
use fantoccini::Locator;
use model::checkpoint::Checkpoint;
use model::classifier::{Classifier, Prepared};
use model::engine::{Device, EngineOptions};
use model::explain::{ActivationMap, ClassWeights, Explanation};
use model::prediction::ModelId;
use model::preprocess::Limits;
use serde::Deserialize;
use tests::workspace;

/// A layer over the photo, as it is drawn.
#[derive(Debug, Deserialize)]
struct Layer {
    /// Left, top, width and height of the picture, in pixels of the photo.
    region: [f64; 4],
    /// Width and height of the photo, as the layer has it and as the browser has it.
    photo: [f64; 2],
    natural: [f64; 2],
    /// Whether the layer covers what the photo covers.
    covers: bool,
    width: usize,
    height: usize,
    /// How opaque each pixel of the picture is, of 255.
    alpha: Vec<f32>,
}

const LAYER: &str = r#"
    const done = arguments[0];
    (async () => {
        const svg = document.querySelector("[data-testid=heat]"), image = svg.querySelector("image");
        const photo = document.querySelector("[data-testid=picture]");
        const picture = new Image();
        picture.src = image.getAttribute("href");
        await picture.decode();
        const { width, height } = picture;
        const context = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
        context.drawImage(picture, 0, 0);
        const pixels = context.getImageData(0, 0, width, height).data;
        const box = of => { const { x, y, width, height } = of.getBoundingClientRect(); return [x, y, width, height]; };
        const [one, other] = [box(svg), box(photo)];
        done({
            region: ["x", "y", "width", "height"].map(name => Number(image.getAttribute(name))),
            photo: [svg.viewBox.baseVal.width, svg.viewBox.baseVal.height],
            natural: [photo.naturalWidth, photo.naturalHeight],
            covers: one.every((side, index) => Math.abs(side - other[index]) < 1),
            width, height,
            alpha: Array.from({ length: width * height }, (_, index) => pixels[4 * index + 3]),
        });
    })().catch(error => done(String(error)));
"#;

pub fn lies_over_the_photo() -> Result<()> {
    with_small_model(|browser| async move {
        browser.visit().await?;
        ensure!(browser.count("explain").await? == 0, "there is nothing to explain yet");
        browser.classify_sample("palace").await?;
        ensure!(browser.count("heat").await? == 0, "nobody has asked for an explanation");
        browser.press("explain").await?;
        let answer = browser.client.execute_async(LAYER, vec![]).await?;
        let layer: Layer = serde_json::from_value(answer.clone()).with_context(|| answer.to_string())?;

        let Explanation { map, region } = native("palace.jpg").await?;
        ensure!(layer.natural == layer.photo, "{:?} instead of {:?}", layer.photo, layer.natural);
        ensure!(layer.covers, "the layer lies beside the photo");
        ensure!(
            layer.region == [region.left, region.top, region.width, region.height],
            "{:?}, {region:?}",
            layer.region
        );
        let correlation = correlation(&map, &layer);
        ensure!(correlation > 0.9, "{correlation}, with {map:?}");

        browser.press("explain").await?;
        ensure!(browser.count("heat").await? == 0, "the layer is still there");
        Ok(())
    })
}

async fn native(photo: &str) -> Result<Explanation> {
    let checkpoint = Checkpoint::from_path(workspace::root().join(format!("checkpoints/{TEN}.safetensors")))?;
    let weights = ClassWeights::of(&checkpoint);
    let id = ModelId { name: TEN.to_owned(), version: String::new() };
    let classifier = Classifier::new(id, checkpoint, Device::Cpu, EngineOptions::default(), |_, _| {}).await?;
    let photo = std::fs::read(workspace::sample(photo))?;
    let prepared = Prepared::from_bytes(&photo, &Limits::default(), classifier.metadata())?;
    Ok(classifier.explain(prepared, 0.0, 1, &weights).await?.1)
}

/// Of the map with what is drawn at the middle of each of its places. The picture is smoother than the map.
fn correlation(map: &ActivationMap, layer: &Layer) -> f32 {
    let (down, right) = (layer.height / map.height, layer.width / map.width);
    let middle = |place: usize| {
        let (y, x) = (place / map.width * down + down / 2, place % map.width * right + right / 2);
        layer.alpha[y * layer.width + x]
    };
    let drawn: Vec<f32> = (0..map.values.len()).map(middle).collect();
    let centred = |values: &[f32]| {
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        values.iter().map(|value| value - mean).collect::<Vec<f32>>()
    };
    let (a, b) = (centred(&map.values), centred(&drawn));
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt()
}

impl Browser {
    /// How many things of this name are on the page.
    pub async fn count(&self, name: &str) -> Result<usize> {
        Ok(self.client.find_all(Locator::Css(&format!("[data-testid={name}]"))).await?.len())
    }

    pub async fn press(&self, name: &str) -> Result<()> {
        Ok(self.client.find(Locator::Css(&format!("[data-testid={name}]"))).await?.click().await?)
    }
}
