//! The progress of a training run and the time left, derived from its events.

use super::event::{DisplayEvent, PhotoTask, StepReport};
use super::recent_speed::RecentSpeed;
use std::time::{Duration, Instant};

/// Progress of a run. Speeds and estimates are based on this process only, not on earlier ones of a resumed run.
#[derive(Debug, Default)]
pub struct RunProgress {
    /// Name of the run's folder.
    pub name: String,
    pub epochs: usize,
    pub steps_per_epoch: usize,
    /// Current epoch, counted from 1; 0 before the run starts.
    pub epoch: usize,
    /// Number of completed steps of the epoch.
    pub step: usize,
    /// The last step of this process.
    pub last_step: Option<StepReport>,
    /// Task that processes photos now, instead of training.
    pub task: Option<PhotoProgress>,
    pub speed: RecentSpeed,
    /// Time of the last step, or of the start of the epoch.
    clock: Option<Instant>,
    /// Time between the last step of an epoch and the next epoch, during which the network is evaluated and saved.
    epoch_end: Option<Duration>,
}

/// Progress of a task that processes photos.
#[derive(Debug)]
pub struct PhotoProgress {
    pub task: PhotoTask,
    pub done: usize,
    pub count: usize,
    start: Instant,
}

impl RunProgress {
    /// Takes an event that happened `now` into account.
    pub fn apply(&mut self, event: &DisplayEvent, now: Instant) {
        match event {
            DisplayEvent::Started(outline) => {
                self.name.clone_from(&outline.name);
                (self.epochs, self.steps_per_epoch) = (outline.epochs, outline.steps_per_epoch);
                (self.epoch, self.step) = (outline.epoch, outline.step);
            }
            DisplayEvent::EpochStarted(epoch) => self.start_epoch(*epoch, now),
            DisplayEvent::Step(report) => {
                let duration = now - self.clock.unwrap_or(now);
                self.speed.add(report.images, report.waited, duration);
                (self.epoch, self.step) = (report.epoch, report.step);
                (self.last_step, self.clock) = (Some(*report), Some(now));
            }
            DisplayEvent::PhotosStarted { task, count } => {
                if self.task.as_ref().is_none_or(|current| current.task != *task) {
                    self.task = Some(PhotoProgress { task: *task, done: 0, count: *count, start: now });
                }
            }
            DisplayEvent::PhotosDone(count) => {
                if let Some(task) = &mut self.task {
                    task.done += count;
                }
            }
            DisplayEvent::PhotosEnded => self.task = None,
            DisplayEvent::Recorded(_) | DisplayEvent::Line { .. } => {}
        }
    }

    fn start_epoch(&mut self, epoch: usize, now: Instant) {
        if let Some(clock) = self.clock
            && self.step == self.steps_per_epoch
        {
            self.epoch_end = Some(now - clock);
        }
        if epoch != self.epoch {
            (self.epoch, self.step) = (epoch, 0);
        }
        self.clock = Some(now);
    }

    /// Returns the number of completed steps of all epochs.
    pub fn steps_done(&self) -> usize {
        self.epoch.saturating_sub(1) * self.steps_per_epoch + self.step
    }

    /// Returns the number of steps of all epochs.
    pub fn steps(&self) -> usize {
        self.epochs * self.steps_per_epoch
    }

    /// Returns the estimated time until the end of the run, with the evaluations, or `None` before the first step.
    pub fn time_left(&self, now: Instant) -> Option<Duration> {
        let steps = self.steps().saturating_sub(self.steps_done());
        let per_step = match steps {
            // After the last step, only its evaluation is left.
            0 if self.epoch > 0 => 0.0,
            _ => self.speed.seconds_per_step()?,
        };
        let per_epoch_end = self.epoch_end.map_or(0.0, |duration| duration.as_secs_f64());
        let epoch_ends = (self.epochs + 1).saturating_sub(self.epoch);
        let elapsed = self.clock.map_or(0.0, |clock| (now - clock).as_secs_f64());
        let current = if self.step == self.steps_per_epoch { per_epoch_end } else { per_step };
        let seconds = steps as f64 * per_step + epoch_ends as f64 * per_epoch_end - elapsed.min(current);
        Duration::try_from_secs_f64(seconds).ok()
    }
}

impl PhotoProgress {
    /// Returns the mean number of photos per second so far, or `None` at the start.
    pub fn photos_per_second(&self, now: Instant) -> Option<f64> {
        let seconds = (now - self.start).as_secs_f64();
        (self.done > 0 && seconds > 0.0).then(|| self.done as f64 / seconds)
    }

    /// Returns the estimated time until the end of the task, or `None` at its start.
    pub fn time_left(&self, now: Instant) -> Option<Duration> {
        let photos = self.count.saturating_sub(self.done) as f64;
        Duration::try_from_secs_f64(photos / self.photos_per_second(now)?).ok()
    }

