//! What the page shows, a component a file.

mod answer;
mod bars;
mod chooser;
mod header;
mod heat;
mod knowledge;
mod notice;
mod origin;
mod samples;
mod stage;
mod status;
mod strip;

pub use answer::Answer;
pub use chooser::Chooser;
pub use header::Header;
pub use knowledge::Knowledge;
pub use notice::Notice;
pub use samples::Samples;
pub use stage::Stage;
pub use status::Status;
pub use strip::Strip;
