//! Handles the page's requests: loads the worker's model, then classifies photos with it.

use crate::adapter::AdapterDescription;
use crate::browser_decode;
use crate::engines::{Engines, EnginesError, WEBGPU};
use crate::message::{EngineChoice, PhotoData, Reply, Request, WeightsFile};
use crate::scope::{error_message, report_panics, scope, send_failure, send_reply};
use crate::webgpu_loader::WebGpuLoader;
use crate::webgpu_trial::run_trial;
use crate::weights::fetch_weights;
use js_sys::Uint8Array;
use model::checkpoint::Metadata;
use model::classifier::PreparedPhoto;
use model::engine::Device;
use model::explain::Explanation;
use model::prediction::{ModelId, Prediction};
use model::preprocess::{Limits, PhotoError};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;
use wasm_bindgen_futures::spawn_local;
use web_sys::MessageEvent;

/// Approximate maximum number of progress messages for one file.
const PROGRESS_STEPS: u64 = 200;

/// The engines of the model; `None` until it is loaded.
type SharedEngines = Rc<RefCell<Option<Rc<Engines>>>>;

/// Starts to handle the page's messages.
pub fn start() {
    report_panics();
    let shared = SharedEngines::default();
    let on_message =
        Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| match Request::from_js(event.data()) {
            Ok(request) => spawn_local(handle(shared.clone(), request)),
            Err(error) => send_failure(None, "malformed_request", error_message(&error)),
        });
    scope().set_onmessage(Some(on_message.as_ref().unchecked_ref()));
    on_message.forget();
    send_reply(Reply::Listening);
}

async fn handle(shared: SharedEngines, request: Request) {
    match request {
        Request::Load { weights, engine } => match load(&weights, engine).await {
            Ok(engines) => {
                let engines = Rc::new(engines);
                shared.replace(Some(engines.clone()));
                send_reply(Reply::Ready { backend: engines.device().to_string() });
                if engine == EngineChoice::Auto {
                    run_trial(engines, weights).await;
                }
            }
            Err(error) => send_failure(None, error.code, error.message),
        },
        Request::Classify { id, photo, top_k, explain } => {
            let engines = shared.borrow().clone();
            let Some(engines) = engines else {
                return send_failure(Some(id), "not_ready", "no model is loaded yet".into());
            };
            let _guard = engines.begin_request();
            match classify(&engines, photo, top_k, explain).await {
                Ok((prediction, explanation)) => send_reply(Reply::Prediction { id, prediction, explanation }),
                Err(error) => send_failure(Some(id), error.code, error.message),
            }
        }
    }
}

/// An error as it is sent to the page: a code and a message.
struct ErrorReply {
    code: &'static str,
    message: String,
}

impl ErrorReply {
    fn new(code: &'static str, error: impl ToString) -> Self {
        ErrorReply { code, message: error.to_string() }
    }
}

impl From<PhotoError> for ErrorReply {
    fn from(error: PhotoError) -> Self {
        ErrorReply::new(error.code(), error)
    }
}

impl From<EnginesError> for ErrorReply {
    fn from(error: EnginesError) -> Self {
        ErrorReply::new("engine", error)
    }
}

async fn load(weights: &WeightsFile, engine: EngineChoice) -> Result<Engines, ErrorReply> {
    let total = weights.bytes;
    let last_step = Cell::new(0);
    let progress = |received: u64| {
        let step = received * PROGRESS_STEPS / total.max(1);
        if received == 0 || step > last_step.get() {
            last_step.set(step);
            send_reply(Reply::Progress { received, total });
        }
    };
    let use_loader = engine == EngineChoice::WebGpu && WEBGPU == Device::WebGpu(0);
    if use_loader {
        // A browser's first access to its GPU takes a moment: start it now, while the weights are requested.
        spawn_local(async { drop(AdapterDescription::query().await) });
    }
    let new_loader = || if use_loader { WebGpuLoader::AwaitingHeader } else { WebGpuLoader::Disabled };
    let fetched = fetch_weights(weights, progress, new_loader).await;
    let (checkpoint, loader) = fetched.map_err(|error| ErrorReply::new(error.code(), error))?;
    // `fetch_weights` has verified that the checkpoint has this hash.
    let id = ModelId { name: weights.name.clone(), version: weights.sha256.clone() };
    let webgpu = loader.finish().await;
    Ok(Engines::prepare(engine, id, checkpoint, webgpu).await?)
}

async fn classify(
    engines: &Engines,
    photo: PhotoData,
    top_k: usize,
    explain: bool,
) -> Result<(Prediction, Option<Explanation>), ErrorReply> {
    let prepared = prepare(engines.metadata(), photo).await?;
    Ok(engines.classify(prepared, top_k, explain).await?)
}

async fn prepare(metadata: &Metadata, photo: PhotoData) -> Result<PreparedPhoto, PhotoError> {
    let limits = Limits::default();
    match photo {
        PhotoData::Pixels { width, height, rgba } => {
            PreparedPhoto::from_rgba(width, height, &Uint8Array::new(&rgba).to_vec(), metadata)
        }
        PhotoData::Encoded { bytes } => {
            let encoded = Uint8Array::new(&bytes).to_vec();
            match PreparedPhoto::from_bytes(&encoded, &limits, metadata) {
                Err(PhotoError::UnsupportedFormat) => {
                    let pixels = browser_decode::decode(&encoded, &limits).await?;
                    PreparedPhoto::from_rgba(pixels.width, pixels.height, &pixels.rgba, metadata)
                }
                prepared => prepared,
            }
        }
    }
}
