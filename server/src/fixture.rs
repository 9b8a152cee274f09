//! Test fixtures: an app whose models have real metadata and fake engines, and requests to it.

use crate::app::App;
use crate::batching::{BatchSizes, Batcher, BatchingOptions, Execute};
use crate::metrics::Metrics;
use crate::registry::{Loader, Model, ModelSources, Registry, RegistryOptions};
use crate::router::router;
use crate::settings::Settings;
use crate::upload::UploadLimits;
use anyhow::Result;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use axum::response::Response;
use clap::Parser;
use http_body_util::BodyExt;
use model::architecture::Architecture;
use model::checkpoint::Metadata;
use model::engine::{Activation, Device, EngineError, Input, Logits, Output};
use model::explain::ClassifierWeights;
use model::plan::Tap;
use model::preprocess::ImageBatch;
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

/// A fake engine.
#[derive(Clone, Copy)]
pub enum FakeEngine {
    /// Returns this number of logits per image.
    Succeeds(usize),
    Fails,
    Panics,
}

impl Execute for FakeEngine {
    /// The index of the largest logit is the mean of the image's bytes, so that an output identifies its photo.
    fn execute(&self, input: &Input, taps: &[Tap]) -> Result<(Output, Device), EngineError> {
        let [batch, height, width] = input.shape();
        match *self {
            FakeEngine::Succeeds(classes) => {
                let size = 3 * height * width;
                let means: Vec<usize> = match input {
                    Input::Pixels(images) => {
                        let sum = |image: &[u8]| image.iter().map(|&byte| usize::from(byte)).sum::<usize>();
                        images.pixels().chunks_exact(size).map(|image| sum(image) / size).collect()
                    }
                    Input::Normalised(images) => {
                        let sum = |image: &[f32]| image.iter().sum::<f32>();
                        images.values().chunks_exact(size).map(|image| (sum(image) / size as f32) as usize).collect()
                    }
                };
                let values =
                    means.iter().flat_map(|&mean| (0..classes).map(move |class| 1.0 - class.abs_diff(mean) as f32));
                let logits = Logits { values: values.collect(), batch, classes };
                let activations =
                    taps.iter().map(|&tap| Activation { tap, values: vec![1.0; batch * 4], shape: [batch, 1, 2, 2] });
                Ok((Output { logits, activations: activations.collect() }, Device::Cpu))
            }
            FakeEngine::Fails => Err(EngineError::Failed { device: Device::Cpu, reason: "/secret/path".to_owned() }),
            FakeEngine::Panics => panic!("deliberate panic"),
        }
    }
}

pub const BATCHING_OPTIONS: BatchingOptions = BatchingOptions { queue_size: 1000, max_delay: Duration::ZERO };

pub const BATCH_SIZES: BatchSizes = BatchSizes { max: 4, padded: false };

/// Returns a grey image of 2x2 pixels.
pub fn grey(grey: u8) -> Input {
    Input::Pixels(ImageBatch::new(vec![grey; 12], [1, 2, 2], [0.0; 3], [1.0; 3]).unwrap())
}

fn metadata(classes: usize) -> Metadata {
    Metadata {
        classes: (0..classes).map(|index| format!("n{index}")).collect(),
        labels: (0..classes).map(|index| format!("label {index}")).collect(),
        ..Metadata::new(Architecture::new("resnet18", classes).unwrap())
    }
}

pub fn model(name: &str, classes: usize) -> Model {
    model_with_engine(name, classes, FakeEngine::Succeeds(classes))
}

pub fn model_with_engine(name: &str, classes: usize, engine: FakeEngine) -> Model {
    build_model(name, classes, &Metrics::new(), move || Ok(engine))
}

/// Creates a model whose engine becomes ready when a message is sent, and fails to start if the sender is dropped.
pub fn loading_model(name: &str) -> (Model, std::sync::mpsc::Sender<()>) {
    let (go, wait) = std::sync::mpsc::channel();
    (build_model(name, 2, &Metrics::new(), move || Ok(wait.recv().map(|()| FakeEngine::Succeeds(2))?)), go)
}

/// Returns a model with two classes, a temperature and a rejection threshold.
pub fn calibrated_model(temperature: f32, rejection_threshold: f32) -> Model {
    let (temperature, rejection_threshold) = (Some(temperature), Some(rejection_threshold));
    let metadata = Metadata { temperature, rejection_threshold, ..metadata(2) };
    Model { metadata: metadata.into(), ..model("calibrated", 2) }
}

