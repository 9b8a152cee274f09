//! `trainer bench-loading`: how fast photos become batches to train on, and nothing else.

use crate::console;
use crate::data::{Augmentation, PhotoCache, CacheSize, Dataset, DataLoader, SampleLoader, Transform, sequential_batches, shuffled_batches, loader_threads};
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

/// Measure how fast photos are loaded
///
/// As for training: read, decoded, a random part of them resized, mirrored by chance, stacked as u8. The first epoch is not
/// timed: it brings the files into the system's memory.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchLoading {
    /// Photos as `trainer train` takes them
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// Side of what the network sees, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 224, value_parser = value_parser!(u32).range(1..=4096))]
    image_size: u32,
    /// Photos of a batch
    #[arg(long, value_name = "N", default_value = "64")]
    batch_size: NonZero<usize>,
    /// Threads that decode photos; by default as many as there are cores
    #[arg(long, value_name = "N", value_parser = engine::threads)]
    loader_threads: Option<NonZero<usize>>,
    /// Keep decoded photos in memory if all fit, as `trainer train` does: off, auto, or a size such as 8GB
    #[arg(long, value_name = "SIZE", default_value_t = CacheSize::Off)]
    cache: CacheSize,
    /// For how long to measure, in whole epochs
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// As a line of JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  trainer bench-loading --data photos
  trainer bench-loading --data shards --loader-threads 1 --json | jq .images_per_second";

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    images: usize,
    seconds: f64,
    images_per_second: f64,
    threads: usize,
}

impl BenchLoading {
    pub fn run(self) -> Result<()> {
        // What is measured are the photos to train on: all but one of each class where nothing validates.
        let dataset = Dataset::open(&self.data, None, 0, &[])
            .or_else(|_| Dataset::open(&self.data, Some(f64::MIN_POSITIVE), 0, &[]))?;
        let threads = loader_threads(self.loader_threads)?;
        let crop = self.image_size;
        let preprocessing = Preprocessing { resize: crop, crop, ..Preprocessing::default() };
        // torchvision's.
        let augmentation = Augmentation::new(&Recipe::resolve("torchvision-v1", &[])?);
        let count = dataset.train.len();
        let (cache, said) = PhotoCache::new(&dataset.train, self.cache);
        let cache = cache.map(Arc::new);
        said.iter().for_each(|said| console::note(said));
        let epoch = |epoch: usize| -> Result<usize> {
            let transform = Transform::Train { augmentation, seed: 0, epoch };
            let (samples, preprocessing) = (dataset.train.clone(), preprocessing.clone());
            let sample_loader = SampleLoader { samples, preprocessing, transform, cache: cache.clone() };
            let mut batches = shuffled_batches(count, self.batch_size.get().min(count), 1, 0, epoch);
            // All of them, so that a cache is full after the first.
            if epoch == 0 {
                batches = sequential_batches(count, self.batch_size.get());
            }
            let loaded: usize = DataLoader::new(sample_loader, batches, threads.clone()).map(|batch| batch.classes.len()).sum();
            ensure!(loaded > 0, "none of the photos of {} could be decoded", self.data.display());
            Ok(loaded)
        };
        epoch(0)?;
        let (start, mut images, mut number) = (Instant::now(), 0, 0);
        while number == 0 || start.elapsed() < Duration::from_secs_f64(self.seconds) {
            number += 1;
            images += epoch(number)?;
        }
        let seconds = start.elapsed().as_secs_f64();
        let report = Report {
            images,
            seconds,
            images_per_second: images as f64 / seconds,
            threads: threads.current_num_threads(),
        };
        if self.json {
            return console::print_result(&serde_json::to_string(&report)?);
        }
        let Report { images_per_second, threads, .. } = report;
        console::print_result(&format!(
            "{images_per_second:.0} images/s on {threads} threads, {images} in {seconds:.1} s, {crop} px"
        ))
    }
}
