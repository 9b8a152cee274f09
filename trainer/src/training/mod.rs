//! From a recipe and folders to a run: the loop is ours, gradients and the optimiser's step are Burn's.

mod epochs;
mod evaluation;
mod interrupt;
mod learner;
#[cfg_attr(not(test), expect(dead_code, reason = "the learner takes it next"))]
mod mixing;
mod optimiser;
mod progress;
mod report;
mod run;
mod schedule;
mod start;
mod tally;

pub use epochs::Training;
pub use evaluation::evaluate;
pub use interrupt::Interrupt;
pub use run::Run;
pub use start::{open, start};
