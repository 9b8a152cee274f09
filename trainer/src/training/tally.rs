//! What steps come to, since a moment.

use crate::learning::Found;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Sums over steps.
pub struct Tally {
    begun: Instant,
    waited: Duration,
    found: Found,
    /// Images since it begun; more were found if it goes on where another stopped.
    images: f64,
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
    /// From now on, on top of what was found before.
    pub fn since(found: Found) -> Self {
        Tally { begun: Instant::now(), waited: Duration::ZERO, found, images: 0.0 }
    }

    /// A step, for which training waited so long.
    pub fn add(&mut self, step: Found, waited: Duration) {
        self.waited += waited;
        self.images += step.images;
        self.found = self.found + step;
    }

    pub fn found(&self) -> Found {
        self.found
    }

    pub fn is_empty(&self) -> bool {
        self.found.images == 0.0
    }

    /// Up to now; means are no numbers while there are no images.
    pub fn summary(&self) -> Summary {
        let seconds = self.begun.elapsed().as_secs_f64();
        Summary {
            loss: self.found.loss / self.found.weight,
            top1: self.found.correct / self.found.images,
            seconds,
            images_per_second: self.images / seconds,
            waiting: self.waited.as_secs_f64() / seconds,
        }
    }
}
