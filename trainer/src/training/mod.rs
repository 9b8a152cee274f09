//! A training run, new or resumed: steps, evaluation, saved states and reports.

mod context;
mod display;
mod event_file;
mod features;
mod first_batch;
mod initial_weights;
mod interrupt;
mod launch;
mod metric_accumulator;
mod recorded_metrics;
mod replica;
mod reporter;
mod run_folder;
mod save_request;
mod schedule;
mod state;
mod teacher_predictions;
mod tensorboard;

pub use display::open_display;
pub use first_batch::FirstBatch;
pub use initial_weights::{initial_weights, open_initial_checkpoint};
pub use interrupt::Interrupt;
pub use launch::Training;
pub use recorded_metrics::{EpochRecord, FeaturesRecord, RecordedMetrics, StepRecord};
#[cfg(test)]
pub use recorded_metrics::{TrainMetrics, ValidationMetrics};
pub use run_folder::{BEST, RecordedPhotos, RecordedTeacher, RunFolder, RunSetup};
pub use save_request::SaveRequest;
pub use state::TrainingState;
