//! Inference on tensors: images that the client has prepared itself.

use super::tensors::{self, Asked, Expected, InferRequest, Output};
use super::{InferenceError, LOGITS, Path, Refused, model};
use crate::app::App;
use crate::batching::{Answered, Unanswered};
use crate::body::{self, Share};
use crate::error::ApiError;
use crate::middleware::observe;
use crate::registry::Model;
use crate::routes::predict::{answer, milliseconds, unanswered};
use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use model::engine::EngineError;
use model::prediction::{Timing, ranking};
use model::preprocess::Preprocessing;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// The length of the JSON that binary data follows, in requests and answers.
const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Bytes of JSON that are read on a thread of its own.
const LONG_JSON: usize = 64 << 10;

/// The answer. Outputs whose `binary_data_size` is given follow the JSON in their order.
#[derive(Serialize, ToSchema)]
pub struct InferResponse {
    model_name: String,
    /// The SHA-256 of the checkpoint.
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
    data: Option<Data>,
}

#[derive(Serialize, ToSchema)]
struct BinarySize {
    binary_data_size: usize,
}

#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum Data {
    /// `[n, classes]`
    Logits(Vec<f32>),
    /// `logit:index:label`, the likeliest first
    Classes(Vec<String>),
}

/// Logits, or the likeliest classes, of images that are cropped already
///
/// `images` are pixels as they are, `input` is what is left when the mean is subtracted and the standard deviation divided by;
/// `/models` has both. Tensors come as JSON, or behind it as binary data.
#[utoipa::path(
    post, path = "/v2/models/{model}/infer", tag = "Open Inference Protocol",
    params(
        ("model" = String, Path, description = "as `/models` names it"),
        ("Inference-Header-Content-Length" = Option<u64>, Header, description = "the bytes of the JSON, if tensors follow it"),
    ),
    request_body(content((InferRequest = "application/json"), (Vec<u8> = "application/octet-stream"))),
    responses(
        (status = OK, content((InferResponse = "application/json"), (Vec<u8> = "application/octet-stream"))),
        (status = BAD_REQUEST, body = InferenceError), (status = UNAUTHORIZED, body = InferenceError),
        (status = FORBIDDEN, body = InferenceError), (status = NOT_FOUND, body = InferenceError),
        (status = REQUEST_TIMEOUT, body = InferenceError), (status = PAYLOAD_TOO_LARGE, body = InferenceError),
        (status = UNSUPPORTED_MEDIA_TYPE, description = "a body that is packed", body = InferenceError),
        (status = UNPROCESSABLE_ENTITY, description = "values that the network makes no numbers of", body = InferenceError),
        (status = INTERNAL_SERVER_ERROR, body = InferenceError), (status = SERVICE_UNAVAILABLE, body = InferenceError),
        (status = GATEWAY_TIMEOUT, body = InferenceError),
    )
)]
pub async fn infer(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Refused> {
    respond(&app, &name, None, request).await
}

/// The same of a version of a model
#[utoipa::path(
    post, path = "/v2/models/{model}/versions/{version}/infer", tag = "Open Inference Protocol",
    params(
        ("model" = String, Path, description = "as `/models` names it"),
        ("version" = String, Path, description = "its SHA-256, or the beginning of it"),
        ("Inference-Header-Content-Length" = Option<u64>, Header, description = "the bytes of the JSON, if tensors follow it"),
    ),
    request_body(content((InferRequest = "application/json"), (Vec<u8> = "application/octet-stream"))),
    responses(
        (status = OK, content((InferResponse = "application/json"), (Vec<u8> = "application/octet-stream"))),
        (status = BAD_REQUEST, body = InferenceError), (status = UNAUTHORIZED, body = InferenceError),
        (status = FORBIDDEN, body = InferenceError), (status = NOT_FOUND, body = InferenceError),
        (status = REQUEST_TIMEOUT, body = InferenceError), (status = PAYLOAD_TOO_LARGE, body = InferenceError),
        (status = UNSUPPORTED_MEDIA_TYPE, description = "a body that is packed", body = InferenceError),
        (status = UNPROCESSABLE_ENTITY, description = "values that the network makes no numbers of", body = InferenceError),
        (status = INTERNAL_SERVER_ERROR, body = InferenceError), (status = SERVICE_UNAVAILABLE, body = InferenceError),
        (status = GATEWAY_TIMEOUT, body = InferenceError),
    )
)]
pub async fn infer_version(
    State(app): State<Arc<App>>,
    Path((name, version)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Refused> {
    respond(&app, &name, Some(&version), request).await
}

async fn respond(app: &App, name: &str, version: Option<&str>, request: Request) -> Result<Response, Refused> {
    body::check(request.headers(), app.upload_limits.bytes)?;
    let json = header_length(request.headers());
    let share = app.in_flight.share();
    let body = body::whole(request, app.upload_limits.bytes, &share).await?;
    let model = model(app, name, version)?;
    let asked = observe::Asked(model.name().to_owned());
    let share = Arc::new(share);
    let answered = answered(app, &model, body, json?, share.clone()).await;
    let response = answered.unwrap_or_else(|error| Refused::from(error).into_response());
    let mut response = body::held(response, share).await;
    response.extensions_mut().insert(asked);
    Ok(response)
}

async fn answered(
    app: &App,
    model: &Model,
    body: Bytes,
    json: Option<usize>,
    share: Arc<Share>,
) -> Result<Response, ApiError> {
    let Preprocessing { crop, mean, std, .. } = model.metadata.preprocessing;
    let expected = Expected { side: crop as usize, images: app.upload_limits.count, mean, std };
    // Copying pixels takes less than being handed over; reading numbers does not.
    let is_long = json.unwrap_or(body.len()) > LONG_JSON;
    let (counted, length) = (share.clone(), body.len());
    let parse = move || tensors::parse(&body, json, expected, &counted);
    let Asked { id, images, outputs } = if is_long { app.decoding.work(&share, parse).await?? } else { parse()? };
    share.shrink(length);

    let answers = answer(model, images, &[]).await.map_err(|reason| match reason {
        Unanswered::Engine(EngineError::NotFinite { value, .. }) => {
            ApiError::unprocessable(format!("the network makes {value} of these values"))
        }
        reason => unanswered(model, reason),
    })?;
    let slowest = answers.iter().max_by_key(|answer| answer.queue + answer.inference).expect("there is an image");
    let timing = Timing::new(0.0, 0.0, milliseconds(slowest.queue), milliseconds(slowest.inference));
    let mut response = encode(model, id, &answers, &outputs);
    response.extensions_mut().insert(observe::Phases(timing));
    Ok(response)
}

fn header_length(headers: &HeaderMap) -> Result<Option<usize>, ApiError> {
    let Some(value) = headers.get(HEADER_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| ApiError::malformed(format!("{HEADER_LENGTH}: a number of bytes is expected")))
}

fn encode(model: &Model, id: Option<String>, answers: &[Answered], outputs: &[Output]) -> Response {
    let (mut tensors, mut binary) = (Vec::new(), Vec::new());
    for output in outputs {
        let data = match output.classification {
            None => Data::Logits(answers.iter().flat_map(|answer| answer.logits.row(0)).copied().collect()),
            Some(classes) => {
                let labels = &model.metadata.labels;
                let of = |answer: &Answered| classes_of(answer.logits.row(0), labels, classes);
                Data::Classes(answers.iter().flat_map(of).collect())
            }
        };
        let (datatype, values) = match &data {
            Data::Logits(values) => ("FP32", values.len()),
            Data::Classes(strings) => ("BYTES", strings.len()),
        };
        let shape = [answers.len(), values / answers.len()];
        let (parameters, data) = if output.binary {
            let begin = binary.len();
            data.append_to(&mut binary);
            (Some(BinarySize { binary_data_size: binary.len() - begin }), None)
        } else {
            (None, Some(data))
        };
        tensors.push(OutputTensor { name: LOGITS, datatype, shape, parameters, data });
    }
    let (model_name, model_version) = (model.id.name.clone(), model.id.version.clone());
    let response = InferResponse { model_name, model_version, id, outputs: tensors };
    if binary.is_empty() {
        return Json(response).into_response();
    }
    let mut body = serde_json::to_vec(&response).expect("text and numbers are JSON");
    let length = HeaderValue::from(body.len());
    body.append(&mut binary);
    let kind = HeaderValue::from_static("application/octet-stream");
    ([(header::CONTENT_TYPE, kind), (HEADER_LENGTH, length)], body).into_response()
}

/// The likeliest classes as Triton's classification extension writes them.
fn classes_of(logits: &[f32], labels: &[String], classes: usize) -> Vec<String> {
    ranking(logits, classes)
        .into_iter()
        .map(|index| format!("{:.6}:{index}:{}", logits[index], labels[index]))
        .collect()
}

impl Data {
    /// Little endian; strings behind their lengths.
    fn append_to(&self, binary: &mut Vec<u8>) {
        match self {
            Data::Logits(values) => values.iter().for_each(|value| binary.extend(value.to_le_bytes())),
            Data::Classes(strings) => strings.iter().for_each(|string| {
                binary.extend((string.len() as u32).to_le_bytes());
                binary.extend(string.as_bytes());
            }),
        }
    }
}

#[cfg(test)]
mod tests;
