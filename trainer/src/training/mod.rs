//! A run from its start, or where it stopped, to its end: epochs of steps, evaluation, states, and what it tells.

mod evaluation;
mod features;
mod interrupt;
mod launch;
mod replica;
mod report;
mod run;
mod schedule;
mod start;
mod state;
mod tally;

pub use evaluation::count;
pub use interrupt::Interrupt;
pub use launch::Training;
pub use run::{BEST, Run, Setup};
pub use start::{located, open, start};
pub use state::State;
