//! Events of a training run, and the trait of the displays that show them.

use super::super::interrupt::StopRequest;
use super::super::recorded_metrics::RecordedMetrics;
use std::fmt;
use std::time::Duration;

/// Shows a training run to the user. Dropping it restores the terminal.
pub trait Display: Send {
    /// Shows an event. It must return soon, because it delays training.
    fn show(&mut self, event: DisplayEvent);

    /// Returns a function that shows at once, from any thread, that the user has pressed Ctrl-C.
    fn notifier(&self) -> Box<dyn Fn(StopRequest) + Send>;
}

/// An event of a training run.
#[derive(Clone, Debug)]
pub enum DisplayEvent {
    /// The run starts or is resumed.
    Started(RunOutline),
    /// The steps of an epoch, counted from 1, start or are continued.
    EpochStarted(usize),
    /// A step has been completed.
    Step(StepReport),
    /// A record has been written to `metrics.jsonl`.
    Recorded(RecordedMetrics),
    /// A line for the user.
    Line { kind: LineKind, text: String },
    /// A task that processes this number of photos starts. Several replicas may report the same task.
    PhotosStarted { task: PhotoTask, count: usize },
    /// The current task has processed this number of further photos.
    PhotosDone(usize),
    /// The current task has ended.
    PhotosEnded,
}

/// Facts about a run that a display needs in advance.
#[derive(Clone, Debug, Default)]
pub struct RunOutline {
    /// Name of the run's folder.
    pub name: String,
    pub epochs: usize,
    pub steps_per_epoch: usize,
    /// Epoch in which the run starts, counted from 1, and number of its steps that are already completed.
    pub epoch: usize,
    pub step: usize,
    /// Records of the run before it was resumed.
    pub records: Vec<RecordedMetrics>,
    /// Last lines of the log.
    pub log: Vec<String>,
}

/// A completed step.
#[derive(Clone, Copy, Debug)]
pub struct StepReport {
    pub epoch: usize,
    /// Number of the step in its epoch, counted from 1.
    pub step: usize,
    /// Mean loss of the epoch so far.
    pub loss: f64,
    /// Fraction of the epoch's images so far that were classified correctly.
    pub top1: f64,
    /// Number of images of the step.
    pub images: f64,
    /// Time that the step waited for photos.
    pub waited: Duration,
}

/// Kinds of lines.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LineKind {
    /// A line about the run.
    Log,
    /// Metrics of some steps. A display may leave it out.
    Steps,
    /// The result of an epoch.
    Epoch,
}

/// Tasks that process photos outside of training steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PhotoTask {
    /// Computation of the features on which the classifier is trained.
    Features,
    /// Computation of the teacher's logits, if images are the same in all epochs.
    TeacherLogits,
    Validation,
}

impl fmt::Display for PhotoTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            PhotoTask::Features => "features",
            PhotoTask::TeacherLogits => "logits of the teacher",
            PhotoTask::Validation => "validation",
        })
    }
}
