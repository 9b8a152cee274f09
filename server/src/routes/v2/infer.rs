//! Inference on tensors: images that the client has already cropped.

use super::error::InferenceError;
use super::tensors::{self, ExpectedInput, InferRequest, LOGITS, OutputFormat, ParsedRequest};
use crate::app::App;
use crate::batching::{InferenceFailure, InferenceOutput};
use crate::body::{self, ReceivedBody};
use crate::error::ApiError;
use crate::inference;
use crate::memory::Reservation;
use crate::middleware::hold_memory::ReservedUntilSent;
use crate::middleware::observe::{PhaseTimings, RequestedModel};
use crate::registry::Model;
use crate::routes::path::Path;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use model::engine::EngineError;
use model::prediction::top_k_indices;
use model::preprocess::Preprocessing;
use serde::Serialize;
use std::sync::Arc;
use utoipa::{IntoResponses, ToSchema};

/// Length of the JSON header that precedes binary data, in requests and responses.
const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// JSON of more bytes is parsed on the decode pool.
const MAX_INLINE_JSON_BYTES: usize = 64 << 10;

/// An inference response. Outputs with `binary_data_size` follow the JSON in their order.
#[derive(Serialize, ToSchema)]
pub struct InferResponse {
    model_name: String,
    /// SHA-256 of the checkpoint.
    model_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    outputs: Vec<OutputTensor>,
}

#[derive(Serialize, ToSchema)]
struct OutputTensor {
    name: &'static str,
    /// `FP32`, or `BYTES` for classifications.
    datatype: &'static str,
    shape: [usize; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinarySize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<OutputData>,
}

#[derive(Serialize, ToSchema)]
struct BinarySize {
    binary_data_size: usize,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Data)]
#[serde(untagged)]
enum OutputData {
    /// Logits `[n, classes]`, not divided by the model's temperature.
    Logits(Vec<f32>),
    /// Classes as `logit:index:label`, the most likely first.
    Classes(Vec<String>),
}

/// Errors of inference, for the OpenAPI document.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "describes responses that are made from an `ApiError`")]
enum InferErrors {
    #[response(status = BAD_REQUEST, description = "invalid request")]
    Malformed(InferenceError),
    #[response(status = UNAUTHORIZED, description = "API key missing")]
    KeyMissing(InferenceError),
    #[response(status = FORBIDDEN, description = "invalid API key")]
    Forbidden(InferenceError),
    #[response(status = NOT_FOUND, description = "unknown model or version")]
    UnknownModel(InferenceError),
    #[response(status = REQUEST_TIMEOUT, description = "request body stalled")]
    Stalled(InferenceError),
    #[response(status = PAYLOAD_TOO_LARGE, description = "request body too large")]
    TooLarge(InferenceError),
    #[response(status = UNSUPPORTED_MEDIA_TYPE, description = "compressed body")]
    UnsupportedEncoding(InferenceError),
    #[response(status = UNPROCESSABLE_ENTITY, description = "the network's output is not finite")]
    Unprocessable(InferenceError),
    #[response(status = INTERNAL_SERVER_ERROR, description = "internal error")]
    Internal(InferenceError),
    #[response(status = SERVICE_UNAVAILABLE, description = "server overloaded; see Retry-After")]
    Overloaded(InferenceError),
    #[response(
        status = GATEWAY_TIMEOUT,
        description = "timeout of the client (x-timeout-ms) or of the server exceeded"
    )]
    DeadlineExceeded(InferenceError),
}

/// Compute the logits, or the most likely classes, of cropped images
///
/// The input `images` takes pixels; the input `input` takes pixels after subtracting the mean and dividing by the
/// standard deviation, both listed by `/models`. Tensors are sent as JSON, or as binary data after the JSON. Logits are
/// not divided by the model's temperature, which `/models` lists too.
#[utoipa::path(
    post, path = "/v2/models/{model}/infer", tag = "Open Inference Protocol",
    params(
        ("model" = String, Path, description = "Name of the model, as listed by `/models`"),
        ("Inference-Header-Content-Length" = Option<u64>, Header, description = "Length of the JSON in bytes, if binary data follows it"),
    ),
    request_body(content((InferRequest = "application/json"), (Vec<u8> = "application/octet-stream"))),
    responses(
        (status = OK, description = "the requested outputs",
            content((InferResponse = "application/json"), (Vec<u8> = "application/octet-stream"))),
        InferErrors,
    )
)]
pub async fn infer(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    respond(&app, &name, None, request).await
}

/// Compute the logits, or the most likely classes, with a version of a model
#[utoipa::path(
    post, path = "/v2/models/{model}/versions/{version}/infer", tag = "Open Inference Protocol",
    params(
        ("model" = String, Path, description = "Name of the model, as listed by `/models`"),
        ("version" = String, Path, description = "SHA-256 of the checkpoint, or at least its first eight digits; `1` is the current version"),
        ("Inference-Header-Content-Length" = Option<u64>, Header, description = "Length of the JSON in bytes, if binary data follows it"),
    ),
    request_body(content((InferRequest = "application/json"), (Vec<u8> = "application/octet-stream"))),
    responses(
        (status = OK, description = "the requested outputs",
            content((InferResponse = "application/json"), (Vec<u8> = "application/octet-stream"))),
        InferErrors,
    )
)]
pub async fn infer_version(
    State(app): State<Arc<App>>,
    Path((name, version)): Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    respond(&app, &name, Some(&version), request).await
}

