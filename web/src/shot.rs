//! One photo of this visit with what became of it.

use crate::photo::Photo;
use model::explain::Explanation;
use model::prediction::Prediction;

#[derive(Clone)]
pub struct Shot {
    pub id: u32,
    pub photo: Photo,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// For its turn, or for the model.
    Waiting,
    Running,
    Answered(Answer),
    /// Why not, in words for a person, and whether another try may end better.
    Failed {
        why: String,
        passing: bool,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub prediction: Prediction,
    /// The server gives none.
    pub explanation: Option<Explanation>,
    pub place: Place,
    /// From the moment when the photo was handed over, as the page measured it.
    pub elapsed_ms: f64,
}

/// Where an answer was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Page,
    Server,
}

impl Answer {
    /// Where it ran, as the badge says it.
    pub fn badge(&self) -> &'static str {
        match (self.place, self.prediction.backend.as_str()) {
            (Place::Page, "webgpu" | "wgpu") => "WebGPU",
            (Place::Page, _) => "CPU in this page",
            (Place::Server, _) => "server",
        }
    }
}
