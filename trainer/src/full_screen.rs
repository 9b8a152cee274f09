//! Full-screen mode of the terminal on stderr, which is left in every case: when its guard is dropped, before the message
//! of a panic is printed, and when the process is ended by SIGTERM. Signals that cannot be handled are the exception.
//!
//! The mode belongs to the terminal, of which a process has one, so its state is global.

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use std::io::{self, IsTerminal, Write};
use std::panic;
use std::sync::Once;
use std::time::Duration;

/// Whether the terminal is in full-screen mode. The lock is held while something is written to the screen.
static ACTIVE: Mutex<bool> = Mutex::new(false);

/// Time that [`leave`] waits for a terminal that does not accept output.
const PATIENCE: Duration = Duration::from_secs(1);

/// Guard of the full-screen mode.
pub struct FullScreen(());

/// Writes to the screen. Output is written when it is flushed, and discarded once the full-screen mode has been left.
#[derive(Default)]
pub struct ScreenWriter(Vec<u8>);

/// Checks that there is a terminal for [`enter`].
///
/// # Errors
/// Returns an error if stderr is not a terminal.
pub fn check_terminal() -> Result<()> {
    ensure!(io::stderr().is_terminal(), "stderr is not a terminal; run the command in a terminal, without redirection");
    Ok(())
}

/// Enters full-screen mode, in which keys are not echoed, and Ctrl-C is a key instead of a signal.
///
/// # Errors
/// Returns an error if stderr is not a terminal, or if its mode cannot be changed.
pub fn enter() -> Result<FullScreen> {
    check_terminal()?;
    leave_on_panic();
    leave_on_termination()?;
    enable_raw_mode().context("cannot change the mode of the terminal")?;
    let mut active = ACTIVE.lock();
    *active = true;
    // Terminals without an alternate screen still show earlier output.
    let entered = execute!(io::stderr(), EnterAlternateScreen, Clear(ClearType::All), Hide);
    drop(active);
    let screen = FullScreen(());
    entered.context("cannot write to the terminal")?;
    Ok(screen)
}

/// Leaves full-screen mode, if it is active, and restores the terminal. Any thread may call it, any number of times.
pub fn leave() {
    let active = ACTIVE.try_lock_for(PATIENCE);
    if active.as_deref() == Some(&false) {
        return;
    }
    execute!(io::stderr(), LeaveAlternateScreen, Show).ok();
    disable_raw_mode().ok();
    if let Some(mut active) = active {
        *active = false;
    }
}

impl Drop for FullScreen {
    fn drop(&mut self) {
        leave();
    }
}

impl Write for ScreenWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let active = ACTIVE.lock();
        let result = if *active { io::stderr().write_all(&self.0) } else { Ok(()) };
        self.0.clear();
        result
    }
}

/// Leaves full-screen mode before the message of a panic is printed.
fn leave_on_panic() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            leave();
            previous(panic);
        }));
    });
}

/// Leaves full-screen mode before SIGTERM ends the process.
#[cfg(unix)]
fn leave_on_termination() -> Result<()> {
    use signal_hook::{consts::SIGTERM, iterator::Signals, low_level::emulate_default_handler};
    let mut signals = Signals::new([SIGTERM]).context("cannot install a handler for SIGTERM")?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            leave();
            emulate_default_handler(signal).ok();
        }
    });
    Ok(())
}

/// Other systems end processes without a signal.
#[cfg(not(unix))]
fn leave_on_termination() -> Result<()> {
    Ok(())
}
