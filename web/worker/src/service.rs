//! Answers the page's requests: loads the one model of this worker, then classifies.

use crate::adapter::Adapter;
use crate::auto::consider_webgpu;
use crate::browser_decode;
use crate::early::Early;
use crate::engines::{Engines, PreparationError, WEBGPU};
use crate::message::{Engine, Photo, Reply, Request, Weights};
use crate::scope::{fail, reply, report_panics, scope, words};
use crate::weights::bring;
use js_sys::Uint8Array;
use model::checkpoint::Metadata;
use model::classifier::Prepared;
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

/// A progress bar needs no more steps than this.
const PROGRESS_STEPS: u64 = 200;

/// The model, once it is loaded.
type Slot = Rc<RefCell<Option<Rc<Engines>>>>;

/// Listens to the page from now on.
pub fn start() {
    report_panics();
    let slot = Slot::default();
    let listen =
        Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| match Request::from_js(event.data()) {
            Ok(request) => spawn_local(answer(slot.clone(), request)),
            Err(error) => fail(None, "malformed_request", words(&error)),
        });
    scope().set_onmessage(Some(listen.as_ref().unchecked_ref()));
    listen.forget();
    reply(Reply::Awake);
}

async fn answer(slot: Slot, request: Request) {
    match request {
        Request::Load { weights, engine } => match load(&weights, engine).await {
            Ok(engines) => {
                let engines = Rc::new(engines);
                slot.replace(Some(engines.clone()));
                reply(Reply::Ready { backend: engines.device().to_string() });
                if engine == Engine::Auto {
                    consider_webgpu(engines, weights).await;
                }
            }
            Err(error) => fail(None, error.code, error.message),
        },
        Request::Classify { id, photo, top_k, explain } => {
            let engines = slot.borrow().clone();
            let Some(engines) = engines else {
                return fail(Some(id), "not_ready", "no model is loaded yet");
            };
            let _visit = engines.visit();
            match classify(&engines, photo, top_k, explain).await {
                Ok((prediction, explanation)) => reply(Reply::Prediction { id, prediction, explanation }),
                Err(error) => fail(Some(id), error.code, error.message),
            }
        }
    }
}

/// A failure as the page gets it.
struct Failed {
    code: &'static str,
    message: String,
}

impl Failed {
    fn new(code: &'static str, error: impl ToString) -> Self {
        Failed { code, message: error.to_string() }
    }
}

impl From<PhotoError> for Failed {
    fn from(error: PhotoError) -> Self {
        Failed::new(error.code(), error)
    }
}

impl From<PreparationError> for Failed {
    fn from(error: PreparationError) -> Self {
        Failed::new("engine", error)
    }
}

async fn load(weights: &Weights, engine: Engine) -> Result<Engines, Failed> {
    let total = weights.bytes;
    let told = Cell::new(0);
    let progress = |received: u64| {
        let step = received * PROGRESS_STEPS / total.max(1);
        if received == 0 || step > told.get() {
            told.set(step);
            reply(Reply::Progress { received, total });
        }
    };
    let wanted = engine == Engine::WebGpu && WEBGPU == Device::WebGpu(0);
    if wanted {
        // A browser needs a moment to come to its GPU for the first time: it shall have it while the weights are asked for.
        spawn_local(async { drop(Adapter::look().await) });
    }
    let early = || if wanted { Early::Unopened } else { Early::Unwanted };
    let brought = bring(weights, progress, early).await.map_err(|error| Failed::new(error.code(), error))?;
    // Its hash was compared while it came.
    let id = ModelId { name: weights.name.clone(), version: weights.sha256.clone() };
    let early = brought.1.finish().await;
    Ok(Engines::prepare(engine, id, brought.0, early).await?)
}

async fn classify(
    engines: &Engines,
    photo: Photo,
    top_k: usize,
    explain: bool,
) -> Result<(Prediction, Option<Explanation>), Failed> {
    let prepared = prepare(engines.metadata(), photo).await?;
    Ok(engines.classify(prepared, top_k, explain).await?)
}

async fn prepare(metadata: &Metadata, photo: Photo) -> Result<Prepared, PhotoError> {
    let limits = Limits::default();
    match photo {
        Photo::Pixels { width, height, rgba } => {
            Prepared::from_rgba(width, height, &Uint8Array::new(&rgba).to_vec(), metadata)
        }
        Photo::Encoded { bytes } => {
            let encoded = Uint8Array::new(&bytes).to_vec();
            match Prepared::from_bytes(&encoded, &limits, metadata) {
                Err(PhotoError::UnsupportedFormat) => {
                    let pixels = browser_decode::decode(&encoded, &limits).await?;
                    Prepared::from_rgba(pixels.width, pixels.height, &pixels.rgba, metadata)
                }
                prepared => prepared,
            }
        }
    }
}
