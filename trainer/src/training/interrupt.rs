//! Ctrl-C: the first one stops the run after the current step, the second one ends the process at once. Other signals
//! keep their default behaviour, so that `nohup` works.

use crate::console;
use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Flag that is raised when the user asks to stop. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

/// Exit status that shells report for a program ended by Ctrl-C.
const EXIT_STATUS: i32 = 130;

impl Interrupt {
    /// Installs the signal handler, which is possible once per process.
    ///
    /// # Errors
    /// Returns an error if the handler cannot be installed.
    pub fn listen() -> Result<Self> {
        let interrupt = Interrupt::default();
        let flag = interrupt.clone();
        ctrlc::set_handler(move || {
            if flag.0.swap(true, Ordering::Relaxed) {
                std::process::exit(EXIT_STATUS);
            }
            console::status("\nstopping after this step and saving; press Ctrl-C again to stop at once");
        })
        .context("cannot install a handler for Ctrl-C")?;
        Ok(interrupt)
    }

    /// Returns whether the user has asked to stop.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
