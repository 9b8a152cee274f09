//! What steps come to, since a moment.

use crate::learning::StepMetrics;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Sums over steps.
pub struct Tally {
    begun: Instant,
    /// What was taken before, if it goes on where another stopped.
    before: Duration,
    waited: Duration,
    found: StepMetrics,
}

/// Steps in numbers.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Summary {
    /// Mean over images, smoothed labels included.
    pub loss: f64,
    /// Share of images whose likeliest class is theirs, as the step found them.
    pub top1: f64,
    pub seconds: f64,
    pub images_per_second: f64,
    /// Share of the seconds that was spent waiting for photos.
    pub waiting: f64,
}

impl Tally {
    /// From now on, on top of what was found before in so many seconds.
    pub fn since(found: StepMetrics, seconds: f64) -> Self {
        let before = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        Tally { begun: Instant::now(), before, waited: Duration::ZERO, found }
    }

    /// A step, for which training waited so long.
    pub fn add(&mut self, step: StepMetrics, waited: Duration) {
        self.waited += waited;
        self.found = self.found + step;
    }

    pub fn found(&self) -> StepMetrics {
        self.found
    }

    pub fn seconds(&self) -> f64 {
        (self.before + self.begun.elapsed()).as_secs_f64()
    }

    pub fn is_empty(&self) -> bool {
        self.found.images == 0.0
    }

    /// Up to now; means are no numbers while there are no images.
    pub fn summary(&self) -> Summary {
        let seconds = self.seconds();
        Summary {
            loss: self.found.loss / self.found.weight,
            top1: self.found.correct / self.found.images,
            seconds,
            images_per_second: self.found.images / seconds,
            waiting: self.waited.as_secs_f64() / seconds,
        }
    }
}
