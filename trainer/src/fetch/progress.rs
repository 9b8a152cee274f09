//! How far a download is: a bar on stderr where that is a terminal, a line elsewhere.

use indicatif::{ProgressBar, ProgressStyle};

const TEMPLATE: &str = "{wide_bar:.green} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
/// Where nobody knows how much is to come.
const UNBOUNDED: &str = "{spinner:.green} {bytes}  {bytes_per_sec}";

/// It goes when it is dropped.
pub struct Progress(ProgressBar);

impl Progress {
    /// `total` bytes are to come, `done` of which are there from before.
    pub fn new(total: Option<u64>, done: u64) -> Self {
        let (bar, template) = match total {
            Some(total) => (ProgressBar::new(total), TEMPLATE),
            None => (ProgressBar::no_length(), UNBOUNDED),
        };
        bar.set_style(ProgressStyle::with_template(template).expect("the template is one"));
        bar.set_position(done);
        bar.reset_eta();
        Progress(bar)
    }

    pub fn advance(&self, bytes: usize) {
        self.0.inc(bytes as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
