//! The request to stop, by Ctrl-C or a key: the first one stops the run after the current step, the second one ends the
//! process at once. Other signals keep their default behaviour, so that `nohup` works.

use crate::full_screen;
use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Flag that is raised when the user asks to stop. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

/// Exit status that shells report for a program ended by Ctrl-C.
const EXIT_STATUS: i32 = 130;

/// Notice about the first Ctrl-C.
const NOTICE: &str = "stopping after this step and saving; press Ctrl-C again to stop at once";

impl Interrupt {
    /// Installs the signal handler of Ctrl-C, which is possible once per process. `notify` shows a notice to the user,
    /// and is called from another thread.
    ///
    /// # Errors
    /// Returns an error if the handler cannot be installed.
    pub fn listen(&self, notify: impl Fn(&str) + Send + 'static) -> Result<()> {
        let interrupt = self.clone();
        let handler = move || {
            interrupt.raise_or_exit();
            notify(NOTICE);
        };
        ctrlc::set_handler(handler).context("cannot install a handler for Ctrl-C")
    }

    /// Raises the flag. If it has been raised before, restores the terminal and ends the process.
    pub fn raise_or_exit(&self) {
        if self.0.swap(true, Ordering::Relaxed) {
            full_screen::leave();
            std::process::exit(EXIT_STATUS);
        }
    }

    /// Returns whether the user has asked to stop.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
