//! What the page asks of the server: the list of models, and answers where the page has none of its own.

use crate::catalogue::Model;
use js_sys::encode_uri_component;
use leptos::prelude::window;
use model::prediction::{Failure, FailureDetail, Prediction};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortSignal, Blob, RequestInit, Response};

/// A server that has not answered by then is not there. A large photo over a slow line takes minutes.
const PATIENCE_MS: u32 = 180_000;

#[derive(Clone, Debug)]
pub enum ServerError {
    Unreachable,
    /// The server says why.
    Refused(FailureDetail),
}

#[derive(Deserialize)]
struct Models {
    models: Vec<Model>,
}

pub async fn models() -> Result<Vec<Model>, ServerError> {
    Ok(ask::<Models>("models", &RequestInit::new()).await?.models)
}

pub async fn predict(model: &str, photo: &Blob, top_k: usize) -> Result<Prediction, ServerError> {
    let request = RequestInit::new();
    request.set_method("POST");
    request.set_body(photo);
    ask(&format!("predict?model={}&top_k={top_k}", encode_uri_component(model)), &request).await
}

async fn ask<T: DeserializeOwned>(address: &str, request: &RequestInit) -> Result<T, ServerError> {
    request.set_signal(Some(&AbortSignal::timeout_with_u32(PATIENCE_MS)));
    let (status, body) = exchange(address, request).await.map_err(|_| ServerError::Unreachable)?;
    let garbled = || {
        let message = format!("the server's answer (HTTP {status}) is not understood");
        ServerError::Refused(FailureDetail { code: "garbled".into(), message })
    };
    if (200..300).contains(&status) {
        serde_json::from_str(&body).map_err(|_| garbled())
    } else {
        let failure: Failure = serde_json::from_str(&body).map_err(|_| garbled())?;
        Err(ServerError::Refused(failure.error))
    }
}

async fn exchange(address: &str, request: &RequestInit) -> Result<(u16, String), JsValue> {
    let response = JsFuture::from(window().fetch_with_str_and_init(address, request)).await?;
    let response: Response = response.unchecked_into();
    let body = JsFuture::from(response.text()?).await?;
    Ok((response.status(), body.as_string().unwrap_or_default()))
}
