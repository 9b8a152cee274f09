//! What server and models are, for clients that ask before they infer.

use super::{IMAGES, INPUT, InferenceError, LOGITS, Path, Refused, model};
use crate::app::App;
use crate::registry::Model;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub struct ServerMetadata {
    name: &'static str,
    version: &'static str,
    extensions: [&'static str; 4],
}

#[derive(Serialize, ToSchema)]
pub struct ModelMetadata {
    name: String,
    /// The SHA-256 of the checkpoint that is served.
    versions: [String; 1],
    platform: &'static str,
    /// One of these is expected in a request: pixels as they are, or normalised values.
    inputs: Vec<TensorMetadata>,
    outputs: Vec<TensorMetadata>,
}

#[derive(Serialize, ToSchema)]
pub struct TensorMetadata {
    name: &'static str,
    /// `FP32` also takes FP16, as binary data.
    datatype: &'static str,
    /// -1 for the number of images.
    shape: Vec<i64>,
}

/// What Triton calls a model's configuration.
#[derive(Serialize, ToSchema)]
pub struct ModelConfig {
    name: String,
    platform: &'static str,
    backend: &'static str,
    /// Images of one request.
    max_batch_size: usize,
    input: Vec<TensorConfig>,
    output: Vec<TensorConfig>,
}

#[derive(Serialize, ToSchema)]
pub struct TensorConfig {
    name: &'static str,
    data_type: String,
    /// Of one image.
    dims: Vec<i64>,
    /// Inputs stand for each other.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    optional: bool,
}

const PLATFORM: &str = "shortcut";

/// Which server this is, and what it can
#[utoipa::path(get, path = "/v2", tag = "Open Inference Protocol", responses((status = OK, body = ServerMetadata)))]
pub async fn server() -> Json<ServerMetadata> {
    Json(ServerMetadata {
        name: "shortcut",
        version: env!("CARGO_PKG_VERSION"),
        extensions: ["binary_tensor_data", "classification", "model_configuration", "model_repository"],
    })
}

/// The tensors that a model takes and gives
#[utoipa::path(
    get, path = "/v2/models/{model}", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "as `/models` names it")),
    responses(
        (status = OK, body = ModelMetadata), (status = BAD_REQUEST, body = InferenceError),
        (status = NOT_FOUND, body = InferenceError),
    )
)]
pub async fn of_model(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Json<ModelMetadata>, Refused> {
    Ok(metadata(&*model(&app, &name, None)?))
}

/// The tensors that a version of a model takes and gives
#[utoipa::path(
    get, path = "/v2/models/{model}/versions/{version}", tag = "Open Inference Protocol",
    params(
        ("model" = String, Path, description = "as `/models` names it"),
        ("version" = String, Path, description = "its SHA-256, or the beginning of it"),
    ),
    responses(
        (status = OK, body = ModelMetadata), (status = BAD_REQUEST, body = InferenceError),
        (status = NOT_FOUND, body = InferenceError),
    )
)]
pub async fn of_version(
    State(app): State<Arc<App>>,
    Path((name, version)): Path<(String, String)>,
) -> Result<Json<ModelMetadata>, Refused> {
    Ok(metadata(&*model(&app, &name, Some(&version))?))
}

/// A model's configuration, as Triton tells it
#[utoipa::path(
    get, path = "/v2/models/{model}/config", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "as `/models` names it")),
    responses(
        (status = OK, body = ModelConfig), (status = BAD_REQUEST, body = InferenceError),
        (status = NOT_FOUND, body = InferenceError),
    )
)]
pub async fn config(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Json<ModelConfig>, Refused> {
    let model = model(&app, &name, None)?;
    let config = |tensor: TensorMetadata, optional| TensorConfig {
        name: tensor.name,
        data_type: format!("TYPE_{}", tensor.datatype),
        dims: tensor.shape[1..].to_vec(),
        optional,
    };
    Ok(Json(ModelConfig {
        name: model.name().to_owned(),
        platform: PLATFORM,
        backend: PLATFORM,
        max_batch_size: app.upload_limits.count,
        input: inputs(&model).into_iter().map(|tensor| config(tensor, true)).collect(),
        output: outputs(&model).into_iter().map(|tensor| config(tensor, false)).collect(),
    }))
}

fn metadata(model: &Model) -> Json<ModelMetadata> {
    Json(ModelMetadata {
        name: model.name().to_owned(),
        versions: [model.id.version.clone()],
        platform: PLATFORM,
        inputs: inputs(model),
        outputs: outputs(model),
    })
}

fn inputs(model: &Model) -> Vec<TensorMetadata> {
    let side = i64::from(model.metadata.preprocessing.crop);
    vec![
        TensorMetadata { name: IMAGES, datatype: "UINT8", shape: vec![-1, side, side, 3] },
        TensorMetadata { name: INPUT, datatype: "FP32", shape: vec![-1, 3, side, side] },
    ]
}

fn outputs(model: &Model) -> Vec<TensorMetadata> {
    vec![TensorMetadata { name: LOGITS, datatype: "FP32", shape: vec![-1, model.metadata.labels.len() as i64] }]
}
