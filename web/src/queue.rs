//! Classifies the photos one at a time, the selected one first, in the page or on the server.
//!
//! A result is stored only if the model is still the one that computed it (see [`Session::generation`]), so no result
//! is ever shown next to another photo or under another model's name.

use crate::format::failure_message;
use crate::photo::{PhotoFile, read_bytes};
use crate::photo_entry::{Answer, ComputedIn, PhotoEntry, PhotoStatus};
use crate::server::{self, ServerError};
use crate::session::{Readiness, Session};
use crate::transcode::to_png;
use crate::worker_client::{WorkerClient, WorkerError};
use leptos::prelude::*;
use leptos::task::spawn_local;
use model::explain::Explanation;
use model::prediction::{FailureDetail, Prediction};
use std::rc::Rc;
use web_sys::Blob;
use worker::message::UNSUPPORTED_FORMAT;

/// Number of classes in an answer.
const TOP_K: usize = 5;

/// Runs the queue whenever the list of photos changes or the model becomes ready.
pub fn start(session: Session) {
    let ready = Memo::new(move |_| session.readiness.with(can_classify));
    Effect::new(move |_| {
        session.photos.track();
        if ready.get() {
            run(session);
        }
    });
}

/// Classifies the queued photos, unless the queue is already running for the current model.
fn run(session: Session) {
    let generation = session.generation.get_value();
    if session.running_generation.get_value() == Some(generation) {
        return;
    }
    session.running_generation.set_value(Some(generation));
    spawn_local(async move {
        while let Some(entry) = next_queued(session) {
            set_status(session, entry.id, PhotoStatus::Running);
            let status = classify(session, generation, &entry.photo).await;
            if session.generation.get_value() != generation {
                return;
            }
            set_status(session, entry.id, status);
        }
        session.running_generation.set_value(None);
    });
}

fn can_classify(readiness: &Readiness) -> bool {
    matches!(readiness, Readiness::InPage | Readiness::OnServer(_))
}

fn next_queued(session: Session) -> Option<PhotoEntry> {
    if !session.readiness.with_untracked(can_classify) {
        return None;
    }
    let selected = session.selected.get_untracked();
    session.photos.with_untracked(|photos| {
        let mut queued = photos.iter().filter(|entry| entry.status == PhotoStatus::Queued);
        let first = queued.clone().find(|entry| Some(entry.id) == selected);
        first.or_else(|| queued.next()).cloned()
    })
}

/// Sets the status of a photo, unless the photo has been removed from the list.
fn set_status(session: Session, id: u32, status: PhotoStatus) {
    session.photos.update(|photos| {
        if let Some(entry) = photos.iter_mut().find(|entry| entry.id == id) {
            entry.status = status;
        }
    });
}

/// Where a photo is sent to be classified.
enum Destination {
    Worker(Rc<WorkerClient>),
    Server { model: String },
}

type ClassifyResult = Result<(Prediction, Option<Explanation>), ClassifyError>;

enum ClassifyError {
    /// The photo was rejected.
    Rejected(FailureDetail),
    WorkerTerminated(WorkerError),
    ServerUnreachable,
}

/// Classifies a photo in the worker if there is one, or on the server. If the worker crashes, the server classifies the
/// photo.
async fn classify(session: Session, generation: u32, photo: &PhotoFile) -> PhotoStatus {
    let start = now();
    let answered = |(prediction, explanation), computed_in| {
        PhotoStatus::Answered(Answer { prediction, explanation, computed_in, elapsed_ms: now() - start })
    };
    if let Some(worker) = session.worker.get_value() {
        match classify_photo(&Destination::Worker(worker), photo).await {
            Ok(answer) => return answered(answer, ComputedIn::Page),
            Err(ClassifyError::WorkerTerminated(_)) if session.generation.get_value() != generation => {
                return PhotoStatus::Queued;
            }
            Err(ClassifyError::WorkerTerminated(error)) => session.handle_worker_crash(error),
            Err(error) => return error.into_status(),
        }
    }
    let Some(model) = session.model.get_untracked() else { return PhotoStatus::Queued };
    match classify_photo(&Destination::Server { model: model.name.clone() }, photo).await {
        Ok(answer) => answered(answer, ComputedIn::Server),
        Err(error) => error.into_status(),
    }
}

/// Classifies a photo. If its format is not supported, the browser converts it to PNG for a second attempt.
async fn classify_photo(destination: &Destination, photo: &PhotoFile) -> ClassifyResult {
    match classify_file(destination, photo.blob()).await {
        Err(ClassifyError::Rejected(failure)) if failure.code == UNSUPPORTED_FORMAT => match to_png(photo).await {
            Some(png) => classify_file(destination, &png).await,
            None => Err(ClassifyError::Rejected(failure)),
        },
        result => result,
    }
}

/// Classifies a file without any conversion.
async fn classify_file(destination: &Destination, file: &Blob) -> ClassifyResult {
    match destination {
        Destination::Worker(worker) => {
            let bytes = read_bytes(file).await.map_err(|_| ClassifyError::unreadable())?;
            worker.classify(bytes, TOP_K).await.map_err(|error| match error {
                WorkerError::Rejected(failure) => ClassifyError::Rejected(failure),
                WorkerError::Terminated(_) => ClassifyError::WorkerTerminated(error),
            })
        }
        Destination::Server { model } => match server::predict(model, file, TOP_K).await {
            Ok(prediction) => Ok((prediction, None)),
            Err(ServerError::Rejected(failure)) => Err(ClassifyError::Rejected(failure)),
            Err(ServerError::Unreachable) => Err(ClassifyError::ServerUnreachable),
        },
    }
}

impl ClassifyError {
    fn unreadable() -> Self {
        let message = "this file cannot be opened; it may be a folder, or it may have been moved or deleted. Please \
            choose another photo";
        ClassifyError::Rejected(FailureDetail { code: "unreadable".into(), message: message.into() })
    }

    fn into_status(self) -> PhotoStatus {
        let retryable = !matches!(self, ClassifyError::Rejected(_));
        let message = match self {
            ClassifyError::Rejected(failure) => failure_message(&failure),
            ClassifyError::WorkerTerminated(_) => {
                "The model in this page stopped unexpectedly. Please try again.".into()
            }
            ClassifyError::ServerUnreachable => {
                "This model runs on the server, which cannot be reached. Check your connection, then try again.".into()
            }
        };
        PhotoStatus::Failed { message, retryable }
    }
}

fn now() -> f64 {
    window().performance().map_or(0.0, |performance| performance.now())
}
