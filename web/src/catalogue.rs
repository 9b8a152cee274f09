//! The models that the server offers.

use leptos::prelude::document;
use serde::Deserialize;
use std::sync::Arc;
use web_sys::Url;
use worker::message::Weights;

/// Weights up to this many bytes are brought to the page; larger models run on the server.
const LARGEST_IN_PAGE: u64 = 32_000_000;

/// Up to this many things are worth listing outright.
const FEW: usize = 24;

/// A model as `GET /models` describes it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Model {
    pub name: String,
    pub architecture: String,
    /// How many things it tells apart.
    pub classes: usize,
    /// Their names, by index.
    pub labels: Vec<String>,
    /// Of the stored weights.
    pub bytes: u64,
    pub sha256: String,
    /// The address of the weights, relative to the page.
    pub weights: String,
    /// Whether a request without a model's name is answered by this one.
    #[serde(default)]
    pub default: bool,
}

impl Model {
    pub fn fits_in_page(&self) -> bool {
        self.bytes <= LARGEST_IN_PAGE
    }

    pub fn knows_few(&self) -> bool {
        self.labels.len() <= FEW
    }

    /// What a worker needs to load it.
    pub fn weights(&self) -> Weights {
        let base = document().base_uri().ok().flatten().unwrap_or_default();
        let url = Url::new_with_base(&self.weights, &base).map_or_else(|_| self.weights.clone(), |url| url.href());
        Weights { name: self.name.clone(), url, sha256: self.sha256.clone(), bytes: self.bytes }
    }
}

/// The model that the page opens on: the server's default, else the one that knows most.
pub fn opening(models: &[Arc<Model>]) -> Option<Arc<Model>> {
    let default = models.iter().find(|model| model.default);
    default.or_else(|| models.iter().max_by_key(|model| model.classes)).cloned()
}
