//! Ctrl-C: once stops after the current step, twice at once. Other signals do what they always do, so that `nohup` works.

use crate::console;
use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether somebody asked to stop.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

/// What a shell reports of a program that Ctrl-C ended.
const EXIT_STATUS: i32 = 130;

impl Interrupt {
    /// Takes the signal over from the system, which a process can do once.
    pub fn listen() -> Result<Self> {
        let interrupt = Interrupt::default();
        let flag = interrupt.clone();
        ctrlc::set_handler(move || {
            if flag.0.swap(true, Ordering::Relaxed) {
                std::process::exit(EXIT_STATUS);
            }
            console::status("\nstops after this step and saves; once more stops at once");
        })
        .context("Ctrl-C cannot be listened to")?;
        Ok(interrupt)
    }

    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
