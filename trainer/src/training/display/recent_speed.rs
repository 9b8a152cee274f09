//! The recent speed of training: sums over steps, in which earlier steps count less.

use std::time::Duration;

/// Time after which the weight of a step has decreased to 1/e.
const TIME_CONSTANT: Duration = Duration::from_secs(60);

/// Weighted sums over the steps of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecentSpeed {
    steps: f64,
    images: f64,
    /// Seconds that the steps waited for photos.
    waited: f64,
    seconds: f64,
}

impl RecentSpeed {
    /// Adds a step with its number of images, the time that it waited for photos, and its whole duration.
    pub fn add(&mut self, images: f64, waited: Duration, duration: Duration) {
        let weight = (-duration.as_secs_f64() / TIME_CONSTANT.as_secs_f64()).exp();
        self.steps = weight * self.steps + 1.0;
        self.images = weight * self.images + images;
        self.waited = weight * self.waited + waited.as_secs_f64();
        self.seconds = weight * self.seconds + duration.as_secs_f64();
    }

    /// Returns the mean duration of a step in seconds, or `None` before the first step.
    pub fn seconds_per_step(&self) -> Option<f64> {
        (self.steps > 0.0).then(|| self.seconds / self.steps)
    }

    /// Returns the number of images per second, or `None` before the first step.
    pub fn images_per_second(&self) -> Option<f64> {
        (self.seconds > 0.0).then(|| self.images / self.seconds)
    }

    /// Returns the fraction of the time spent waiting for photos, or `None` before the first step.
    pub fn waiting(&self) -> Option<f64> {
        // A GPU's step is reported later than its photos were loaded, so that the sum of a few steps may exceed 1.
        (self.seconds > 0.0).then(|| (self.waited / self.seconds).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_steps_have_their_mean_and_a_change_of_speed_is_followed() {
        let mut speed = RecentSpeed::default();
        assert_eq!((speed.seconds_per_step(), speed.images_per_second(), speed.waiting()), (None, None, None));
        for _ in 0..1000 {
            speed.add(32.0, Duration::from_millis(125), Duration::from_millis(500));
        }
        assert!((speed.seconds_per_step().unwrap() - 0.5).abs() < 1e-9);
        assert!((speed.images_per_second().unwrap() - 64.0).abs() < 1e-9);
        assert!((speed.waiting().unwrap() - 0.25).abs() < 1e-9);
        // After five time constants, the earlier steps have a weight of e^-5 = 0.7 %.
        for _ in 0..300 {
            speed.add(32.0, Duration::ZERO, Duration::from_secs(1));
        }
        assert!((speed.images_per_second().unwrap() - 32.0).abs() < 0.01 * 32.0);
        assert!(speed.waiting().unwrap() < 0.01);
    }
}
