//! The full-screen display of `trainer train --tui`. A thread of its own draws and reads keys, so that training never
//! waits for the terminal.

mod chart;
mod curves;
mod model;
mod thread;
mod view;

use super::event::{Display, DisplayEvent, LineKind};
use super::plain::PlainDisplay;
use crate::console;
use crate::full_screen;
use crate::training::interrupt::{Interrupt, StopRequest};
use crate::training::save_request::SaveRequest;
use anyhow::{Context, Result};
use std::io::{self, IsTerminal};
use std::sync::mpsc::{SendError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;
use thread::TuiThread;

/// Sends events to the thread of the full-screen display.
pub struct TuiDisplay {
    /// Sends events with their times; `None` after the end.
    events: Option<Sender<(DisplayEvent, Instant)>>,
    thread: Option<JoinHandle<()>>,
    /// Prints lines if stdout is redirected, and if the thread has ended because of an error.
    plain: PlainDisplay,
    is_redirected: bool,
    /// The result of the last epoch, which is printed at the end.
    result: Option<String>,
}

impl TuiDisplay {
    /// Enters full-screen mode and starts the thread.
    ///
    /// # Errors
    /// Returns an error if stderr is not a terminal, or if its mode cannot be changed.
    pub fn start(interrupt: Interrupt, save_request: SaveRequest) -> Result<Self> {
        let screen = full_screen::enter()?;
        let (sender, receiver) = channel();
        let mut display = TuiThread::new(screen, receiver, interrupt, save_request)?;
        let run = move || {
            let result = display.run();
            drop(display);
            if let Err(error) = result {
                console::note(format_args!("the full-screen display has ended, and training continues: {error}"));
            }
        };
        let thread = std::thread::Builder::new().name("display".to_owned()).spawn(run);
        Ok(TuiDisplay {
            events: Some(sender),
            thread: Some(thread.context("cannot start the thread of the display")?),
            plain: PlainDisplay::new(),
            is_redirected: !io::stdout().is_terminal(),
            result: None,
        })
    }
}

impl Display for TuiDisplay {
    fn show(&mut self, event: DisplayEvent) {
        if self.is_redirected {
            self.plain.show(event.clone());
        } else if let DisplayEvent::Line { kind: LineKind::Epoch, text } = &event {
            self.result = Some(text.clone());
        }
        let Some(events) = &self.events else { return };
        if let Err(SendError((event, _))) = events.send((event, Instant::now()))
            && !self.is_redirected
        {
            self.result = None;
            self.plain.show(event);
        }
    }

    fn notifier(&self) -> Box<dyn Fn(StopRequest) + Send> {
        // The thread shows that the run has been interrupted.
        Box::new(|_| {})
    }
}

impl Drop for TuiDisplay {
    fn drop(&mut self) {
        self.events = None;
        if let Some(thread) = self.thread.take() {
            // The message of a panic has been printed.
            thread.join().ok();
        }
        if let Some(result) = &self.result {
            console::print_progress(result);
        }
    }
}
