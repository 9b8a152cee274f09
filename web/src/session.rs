//! The state of the page and the actions of the visitor. All components get the same handle from the context.

use crate::format::{failure_message, sentence};
use crate::model_list::{ModelInfo, initial_model};
use crate::photo::PhotoFile;
use crate::photo_entry::{PhotoEntry, PhotoStatus};
use crate::server::{self, ServerError};
use crate::worker_client::{WorkerClient, WorkerError};
use gloo_timers::future::TimeoutFuture;
use leptos::prelude::*;
use leptos::task::spawn_local;
use std::rc::Rc;
use std::sync::Arc;
use web_sys::{File, UrlSearchParams};
use worker::message::EngineChoice;

/// Maximum number of photos in the list. The oldest are removed first.
const MAX_PHOTOS: usize = 12;
/// Number of crashes after which the worker is not started again.
const MAX_WORKER_CRASHES: u32 = 2;

/// A handle to the state. All copies share it.
#[derive(Clone, Copy)]
pub struct Session {
    pub models: RwSignal<ModelList>,
    /// The selected model.
    pub model: RwSignal<Option<Arc<ModelInfo>>>,
    pub readiness: RwSignal<Readiness>,
    /// The photos, in the order in which they were added.
    pub photos: RwSignal<Vec<PhotoEntry>, LocalStorage>,
    /// The id of the photo in the large frame.
    pub selected: RwSignal<Option<u32>>,
    /// Whether the heat map is shown over the photo.
    pub show_heatmap: RwSignal<bool>,
    /// A message that does not belong to a photo.
    pub notice: RwSignal<Option<String>>,
    /// The worker, if the selected model runs in the page.
    pub worker: StoredValue<Option<Rc<WorkerClient>>, LocalStorage>,
    /// Incremented whenever a model is selected. Work that started in an earlier generation is discarded.
    pub generation: StoredValue<u32>,
    /// The generation for which the queue is running.
    pub running_generation: StoredValue<Option<u32>>,
    worker_crashes: StoredValue<u32>,
    next_id: StoredValue<u32>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ModelList {
    Loading,
    /// The error message for the visitor.
    Failed(String),
    Loaded(Vec<Arc<ModelInfo>>),
}

/// Whether the selected model is ready, and where it runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Readiness {
    /// No model is selected.
    NoModel,
    /// The weights are being downloaded (`received` of `total` bytes). When both are equal, the worker is preparing the
    /// engine.
    Loading {
        received: u64,
        total: u64,
    },
    InPage,
    OnServer(ServerReason),
}

/// Why the model runs on the server instead of in the page.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerReason {
    /// The weights are too large for a page.
    TooLarge,
    /// The model failed in the page; the error message for the visitor.
    Failed(String),
}

impl Session {
    pub fn new() -> Self {
        Session {
            models: RwSignal::new(ModelList::Loading),
            model: RwSignal::new(None),
            readiness: RwSignal::new(Readiness::NoModel),
            photos: RwSignal::new_local(Vec::new()),
            selected: RwSignal::new(None),
            show_heatmap: RwSignal::new(false),
            notice: RwSignal::new(None),
            worker: StoredValue::new_local(None),
            generation: StoredValue::new(0),
            running_generation: StoredValue::new(None),
            worker_crashes: StoredValue::new(0),
            next_id: StoredValue::new(0),
        }
    }

    /// Requests the list of models from the server and selects one.
    pub fn load_models(self) {
        self.models.set(ModelList::Loading);
        spawn_local(async move {
            match server::fetch_models().await {
                Ok(models) => {
                    let models: Vec<Arc<ModelInfo>> = models.into_iter().map(Arc::new).collect();
                    match initial_model(&models) {
                        Some(model) => {
                            self.select_model(model);
                            // Ends the current browser task, so that no task gets too long.
                            TimeoutFuture::new(0).await;
                            self.models.set(ModelList::Loaded(models));
                        }
                        None => self.models.set(ModelList::Failed(
                            "The server has no models, so it cannot classify photos. Please try again later.".into(),
                        )),
                    }
                }
                Err(ServerError::Unreachable) => self.models.set(ModelList::Failed(
                    "The server cannot be reached, so no model is available. Check your connection, then try again."
                        .into(),
                )),
                Err(ServerError::Rejected(failure)) => self.models.set(ModelList::Failed(failure_message(&failure))),
            }
        });
    }

    /// Switches to a model and classifies all photos again.
    pub fn select_model(self, model: Arc<ModelInfo>) {
        self.generation.update_value(|generation| *generation += 1);
        self.worker_crashes.set_value(0);
        self.photos.update(|photos| photos.iter_mut().for_each(|entry| entry.status = PhotoStatus::Queued));
        self.model.set(Some(model.clone()));
        self.start_model(model);
    }

    /// Selects the current model again, after it failed in the page.
    pub fn reload_model(self) {
        if let Some(model) = self.model.get_untracked() {
            self.select_model(model);
        }
    }

