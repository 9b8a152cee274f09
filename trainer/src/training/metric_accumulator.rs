//! Training metrics summed over steps.

use crate::learning::StepMetrics;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Sums of the metrics of several steps, and the time they took.
pub struct MetricAccumulator {
    start: Instant,
    /// Time that the same epoch took before the run was resumed.
    earlier: Duration,
    wait_time: Duration,
    sums: StepMetrics,
}

/// Metrics of several steps. It is serialised in `metrics.jsonl`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MetricSummary {
    /// Mean over images, with label smoothing and the divergence from a teacher.
    pub loss: f64,
    /// Fraction of labelled images whose most likely class is correct, before the step's update; 0 if there are none.
    pub top1: f64,
    pub seconds: f64,
    pub images_per_second: f64,
    /// Fraction of the time spent waiting for photos.
    pub waiting: f64,
}

impl MetricAccumulator {
    /// Starts now, with nothing accumulated.
    pub fn new() -> Self {
        MetricAccumulator::resume(StepMetrics::default(), 0.0)
    }

    /// Starts now, with the sums and the seconds of earlier steps.
    pub fn resume(sums: StepMetrics, seconds: f64) -> Self {
        let earlier = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        MetricAccumulator { start: Instant::now(), earlier, wait_time: Duration::ZERO, sums }
    }

    /// Adds a step, and the time that it waited for photos.
    pub fn add(&mut self, step: StepMetrics, wait_time: Duration) {
        self.wait_time += wait_time;
        self.sums = self.sums + step;
    }

    /// Returns the sums over all steps.
    pub fn sums(&self) -> StepMetrics {
        self.sums
    }

    /// Returns the time so far, in seconds, including that of the steps before the run was resumed.
    pub fn seconds(&self) -> f64 {
        (self.earlier + self.start.elapsed()).as_secs_f64()
    }

    /// Returns whether no image was accumulated.
    pub fn is_empty(&self) -> bool {
        self.sums.images == 0.0
    }

    /// Returns the metrics up to now. The loss is NaN without images.
    pub fn summary(&self) -> MetricSummary {
        let seconds = self.seconds();
        MetricSummary {
            loss: self.sums.loss / self.sums.weight,
            top1: self.sums.correct / (self.sums.images - self.sums.unlabelled).max(1.0),
            seconds,
            images_per_second: self.sums.images / seconds,
            waiting: self.wait_time.as_secs_f64() / seconds,
        }
    }
}
