//! Has the photos answered: one at a time, the one in sight first, in the page or on the server.
//!
//! An answer belongs to its photo and to the generation that asked, so none is ever shown beside another photo or
//! under another model's name.

use crate::local::{Local, LocalError};
use crate::photo::{Photo, read};
use crate::server::{self, ServerError};
use crate::session::{Readiness, Session};
use crate::shot::{Answer, Outcome, Place, Shot};
use crate::transcode::as_png;
use crate::words::explain;
use leptos::prelude::*;
use leptos::task::spawn_local;
use model::explain::Explanation;
use model::prediction::{FailureDetail, Prediction};
use std::rc::Rc;
use web_sys::Blob;
use worker::message::UNSUPPORTED_FORMAT;

/// How many of the likeliest classes are shown.
const TOP_K: usize = 5;

/// Runs the queue whenever photos are added or the model becomes ready.
pub fn start(session: Session) {
    let ready = Memo::new(move |_| session.readiness.with(can_classify));
    Effect::new(move |_| {
        session.shots.track();
        if ready.get() {
            run(session);
        }
    });
}

/// Classifies the waiting photos, unless that is being done already.
fn run(session: Session) {
    let generation = session.generation.get_value();
    if session.running.get_value() == Some(generation) {
        return;
    }
    session.running.set_value(Some(generation));
    spawn_local(async move {
        while let Some(shot) = next(session) {
            record(session, shot.id, Outcome::Running);
            let outcome = classify(session, generation, &shot.photo).await;
            if session.generation.get_value() != generation {
                return;
            }
            record(session, shot.id, outcome);
        }
        session.running.set_value(None);
    });
}

fn can_classify(readiness: &Readiness) -> bool {
    matches!(readiness, Readiness::InPage | Readiness::OnServer(_))
}

fn next(session: Session) -> Option<Shot> {
    if !session.readiness.with_untracked(can_classify) {
        return None;
    }
    let shown = session.shown.get_untracked();
    session.shots.with_untracked(|shots| {
        let mut waiting = shots.iter().filter(|shot| shot.outcome == Outcome::Waiting);
        let first = waiting.clone().find(|shot| Some(shot.id) == shown);
        first.or_else(|| waiting.next()).cloned()
    })
}

/// A photo that has left the page meanwhile is forgotten.
fn record(session: Session, id: u32, outcome: Outcome) {
    session.shots.update(|shots| {
        if let Some(shot) = shots.iter_mut().find(|shot| shot.id == id) {
            shot.outcome = outcome;
        }
    });
}

/// Whom to ask.
enum Classifier {
    Page(Rc<Local>),
    Server { model: String },
}

type Answered = (Prediction, Option<Explanation>);

enum Trouble {
    Refused(FailureDetail),
    WorkerGone(LocalError),
    ServerUnreachable,
}

async fn classify(session: Session, generation: u32, photo: &Photo) -> Outcome {
    let start = now();
    let answered = |(prediction, explanation), place| {
        Outcome::Answered(Answer { prediction, explanation, place, elapsed_ms: now() - start })
    };
    if let Some(local) = session.local.get_value() {
        match ask_twice(&Classifier::Page(local), photo).await {
            Ok(answer) => return answered(answer, Place::Page),
            Err(Trouble::WorkerGone(_)) if session.generation.get_value() != generation => return Outcome::Waiting,
            Err(Trouble::WorkerGone(error)) => session.worker_lost(error),
            Err(trouble) => return trouble.outcome(),
        }
    }
    let Some(model) = session.model.get_untracked() else { return Outcome::Waiting };
    match ask_twice(&Classifier::Server { model: model.name.clone() }, photo).await {
        Ok(answer) => answered(answer, Place::Server),
        Err(trouble) => trouble.outcome(),
    }
}

/// What is refused for its format gets a second try as what the browser makes of it.
async fn ask_twice(classifier: &Classifier, photo: &Photo) -> Result<Answered, Trouble> {
    match ask(classifier, photo.blob()).await {
        Err(Trouble::Refused(failure)) if failure.code == UNSUPPORTED_FORMAT => match as_png(photo).await {
            Some(png) => ask(classifier, &png).await,
            None => Err(Trouble::Refused(failure)),
        },
        answer => answer,
    }
}

async fn ask(classifier: &Classifier, photo: &Blob) -> Result<Answered, Trouble> {
    match classifier {
        Classifier::Page(local) => {
            let bytes = read(photo).await.map_err(|_| Trouble::unreadable())?;
            local.classify(bytes, TOP_K).await.map_err(|error| match error {
                LocalError::Refused(failure) => Trouble::Refused(failure),
                gone @ LocalError::Gone(_) => Trouble::WorkerGone(gone),
            })
        }
        Classifier::Server { model } => match server::predict(model, photo, TOP_K).await {
            Ok(prediction) => Ok((prediction, None)),
            Err(ServerError::Refused(failure)) => Err(Trouble::Refused(failure)),
            Err(ServerError::Unreachable) => Err(Trouble::ServerUnreachable),
        },
    }
}

impl Trouble {
    fn unreadable() -> Self {
        let message = "this file cannot be opened; a folder, or one that has moved?".into();
        Trouble::Refused(FailureDetail { code: "unreadable".into(), message })
    }

    fn outcome(&self) -> Outcome {
        let passing = !matches!(self, Trouble::Refused(_));
        let why = match self {
            Trouble::Refused(failure) => explain(failure),
            Trouble::WorkerGone(_) => "The classifier in this page stopped.".into(),
            Trouble::ServerUnreachable => {
                "The server cannot be reached, and this model runs there. Check the connection, then try again.".into()
            }
        };
        Outcome::Failed { why, passing }
    }
}

fn now() -> f64 {
    window().performance().map_or(0.0, |clock| clock.now())
}
