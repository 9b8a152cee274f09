//! Progress bars on stderr: photos processed, bytes downloaded.
//!
//! A bar is hidden if stderr is not a terminal, and removed from the screen when it is dropped.

use indicatif::{ProgressBar, ProgressStyle};

const PHOTOS: &str = "{wide_bar:.green} {pos}/{len}  {per_sec}  {eta} left";
const BYTES: &str = "{wide_bar:.green} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
const BYTES_OF_UNKNOWN_TOTAL: &str = "{spinner:.green} {bytes}  {bytes_per_sec}";

/// A progress bar.
pub struct Progress(ProgressBar);

impl Progress {
    /// Creates a bar that counts photos up to `count`.
    pub fn of_photos(count: usize) -> Self {
        Progress::new(ProgressBar::new(count as u64), PHOTOS)
    }

    /// Creates a bar for a download of `total` bytes, or a spinner if the total is unknown.
    pub fn of_bytes(total: Option<u64>) -> Self {
        match total {
            Some(total) => Progress::new(ProgressBar::new(total), BYTES),
            None => Progress::new(ProgressBar::no_length(), BYTES_OF_UNKNOWN_TOTAL),
        }
    }

    fn new(bar: ProgressBar, template: &str) -> Self {
        Progress(bar.with_style(ProgressStyle::with_template(template).expect("the templates above are valid")))
    }

    /// Sets the position at which this process starts. What was done before does not count towards the speed.
    pub fn start_at(&self, position: u64) {
        self.0.set_position(position);
        self.0.reset_eta();
    }

    /// Advances the bar by `count`.
    pub fn advance(&self, count: usize) {
        self.0.inc(count as u64);
    }

    /// Runs `print`, which writes to the terminal, while the bar is removed from the screen.
    pub fn suspend(&self, print: impl FnOnce()) {
        self.0.suspend(print);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
