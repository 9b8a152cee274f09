//! Requests to the server: the list of models, and predictions of models that do not run in the page.

use crate::model_list::ModelInfo;
use js_sys::encode_uri_component;
use leptos::prelude::window;
use model::prediction::{Failure, FailureDetail, Prediction};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortSignal, Blob, RequestInit, Response};

/// Time limit for a request. It is long because uploading a large photo over a slow connection takes minutes.
const TIMEOUT_MS: u32 = 180_000;

#[derive(Clone, Debug)]
pub enum ServerError {
    /// There was no response within the time limit.
    Unreachable,
    /// The response is an error, or is not valid.
    Rejected(FailureDetail),
}

#[derive(Deserialize)]
struct ModelsResponse {
    models: Vec<ModelInfo>,
}

pub async fn fetch_models() -> Result<Vec<ModelInfo>, ServerError> {
    Ok(request_json::<ModelsResponse>("models", &RequestInit::new()).await?.models)
}

pub async fn predict(model: &str, photo: &Blob, top_k: usize) -> Result<Prediction, ServerError> {
    let request = RequestInit::new();
    request.set_method("POST");
    request.set_body(photo);
    request_json(&format!("predict?model={}&top_k={top_k}", encode_uri_component(model)), &request).await
}

async fn request_json<T: DeserializeOwned>(url: &str, request: &RequestInit) -> Result<T, ServerError> {
    request.set_signal(Some(&AbortSignal::timeout_with_u32(TIMEOUT_MS)));
    let (status, body) = request_text(url, request).await.map_err(|_| ServerError::Unreachable)?;
    let invalid = || {
        let message = format!("the server sent an unexpected response (HTTP {status}). Please try again later");
        ServerError::Rejected(FailureDetail { code: "invalid_response".into(), message })
    };
    if (200..300).contains(&status) {
        serde_json::from_str(&body).map_err(|_| invalid())
    } else {
        let failure: Failure = serde_json::from_str(&body).map_err(|_| invalid())?;
        Err(ServerError::Rejected(failure.error))
    }
}

async fn request_text(url: &str, request: &RequestInit) -> Result<(u16, String), JsValue> {
    let response = JsFuture::from(window().fetch_with_str_and_init(url, request)).await?;
    let response: Response = response.unchecked_into();
    let body = JsFuture::from(response.text()?).await?;
    Ok((response.status(), body.as_string().unwrap_or_default()))
}