/// Creates a model whose weights are its name.
fn build_model<E: Execute>(
    name: &str,
    classes: usize,
    metrics: &Metrics,
    prepare: impl FnOnce() -> Result<E> + Send + 'static,
) -> Model {
    let batcher =
        Batcher::start(name, vec![(BATCH_SIZES, prepare)], BATCHING_OPTIONS, &metrics.batching(name), grey(0)).unwrap();
    let weights = ClassifierWeights::new(vec![1.0; classes], 1);
    Model::new(name, metadata(classes), name.to_owned().into(), weights, vec![Device::Cpu], batcher)
}

/// Creates a registry of these models. `default` is the name of the default; if `None`, it is chosen by size.
pub fn registry(models: Vec<Model>, default: Option<&str>) -> Registry {
    registry_with(models, default, Arc::new(Metrics::new()))
}

fn registry_with(models: Vec<Model>, default: Option<&str>, metrics: Arc<Metrics>) -> Registry {
    let models = models.into_iter().map(Arc::new).collect();
    // Strict, so that a model without engines is an error, as if it was given by `--model`.
    let options = RegistryOptions { default_name: default.map(str::to_owned), strict: true };
    Registry::new(Loader::new(&settings()), ModelSources::default(), models, options, metrics)
}

fn settings() -> Settings {
    Settings::parse_from(["server"])
}

/// Creates an app with the models `small`, which has 2 classes, and `large`, which has 256 and is the default. `change`
/// modifies the app.
pub fn app_with(change: impl FnOnce(&mut App)) -> Arc<App> {
    let metrics = Arc::new(Metrics::new());
    let model = |name, classes| build_model(name, classes, &metrics, move || Ok(FakeEngine::Succeeds(classes)));
    let models = vec![model("small", 2), model("large", 256)];
    let registry = registry_with(models, None, metrics.clone());
    let mut app = App::new(&settings(), registry, metrics).unwrap();
    change(&mut app);
    Arc::new(app)
}

pub fn app_with_limits(upload_limits: UploadLimits) -> Arc<App> {
    app_with(|app| app.upload_limits = upload_limits)
}

pub fn app() -> Arc<App> {
    app_with(|_| ())
}

pub fn app_with_model(model: Model) -> Arc<App> {
    let metrics = Arc::new(Metrics::new());
    let registry = registry_with(vec![model], None, metrics.clone());
    Arc::new(App::new(&settings(), registry, metrics).unwrap())
}

/// Encodes a multipart form with these fields (name and content). Returns its content type and its bytes.
pub fn form(fields: &[(&str, &[u8])]) -> (&'static str, Vec<u8>) {
    let mut body = Vec::new();
    for (name, content) in fields {
        let head = format!("--frontier\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"x\"\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--frontier--\r\n");
    ("multipart/form-data; boundary=frontier", body)
}

/// Returns a PNG of a uniform grey.
pub fn photo(grey: u8) -> Vec<u8> {
    let mut png = std::io::Cursor::new(Vec::new());
    image::GrayImage::from_pixel(16, 16, image::Luma([grey])).write_to(&mut png, image::ImageFormat::Png).unwrap();
    png.into_inner()
}

/// A response whose body was read to its end.
pub struct TestResponse {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl TestResponse {
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/json", "{}", self.body);
        serde_json::from_str(&self.body).unwrap()
    }

    /// Returns the code of an error.
    pub fn code(&self) -> String {
        let message = &self.json()["error"]["message"];
        assert!(message.as_str().is_some_and(|message| !message.is_empty()), "{}", self.body);
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }
}

/// Sends a request through a new router and returns the response with its unread body.
pub async fn send_raw(app: &Arc<App>, request: Request<Body>) -> Response {
    let service: Router = router(app.clone()).unwrap();
    service.oneshot(request).await.unwrap()
}

/// Sends a request through a new router and reads the response to its end.
pub async fn send(app: &Arc<App>, request: Request<Body>) -> TestResponse {
    let (parts, body) = send_raw(app, request).await.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    TestResponse { status: parts.status.as_u16(), headers: parts.headers, body }
}

pub async fn get(app: &Arc<App>, path: &str) -> TestResponse {
    send(app, Request::get(path).body(Body::empty()).unwrap()).await
}

pub async fn post(app: &Arc<App>, path: &str, content_type: &str, body: impl Into<Body>) -> TestResponse {
    let request = Request::post(path).header(header::CONTENT_TYPE, content_type);
    send(app, request.body(body.into()).unwrap()).await
}
