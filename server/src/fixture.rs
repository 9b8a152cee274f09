//! An app for tests of handlers, with models that are fake but for their metadata.

use crate::app::App;
use crate::app::UploadLimits;
use crate::engine_thread::{Classify, EngineThread};
use crate::registry::{Model, Registry};
use crate::router::router;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use http_body_util::BodyExt;
use model::architecture::Architecture;
use model::checkpoint::Metadata;
use model::classifier::Prepared;
use model::engine::{Device, EngineError};
use model::prediction::{Prediction, Ranked, Timing};
use model::preprocess::{ImageBatch, Preprocessing};
use std::sync::Arc;
use tower::ServiceExt;

/// What stands in an engine's place.
#[derive(Clone, Copy)]
pub enum FakeClassifier {
    Answers,
    Fails,
    Panics,
}

impl Classify for FakeClassifier {
    fn classify(&mut self, prepared: Prepared, queue_ms: f64, top_k: usize) -> Result<Prediction, EngineError> {
        // The mean of all bytes, so that an answer tells which photo it is for.
        let pixels = prepared.image.pixels();
        let mean = pixels.iter().map(|&byte| usize::from(byte)).sum::<usize>() / pixels.len();
        match self {
            FakeClassifier::Answers => Ok(Prediction {
                predictions: vec![Ranked { label: "fake".to_owned(), index: mean, probability: 0.5 }; top_k],
                model: "fake".to_owned(),
                architecture: "fake".to_owned(),
                backend: "fake".to_owned(),
                timing_ms: Timing { queue: queue_ms, ..Timing::default() },
            }),
            FakeClassifier::Fails => {
                Err(EngineError::Failed { device: Device::Cpu, reason: "/secret/path".to_owned() })
            }
            FakeClassifier::Panics => panic!("this is part of the test"),
        }
    }
}

/// A grey image of 2x2.
pub fn prepared() -> Prepared {
    ImageBatch::new(vec![128; 12], [1, 2, 2], [0.0; 3], [1.0; 3]).unwrap().into()
}

fn metadata(classes: usize) -> Metadata {
    Metadata {
        version: 1,
        architecture: Architecture::new("resnet18", classes).unwrap(),
        classes: (0..classes).map(|index| format!("n{index}")).collect(),
        labels: (0..classes).map(|index| format!("label {index}")).collect(),
        preprocessing: Preprocessing::default(),
        provenance: None,
        recipe: None,
        metrics: None,
    }
}

pub fn model(name: &str, classes: usize) -> Model {
    model_with(name, classes, FakeClassifier::Answers)
}

/// Its weights are its name.
pub fn model_with(name: &str, classes: usize, classifier: FakeClassifier) -> Model {
    let engine = EngineThread::start(name, move || Ok(classifier)).unwrap();
    Model::new(name, metadata(classes), name.to_owned().into(), engine)
}

/// A model whose engine gets ready when the sender says so.
pub fn cold_model(name: &str) -> (Model, std::sync::mpsc::Sender<()>) {
    let (go, wait) = std::sync::mpsc::channel();
    let prepare = move || Ok(wait.recv().map(|()| FakeClassifier::Answers)?);
    (Model::new(name, metadata(2), name.to_owned().into(), EngineThread::start(name, prepare).unwrap()), go)
}

/// Models `small` of 2 classes and `large` of 3, the default, behind these limits.
pub fn app_with_limits(upload_limits: UploadLimits) -> Arc<App> {
    let registry = Registry::new(vec![model("small", 2), model("large", 3)], None).unwrap();
    Arc::new(App { upload_limits, ..App::new(registry) })
}

pub fn app() -> Arc<App> {
    app_with_limits(UploadLimits::default())
}

pub fn app_of(model: Model) -> Arc<App> {
    Arc::new(App::new(Registry::new(vec![model], None).unwrap()))
}

/// Of a form with these fields, name and content: its content type and its bytes.
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

/// A PNG of one grey.
pub fn photo(grey: u8) -> Vec<u8> {
    let mut png = std::io::Cursor::new(Vec::new());
    image::GrayImage::from_pixel(16, 16, image::Luma([grey])).write_to(&mut png, image::ImageFormat::Png).unwrap();
    png.into_inner()
}

/// An answer, read to its end.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/json", "{}", self.body);
        serde_json::from_str(&self.body).unwrap()
    }

    /// The code of an error.
    pub fn code(&self) -> String {
        let message = &self.json()["error"]["message"];
        assert!(message.as_str().is_some_and(|message| !message.is_empty()), "{}", self.body);
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }
}

pub async fn answer(app: &Arc<App>, request: Request<Body>) -> Answer {
    let service: Router = router(app.clone());
    let (parts, body) = service.oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

pub async fn get(app: &Arc<App>, path: &str) -> Answer {
    answer(app, Request::get(path).body(Body::empty()).unwrap()).await
}

pub async fn post(app: &Arc<App>, path: &str, content_type: &str, body: impl Into<Body>) -> Answer {
    let request = Request::post(path).header(header::CONTENT_TYPE, content_type);
    answer(app, request.body(body.into()).unwrap()).await
}
