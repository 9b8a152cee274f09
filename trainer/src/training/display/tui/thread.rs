//! The thread of the full-screen display: receives events, reads keys and draws.

use super::model::TuiModel;
use super::view;
use crate::full_screen::{FullScreen, ScreenWriter};
use crate::training::display::event::DisplayEvent;
use crate::training::interrupt::Interrupt;
use crate::training::save_request::SaveRequest;
use anyhow::Result;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::io;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

/// Longest time between an event of the run and its appearance on the screen.
const FRAME: Duration = Duration::from_millis(200);

/// Time after which the screen is drawn without an event, because durations have changed.
const CLOCK: Duration = Duration::from_secs(1);

/// Time within which a second request to stop is taken for the repetition of a key that is held down.
const KEY_REPETITION: Duration = Duration::from_millis(500);

/// State of the thread.
pub struct TuiThread {
    terminal: Terminal<CrosstermBackend<ScreenWriter>>,
    events: Receiver<(DisplayEvent, Instant)>,
    interrupt: Interrupt,
    save_request: SaveRequest,
    model: TuiModel,
    /// Time of the last key that asks to stop.
    stop_key: Option<Instant>,
    /// Leaves full-screen mode when the thread ends.
    _screen: FullScreen,
}

impl TuiThread {
    pub fn new(
        screen: FullScreen,
        events: Receiver<(DisplayEvent, Instant)>,
        interrupt: Interrupt,
        save_request: SaveRequest,
    ) -> Result<Self> {
        let terminal = Terminal::new(CrosstermBackend::new(ScreenWriter::default()))?;
        let model = TuiModel::new(Instant::now());
        Ok(TuiThread { terminal, events, interrupt, save_request, model, stop_key: None, _screen: screen })
    }

    /// Runs until the sender of the events is dropped.
    ///
    /// # Errors
    /// Returns an error if the terminal fails.
    pub fn run(&mut self) -> io::Result<()> {
        let (mut changed, mut drawn) = (true, None);
        loop {
            match self.receive() {
                None => return Ok(()),
                Some(received) => changed |= received,
            }
            changed |= self.model.set_requests(self.interrupt.is_raised(), self.save_request.is_raised());
            let now = Instant::now();
            if changed || drawn.is_none_or(|drawn| now - drawn >= CLOCK) {
                self.terminal.draw(|frame| view::render(frame, &self.model, now))?;
                (changed, drawn) = (false, Some(now));
            }
            if event::poll(FRAME)? {
                changed |= self.handle(event::read()?);
            }
        }
    }

    /// Takes the events since the last call into account, and returns whether there are any; `None` at the end.
    fn receive(&mut self) -> Option<bool> {
        let mut received = false;
        loop {
            match self.events.try_recv() {
                Ok((event, time)) => self.model.apply(event, time),
                Err(TryRecvError::Empty) => return Some(received),
                Err(TryRecvError::Disconnected) => return None,
            }
            received = true;
        }
    }

    /// Handles a key or a change of the terminal's size, and returns whether it changes the screen.
    fn handle(&mut self, event: Event) -> bool {
        match event {
            Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) => {
                match code {
                    KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => self.stop(),
                    KeyCode::Char('q' | 'Q') => self.stop(),
                    KeyCode::Char('s' | 'S') => self.save_request.raise(),
                    KeyCode::Char('?' | 'h') => self.model.help = !self.model.help,
                    KeyCode::Esc => self.model.help = false,
                    _ => return false,
                }
                true
            }
            Event::Resize(..) => true,
            _ => false,
        }
    }

    /// Asks the run to stop. The second time, the process ends.
    fn stop(&mut self) {
        let now = Instant::now();
        let is_repetition = self.stop_key.replace(now).is_some_and(|last| now - last < KEY_REPETITION);
        if !is_repetition {
            // The next frame shows the request.
            self.interrupt.raise_or_exit(|_| {});
        }
    }
}
