//! Pruning: removal of single weights, which become zero, or of whole channels, which makes the network smaller and faster.

mod channel_importance;
mod compressed_size;
mod fine_tuning;
mod narrowing;
mod rounds;
mod selection;
mod sensitivity;
mod single_weights;
mod taylor;

pub use channel_importance::{Criterion, GroupImportance};
pub use compressed_size::gzip_bytes;
pub use fine_tuning::FineTuning;
pub use rounds::{Method, PruningRounds};
pub use selection::Budget;
pub use sensitivity::{GroupSensitivity, sensitivities};
pub use single_weights::zero_fraction;
