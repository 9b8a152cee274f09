//! A photo in the list, with the progress or result of its classification.

use crate::photo::PhotoFile;
use model::explain::Explanation;
use model::prediction::Prediction;

#[derive(Clone)]
pub struct PhotoEntry {
    pub id: u32,
    pub photo: PhotoFile,
    pub status: PhotoStatus,
}

#[derive(Clone, Debug, PartialEq)]
pub enum PhotoStatus {
    /// Waiting for other photos, or for the model.
    Queued,
    Running,
    Answered(Answer),
    Failed {
        /// Explanation for the visitor.
        message: String,
        /// Whether another attempt may succeed.
        retryable: bool,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub prediction: Prediction,
    /// The explanation of the prediction; `None` if the server computed it.
    pub explanation: Option<Explanation>,
    pub computed_in: ComputedIn,
    /// Time from the start of the request to the answer, as measured by the page.
    pub elapsed_ms: f64,
}

/// Where an answer was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComputedIn {
    Page,
    Server,
}

impl Answer {
    /// Returns the text of the badge that shows where the answer was computed.
    pub fn badge(&self) -> &'static str {
        match (self.computed_in, self.prediction.backend.as_str()) {
            (ComputedIn::Page, "webgpu" | "wgpu") => "WebGPU",
            (ComputedIn::Page, _) => "CPU in this page",
            (ComputedIn::Server, _) => "server",
        }
    }
}
