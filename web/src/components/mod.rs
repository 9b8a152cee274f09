//! What the page shows, a component a file.

mod answer;
mod chooser;
mod heat;
mod knowledge;
mod origin;
mod samples;
mod stage;
mod status;
mod strip;

pub use answer::Answer;
pub use chooser::Chooser;
pub use knowledge::Knowledge;
pub use samples::Samples;
pub use stage::Stage;
pub use status::Status;
pub use strip::Strip;
