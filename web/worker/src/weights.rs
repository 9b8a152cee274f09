//! Brings a model's weights: from the shelf or over the network, hashed while they stream, refused if they are not
//! what was announced. `crypto.subtle` hashes nothing that streams and is absent on plain http, hence wasm's own SHA-256.

use crate::message::Weights;
use crate::scope::{scope, words};
use crate::shelf::Shelf;
use js_sys::Uint8Array;
use sha2::{Digest, Sha256};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{ReadableStreamDefaultReader, ReadableStreamReadResult, RequestCache, RequestInit, Response};

const SHELF: &str = "shortcut-weights";

#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    #[error("the weights could not be fetched: {0}")]
    Unreachable(String),
    #[error("the weights could not be fetched: the server answered {0}")]
    Status(u16),
    #[error("the weights are not those that the server announced ({0}), so they are not used")]
    Mismatch(String),
    #[error("there is no memory for {0} bytes of weights")]
    Memory(u64),
}

impl WeightsError {
    pub fn code(&self) -> &'static str {
        match self {
            WeightsError::Unreachable(_) | WeightsError::Status(_) => "weights_unreachable",
            WeightsError::Mismatch(_) => "weights_mismatch",
            WeightsError::Memory(_) => "out_of_memory",
        }
    }
}

/// The file, verified. `progress` is told how many bytes have come.
pub async fn bring(weights: &Weights, progress: impl Fn(u64)) -> Result<Vec<u8>, WeightsError> {
    let shelf = Shelf::open(SHELF).await;
    if let Some(shelf) = &shelf
        && let Some(response) = shelf.find(&weights.url).await
    {
        match read(&response, weights, &progress).await {
            Err(WeightsError::Memory(bytes)) => return Err(WeightsError::Memory(bytes)),
            Ok(bytes) => return Ok(bytes),
            Err(_) => shelf.discard(&weights.url).await,
        }
    }
    let response = fetch(&weights.url, shelf.is_some()).await?;
    let bytes = read(&response, weights, &progress).await?;
    if let Some(shelf) = &shelf {
        shelf.keep(&weights.url, &bytes).await;
    }
    Ok(bytes)
}

/// `shelved`: the shelf will keep the file, so the browser's HTTP cache need not.
async fn fetch(url: &str, shelved: bool) -> Result<Response, WeightsError> {
    let options = RequestInit::new();
    if shelved {
        options.set_cache(RequestCache::NoStore);
    }
    let response: Response = JsFuture::from(scope().fetch_with_str_and_init(url, &options))
        .await
        .map_err(|thrown| WeightsError::Unreachable(words(&thrown)))?
        .unchecked_into();
    if response.ok() { Ok(response) } else { Err(WeightsError::Status(response.status())) }
}

async fn read(response: &Response, weights: &Weights, progress: impl Fn(u64)) -> Result<Vec<u8>, WeightsError> {
    let interrupted = |thrown: JsValue| WeightsError::Unreachable(words(&thrown));
    let body = response.body().ok_or_else(|| WeightsError::Unreachable("an answer without a body".into()))?;
    let reader = ReadableStreamDefaultReader::new(&body).map_err(interrupted)?;

    let mut bytes = Vec::new();
    bytes.try_reserve_exact(weights.bytes as usize).map_err(|_| WeightsError::Memory(weights.bytes))?;
    let mut hasher = Sha256::new();
    progress(0);
    loop {
        let step: ReadableStreamReadResult = JsFuture::from(reader.read()).await.map_err(interrupted)?.unchecked_into();
        if step.get_done() == Some(true) {
            break;
        }
        let chunk: Uint8Array = step.get_value().unchecked_into();
        let (start, end) = (bytes.len(), bytes.len() + chunk.length() as usize);
        if end as u64 > weights.bytes {
            let _ = reader.cancel();
            return Err(WeightsError::Mismatch(format!("more than {} bytes", weights.bytes)));
        }
        bytes.resize(end, 0);
        chunk.copy_to(&mut bytes[start..]);
        hasher.update(&bytes[start..]);
        progress(end as u64);
    }

    if bytes.len() as u64 != weights.bytes {
        return Err(WeightsError::Mismatch(format!("{} bytes instead of {}", bytes.len(), weights.bytes)));
    }
    let found: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found != weights.sha256 {
        return Err(WeightsError::Mismatch(format!("SHA-256 {found} instead of {}", weights.sha256)));
    }
    Ok(bytes)
}