    /// Starts a worker with the model, or leaves the model to the server.
    fn start_model(self, model: Arc<ModelInfo>) {
        self.terminate_worker();
        if !model.fits_in_page() {
            return self.readiness.set(Readiness::OnServer(ServerReason::TooLarge));
        }
        let (generation, total) = (self.generation.get_value(), model.bytes);
        self.readiness.set(Readiness::Loading { received: 0, total });
        let on_progress = move |received| self.readiness.set(Readiness::Loading { received, total });
        match WorkerClient::start(model.weights_file(), engine_from_query(), on_progress) {
            Err(error) => self.readiness.set(Readiness::OnServer(ServerReason::Failed(describe(error)))),
            Ok((worker, ready)) => {
                self.worker.set_value(Some(Rc::new(worker)));
                spawn_local(async move {
                    let result = ready.await;
                    if self.generation.get_value() != generation {
                        return;
                    }
                    match result {
                        Ok(_) => self.readiness.set(Readiness::InPage),
                        Err(error) => {
                            self.terminate_worker();
                            self.readiness.set(Readiness::OnServer(ServerReason::Failed(describe(error))));
                        }
                    }
                });
            }
        }
    }

    /// Starts another worker after a crash, or switches to the server after [`MAX_WORKER_CRASHES`].
    pub fn handle_worker_crash(self, error: WorkerError) {
        self.worker_crashes.update_value(|crashes| *crashes += 1);
        match self.model.get_untracked() {
            Some(model) if self.worker_crashes.get_value() < MAX_WORKER_CRASHES => self.start_model(model),
            _ => {
                self.terminate_worker();
                self.readiness.set(Readiness::OnServer(ServerReason::Failed(describe(error))));
            }
        }
    }

    fn terminate_worker(self) {
        if let Some(worker) = self.worker.try_update_value(Option::take).flatten() {
            worker.terminate();
        }
    }

    /// Adds the visitor's files, and shows a notice about those that are not images.
    pub fn add_files(self, files: Vec<File>) {
        let (images, others): (Vec<File>, Vec<File>) = files.into_iter().partition(may_be_image);
        match others.as_slice() {
            [] => self.notice.set(None),
            [other] => self.notice.set(Some(format!("“{}” is not an image file and was skipped.", other.name()))),
            others => {
                self.notice.set(Some(format!("{} of these files are not image files and were skipped.", others.len())));
            }
        }
        self.add_photos(images.into_iter().map(|file| PhotoFile::new(&file.name(), file.into())).collect());
    }

    /// Adds photos to the list and selects the first of them.
    pub fn add_photos(self, mut photos: Vec<PhotoFile>) {
        if photos.len() > MAX_PHOTOS {
            photos.truncate(MAX_PHOTOS);
            self.show_notice(&format!("Only the first {MAX_PHOTOS} photos were added, which is the maximum."));
        }
        let mut first = None;
        self.photos.update(|entries| {
            for photo in photos {
                let id = self.next_id.get_value();
                self.next_id.set_value(id + 1);
                first.get_or_insert(id);
                entries.push(PhotoEntry { id, photo, status: PhotoStatus::Queued });
            }
            let surplus = entries.len().saturating_sub(MAX_PHOTOS);
            entries.drain(..surplus);
        });
        if first.is_some() {
            self.selected.set(first);
        }
    }

    /// Shows a photo in the large frame. If it is still queued, it is classified next.
    pub fn select_photo(self, id: u32) {
        self.notice.set(None);
        self.selected.set(Some(id));
    }

    /// Queues a photo again after it failed.
    pub fn retry_photo(self, id: u32) {
        self.photos.update(|photos| {
            photos.iter_mut().filter(|entry| entry.id == id).for_each(|entry| entry.status = PhotoStatus::Queued);
        });
    }

    pub fn show_notice(self, message: &str) {
        self.notice.set(Some(message.to_owned()));
    }

    /// Returns the photo in the large frame. The caller's reactive scope tracks the selection and the list of photos.
    pub fn selected_photo(self) -> Option<PhotoEntry> {
        let selected = self.selected.get()?;
        self.photos.with(|photos| photos.iter().find(|entry| entry.id == selected).cloned())
    }
}

/// Returns whether a file may be an image according to its type. Files without a type are accepted, since the
/// classifier inspects their bytes.
fn may_be_image(file: &File) -> bool {
    let kind = file.type_();
    kind.is_empty() || kind.starts_with("image/")
}

fn describe(error: WorkerError) -> String {
    match error {
        WorkerError::Rejected(failure) => sentence(&failure.message),
        WorkerError::Terminated(reason) => sentence(&format!("the model in this page stopped: {reason}")),
    }
}

/// Returns the engine named by the parameter `engine` of the page's URL: `auto`, `cpu` or `webgpu`. Other values are
/// ignored.
fn engine_from_query() -> EngineChoice {
    let query = web_sys::window().and_then(|window| window.location().search().ok());
    let query = query.and_then(|query| UrlSearchParams::new_with_str(&query).ok());
    match query.and_then(|query| query.get("engine")).as_deref() {
        Some("cpu") => EngineChoice::Cpu,
        Some("webgpu") => EngineChoice::WebGpu,
        _ => EngineChoice::default(),
    }
}
