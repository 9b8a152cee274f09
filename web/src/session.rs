//! What the page knows and what a visitor can do, behind one handle that every component gets from the context.

use crate::catalogue::{Model, opening};
use crate::local::{Local, LocalError};
use crate::photo::Photo;
use crate::server::{self, ServerError};
use crate::shot::{Outcome, Shot};
use crate::words::{explain, sentence};
use gloo_timers::future::TimeoutFuture;
use leptos::prelude::*;
use leptos::task::spawn_local;
use std::rc::Rc;
use std::sync::Arc;
use web_sys::{File, UrlSearchParams};
use worker::message::Engine;

/// Photos kept in sight; the oldest go first.
const MOST_SHOTS: usize = 12;
/// A worker that is lost this often is not started again.
const MOST_CRASHES: u32 = 2;

#[derive(Clone, Copy)]
pub struct Session {
    pub models: RwSignal<Catalogue>,
    /// The chosen model.
    pub model: RwSignal<Option<Arc<Model>>>,
    pub readiness: RwSignal<Readiness>,
    /// In the order in which they came.
    pub shots: RwSignal<Vec<Shot>, LocalStorage>,
    /// The id of the photo in the large frame.
    pub shown: RwSignal<Option<u32>>,
    /// Whether what spoke for an answer is laid over its photo.
    pub explaining: RwSignal<bool>,
    /// Something to say that belongs to no photo.
    pub notice: RwSignal<Option<String>>,
    /// The worker that answers, once it is ready.
    pub local: StoredValue<Option<Rc<Local>>, LocalStorage>,
    /// Counts choices of a model: what was begun under another number is not for today's model.
    pub generation: StoredValue<u32>,
    /// The generation whose queue is being worked off.
    pub running: StoredValue<Option<u32>>,
    crashes: StoredValue<u32>,
    next_id: StoredValue<u32>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Catalogue {
    Loading,
    /// Why not, in words.
    Failed(String),
    Ready(Vec<Arc<Model>>),
}

/// Where the chosen model runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Readiness {
    /// No model is chosen.
    Idle,
    /// Bytes of the weights; equal when the worker prepares them.
    Loading {
        received: u64,
        total: u64,
    },
    InPage,
    OnServer(Reason),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// More weights than a page should bring.
    TooLarge,
    /// The page tried; why it cannot, in words.
    Failed(String),
}

impl Session {
    pub fn new() -> Self {
        Session {
            models: RwSignal::new(Catalogue::Loading),
            model: RwSignal::new(None),
            readiness: RwSignal::new(Readiness::Idle),
            shots: RwSignal::new_local(Vec::new()),
            shown: RwSignal::new(None),
            explaining: RwSignal::new(false),
            notice: RwSignal::new(None),
            local: StoredValue::new_local(None),
            generation: StoredValue::new(0),
            running: StoredValue::new(None),
            crashes: StoredValue::new(0),
            next_id: StoredValue::new(0),
        }
    }

    /// Asks the server for its models and opens on one.
    pub fn open(self) {
        self.models.set(Catalogue::Loading);
        spawn_local(async move {
            match server::models().await {
                Ok(models) => {
                    let models: Vec<Arc<Model>> = models.into_iter().map(Arc::new).collect();
                    match opening(&models) {
                        Some(model) => {
                            self.choose(model);
                            // Showing the components is a browser task separate from the parsing of the list.
                            TimeoutFuture::new(0).await;
                            self.models.set(Catalogue::Ready(models));
                        }
                        None => self.models.set(Catalogue::Failed("The server has no model.".into())),
                    }
                }
                Err(ServerError::Unreachable) => self.models.set(Catalogue::Failed(
                    "The server cannot be reached, so there is no model to ask. Check the connection, then try again."
                        .into(),
                )),
                Err(ServerError::Refused(failure)) => self.models.set(Catalogue::Failed(explain(&failure))),
            }
        });
    }

    /// Changes the model: the photos in sight are asked again.
    pub fn choose(self, model: Arc<Model>) {
        self.generation.update_value(|generation| *generation += 1);
        self.crashes.set_value(0);
        self.shots.update(|shots| shots.iter_mut().for_each(|shot| shot.outcome = Outcome::Waiting));
        self.model.set(Some(model.clone()));
        self.start(model);
    }

    /// Chooses the same model again: what failed may work now.
    pub fn retry(self) {
        if let Some(model) = self.model.get_untracked() {
            self.choose(model);
        }
    }

