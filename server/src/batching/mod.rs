//! Dynamic batching: images wait in one queue per model until an engine is free, and run through it as a batch.
//!
//! Idle engines drive it, not a timer: an engine without work takes what is queued, up to its largest batch; while it
//! is busy, one full batch is prefetched for it. Several engines share one queue, which balances the load between them.
//! This module deals neither with HTTP nor with the internals of engines.

mod batch;
mod batch_sizes;
mod batcher;
mod engine_thread;
mod job;
mod queue;
mod statistics;

pub use batch::BatchingMetrics;
#[cfg(test)]
pub use batch::Execute;
pub use batch_sizes::BatchSizes;
pub use batcher::{Batcher, PendingOutput};
pub use job::{InferenceFailure, InferenceOutput};
pub use queue::BatchingOptions;
pub use statistics::{DurationSum, StatisticsSnapshot};

#[cfg(test)]
mod tests;
