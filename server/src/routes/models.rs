//! `GET /models`: what is served, and where its weights are.

use crate::app::App;
use crate::registry::Model;
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use model::preprocess::Preprocessing;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub struct Models<'a> {
    /// In the order in which they were named.
    models: Vec<Description<'a>>,
}

#[derive(Serialize, ToSchema)]
struct Description<'a> {
    /// What `?model=` takes.
    name: &'a str,
    /// Of one model: it answers when none is named, and the page opens on it.
    default: bool,
    /// As torchvision names it; with `_v1` where the stride sits on a bottleneck's first convolution.
    architecture: String,
    /// How many.
    classes: usize,
    /// Readable names by index; not always unique.
    labels: &'a [String],
    input: Input<'a>,
    /// Where the weights come from and on what terms.
    #[serde(skip_serializing_if = "Option::is_none")]
    provenance: Option<&'a str>,
    /// Size of the checkpoint.
    bytes: usize,
    /// Of the checkpoint, in hexadecimal.
    sha256: &'a str,
    /// Address of the checkpoint.
    weights: String,
}

#[derive(Serialize, ToSchema)]
struct Input<'a> {
    /// `[height, width]`
    size: [u32; 2],
    #[serde(flatten)]
    preprocessing: &'a Preprocessing,
}

/// What is served, and where its weights are
#[utoipa::path(get, path = "/models", tag = "Models", responses((status = OK, body = Models)))]
pub async fn models(State(app): State<Arc<App>>) -> impl IntoResponse {
    let served = app.registry.current();
    let models = served.iter().map(|model| Description::new(model, served.is_default(model))).collect();
    ([(header::CACHE_CONTROL, "no-cache")], Json(Models { models })).into_response()
}

impl<'a> Description<'a> {
    fn new(model: &'a Model, default: bool) -> Self {
        let metadata = &model.metadata;
        let side = metadata.preprocessing.crop;
        Description {
            name: model.name(),
            default,
            architecture: metadata.architecture.name(),
            classes: metadata.labels.len(),
            labels: &metadata.labels,
            input: Input { size: [side, side], preprocessing: &metadata.preprocessing },
            provenance: metadata.provenance.as_deref(),
            bytes: model.weights.len(),
            sha256: &model.id.version,
            weights: format!("/weights/{}", model.id.version),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::fixture::{app, get};
    use serde_json::json;

    #[tokio::test]
    async fn a_model_says_what_it_knows_and_where_its_weights_are() {
        let mut small = get(&app(), "/models").await.json()["models"][0].take();
        let sha256 = small["sha256"].take();
        assert_eq!(small["weights"].take(), format!("/weights/{}", sha256.as_str().unwrap()));
        let expected = json!({
            "name": "small", "default": false, "architecture": "resnet18", "classes": 2, "labels": ["label 0", "label 1"],
            "input": {
                "size": [224, 224], "resize": 256, "crop": 224, "interpolation": "bilinear",
                "mean": small["input"]["mean"], "std": small["input"]["std"],
            },
            "bytes": 5, "sha256": null, "weights": null,
        });
        assert_eq!(small, expected);
    }

    #[tokio::test]
    async fn one_model_is_the_default() {
        let models = get(&app(), "/models").await.json();
        assert_eq!([&models["models"][0]["default"], &models["models"][1]["default"]], [false, true]);
    }
}
