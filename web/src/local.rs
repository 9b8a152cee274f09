//! The classifier in a worker, as the page sees it.

use futures_channel::oneshot;
use js_sys::{ArrayBuffer, Reflect};
use model::explain::Explanation;
use model::prediction::{FailureDetail, Prediction};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{MessageEvent, Worker, WorkerOptions, WorkerType};
use worker::message::{Engine, PANIC, Photo, Reply, Request, Weights};

/// The loader that trunk writes beside the page.
const SCRIPT: &str = "./worker_loader.js";

#[derive(Clone, Debug)]
pub enum LocalError {
    /// The worker says why, and lives.
    Refused(FailureDetail),
    /// The worker could not start, has panicked, has run out of memory or was ended: nothing more comes from it.
    Gone(String),
}

/// A worker with one model. Lives until [`Local::end`] or until it is dropped.
pub struct Local {
    worker: Worker,
    waiting: Waiting,
    next_id: Cell<u32>,
    _on_message: Closure<dyn FnMut(MessageEvent)>,
    _on_error: Closure<dyn FnMut(JsValue)>,
}

type Answered = Result<Reply, LocalError>;
type Waiting = Rc<RefCell<Ear>>;

/// Who listens for the worker's next answer.
#[derive(Default)]
enum Ear {
    #[default]
    Nobody,
    /// One at a time.
    Someone(oneshot::Sender<Answered>),
    /// Nothing will come any more.
    Deaf(LocalError),
}

impl Local {
    /// Starts a worker on a model; the future yields the name of its device when it can be asked. `on_progress` is
    /// told how many bytes of the weights have come.
    pub fn start(
        weights: Weights,
        engine: Engine,
        on_progress: impl Fn(u64) + 'static,
    ) -> Result<(Self, impl Future<Output = Result<String, LocalError>>), LocalError> {
        let options = WorkerOptions::new();
        options.set_type(WorkerType::Module);
        let worker = Worker::new_with_options(SCRIPT, &options).map_err(gone)?;

        let waiting = Waiting::default();
        let ready = wait(&waiting);
        let on_message = Closure::new({
            let (worker, waiting) = (worker.clone(), waiting.clone());
            move |event: MessageEvent| match Reply::from_js(event.data()) {
                Ok(Reply::Awake) => {
                    if let Err(error) = send(&worker, &Request::Load { weights: weights.clone(), engine }) {
                        settle(&waiting, Err(error));
                    }
                }
                Ok(Reply::Progress { received, .. }) => on_progress(received),
                Ok(Reply::Failure { error, .. }) if error.code == PANIC => {
                    settle(&waiting, Err(LocalError::Gone(error.message)));
                }
                Ok(Reply::Failure { error, .. }) => settle(&waiting, Err(LocalError::Refused(error))),
                Ok(reply) => settle(&waiting, Ok(reply)),
                Err(error) => settle(&waiting, Err(gone(error))),
            }
        });
        let on_error = Closure::new({
            let waiting = waiting.clone();
            move |event: JsValue| settle(&waiting, Err(gone(event)))
        });
        worker.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        worker.set_onerror(Some(on_error.as_ref().unchecked_ref()));

        let local = Local { worker, waiting, next_id: Cell::new(0), _on_message: on_message, _on_error: on_error };
        let backend = async move {
            match ready.await? {
                Reply::Ready { backend } => Ok(backend),
                other => Err(LocalError::Gone(format!("an unexpected reply, {other:?}"))),
            }
        };
        Ok((local, backend))
    }

    /// Classifies an encoded photo, and explains the answer. Who asks again before the answer gets [`LocalError::Gone`] for the first.
    pub async fn classify(
        &self,
        bytes: ArrayBuffer,
        top_k: usize,
    ) -> Result<(Prediction, Option<Explanation>), LocalError> {
        let id = self.next_id.replace(self.next_id.get().wrapping_add(1));
        let answer = wait(&self.waiting);
        send(&self.worker, &Request::Classify { id, photo: Photo::Encoded { bytes }, top_k, explain: true })?;
        match answer.await? {
            Reply::Prediction { id: answered, prediction, explanation } if answered == id => {
                Ok((prediction, explanation))
            }
            other => Err(LocalError::Gone(format!("an unexpected reply, {other:?}"))),
        }
    }

    /// Stops whatever is under way and frees the worker's memory.
    pub fn end(&self) {
        self.worker.terminate();
        settle(&self.waiting, Err(LocalError::Gone("it was ended".into())));
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.worker.set_onmessage(None);
        self.worker.set_onerror(None);
        self.end();
    }
}

fn send(worker: &Worker, request: &Request) -> Result<(), LocalError> {
    let message = request.to_js().map_err(gone)?;
    worker.post_message_with_transfer(&message, &request.transfers()).map_err(gone)
}

fn wait(waiting: &Waiting) -> impl Future<Output = Answered> + use<> {
    let (sender, receiver) = oneshot::channel();
    let mut ear = waiting.borrow_mut();
    match &*ear {
        // Nobody holds the other end, so this cannot fail.
        Ear::Deaf(error) => drop(sender.send(Err(error.clone()))),
        Ear::Nobody | Ear::Someone(_) => *ear = Ear::Someone(sender),
    }
    async { receiver.await.unwrap_or_else(|_| Err(LocalError::Gone("another photo was asked for".into()))) }
}

fn settle(waiting: &Waiting, answered: Answered) {
    let next = match &answered {
        Err(gone @ LocalError::Gone(_)) => Ear::Deaf(gone.clone()),
        Ok(_) | Err(LocalError::Refused(_)) => Ear::Nobody,
    };
    if let Ear::Someone(sender) = waiting.replace(next) {
        let _ = sender.send(answered);
    }
}

/// From an exception or an `error` event; the event of a script that cannot be loaded has no message.
fn gone(thrown: JsValue) -> LocalError {
    let message = Reflect::get(&thrown, &"message".into()).ok().and_then(|message| message.as_string());
    LocalError::Gone(message.unwrap_or_else(|| "its module could not be loaded".into()))
}
