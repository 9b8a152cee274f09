//! Loads a model's weights from the cache or the network. They are hashed while they arrive, and rejected if they
//! differ from the file in the server's list of models. The module uses the crate `sha2`, since the browser's
//! `crypto.subtle` cannot hash a stream and is unavailable on plain http.

use crate::cache_store::CacheStore;
use crate::message::WeightsFile;
use crate::scope::{error_message, scope};
use crate::webgpu_loader::WebGpuLoader;
use js_sys::Uint8Array;
use model::checkpoint::{Checkpoint, CheckpointError, CheckpointStream};
use sha2::{Digest, Sha256};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    AbortController, AbortSignal, ReadableStreamDefaultReader, ReadableStreamReadResult, RequestCache, RequestInit,
    Response,
};

const CACHE_NAME: &str = "shortcut-weights";

#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    #[error("could not download the model's weights: {0}")]
    Unreachable(String),
    #[error("could not download the model's weights: the server returned HTTP status {0}")]
    Status(u16),
    #[error("the downloaded weights do not match the server's list of models: {0}")]
    Mismatch(String),
    #[error(transparent)]
    Invalid(#[from] CheckpointError),
}

impl WeightsError {
    pub fn code(&self) -> &'static str {
        match self {
            WeightsError::Unreachable(_) | WeightsError::Status(_) => "weights_unreachable",
            WeightsError::Mismatch(_) => "weights_mismatch",
            WeightsError::Invalid(_) => "bad_weights",
        }
    }
}

/// Returns the verified checkpoint, and the loader that received its bytes. `progress` is called with the number of
/// bytes received so far. `new_loader` creates a loader for each attempt, since a damaged file in the cache is
/// downloaded again.
///
/// # Errors
/// Returns an error if the file cannot be downloaded, differs from the expected one, or is not a valid checkpoint.
pub async fn fetch_weights(
    weights: &WeightsFile,
    progress: impl Fn(u64),
    new_loader: impl Fn() -> WebGpuLoader,
) -> Result<(Checkpoint, WebGpuLoader), WeightsError> {
    let cache = CacheStore::open(CACHE_NAME).await;
    if let Some(cache) = &cache
        && let Some(response) = cache.get(&weights.url).await
    {
        match read_body(&response, weights, &progress, new_loader()).await {
            Ok(loaded) => return Ok(loaded),
            Err(_) => cache.delete(&weights.url).await,
        }
    }
    let controller = AbortController::new().map_err(|thrown| WeightsError::Unreachable(error_message(&thrown)))?;
    let response = download(&weights.url, cache.is_some(), &controller.signal()).await?;
    // The browser stores the response while it is read. It is stored unverified: the next visit verifies it again.
    let stored = cache.as_ref().map(|cache| cache.put(&weights.url, &response));
    let loaded = read_body(&response, weights, &progress, new_loader()).await;
    if loaded.is_err() {
        // Otherwise the browser would continue to store the rejected file.
        controller.abort();
    }
    if let (Some(cache), Some(stored)) = (&cache, stored) {
        stored.await;
        if loaded.is_err() {
            cache.delete(&weights.url).await;
        }
    }
    loaded
}

/// Requests the file. If it will be stored in Cache storage (`cached`), the browser's HTTP cache is bypassed.
async fn download(url: &str, cached: bool, signal: &AbortSignal) -> Result<Response, WeightsError> {
    let options = RequestInit::new();
    options.set_signal(Some(signal));
    if cached {
        options.set_cache(RequestCache::NoStore);
    }
    let response: Response = JsFuture::from(scope().fetch_with_str_and_init(url, &options))
        .await
        .map_err(|thrown| WeightsError::Unreachable(error_message(&thrown)))?
        .unchecked_into();
    if response.ok() { Ok(response) } else { Err(WeightsError::Status(response.status())) }
}

async fn read_body(
    response: &Response,
    weights: &WeightsFile,
    progress: impl Fn(u64),
    mut loader: WebGpuLoader,
) -> Result<(Checkpoint, WebGpuLoader), WeightsError> {
    let interrupted = |thrown: JsValue| WeightsError::Unreachable(error_message(&thrown));
    let body = response.body().ok_or_else(|| WeightsError::Unreachable("the response has no body".into()))?;
    let reader = ReadableStreamDefaultReader::new(&body).map_err(interrupted)?;

    let mut incoming = CheckpointStream::new(weights.bytes);
    // Reported only after the hash has been verified: if the hash is wrong, that is the better explanation.
    let mut invalid = None;
    let (mut received, mut hasher) = (0, Sha256::new());
    progress(0);
    loop {
        let step: ReadableStreamReadResult = JsFuture::from(reader.read()).await.map_err(interrupted)?.unchecked_into();
        if step.get_done() == Some(true) {
            break;
        }
        let chunk: Uint8Array = step.get_value().unchecked_into();
        let bytes = chunk.to_vec();
        received += bytes.len() as u64;
        if received > weights.bytes {
            let _ = reader.cancel();
            return Err(WeightsError::Mismatch(format!("more than {} bytes", weights.bytes)));
        }
        hasher.update(&bytes);
        if invalid.is_none() {
            match incoming.push(&bytes) {
                Ok(()) => loader.update(&incoming).await,
                Err(error) => invalid = Some(error),
            }
        }
        progress(received);
    }

    if received != weights.bytes {
        return Err(WeightsError::Mismatch(format!("{received} bytes instead of {}", weights.bytes)));
    }
    let sha256 = hex::encode(hasher.finalize());
    if sha256 != weights.sha256 {
        return Err(WeightsError::Mismatch(format!("SHA-256 {sha256} instead of {}", weights.sha256)));
    }
    match invalid {
        Some(error) => Err(error.into()),
        None => Ok((incoming.finish()?, loader)),
    }
}
