//! A training run, new or resumed: steps, evaluation, saved states and reports.

mod event_file;
mod features;
mod first_batch;
mod initial_weights;
mod interrupt;
mod launch;
mod metric_accumulator;
mod replica;
mod reporter;
mod run_folder;
mod schedule;
mod state;
mod tensorboard;

pub use first_batch::FirstBatch;
pub use initial_weights::{initial_weights, open_initial_checkpoint};
pub use interrupt::Interrupt;
pub use launch::Training;
pub use run_folder::{BEST, RunFolder, RunSetup};
pub use state::TrainingState;
