//! Export of checkpoints for other programs: what each format can express, the files that it consists of, and the comparison
//! of these files with the checkpoint.

mod card;
mod comparison;
mod format;
mod hub;
mod python_runtime;
mod timm;

pub use card::CARD;
pub use comparison::ExportComparison;
pub use format::Format;
pub use hub::{write_card, write_hub};
pub use python_runtime::PythonRuntime;
pub use timm::write_timm;
