//! State of the full-screen display, derived from the events of the run.

use super::curves::Curves;
use crate::training::display::event::DisplayEvent;
use crate::training::display::run_progress::RunProgress;
use std::collections::VecDeque;
use std::time::Instant;

/// Number of log lines that are kept, enough for any terminal.
const LOG_LINES: usize = 200;

/// Content of the full-screen display.
pub struct TuiModel {
    pub progress: RunProgress,
    pub curves: Curves,
    /// Last lines of the log.
    pub log: VecDeque<String>,
    /// Start of this process.
    pub start: Instant,
    /// Whether the explanation of the keys is shown.
    pub help: bool,
    /// Whether the run will stop after the current step.
    pub is_stopping: bool,
    /// Whether the state will be saved after the current step.
    pub is_saving: bool,
}

impl TuiModel {
    pub fn new(start: Instant) -> Self {
        TuiModel {
            progress: RunProgress::default(),
            curves: Curves::default(),
            log: VecDeque::new(),
            start,
            help: false,
            is_stopping: false,
            is_saving: false,
        }
    }

    /// Takes an event that happened `now` into account.
    pub fn apply(&mut self, event: DisplayEvent, now: Instant) {
        self.progress.apply(&event, now);
        match event {
            DisplayEvent::Started(outline) => {
                outline.records.iter().for_each(|record| self.curves.add(record, outline.steps_per_epoch));
                self.log.extend(outline.log);
            }
            DisplayEvent::Recorded(record) => self.curves.add(&record, self.progress.steps_per_epoch),
            DisplayEvent::Line { text, .. } => self.log.push_back(text),
            _ => {}
        }
        let surplus = self.log.len().saturating_sub(LOG_LINES);
        self.log.drain(..surplus);
    }

    /// Sets which requests of the user are pending, and returns whether this is a change.
    pub fn set_requests(&mut self, is_stopping: bool, is_saving: bool) -> bool {
        let before = (self.is_stopping, self.is_saving);
        (self.is_stopping, self.is_saving) = (is_stopping, is_saving);
        before != (is_stopping, is_saving)
    }
}
