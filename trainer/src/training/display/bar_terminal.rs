//! The terminal on which the progress bar is drawn.

use console::Term;
use indicatif::TermLike;
use std::io;

/// Number of columns to the right of the text that stay free. The cursor waits there, and the terminal echoes `^C` there. If
/// `^C` was continued on the next line, the lines of the bar would not be erased completely.
const FREE_COLUMNS: u16 = 3;

/// stderr, on which the cursor is moved from the end of the last line, where indicatif leaves it, to the free columns.
#[derive(Clone, Debug)]
pub struct BarTerminal(Term);

impl BarTerminal {
    pub fn new() -> Self {
        BarTerminal(Term::buffered_stderr())
    }

    /// Returns the number of columns for text.
    pub fn text_width(&self) -> usize {
        self.width().saturating_sub(FREE_COLUMNS).into()
    }
}

impl TermLike for BarTerminal {
    fn width(&self) -> u16 {
        TermLike::width(&self.0)
    }

    fn height(&self) -> u16 {
        TermLike::height(&self.0)
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        self.0.move_cursor_up(lines)
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        self.0.move_cursor_down(lines)
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        self.0.move_cursor_right(columns)
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        self.0.move_cursor_left(columns)
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.0.write_line(text)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.0.write_str(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.0.clear_line()
    }

    /// Ends the drawing of the bar.
    fn flush(&self) -> io::Result<()> {
        self.0.move_cursor_left(usize::from(FREE_COLUMNS) - 1)?;
        self.0.flush()
    }
}
