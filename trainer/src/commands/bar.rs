//! How far a command is with many photos.

use indicatif::{ProgressBar, ProgressStyle};

/// On stderr, and hidden where that is no terminal. It goes when it is dropped.
pub struct Bar(ProgressBar);

impl Bar {
    pub fn new(photos: usize) -> Self {
        let style = ProgressStyle::with_template("{wide_bar:.green} {pos}/{len}  {per_sec}  {eta} left");
        Bar(ProgressBar::new(photos as u64).with_style(style.expect("the template is one")))
    }

    pub fn advance(&self) {
        self.0.inc(1);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
