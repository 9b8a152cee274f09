//! Data loading: lists the photos of folders or shards, samples batches, and decodes and augments photos ahead of need.
//!
//! There is no random state: random numbers are a function of the seed and of what they are used for, so that batches
//! do not depend on the number of threads.

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
mod unlabelled;

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
pub use unlabelled::UnlabelledPhotos;
