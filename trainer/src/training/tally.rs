//! What steps come to, since a moment.

use super::learner::Step;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Sums over steps.
pub struct Tally {
    begun: Instant,
    waited: Duration,
    loss: f64,
    correct: usize,
    images: usize,
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

impl Default for Tally {
    fn default() -> Self {
        Tally { begun: Instant::now(), waited: Duration::ZERO, loss: 0.0, correct: 0, images: 0 }
    }
}

impl Tally {
    /// A step over so many images, for which training waited so long.
    pub fn add(&mut self, step: Step, images: usize, waited: Duration) {
        self.waited += waited;
        self.loss += step.loss * images as f64;
        self.correct += step.correct;
        self.images += images;
    }

    pub fn is_empty(&self) -> bool {
        self.images == 0
    }

    /// Up to now; means are no numbers while there are no images.
    pub fn summary(&self) -> Summary {
        let (images, seconds) = (self.images as f64, self.begun.elapsed().as_secs_f64());
        Summary {
            loss: self.loss / images,
            top1: self.correct as f64 / images,
            seconds,
            images_per_second: images / seconds,
            waiting: self.waited.as_secs_f64() / seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_over_images() {
        let mut tally = Tally::default();
        tally.add(Step { loss: 1.0, correct: 3 }, 4, Duration::ZERO);
        tally.add(Step { loss: 4.0, correct: 0 }, 2, Duration::ZERO);
        let Summary { loss, top1, .. } = tally.summary();
        assert_eq!((loss, top1), (2.0, 0.5));
    }
}
