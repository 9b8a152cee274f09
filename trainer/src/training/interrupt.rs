//! The request to stop, by Ctrl-C or a key: the first one stops the run after the current step, the second one ends the
//! process at once. Other signals keep their default behaviour, so that `nohup` works.

use crate::full_screen;
use anyhow::{Context, Result};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Flag that is raised when the user asks to stop. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

/// What Ctrl-C asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StopRequest {
    /// Stop after the current step and save: the first Ctrl-C.
    AfterStep,
    /// End the process: the second one.
    AtOnce,
}

/// Exit status that shells report for a program ended by Ctrl-C.
const EXIT_STATUS: i32 = 130;

impl Interrupt {
    /// Installs the signal handler of Ctrl-C, which is possible once per process. `notify` shows the request to the user,
    /// and is called from another thread.
    ///
    /// # Errors
    /// Returns an error if the handler cannot be installed.
    pub fn listen(&self, notify: impl Fn(StopRequest) + Send + 'static) -> Result<()> {
        let interrupt = self.clone();
        let handler = move || interrupt.raise_or_exit(&notify);
        ctrlc::set_handler(handler).context("cannot install a handler for Ctrl-C")
    }

    /// Raises the flag. If it has been raised before, restores the terminal and ends the process. `notify` is called in
    /// both cases.
    pub fn raise_or_exit(&self, notify: impl Fn(StopRequest)) {
        if self.0.swap(true, Ordering::Relaxed) {
            notify(StopRequest::AtOnce);
            full_screen::leave();
            std::process::exit(EXIT_STATUS);
        }
        notify(StopRequest::AfterStep);
    }

    /// Returns whether the user has asked to stop.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Shows the notice about the request.
impl fmt::Display for StopRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            StopRequest::AfterStep => "stopping after this step and saving; press Ctrl-C again to stop at once",
            StopRequest::AtOnce => "stopped at once",
        })
    }
}
