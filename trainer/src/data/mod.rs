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
pub use data_loader::{DataLoader, LoaderThreads, loader_threads};
pub use dataset::{Dataset, evaluation_samples};
pub use photo_cache::{CacheSize, PhotoCache};
pub use rng::{CounterRng, Purpose};
pub use sample::{Sample, SampleLocation};
pub use sample_loader::{SampleLoader, SkippedSample, Transform};
pub use sampler::{EpochItem, sequential_batches, shuffled_batches, strided_part};
pub use scan::DatasetScan;
pub use shard_writer::{ShardWriter, SplitStats};
pub use shards::CLASSES_FILE;