    /// Returns the fraction of the photos that were processed.
    pub fn fraction(&self) -> f64 {
        (self.done as f64 / self.count.max(1) as f64).min(1.0)
    }
}

#[cfg(test)]
pub mod tests {
    use super::super::event::RunOutline;
    use super::*;

    /// Returns a run of 30 epochs with 1250 steps each that is resumed after step 117 of epoch 3, and has since taken
    /// three steps of 0.5 s with 32 images each, of which it waited 0.015 s for photos.
    pub fn resumed_run(start: Instant) -> (RunProgress, Instant) {
        let mut progress = RunProgress::default();
        let outline = RunOutline {
            name: "finetune-1".to_owned(),
            epochs: 30,
            steps_per_epoch: 1250,
            epoch: 3,
            step: 117,
            ..RunOutline::default()
        };
        progress.apply(&DisplayEvent::Started(outline), start);
        // Time before the first step does not count.
        let mut now = start + Duration::from_secs(35);
        progress.apply(&DisplayEvent::EpochStarted(3), now);
        for step in 118..=120 {
            now += Duration::from_millis(500);
            progress.apply(&DisplayEvent::Step(report(3, step)), now);
        }
        (progress, now)
    }

    /// Returns a step with 32 images.
    pub fn report(epoch: usize, step: usize) -> StepReport {
        StepReport { epoch, step, loss: 0.5234, top1: 0.812, images: 32.0, waited: Duration::from_millis(15) }
    }

    #[test]
    fn speed_of_a_resumed_run_is_that_of_this_process() {
        let (progress, now) = resumed_run(Instant::now());
        assert!((progress.speed.images_per_second().unwrap() - 64.0).abs() < 1e-6);
        assert!((progress.speed.waiting().unwrap() - 0.03).abs() < 1e-6);
        assert_eq!((progress.steps_done(), progress.steps()), (2620, 37500));
        // 34880 remaining steps of 0.5 s.
        assert!((progress.time_left(now).unwrap().as_secs_f64() - 17440.0).abs() < 0.01);
        let later = now + Duration::from_millis(200);
        assert!((progress.time_left(later).unwrap().as_secs_f64() - 17439.8).abs() < 0.01);
    }

    #[test]
    fn time_left_includes_evaluations_but_not_the_features() {
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        let mut progress = RunProgress::default();
        let outline = RunOutline { epochs: 3, steps_per_epoch: 2, epoch: 1, ..RunOutline::default() };
        for (seconds, event) in [
            (0, DisplayEvent::Started(outline)),
            (0, DisplayEvent::PhotosStarted { task: PhotoTask::Features, count: 10 }),
            (35, DisplayEvent::PhotosEnded),
            (40, DisplayEvent::EpochStarted(1)),
            (41, DisplayEvent::Step(report(1, 1))),
        ] {
            assert_eq!(progress.time_left(after(seconds)), None, "before the first step");
            progress.apply(&event, after(seconds));
        }
        assert_eq!(progress.time_left(after(41)), Some(Duration::from_secs(5)), "five steps of 1 s");
        for (seconds, event) in [
            (42, DisplayEvent::Step(report(1, 2))),
            (42, DisplayEvent::PhotosStarted { task: PhotoTask::Validation, count: 10 }),
            (49, DisplayEvent::PhotosEnded),
            (52, DisplayEvent::EpochStarted(2)),
        ] {
            progress.apply(&event, after(seconds));
        }
        assert_eq!(
            progress.time_left(after(52)),
            Some(Duration::from_secs(24)),
            "four steps and two evaluations of 10 s"
        );
        progress.apply(&DisplayEvent::Step(report(2, 1)), after(53));
        progress.apply(&DisplayEvent::Step(report(2, 2)), after(54));
        assert_eq!(
            progress.time_left(after(58)),
            Some(Duration::from_secs(18)),
            "4 of 10 s of this evaluation are over"
        );
    }

    #[test]
    fn replicas_share_a_task() {
        let start = Instant::now();
        let mut progress = RunProgress::default();
        for event in [
            DisplayEvent::PhotosStarted { task: PhotoTask::Validation, count: 100 },
            DisplayEvent::PhotosDone(10),
            DisplayEvent::PhotosStarted { task: PhotoTask::Validation, count: 100 },
            DisplayEvent::PhotosDone(15),
        ] {
            progress.apply(&event, start);
        }
        let now = start + Duration::from_secs(5);
        let task = progress.task.unwrap();
        assert_eq!((task.done, task.fraction()), (25, 0.25));
        assert_eq!((task.photos_per_second(now), task.time_left(now)), (Some(5.0), Some(Duration::from_secs(15))));
    }
}
