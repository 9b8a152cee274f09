//! The models that the server offers.

use leptos::prelude::document;
use serde::Deserialize;
use std::sync::Arc;
use web_sys::Url;
use worker::message::WeightsFile;

/// Maximum size in bytes of weights that the page downloads. Larger models run on the server.
const MAX_BYTES_IN_PAGE: u64 = 32_000_000;

/// Maximum number of classes that the page lists without a search field.
const MAX_LISTED_CLASSES: usize = 24;

/// A model as described by `GET /models`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ModelInfo {
    pub name: String,
    /// Number of classes.
    pub classes: usize,
    /// Names of the classes, by index.
    pub labels: Vec<String>,
    /// Size of the file with the weights, in bytes.
    pub bytes: u64,
    /// SHA-256 of that file, in hexadecimal.
    pub sha256: String,
    /// URL of the weights, relative to the page.
    pub weights: String,
    /// Whether the server uses this model for requests that do not name one.
    #[serde(default)]
    pub default: bool,
}

impl ModelInfo {
    pub fn fits_in_page(&self) -> bool {
        self.bytes <= MAX_BYTES_IN_PAGE
    }

    pub fn has_few_classes(&self) -> bool {
        self.labels.len() <= MAX_LISTED_CLASSES
    }

    /// Returns what the worker needs to download and verify the weights.
    pub fn weights_file(&self) -> WeightsFile {
        let base = document().base_uri().ok().flatten().unwrap_or_default();
        let url = Url::new_with_base(&self.weights, &base).map_or_else(|_| self.weights.clone(), |url| url.href());
        WeightsFile { name: self.name.clone(), url, sha256: self.sha256.clone(), bytes: self.bytes }
    }
}

/// Returns the model to select when the page opens: the server's default, or the one with the most classes if the
/// server names no default.
pub fn initial_model(models: &[Arc<ModelInfo>]) -> Option<Arc<ModelInfo>> {
    let default = models.iter().find(|model| model.default);
    default.or_else(|| models.iter().max_by_key(|model| model.classes)).cloned()
}