    /// Brings the model into a worker, or leaves it to the server.
    fn start(self, model: Arc<Model>) {
        self.end_worker();
        if !model.fits_in_page() {
            return self.readiness.set(Readiness::OnServer(Reason::TooLarge));
        }
        let (generation, total) = (self.generation.get_value(), model.bytes);
        self.readiness.set(Readiness::Loading { received: 0, total });
        let on_progress = move |received| self.readiness.set(Readiness::Loading { received, total });
        match Local::start(model.weights(), engine_from_query(), on_progress) {
            Err(error) => self.readiness.set(Readiness::OnServer(Reason::Failed(why(error)))),
            Ok((local, ready)) => {
                self.local.set_value(Some(Rc::new(local)));
                spawn_local(async move {
                    let loaded = ready.await;
                    if self.generation.get_value() != generation {
                        return;
                    }
                    match loaded {
                        Ok(_) => self.readiness.set(Readiness::InPage),
                        Err(error) => {
                            self.end_worker();
                            self.readiness.set(Readiness::OnServer(Reason::Failed(why(error))));
                        }
                    }
                });
            }
        }
    }

    /// The worker is gone in the middle of its work: another one, but not for ever.
    pub fn worker_lost(self, error: LocalError) {
        self.crashes.update_value(|crashes| *crashes += 1);
        match self.model.get_untracked() {
            Some(model) if self.crashes.get_value() < MOST_CRASHES => self.start(model),
            _ => {
                self.end_worker();
                self.readiness.set(Readiness::OnServer(Reason::Failed(why(error))));
            }
        }
    }

    fn end_worker(self) {
        if let Some(local) = self.local.try_update_value(Option::take).flatten() {
            local.end();
        }
    }

    /// Takes files as a visitor gave them, photos or not.
    pub fn add_files(self, files: Vec<File>) {
        let (photos, others): (Vec<File>, Vec<File>) = files.into_iter().partition(may_be_photo);
        match others.as_slice() {
            [] => self.notice.set(None),
            [other] => self.notice.set(Some(format!("“{}” is not a photo.", other.name()))),
            others => self.notice.set(Some(format!("{} of these files are not photos.", others.len()))),
        }
        self.add(photos.into_iter().map(|file| Photo::new(&file.name(), file.into())).collect());
    }

    /// Shows the first of these photos and has all of them classified in order.
    pub fn add(self, mut photos: Vec<Photo>) {
        if photos.len() > MOST_SHOTS {
            photos.truncate(MOST_SHOTS);
            self.say(&format!("Only the first {MOST_SHOTS} photos were taken."));
        }
        let mut first = None;
        self.shots.update(|shots| {
            for photo in photos {
                let id = self.next_id.get_value();
                self.next_id.set_value(id + 1);
                first.get_or_insert(id);
                shots.push(Shot { id, photo, outcome: Outcome::Waiting });
            }
            let surplus = shots.len().saturating_sub(MOST_SHOTS);
            shots.drain(..surplus);
        });
        if first.is_some() {
            self.shown.set(first);
        }
    }

    /// Puts another photo into the large frame; it is answered next if it has no answer yet.
    pub fn show(self, id: u32) {
        self.notice.set(None);
        self.shown.set(Some(id));
    }

    /// Puts a photo that failed back into the queue.
    pub fn ask_again(self, id: u32) {
        self.shots.update(|shots| {
            shots.iter_mut().filter(|shot| shot.id == id).for_each(|shot| shot.outcome = Outcome::Waiting);
        });
    }

    pub fn say(self, notice: &str) {
        self.notice.set(Some(notice.to_owned()));
    }

    /// The photo in the large frame; tracks it.
    pub fn shot(self) -> Option<Shot> {
        let shown = self.shown.get()?;
        self.shots.with(|shots| shots.iter().find(|shot| shot.id == shown).cloned())
    }
}

/// A file without a type may be anything, and the classifier looks at its bytes.
fn may_be_photo(file: &File) -> bool {
    let kind = file.type_();
    kind.is_empty() || kind.starts_with("image/")
}

fn why(error: LocalError) -> String {
    match error {
        LocalError::Refused(failure) => sentence(&failure.message),
        LocalError::Gone(reason) => sentence(&format!("the classifier in this page stopped: {reason}")),
    }
}

/// Returns the engine that the page's address selects: `?engine=cpu`, `webgpu` or `auto`, which is also the default.
fn engine_from_query() -> Engine {
    let query = web_sys::window().and_then(|window| window.location().search().ok());
    let query = query.and_then(|query| UrlSearchParams::new_with_str(&query).ok());
    match query.and_then(|query| query.get("engine")).as_deref() {
        Some("cpu") => Engine::Cpu,
        Some("webgpu") => Engine::WebGpu,
        _ => Engine::default(),
    }
}