async fn respond(app: &App, name: &str, version: Option<&str>, request: Request) -> Result<Response, ApiError> {
    body::check_headers(request.headers(), app.upload_limits.bytes)?;
    let json_length = json_length(request.headers());
    let body = body::read_all(request, app.upload_limits.bytes, &app.memory).await?;
    let model = inference::find_model(&app.registry, Some(name), version)?;
    let mut response = match parse(app, &model, body, json_length?).await {
        Ok((request, reservation)) => {
            let mut response = infer_images(&model, request).await.into_response();
            response.extensions_mut().insert(ReservedUntilSent(vec![reservation.into()]));
            response
        }
        Err(error) => error.into_response(),
    };
    response.extensions_mut().insert(RequestedModel(model.name().to_owned()));
    Ok(response)
}

/// Parses a request body. Also returns the reservation for its images.
async fn parse(
    app: &App,
    model: &Model,
    body: ReceivedBody,
    json_length: Option<usize>,
) -> Result<(ParsedRequest, Reservation), ApiError> {
    let Preprocessing { crop, mean, std, .. } = model.metadata.preprocessing;
    let expected = ExpectedInput { side: crop as usize, max_images: app.upload_limits.count, mean, std };
    let ReceivedBody { bytes, reservation } = body;
    // Copying pixels takes less time than handing the body to another thread; parsing numbers takes more.
    let is_long = json_length.unwrap_or(bytes.len()) > MAX_INLINE_JSON_BYTES;
    let budget = app.memory.clone();
    let parse = move || tensors::parse(&bytes, json_length, expected, &budget);
    if is_long { app.decode_pool.run(reservation, parse).await? } else { parse() }
}

async fn infer_images(model: &Model, request: ParsedRequest) -> Result<Response, ApiError> {
    let ParsedRequest { id, images, outputs } = request;
    let results = inference::run(model, images, &[]).await.map_err(|error| match error {
        InferenceFailure::Engine(EngineError::NotFinite { value, .. }) => ApiError::unprocessable(format!(
            "the network's output is {value}, not a finite number; check the scale of the input values"
        )),
        error => inference::api_error(model, error),
    })?;
    let timings = results.iter().map(|result| inference::timing(0.0, 0.0, result.queue, result.inference));
    let timing = inference::slowest(timings);
    let mut response = encode(model, id, &results, &outputs);
    response.extensions_mut().insert(PhaseTimings(timing));
    Ok(response)
}

fn json_length(headers: &HeaderMap) -> Result<Option<usize>, ApiError> {
    let Some(value) = headers.get(HEADER_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| ApiError::malformed(format!("invalid {HEADER_LENGTH}: expected a number of bytes")))
}

fn encode(model: &Model, id: Option<String>, results: &[InferenceOutput], formats: &[OutputFormat]) -> Response {
    let (mut outputs, mut binary) = (Vec::new(), Vec::new());
    for format in formats {
        let data = match format.classification {
            None => OutputData::Logits(results.iter().flat_map(|result| result.logits.row(0)).copied().collect()),
            Some(classes) => {
                let labels = &model.metadata.labels;
                let top_classes = |result: &InferenceOutput| top_classes(result.logits.row(0), labels, classes);
                OutputData::Classes(results.iter().flat_map(top_classes).collect())
            }
        };
        let (datatype, values) = match &data {
            OutputData::Logits(values) => ("FP32", values.len()),
            OutputData::Classes(strings) => ("BYTES", strings.len()),
        };
        let shape = [results.len(), values / results.len()];
        let (parameters, data) = if format.binary {
            let start = binary.len();
            data.append_to(&mut binary);
            (Some(BinarySize { binary_data_size: binary.len() - start }), None)
        } else {
            (None, Some(data))
        };
        outputs.push(OutputTensor { name: LOGITS, datatype, shape, parameters, data });
    }
    let (model_name, model_version) = (model.id.name.clone(), model.id.version.clone());
    let response = InferResponse { model_name, model_version, id, outputs };
    if binary.is_empty() {
        return Json(response).into_response();
    }
    let mut body = serde_json::to_vec(&response).expect("strings and numbers serialize to JSON");
    let json_length = HeaderValue::from(body.len());
    body.append(&mut binary);
    let content_type = HeaderValue::from_static("application/octet-stream");
    ([(header::CONTENT_TYPE, content_type), (HEADER_LENGTH, json_length)], body).into_response()
}

/// Returns the most likely classes in the format of Triton's classification extension.
fn top_classes(logits: &[f32], labels: &[String], classes: usize) -> Vec<String> {
    top_k_indices(logits, classes)
        .into_iter()
        .map(|index| format!("{:.6}:{index}:{}", logits[index], labels[index]))
        .collect()
}

impl OutputData {
    /// Appends the values in little-endian order; each string is preceded by its length.
    fn append_to(&self, binary: &mut Vec<u8>) {
        match self {
            OutputData::Logits(values) => values.iter().for_each(|value| binary.extend(value.to_le_bytes())),
            OutputData::Classes(strings) => strings.iter().for_each(|string| {
                binary.extend((string.len() as u32).to_le_bytes());
                binary.extend(string.as_bytes());
            }),
        }
    }
}

#[cfg(test)]
mod tests;
