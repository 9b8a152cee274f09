//! The heat map that explains an answer, laid over the photo.

use crate::browser::Environment;
use anyhow::{Context, Result, ensure};
use model::checkpoint::Checkpoint;
use model::classifier::{Classifier, PreparedPhoto};
use model::engine::{Device, EngineOptions};
use model::explain::{ActivationMap, ClassifierWeights, Explanation};
use model::prediction::ModelId;
use model::preprocess::Limits;
use serde::Deserialize;
use tests::workspace::{self, SMALL_MODEL};

/// The heat map as the browser draws it.
#[derive(Debug, Deserialize)]
struct Overlay {
    /// Left, top, width and height of the image, in pixels of the photo.
    region: [f64; 4],
    /// Width and height of the photo according to the overlay's viewBox.
    photo: [f64; 2],
    /// Width and height of the photo according to the browser.
    natural: [f64; 2],
    /// Whether the overlay and the photo have the same position and size on the page.
    covers: bool,
    /// Size of the image, in pixels.
    width: usize,
    height: usize,
    /// Opacity of each pixel of the image, 0 to 255.
    alpha: Vec<f32>,
}

const READ_OVERLAY: &str = r#"
    const done = arguments[0];
    (async () => {
        const svg = document.querySelector("[data-testid=heatmap]"), image = svg.querySelector("image");
        const photo = document.querySelector("[data-testid=photo]");
        const heatmap = new Image();
        heatmap.src = image.getAttribute("href");
        await heatmap.decode();
        const { width, height } = heatmap;
        const context = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
        context.drawImage(heatmap, 0, 0);
        const pixels = context.getImageData(0, 0, width, height).data;
        const box = element => {
            const { x, y, width, height } = element.getBoundingClientRect();
            return [x, y, width, height];
        };
        const [overlayBox, photoBox] = [box(svg), box(photo)];
        done({
            region: ["x", "y", "width", "height"].map(name => Number(image.getAttribute(name))),
            photo: [svg.viewBox.baseVal.width, svg.viewBox.baseVal.height],
            natural: [photo.naturalWidth, photo.naturalHeight],
            covers: overlayBox.every((value, index) => Math.abs(value - photoBox[index]) < 1),
            width, height,
            alpha: Array.from({ length: width * height }, (_, index) => pixels[4 * index + 3]),
        });
    })().catch(error => done(String(error)));
"#;

pub fn heatmap_covers_the_photo(environment: &Environment) -> Result<()> {
    environment.with_small_model(|browser| async move {
        browser.open().await?;
        ensure!(browser.count("explain").await? == 0, "an explanation is offered before there is an answer");
        browser.classify_sample("palace").await?;
        ensure!(browser.count("heatmap").await? == 0, "the heat map is shown before the button is pressed");
        browser.press("explain").await?;
        let answer = browser.client.execute_async(READ_OVERLAY, vec![]).await?;
        let overlay: Overlay = serde_json::from_value(answer.clone()).with_context(|| answer.to_string())?;

        let Explanation { map, region } = native_explanation("palace.jpg").await?;
        ensure!(
            overlay.natural == overlay.photo,
            "the overlay's viewBox has size {:?}, the photo {:?}",
            overlay.photo,
            overlay.natural
        );
        ensure!(overlay.covers, "the heat map does not cover the photo");
        ensure!(
            overlay.region == [region.left, region.top, region.width, region.height],
            "the heat map covers {:?} instead of {region:?}",
            overlay.region
        );
        let correlation = correlation(&map, &overlay);
        ensure!(correlation > 0.9, "the drawn heat map has a correlation of only {correlation} with {map:?}");

        browser.press("explain").await?;
        ensure!(browser.count("heatmap").await? == 0, "the heat map is still shown");
        Ok(())
    })
}

/// Returns the explanation that the CPU engine computes natively for a sample photo.
async fn native_explanation(photo: &str) -> Result<Explanation> {
    let checkpoint = Checkpoint::from_path(workspace::checkpoint(SMALL_MODEL))?;
    let weights = ClassifierWeights::from_checkpoint(&checkpoint);
    let id = ModelId { name: SMALL_MODEL.to_owned(), version: String::new() };
    let classifier = Classifier::new(id, checkpoint, Device::Cpu, EngineOptions::default(), |_, _| {}).await?;
    let photo = std::fs::read(workspace::sample(photo))?;
    let prepared = PreparedPhoto::from_bytes(&photo, &Limits::default(), classifier.metadata())?;
    Ok(classifier.explain(prepared, 0.0, 1, &weights).await?.1)
}

/// Returns the correlation between the values of the map's cells and the opacities drawn at their centres. It is below
/// 1, since the drawn image is smoother than the map.
fn correlation(map: &ActivationMap, overlay: &Overlay) -> f32 {
    let (down, right) = (overlay.height / map.height, overlay.width / map.width);
    let centre = |cell: usize| {
        let (y, x) = (cell / map.width * down + down / 2, cell % map.width * right + right / 2);
        overlay.alpha[y * overlay.width + x]
    };
    let drawn: Vec<f32> = (0..map.values.len()).map(centre).collect();
    let centred = |values: &[f32]| {
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        values.iter().map(|value| value - mean).collect::<Vec<f32>>()
    };
    let (a, b) = (centred(&map.values), centred(&drawn));
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt()
}
