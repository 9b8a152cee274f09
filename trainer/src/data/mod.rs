//! From folders or shards of photos to batches: listed, put in order, cropped, decoded ahead of need.
//!
//! Nothing here has random state: what is drawn is a function of the seed and of what it is drawn for, so that any number
//! of threads makes the same batches.

mod augmentation;
mod data_loader;
mod dataset;
mod folders;
mod listing;
mod photo_cache;
mod rng;
mod sample;
mod sample_loader;
mod sampler;
mod scan;
mod shard_writer;
mod shards;

pub use augmentation::Augmentation;
pub use data_loader::{Loader, Threads, threads};
pub use dataset::{Dataset, samples};
pub use photo_cache::{Cache, CacheSize};
pub use rng::{Draws, Purpose};
pub use sample::{Place, Sample};
pub use sample_loader::{Skipped, Source, View};
pub use sampler::{Item, in_order, part, shuffled};
pub use scan::Survey;
pub use shard_writer::{ShardWriter, Written};
pub use shards::CLASSES;
