//! The page's connection to a worker that classifies photos.

use futures_channel::oneshot;
use js_sys::{ArrayBuffer, Reflect};
use model::explain::Explanation;
use model::prediction::{FailureDetail, Prediction};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{MessageEvent, Worker, WorkerOptions, WorkerType};
use worker::message::{EngineChoice, PANIC, PhotoData, Reply, Request, WeightsFile};

/// The loader script that is built next to the page.
const SCRIPT: &str = "./worker_loader.js";

#[derive(Clone, Debug)]
pub enum WorkerError {
    /// The worker rejected the request and continues to work.
    Rejected(FailureDetail),
    /// The worker could not start, panicked, ran out of memory or was terminated. It sends no further replies.
    Terminated(String),
}

/// A connection to a worker with one model, which runs until [`WorkerClient::terminate`] is called or the client is
/// dropped.
pub struct WorkerClient {
    worker: Worker,
    pending: SharedPending,
    next_id: Cell<u32>,
    _on_message: Closure<dyn FnMut(MessageEvent)>,
    _on_error: Closure<dyn FnMut(JsValue)>,
}

type ReplyResult = Result<Reply, WorkerError>;
type SharedPending = Rc<RefCell<Pending>>;

/// State of the connection: whether a caller is waiting for the worker's next reply.
#[derive(Default)]
enum Pending {
    #[default]
    Idle,
    /// One caller is waiting.
    Waiting(oneshot::Sender<ReplyResult>),
    /// The worker sends no further replies.
    Closed(WorkerError),
}

impl WorkerClient {
    /// Starts a worker that loads a model. The returned future resolves to the name of the model's device when the
    /// model is ready. `on_progress` is called with the number of bytes of the weights received so far.
    pub fn start(
        weights: WeightsFile,
        engine: EngineChoice,
        on_progress: impl Fn(u64) + 'static,
    ) -> Result<(Self, impl Future<Output = Result<String, WorkerError>>), WorkerError> {
        let options = WorkerOptions::new();
        options.set_type(WorkerType::Module);
        let worker = Worker::new_with_options(SCRIPT, &options).map_err(terminated)?;

        let pending = SharedPending::default();
        let ready = next_reply(&pending);
        let on_message = Closure::new({
            let (worker, pending) = (worker.clone(), pending.clone());
            move |event: MessageEvent| match Reply::from_js(event.data()) {
                Ok(Reply::Listening) => {
                    if let Err(error) = send(&worker, &Request::Load { weights: weights.clone(), engine }) {
                        deliver(&pending, Err(error));
                    }
                }
                Ok(Reply::Progress { received, .. }) => on_progress(received),
                Ok(Reply::Failure { error, .. }) if error.code == PANIC => {
                    deliver(&pending, Err(WorkerError::Terminated(error.message)));
                }
                Ok(Reply::Failure { error, .. }) => deliver(&pending, Err(WorkerError::Rejected(error))),
                Ok(reply) => deliver(&pending, Ok(reply)),
                Err(error) => deliver(&pending, Err(terminated(error))),
            }
        });
        let on_error = Closure::new({
            let pending = pending.clone();
            move |event: JsValue| deliver(&pending, Err(terminated(event)))
        });
        worker.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        worker.set_onerror(Some(on_error.as_ref().unchecked_ref()));

        let client =
            WorkerClient { worker, pending, next_id: Cell::new(0), _on_message: on_message, _on_error: on_error };
        let backend = async move {
            match ready.await? {
                Reply::Ready { backend } => Ok(backend),
                other => Err(WorkerError::Terminated(format!("unexpected reply: {other:?}"))),
            }
        };
        Ok((client, backend))
    }

    /// Classifies an encoded photo and explains the answer. Only one call may be pending: a second one makes the first
    /// fail with [`WorkerError::Terminated`].
    pub async fn classify(
        &self,
        bytes: ArrayBuffer,
        top_k: usize,
    ) -> Result<(Prediction, Option<Explanation>), WorkerError> {
        let id = self.next_id.replace(self.next_id.get().wrapping_add(1));
        let reply = next_reply(&self.pending);
        send(&self.worker, &Request::Classify { id, photo: PhotoData::Encoded { bytes }, top_k, explain: true })?;
        match reply.await? {
            Reply::Prediction { id: reply_id, prediction, explanation } if reply_id == id => {
                Ok((prediction, explanation))
            }
            other => Err(WorkerError::Terminated(format!("unexpected reply: {other:?}"))),
        }
    }

    /// Stops any work in progress and frees the worker's memory.
    pub fn terminate(&self) {
        self.worker.terminate();
        deliver(&self.pending, Err(WorkerError::Terminated("the worker was terminated".into())));
    }
}

impl Drop for WorkerClient {
    fn drop(&mut self) {
        self.worker.set_onmessage(None);
        self.worker.set_onerror(None);
        self.terminate();
    }
}

fn send(worker: &Worker, request: &Request) -> Result<(), WorkerError> {
    let message = request.to_js().map_err(terminated)?;
    worker.post_message_with_transfer(&message, &request.transfer_list()).map_err(terminated)
}

/// Returns a future for the worker's next reply. The caller is registered at once, before the future is polled.
fn next_reply(pending: &SharedPending) -> impl Future<Output = ReplyResult> + use<> {
    let (sender, receiver) = oneshot::channel();
    let mut pending = pending.borrow_mut();
    match &*pending {
        // The receiver still exists, so sending cannot fail.
        Pending::Closed(error) => drop(sender.send(Err(error.clone()))),
        Pending::Idle | Pending::Waiting(_) => *pending = Pending::Waiting(sender),
    }
    async { receiver.await.unwrap_or_else(|_| Err(WorkerError::Terminated("replaced by a newer request".into()))) }
}

/// Passes a reply to the waiting caller, if any.
fn deliver(pending: &SharedPending, reply: ReplyResult) {
    let next = match &reply {
        Err(error @ WorkerError::Terminated(_)) => Pending::Closed(error.clone()),
        Ok(_) | Err(WorkerError::Rejected(_)) => Pending::Idle,
    };
    if let Pending::Waiting(sender) = pending.replace(next) {
        let _ = sender.send(reply);
    }
}

/// Converts an exception or an `error` event to an error. The event for a script that cannot be loaded has no message.
fn terminated(thrown: JsValue) -> WorkerError {
    let message = Reflect::get(&thrown, &"message".into()).ok().and_then(|message| message.as_string());
    WorkerError::Terminated(message.unwrap_or_else(|| "the worker's module could not be loaded".into()))
}
