//! Comparison of checkpoints on the same labelled photos: accuracy with confidence intervals, cost, and the photos on
//! which they disagree.

mod agreement;
mod candidate;
mod disagreement;
mod interval_chart;
mod page;
mod paired_predictions;
mod result;
mod summary;
mod timing;

pub use candidate::Candidate;
pub use page::render;
pub use paired_predictions::EngineSettings;
pub use result::Comparison;
pub use summary::{SummaryCell, SummaryRow};
