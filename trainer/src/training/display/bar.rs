//! The progress bar on stderr, below the lines of the log.

use super::bar_terminal::BarTerminal;
use super::bar_text::BarText;
use super::event::{Display, DisplayEvent, LineKind};
use super::run_progress::RunProgress;
use crate::console;
use crate::training::interrupt::StopRequest;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

/// Shortest time between two updates, so that fast steps are not delayed.
const INTERVAL: Duration = Duration::from_millis(200);

/// Shows the progress in one or two lines.
pub struct BarDisplay {
    terminal: BarTerminal,
    bar: ProgressBar,
    progress: RunProgress,
    /// Time of the last update.
    updated: Option<Instant>,
}

impl BarDisplay {
    pub fn new() -> Self {
        // Nothing is shown before the first update.
        let style = ProgressStyle::with_template("{msg}").expect("the template is valid");
        let terminal = BarTerminal::new();
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let bar = ProgressBar::with_draw_target(Some(1), target).with_style(style);
        BarDisplay { terminal, bar, progress: RunProgress::default(), updated: None }
    }

    fn update(&mut self, now: Instant) {
        let template = BarText::new(&self.progress, self.terminal.text_width(), now).template();
        let (done, count) = match &self.progress.task {
            Some(task) => (task.done, task.count),
            None => (self.progress.steps_done(), self.progress.steps()),
        };
        self.bar.set_style(ProgressStyle::with_template(&template).expect("the texts contain no braces"));
        // Draws once.
        self.bar.update(|state| {
            state.set_len(count as u64);
            state.set_pos(done as u64);
        });
        self.updated = Some(now);
    }
}

impl Display for BarDisplay {
    fn show(&mut self, event: DisplayEvent) {
        let now = Instant::now();
        self.progress.apply(&event, now);
        match event {
            DisplayEvent::Line { kind: LineKind::Log | LineKind::Epoch, text } => {
                self.bar.suspend(|| console::print_progress(&text));
            }
            DisplayEvent::Line { kind: LineKind::Steps, .. } | DisplayEvent::Started(_) | DisplayEvent::Recorded(_) => {
            }
            DisplayEvent::Step(_) | DisplayEvent::PhotosDone(_) => {
                if self.updated.is_none_or(|updated| now - updated >= INTERVAL) {
                    self.update(now);
                }
            }
            DisplayEvent::EpochStarted(_) | DisplayEvent::PhotosStarted { .. } | DisplayEvent::PhotosEnded => {
                self.update(now);
            }
        }
    }

    fn notifier(&self) -> Box<dyn Fn(StopRequest) + Send> {
        let bar = self.bar.clone();
        Box::new(move |request| {
            if request == StopRequest::AtOnce {
                bar.finish_and_clear();
            }
            bar.suspend(|| console::status(request));
        })
    }
}

impl Drop for BarDisplay {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
