//! Statistics of one version of a model since it was loaded. Unlike the metrics, they are counted exactly for each batch size,
//! and start at zero when the model is replaced.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// A number of events and the sum of their durations.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DurationSum {
    pub count: u64,
    pub total: Duration,
}

impl DurationSum {
    fn add(&mut self, duration: Duration) {
        self.count += 1;
        self.total += duration;
    }
}

/// A snapshot of the statistics.
#[derive(Clone, Debug, Default)]
pub struct StatisticsSnapshot {
    /// Time from the submission of an image until its batch starts, for images with an output.
    pub queue: DurationSum,
    /// Duration of the batch of each image with an output.
    pub inference: DurationSum,
    /// Time from the submission of an image until it fails.
    pub failure: DurationSum,
    /// Duration of the batches, by their number of images.
    pub batches: BTreeMap<usize, DurationSum>,
    /// Start of the last batch.
    pub last_batch: Option<SystemTime>,
}

/// Counts images and batches; shared by the engines of a model.
#[derive(Default)]
pub struct Statistics(Mutex<StatisticsSnapshot>);

impl Statistics {
    pub fn snapshot(&self) -> StatisticsSnapshot {
        self.0.lock().clone()
    }

    /// Counts a batch, whether or not it succeeded.
    pub fn record_batch(&self, images: usize, duration: Duration) {
        let mut statistics = self.0.lock();
        statistics.batches.entry(images).or_default().add(duration);
        statistics.last_batch = SystemTime::now().checked_sub(duration);
    }

    /// Counts an image with an output.
    pub fn record_success(&self, queue: Duration, inference: Duration) {
        let mut statistics = self.0.lock();
        statistics.queue.add(queue);
        statistics.inference.add(inference);
    }

    /// Counts an image that failed.
    pub fn record_failure(&self, duration: Duration) {
        self.0.lock().failure.add(duration);
    }
}
