//! A queued image and its result.

use model::engine::{Activation, Device, EngineError, Input, Logits};
use model::plan::Tap;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A queued image and the channel for its output.
pub struct Job {
    /// A batch of one image.
    pub input: Input,
    pub taps: &'static [Tap],
    pub queued_at: Instant,
    pub reply: oneshot::Sender<Result<InferenceOutput, InferenceFailure>>,
}

impl Job {
    /// Returns whether the receiver of the output was dropped, because the client disconnected or its deadline passed.
    pub fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}

/// The result of inference for one image.
#[derive(Debug)]
pub struct InferenceOutput {
    /// Logits of this image, a batch of one.
    pub logits: Logits,
    /// Activations of this image at the taps that its job requested.
    pub activations: Vec<Activation>,
    pub device: Device,
    /// Time from when the image was queued until its batch started.
    pub queue: Duration,
    /// Time that the engine took for the whole batch.
    pub inference: Duration,
}

/// The reason why an image has no output.
#[derive(Debug, thiserror::Error)]
pub enum InferenceFailure {
    #[error("inference queue is full")]
    QueueFull,
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("engine panicked")]
    EnginePanicked,
    /// The thread of the engine has ended, or the image was dropped because of a panic while its batch was being
    /// stacked.
    #[error("engine stopped or dropped the image; see stderr for the cause")]
    EngineStopped,
}
