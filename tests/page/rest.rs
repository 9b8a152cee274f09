//! Comparison of the page with the server's REST API.

use crate::browser::Browser;
use crate::view::View;
use anyhow::{Context, Result};
use model::prediction::Prediction;
use std::path::Path;
use tests::agreement::assert_agreement;
use tests::workspace;

impl View {
    /// Checks that the page shows the prediction that the server returns for this photo.
    pub async fn check_agreement(&self, browser: &Browser, photo: &Path) -> Result<()> {
        self.check_shows(&prediction(browser, &self.model, photo).await?)
    }

    /// Like [`View::check_agreement`], for the sample photo of this name.
    pub async fn check_agreement_on_sample(&self, browser: &Browser, name: &str) -> Result<()> {
        self.check_agreement(browser, &workspace::sample(&format!("{name}.jpg"))).await
    }

    /// Checks that the page shows this prediction.
    pub fn check_shows(&self, expected: &Prediction) -> Result<()> {
        assert_agreement(&Prediction { predictions: self.ranked.clone(), ..expected.clone() }, expected)
    }
}

/// Returns the server's prediction for a photo.
pub async fn prediction(browser: &Browser, model: &str, photo: &Path) -> Result<Prediction> {
    let bytes = std::fs::read(photo).with_context(|| photo.display().to_string())?;
    let url = format!("{}/predict?model={model}&top_k=5", browser.site);
    Ok(reqwest::Client::new().post(url).body(bytes).send().await?.error_for_status()?.json().await?)
}
