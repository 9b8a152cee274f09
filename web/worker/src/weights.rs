//! Brings a model's weights: from the shelf or over the network, hashed while they stream, refused if they are not
//! what was announced. `crypto.subtle` hashes nothing that streams and is absent on plain http, hence wasm's own SHA-256.

use crate::early::Early;
use crate::message::Weights;
use crate::scope::{scope, words};
use crate::shelf::Shelf;
use js_sys::Uint8Array;
use model::checkpoint::{Checkpoint, CheckpointError, Incoming};
use sha2::{Digest, Sha256};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    AbortController, AbortSignal, ReadableStreamDefaultReader, ReadableStreamReadResult, RequestCache, RequestInit,
    Response,
};

const SHELF: &str = "shortcut-weights";

#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    #[error("the weights could not be fetched: {0}")]
    Unreachable(String),
    #[error("the weights could not be fetched: the server answered {0}")]
    Status(u16),
    #[error("the weights are not those that the server announced ({0}), so they are not used")]
    Mismatch(String),
    #[error(transparent)]
    Bad(#[from] CheckpointError),
}

impl WeightsError {
    pub fn code(&self) -> &'static str {
        match self {
            WeightsError::Unreachable(_) | WeightsError::Status(_) => "weights_unreachable",
            WeightsError::Mismatch(_) => "weights_mismatch",
            WeightsError::Bad(_) => "bad_weights",
        }
    }
}

/// The checkpoint, verified, and what was made early of it. `progress` is told how many bytes have come; `early` makes what
/// gets them while they come, anew if they prove to be wrong and have to come again.
pub async fn bring(
    weights: &Weights,
    progress: impl Fn(u64),
    early: impl Fn() -> Early,
) -> Result<(Checkpoint, Early), WeightsError> {
    let shelf = Shelf::open(SHELF).await;
    if let Some(shelf) = &shelf
        && let Some(response) = shelf.find(&weights.url).await
    {
        match read(&response, weights, &progress, early()).await {
            Ok(brought) => return Ok(brought),
            Err(_) => shelf.discard(&weights.url).await,
        }
    }
    let controller = AbortController::new().map_err(|thrown| WeightsError::Unreachable(words(&thrown)))?;
    let response = fetch(&weights.url, shelf.is_some(), &controller.signal()).await?;
    // The browser keeps what streams by; what is read from there is verified like everything else.
    let kept = shelf.as_ref().map(|shelf| shelf.keep(&weights.url, &response));
    let brought = read(&response, weights, &progress, early()).await;
    if brought.is_err() {
        // Or the browser would go on keeping what is refused.
        controller.abort();
    }
    if let (Some(shelf), Some(kept)) = (&shelf, kept) {
        kept.await;
        if brought.is_err() {
            shelf.discard(&weights.url).await;
        }
    }
    brought
}

/// `shelved`: the shelf will keep the file, so the browser's HTTP cache need not.
async fn fetch(url: &str, shelved: bool, signal: &AbortSignal) -> Result<Response, WeightsError> {
    let options = RequestInit::new();
    options.set_signal(Some(signal));
    if shelved {
        options.set_cache(RequestCache::NoStore);
    }
    let response: Response = JsFuture::from(scope().fetch_with_str_and_init(url, &options))
        .await
        .map_err(|thrown| WeightsError::Unreachable(words(&thrown)))?
        .unchecked_into();
    if response.ok() { Ok(response) } else { Err(WeightsError::Status(response.status())) }
}

async fn read(
    response: &Response,
    weights: &Weights,
    progress: impl Fn(u64),
    mut early: Early,
) -> Result<(Checkpoint, Early), WeightsError> {
    let interrupted = |thrown: JsValue| WeightsError::Unreachable(words(&thrown));
    let body = response.body().ok_or_else(|| WeightsError::Unreachable("an answer without a body".into()))?;
    let reader = ReadableStreamDefaultReader::new(&body).map_err(interrupted)?;

    let mut incoming = Incoming::new(weights.bytes);
    // What is wrong with the file matters only if it is the file that was announced.
    let mut wrong = None;
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
        if wrong.is_none() {
            match incoming.push(&bytes) {
                Ok(()) => early.take(&incoming).await,
                Err(error) => wrong = Some(error),
            }
        }
        progress(received);
    }

    if received != weights.bytes {
        return Err(WeightsError::Mismatch(format!("{received} bytes instead of {}", weights.bytes)));
    }
    let found = hex::encode(hasher.finalize());
    if found != weights.sha256 {
        return Err(WeightsError::Mismatch(format!("SHA-256 {found} instead of {}", weights.sha256)));
    }
    match wrong {
        Some(error) => Err(error.into()),
        None => Ok((incoming.finish()?, early)),
    }
}
