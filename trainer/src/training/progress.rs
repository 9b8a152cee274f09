//! How far a training is: a bar where there is a terminal, lines elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::{Write, stdout};

/// Over all steps of a run.
pub struct Progress {
    bar: ProgressBar,
}

const TEMPLATE: &str = "{wide_bar:.green} {pos}/{len}  {msg}  {eta} left";

impl Progress {
    /// The bar draws on stderr, and hides where that is no terminal.
    pub fn new(steps: usize) -> Self {
        let bar = ProgressBar::new(steps as u64);
        bar.set_style(ProgressStyle::with_template(TEMPLATE).expect("the template is one"));
        Progress { bar }
    }

    /// So many steps were done before.
    pub fn start_at(&self, steps: usize) {
        self.bar.set_position(steps as u64);
        self.bar.reset_eta();
    }

    /// Another step is done; `state` says in few words how it went.
    pub fn advance(&self, state: impl FnOnce() -> String) {
        if !self.bar.is_hidden() {
            self.bar.set_message(state());
        }
        self.bar.inc(1);
    }

    /// A line in place of the bar.
    pub fn line(&self, line: &str) {
        if self.bar.is_hidden() {
            self.say(line);
        }
    }

    /// A line above the bar.
    pub fn say(&self, line: &str) {
        // Whoever stopped listening has not asked the training to stop.
        self.bar.suspend(|| writeln!(stdout(), "{line}").ok());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
