//! Displays of a training run: plain lines, a progress bar, or a full-screen display. They receive events, and have no
//! influence on what is written to the run's folder.

mod bar;
mod bar_terminal;
mod bar_text;
mod event;
mod plain;
mod recent_speed;
mod run_progress;
mod tui;

pub use event::{Display, DisplayEvent, LineKind, PhotoTask, RunOutline, StepReport};
pub use plain::PlainDisplay;

use super::interrupt::Interrupt;
use super::save_request::SaveRequest;
use anyhow::Result;
use bar::BarDisplay;
use std::env;
use std::io::{self, IsTerminal};
use tui::TuiDisplay;

/// Opens the display of a run: the full-screen display with `tui`, otherwise a progress bar if stderr is a terminal that
/// can move its cursor, and otherwise plain lines. The keys of the full-screen display raise `interrupt` and `save_request`.
///
/// # Errors
/// Returns an error if there is no terminal for the full-screen display.
pub fn open_display(tui: bool, interrupt: &Interrupt, save_request: &SaveRequest) -> Result<Box<dyn Display>> {
    Ok(if tui {
        Box::new(TuiDisplay::start(interrupt.clone(), save_request.clone())?)
    } else if io::stderr().is_terminal() && env::var_os("TERM").is_none_or(|name| name != "dumb") {
        Box::new(BarDisplay::new())
    } else {
        Box::new(PlainDisplay::new())
    })
}
