//! Terminal output: results go to stdout, everything else to stderr.
//!
//! Commands that print JSON or a path write nothing else to stdout, so that their output can be piped.

use anyhow::{Error, Result};
use comfy_table::{CellAlignment, Table, presets};
use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;

/// Prints a result and a newline to stdout.
///
/// If the reader has closed the pipe (`| head`), the process exits with status 0.
///
/// # Errors
/// Returns an error if stdout cannot be written for another reason.
pub fn print_result(text: &str) -> Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => Ok(result?),
    }
}

/// Prints a line about a running command to stdout. Errors are ignored, because a closed pipe must not end a training
/// run.
pub fn print_progress(line: &str) {
    writeln!(io::stdout(), "{line}").ok();
}

/// Prints a status line to stderr.
pub fn status(text: impl Display) {
    eprintln!("{text}");
}

/// Prints to stderr that a file has been written, in addition to the result of the command.
pub fn wrote(file: &Path) {
    status(format_args!("wrote {}", file.display()));
}

/// Prints a note to stderr: something the user should know that is not an error.
pub fn note(text: impl Display) {
    eprintln!("note: {text}");
}

/// Prints an error with its causes to stderr.
pub fn error(error: &Error) {
    eprintln!("error: {error:#}");
}

/// Returns an empty table without borders.
pub fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

/// Aligns the given columns of a table to the right. The table must already have a header or rows.
pub fn align_right(table: &mut Table, columns: impl IntoIterator<Item = usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}
