//! `trainer bench-loading`: speed of loading photos into training batches, without training.

use crate::console;
use crate::data::{
    Augmentation, CacheSize, DataLoader, Dataset, PhotoCache, SampleLoader, Transform, UnlabelledPhotos,
    loader_threads, sequential_batches, shuffled_batches,
};
use crate::recipe::Recipe;
use anyhow::{Result, ensure};
use clap::{Args, value_parser};
use model::engine;
use model::preprocess::Preprocessing;
use serde::Serialize;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Measure how fast photos are loaded for training
///
/// Reads, decodes, randomly crops, resizes and flips photos, and stacks them into u8 batches. The first epoch is not timed: it
/// fills the file cache of the operating system.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchLoading {
    /// Folder of the photos or shards, as for `trainer train`
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// Width and height of the network's input, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 224, value_parser = value_parser!(u32).range(1..=4096))]
    image_size: u32,
    /// Batch size
    #[arg(long, value_name = "N", default_value = "64")]
    batch_size: NonZero<usize>,
    /// Number of threads that decode photos [default: number of cores]
    #[arg(long, value_name = "N", value_parser = engine::parse_thread_count)]
    loader_threads: Option<NonZero<usize>>,
    /// Memory for decoded photos, as for `trainer train`: off, auto, or a size such as 8GB
    #[arg(long, value_name = "SIZE", default_value_t = CacheSize::Off)]
    cache: CacheSize,
    /// Minimum duration of the measurement, in seconds; only whole epochs are timed
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  trainer bench-loading --data photos
  trainer bench-loading --data shards --loader-threads 1 --json | jq .images_per_second";

/// The output of `--json`.
#[derive(Serialize)]
struct LoadingReport {
    images: usize,
    seconds: f64,
    images_per_second: f64,
    threads: usize,
}

impl BenchLoading {
    pub fn run(self) -> Result<()> {
        // Only training photos are loaded. Without validation photos, a split takes as few as possible: one per class.
        let dataset = Dataset::open(&self.data, None, 0, &[])
            .or_else(|_| Dataset::open(&self.data, Some(f64::MIN_POSITIVE), 0, &[]))?;
        let threads = loader_threads(self.loader_threads)?;
        let crop = self.image_size;
        let preprocessing = Preprocessing { resize: crop, crop, ..Preprocessing::default() };
        let augmentation = Augmentation::new(&Recipe::resolve("torchvision-v1", &[])?);
        let count = dataset.train.len();
        let (cache, note) = PhotoCache::new(&dataset.training_locations(), self.cache);
        let cache = cache.map(Arc::new);
        note.iter().for_each(console::note);
        let epoch = |epoch: usize| -> Result<usize> {
            let transform = Transform::Train { augmentation, seed: 0, epoch };
            let (samples, preprocessing) = (dataset.train.clone(), preprocessing.clone());
            let (unlabelled, cache) = (UnlabelledPhotos::default(), cache.clone());
            let sample_loader = SampleLoader { samples, unlabelled, preprocessing, transform, cache };
            let mut batches = shuffled_batches(count, self.batch_size.get().min(count), 1, 0, epoch);
            // The first epoch loads all photos, to fill the cache.
            if epoch == 0 {
                batches = sequential_batches(count, self.batch_size.get());
            }
            let loaded: usize =
                DataLoader::new(sample_loader, batches, threads.clone()).map(|batch| batch.classes.len()).sum();
            ensure!(loaded > 0, "none of the photos of {} could be decoded", self.data.display());
            Ok(loaded)
        };
        epoch(0)?;
        let (start, mut images, mut epochs) = (Instant::now(), 0, 0);
        while epochs == 0 || start.elapsed() < Duration::from_secs_f64(self.seconds) {
            epochs += 1;
            images += epoch(epochs)?;
        }
        let seconds = start.elapsed().as_secs_f64();
        let report = LoadingReport {
            images,
            seconds,
            images_per_second: images as f64 / seconds,
            threads: threads.current_num_threads(),
        };
        if self.json {
            return console::print_result(&serde_json::to_string(&report)?);
        }
        let LoadingReport { images_per_second, threads, .. } = report;
        console::print_result(&format!(
            "{images_per_second:.0} images/s on {threads} threads, {images} in {seconds:.1} s, {crop} px"
        ))
    }
}
