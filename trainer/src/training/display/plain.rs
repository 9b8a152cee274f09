//! Plain lines on stdout, for pipes, files and `nohup`.

use super::bar_text::photo_counts;
use super::event::{Display, DisplayEvent, LineKind};
use super::run_progress::RunProgress;
use crate::console;
use crate::training::interrupt::StopRequest;
use std::time::{Duration, Instant};

/// Shortest time between two lines about steps.
const STEPS_INTERVAL: Duration = Duration::from_secs(5);

/// Time between two lines about photos.
const PHOTOS_INTERVAL: Duration = Duration::from_secs(10);

/// Prints lines without control characters.
#[derive(Default)]
pub struct PlainDisplay {
    progress: RunProgress,
    /// Time of the last line about steps.
    steps_printed: Option<Instant>,
    /// Time of the last line about photos, or of the start of the task.
    photos_printed: Option<Instant>,
}

impl PlainDisplay {
    pub fn new() -> Self {
        PlainDisplay::default()
    }

    /// Returns the line to print for an event that happens `now`.
    fn line(&mut self, event: DisplayEvent, now: Instant) -> Option<String> {
        self.progress.apply(&event, now);
        let is_due = |last: Option<Instant>, interval| last.is_none_or(|last| now - last >= interval);
        match event {
            DisplayEvent::Line { kind: LineKind::Steps, text } => {
                let is_due = is_due(self.steps_printed, STEPS_INTERVAL);
                is_due.then(|| {
                    self.steps_printed = Some(now);
                    text
                })
            }
            DisplayEvent::Line { text, .. } => Some(text),
            DisplayEvent::PhotosStarted { .. } => {
                // A short task needs no line.
                self.photos_printed = Some(now);
                None
            }
            DisplayEvent::PhotosDone(_) if is_due(self.photos_printed, PHOTOS_INTERVAL) => {
                let task = self.progress.task.as_ref()?;
                self.photos_printed = Some(now);
                Some(format!("{}: {}", task.task, photo_counts(task, now)))
            }
            _ => None,
        }
    }
}

impl Display for PlainDisplay {
    fn show(&mut self, event: DisplayEvent) {
        if let Some(line) = self.line(event, Instant::now()) {
            console::print_progress(&line);
        }
    }

    fn notifier(&self) -> Box<dyn Fn(StopRequest) + Send> {
        // The terminal of stdin may have echoed `^C`.
        Box::new(|request| console::status(format_args!("\n{request}")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::PhotoTask;
    use super::*;

    #[test]
    fn lines_about_steps_are_limited_and_others_are_not() {
        let (mut display, start) = (PlainDisplay::new(), Instant::now());
        let mut show = |seconds, kind, text: &str| {
            let event = DisplayEvent::Line { kind, text: text.to_owned() };
            display.line(event, start + Duration::from_secs(seconds))
        };
        let printed = [
            show(0, LineKind::Log, "header"),
            show(0, LineKind::Steps, "step 10"),
            show(2, LineKind::Steps, "step 20"),
            show(3, LineKind::Epoch, "epoch 1"),
            show(4, LineKind::Steps, "step 30"),
            show(5, LineKind::Steps, "step 40"),
            show(6, LineKind::Epoch, "epoch 2"),
        ];
        let printed: Vec<_> = printed.into_iter().flatten().collect();
        assert_eq!(printed, ["header", "step 10", "epoch 1", "step 40", "epoch 2"]);
    }

    #[test]
    fn long_photo_tasks_print_lines_at_intervals() {
        let (mut display, start) = (PlainDisplay::new(), Instant::now());
        let started = DisplayEvent::PhotosStarted { task: PhotoTask::Features, count: 400 };
        assert_eq!(display.line(started, start), None);
        let mut lines = Vec::new();
        for second in 1..=25 {
            lines.extend(display.line(DisplayEvent::PhotosDone(10), start + Duration::from_secs(second)));
        }
        assert_eq!(
            lines,
            [
                "features: 100/400 photos, 10.0 photos/s, 30 s left",
                "features: 200/400 photos, 10.0 photos/s, 20 s left"
            ]
        );
    }

    #[test]
    fn lines_have_no_control_characters() {
        let (mut display, start) = (PlainDisplay::new(), Instant::now());
        display.line(DisplayEvent::PhotosStarted { task: PhotoTask::Validation, count: 9 }, start);
        let line = display.line(DisplayEvent::PhotosDone(3), start + Duration::from_secs(60)).unwrap();
        assert!(line.chars().all(|character| !character.is_control()), "{line:?}");
    }
}
