//! Reads and uses the page as a visitor does.

use crate::browser::Browser;
use anyhow::{Context, Result, bail};
use fantoccini::Locator;
use model::prediction::ClassScore;
use serde::Deserialize;
use std::path::Path;
use std::time::{Duration, Instant};

/// Time limit for a condition. It allows for a cold start on two cores: compiling the modules, hashing and unpacking
/// the weights, and the first run.
const TIMEOUT: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(30);

/// A snapshot of what the page shows. Texts of absent elements are empty.
#[derive(Clone, Debug, Deserialize)]
pub struct View {
    /// The name of the selected model.
    pub model: String,
    /// The statement about where the photos are processed.
    pub privacy: String,
    /// The alternative text of the photo in the large frame.
    pub photo_alt: String,
    /// The most likely class, shown in large letters.
    pub top_label: String,
    /// The most likely classes, best first.
    pub ranked: Vec<ClassScore>,
    /// The probabilities as text.
    pub displayed_probabilities: Vec<String>,
    /// The badge that shows where the answer was computed.
    pub badge: String,
    /// The computing time of the answer, with its unit.
    pub milliseconds: String,
    /// The notice about an answer below the model's rejection threshold.
    pub not_confident: String,
    /// The message that does not belong to a photo.
    pub notice: String,
    /// The error messages about the photo and the model.
    pub error: String,
    /// The text of the section about the model's classes.
    pub class_list: String,
    /// The labels listed there, if the model has few classes.
    pub class_labels: Vec<String>,
    /// The captions of the thumbnails.
    pub captions: Vec<String>,
}

const READ_VIEW: &str = r#"
    const all = name => [...document.querySelectorAll(`[data-testid="${name}"]`)];
    const text = name => all(name).map(element => element.innerText.trim()).join(" ");
    return {
        model: all("model-select").map(select => select.value).join(),
        privacy: text("privacy"),
        photo_alt: all("photo").map(image => image.alt).join(),
        top_label: text("top-label"),
        ranked: all("ranked").map(row => ({
            label: row.querySelector("[data-testid=label]").innerText,
            index: Number(row.dataset.index),
            probability: Number(row.querySelector("data").value),
        })),
        displayed_probabilities: all("probability").map(data => data.innerText),
        badge: text("badge"),
        milliseconds: text("milliseconds"),
        not_confident: text("not-confident"),
        notice: text("notice"),
        error: text("error"),
        class_list: text("class-list"),
        class_labels: all("class").map(label => label.innerText),
        captions: all("caption").map(caption => caption.innerText),
    };
"#;

impl View {
    pub fn ran_in_page(&self) -> bool {
        ["CPU in this page", "WebGPU"].contains(&self.badge.as_str())
    }

    pub fn ran_on_server(&self) -> bool {
        self.badge == "server"
    }
}

impl Browser {
    /// Opens the page and waits until its model is ready.
    pub async fn open(&self) -> Result<View> {
        self.open_with_query("").await
    }

    /// Like [`Browser::open`], with a query string such as `?engine=webgpu`.
    pub async fn open_with_query(&self, query: &str) -> Result<View> {
        self.client.goto(&format!("{}/{query}", self.site)).await?;
        self.wait_until("a model is ready", |view| !view.privacy.is_empty()).await
    }

    /// Reads the page once.
    pub async fn read_view(&self) -> Result<View> {
        Ok(serde_json::from_value(self.client.execute(READ_VIEW, vec![]).await?)?)
    }

    /// Reads the page repeatedly until `condition` holds.
    pub async fn wait_until(&self, description: &str, condition: impl Fn(&View) -> bool) -> Result<View> {
        let start = Instant::now();
        loop {
            let view = self.read_view().await?;
            if condition(&view) {
                return Ok(view);
            }
            if start.elapsed() > TIMEOUT {
                bail!("timed out after {TIMEOUT:?} waiting for {description}; the page shows {view:#?}");
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Clicks a sample photo and waits for its answer.
    pub async fn classify_sample(&self, name: &str) -> Result<View> {
        self.client.find(Locator::Css(&format!("[data-testid=sample-{name}]"))).await?.click().await?;
        self.answer_for(&format!("{name}.jpg")).await
    }

    /// Waits for the answer to the photo with this file name.
    pub async fn answer_for(&self, file: &str) -> Result<View> {
        let alt = format!("Your photo {file}");
        self.wait_until(&format!("an answer for {file}"), |view| view.photo_alt == alt && !view.ranked.is_empty()).await
    }

    pub async fn select_model(&self, name: &str) -> Result<()> {
        self.client.find(Locator::Css("[data-testid=model-select]")).await?.select_by_value(name).await?;
        Ok(())
    }

    /// Adds a file through the file input.
    pub async fn upload(&self, path: &Path) -> Result<()> {
        let path = path.to_str().context("the path is not UTF-8")?;
        self.client.find(Locator::Css("[data-testid=file]")).await?.send_keys(path).await?;
        Ok(())
    }

    /// Returns the number of elements with this test id.
    pub async fn count(&self, name: &str) -> Result<usize> {
        Ok(self.client.find_all(Locator::Css(&format!("[data-testid={name}]"))).await?.len())
    }

    /// Clicks the element with this test id.
    pub async fn press(&self, name: &str) -> Result<()> {
        Ok(self.client.find(Locator::Css(&format!("[data-testid={name}]"))).await?.click().await?)
    }
}
