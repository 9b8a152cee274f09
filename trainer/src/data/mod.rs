//! From folders of photos to batches: listed, put in order, cropped, decoded ahead of need.
//!
//! Nothing here has random state: what is drawn is a function of the seed and of what it is drawn for, so that any number
//! of threads makes the same batches.

mod augmentation;
mod draws;
mod epoch;
mod folders;
mod loader;
mod source;

pub use augmentation::Augmentation;
pub use draws::{Draws, Purpose};
pub use epoch::{Item, in_order, part, shuffled};
pub use folders::{Folders, Sample, samples};
pub use loader::{Loader, Skipped, Threads, threads};
pub use source::{Source, View};
