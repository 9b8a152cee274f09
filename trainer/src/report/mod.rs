//! Reports of training runs and evaluations: one self-contained HTML page, and files for spreadsheets and scripts.

mod content;
mod evaluation_report;
mod files;
mod history;
mod page;
mod photos;
mod run_report;

pub use evaluation_report::{EvaluationReport, EvaluationSource};
pub use files::write_evaluation;
pub use run_report::{REPORT, RunReportOptions, write_comparison, write_run_report};
