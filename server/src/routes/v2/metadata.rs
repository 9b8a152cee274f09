//! Metadata of the server and its models.

use super::error::InferenceError;
use super::tensors::{IMAGES, INPUT, LOGITS};
use crate::app::App;
use crate::error::ApiError;
use crate::inference;
use crate::registry::Model;
use crate::routes::path::Path;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub struct ServerMetadata {
    name: &'static str,
    version: &'static str,
    extensions: [&'static str; 5],
}

#[derive(Serialize, ToSchema)]
pub struct ModelMetadata {
    name: String,
    /// SHA-256 of the checkpoint that is served.
    versions: [String; 1],
    platform: &'static str,
    /// A request has exactly one of these inputs: pixels, or normalised values.
    inputs: Vec<TensorMetadata>,
    outputs: Vec<TensorMetadata>,
}

#[derive(Serialize, ToSchema)]
pub struct TensorMetadata {
    name: &'static str,
    /// An input of type `FP32` also accepts `FP16`, as binary data.
    datatype: &'static str,
    /// Shape of the tensor; the first dimension is the number of images, -1 for any.
    shape: Vec<i64>,
}

/// The configuration of a model, in the format of Triton's model configuration extension.
#[derive(Serialize, ToSchema)]
pub struct ModelConfig {
    name: String,
    platform: &'static str,
    backend: &'static str,
    /// Maximum number of images per request.
    max_batch_size: usize,
    input: Vec<TensorConfig>,
    output: Vec<TensorConfig>,
}

#[derive(Serialize, ToSchema)]
pub struct TensorConfig {
    name: &'static str,
    data_type: String,
    /// Shape for one image.
    dims: Vec<i64>,
    /// True for inputs, which are alternatives to each other.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    optional: bool,
}

const PLATFORM: &str = "shortcut";

/// Return the name, version and extensions of the server
#[utoipa::path(
    get, path = "/v2", tag = "Open Inference Protocol",
    responses((status = OK, description = "version and extensions of the server", body = ServerMetadata))
)]
pub async fn server() -> Json<ServerMetadata> {
    Json(ServerMetadata {
        name: "shortcut",
        version: env!("CARGO_PKG_VERSION"),
        extensions: ["binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics"],
    })
}

/// Return the inputs and outputs of a model
#[utoipa::path(
    get, path = "/v2/models/{model}", operation_id = "of_model", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "Name of the model, as listed by `/models`")),
    responses(
        (status = OK, description = "inputs and outputs", body = ModelMetadata),
        (status = BAD_REQUEST, description = "invalid request", body = InferenceError),
        (status = NOT_FOUND, description = "unknown model", body = InferenceError),
    )
)]
pub async fn model_metadata(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<ModelMetadata>, ApiError> {
    Ok(metadata(&*inference::find_model(&app.registry, Some(&name), None)?))
}

/// Return the inputs and outputs of a version of a model
#[utoipa::path(
    get, path = "/v2/models/{model}/versions/{version}", operation_id = "of_version", tag = "Open Inference Protocol",
    params(
        ("model" = String, Path, description = "Name of the model, as listed by `/models`"),
        ("version" = String, Path, description = "SHA-256 of the checkpoint, or at least its first eight digits; `1` is the current version"),
    ),
    responses(
        (status = OK, description = "inputs and outputs", body = ModelMetadata),
        (status = BAD_REQUEST, description = "invalid request", body = InferenceError),
        (status = NOT_FOUND, description = "unknown model or version", body = InferenceError),
    )
)]
pub async fn version_metadata(
    State(app): State<Arc<App>>,
    Path((name, version)): Path<(String, String)>,
) -> Result<Json<ModelMetadata>, ApiError> {
    Ok(metadata(&*inference::find_model(&app.registry, Some(&name), Some(&version))?))
}

/// Return the configuration of a model in Triton's format
#[utoipa::path(
    get, path = "/v2/models/{model}/config", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "Name of the model, as listed by `/models`")),
    responses(
        (status = OK, description = "configuration of the model", body = ModelConfig),
        (status = BAD_REQUEST, description = "invalid request", body = InferenceError),
        (status = NOT_FOUND, description = "unknown model", body = InferenceError),
    )
)]
pub async fn config(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Json<ModelConfig>, ApiError> {
    let model = inference::find_model(&app.registry, Some(&name), None)?;
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
