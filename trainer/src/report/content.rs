//! The content of a report.

use super::evaluation_report::EvaluationReport;
use super::history::RunHistory;

/// The content of a report: runs, an evaluation, or both.
pub struct Report {
    /// Title of the page.
    pub title: String,
    /// The runs; several are compared.
    pub runs: Vec<RunHistory>,
    /// Evaluation of the best checkpoint of the only run, or of a checkpoint alone.
    pub evaluation: Option<EvaluationReport>,
    /// Reasons why parts of the report are missing, as sentences.
    pub notes: Vec<String>,
}
