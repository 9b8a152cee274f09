//! The page as a visitor sees and uses it.

use crate::browser::Browser;
use anyhow::{Context, Result, bail};
use fantoccini::Locator;
use model::prediction::Ranked;
use serde::Deserialize;
use std::path::Path;
use std::time::{Duration, Instant};

/// A cold start on two cores: modules compiled, weights hashed and unpacked, a first run.
const PATIENCE: Duration = Duration::from_secs(120);
const BETWEEN_LOOKS: Duration = Duration::from_millis(30);

/// What is on the page at one moment; texts are empty where there is nothing.
#[derive(Clone, Debug, Deserialize)]
pub struct View {
    /// The name of the chosen model.
    pub model: String,
    /// Where photos go.
    pub privacy: String,
    /// The alternative text of the photo in the large frame.
    pub picture: String,
    /// The likeliest class, in large letters.
    pub best: String,
    pub ranked: Vec<Ranked>,
    /// Their probabilities as they are written.
    pub percents: Vec<String>,
    /// Where the answer was computed.
    pub badge: String,
    pub milliseconds: String,
    /// What was said beside any photo.
    pub notice: String,
    /// Why there is no answer.
    pub error: String,
    /// What the model knows.
    pub knowledge: String,
    /// The things listed there, one by one.
    pub things: Vec<String>,
    /// What the photos of this visit were called.
    pub captions: Vec<String>,
}

const LOOK: &str = r#"
    const all = name => [...document.querySelectorAll(`[data-testid="${name}"]`)];
    const text = name => all(name).map(element => element.innerText.trim()).join(" ");
    return {
        model: all("chooser").map(select => select.value).join(),
        privacy: text("privacy"),
        picture: all("picture").map(image => image.alt).join(),
        best: text("best"),
        ranked: all("ranked").map(row => ({
            label: row.querySelector("[data-testid=label]").innerText,
            index: Number(row.dataset.index),
            probability: Number(row.querySelector("data").value),
        })),
        percents: all("probability").map(data => data.innerText),
        badge: text("badge"),
        milliseconds: text("milliseconds"),
        notice: text("notice"),
        error: text("error"),
        knowledge: text("knowledge"),
        things: all("thing").map(thing => thing.innerText),
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
    /// Opens the page and waits until its model can be asked.
    pub async fn visit(&self) -> Result<View> {
        self.visit_with("").await
    }

    /// The same with something behind its address.
    pub async fn visit_with(&self, query: &str) -> Result<View> {
        self.client.goto(&format!("{}/{query}", self.site)).await?;
        self.until("a model is ready", |view| !view.privacy.is_empty()).await
    }

    pub async fn look(&self) -> Result<View> {
        Ok(serde_json::from_value(self.client.execute(LOOK, vec![]).await?)?)
    }

    /// Looks again and again until it is so.
    pub async fn until(&self, what: &str, is_so: impl Fn(&View) -> bool) -> Result<View> {
        let start = Instant::now();
        loop {
            let view = self.look().await?;
            if is_so(&view) {
                return Ok(view);
            }
            if start.elapsed() > PATIENCE {
                bail!("waited {PATIENCE:?} for this: {what}; the page shows {view:#?}");
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    /// Clicks a sample photo and waits for its answer.
    pub async fn classify_sample(&self, name: &str) -> Result<View> {
        self.client.find(Locator::Css(&format!("[data-testid=sample-{name}]"))).await?.click().await?;
        self.answer_for(&format!("{name}.jpg")).await
    }

    /// Waits for the answer to the photo of this name.
    pub async fn answer_for(&self, file: &str) -> Result<View> {
        let picture = format!("Your photo {file}");
        self.until(&format!("an answer for {file}"), |view| view.picture == picture && !view.ranked.is_empty()).await
    }

    pub async fn choose_model(&self, name: &str) -> Result<()> {
        self.client.find(Locator::Css("[data-testid=chooser]")).await?.select_by_value(name).await?;
        Ok(())
    }

    /// Chooses a file as the file button does.
    pub async fn upload(&self, path: &Path) -> Result<()> {
        let path = path.to_str().context("a path in UTF-8")?;
        self.client.find(Locator::Css("[data-testid=file]")).await?.send_keys(path).await?;
        Ok(())
    }
}
