//! From folders or shards of photos to batches: listed, put in order, cropped, decoded ahead of need.
//!
//! Nothing here has random state: what is drawn is a function of the seed and of what it is drawn for, so that any number
//! of threads makes the same batches.

mod augmentation;
mod cache;
mod dataset;
mod draws;
mod epoch;
mod folders;
mod loader;
mod place;
mod shard_writer;
mod shards;
mod source;
mod survey;

pub use augmentation::Augmentation;
pub use cache::{Cache, CacheSize};
pub use dataset::{Dataset, Sample, samples};
pub use draws::{Draws, Purpose};
pub use epoch::{Item, in_order, part, shuffled};
pub use loader::{Loader, Skipped, Threads, threads};
pub use place::Place;
pub use shard_writer::{ShardWriter, Written};
pub use shards::CLASSES;
pub use source::{Source, View};
pub use survey::Survey;
