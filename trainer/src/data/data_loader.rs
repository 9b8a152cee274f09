//! Batches, made ahead of need by threads of their own.

use super::{EpochItem, SampleLoader, SkippedSample};
use anyhow::Result;
use model::preprocess::ImageBatch;
use rayon::prelude::*;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Batches that are finished and wait; one more is being made.
const PREFETCHED_BATCHES: usize = 3;

/// Samples that were looked at together.
pub struct Batch {
    /// `None` if every sample was skipped.
    pub images: Option<ImageBatch>,
    /// Which samples the images are of, and what they show, by index.
    pub items: Vec<EpochItem>,
    pub classes: Vec<usize>,
    pub skipped: Vec<SkippedSample>,
}

/// The batches that were asked for, in that order, whatever the number of threads.
pub struct DataLoader {
    batches: Receiver<Batch>,
    producer: Option<JoinHandle<()>>,
    waited: Duration,
}

/// Threads that any number of loaders use, one after the other.
pub type LoaderThreads = Arc<rayon::ThreadPool>;

/// So many threads, by default as many as there are cores.
pub fn loader_threads(count: Option<NonZero<usize>>) -> Result<LoaderThreads> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(count.map_or(0, NonZero::get));
    Ok(Arc::new(pool.thread_name(|index| format!("loader {index}")).build()?))
}

impl DataLoader {
    /// `batches` holds indices of the source's samples.
    pub fn new(sample_loader: SampleLoader, batches: Vec<Vec<EpochItem>>, threads: LoaderThreads) -> Self {
        let (sender, receiver) = sync_channel(PREFETCHED_BATCHES);
        let producer = std::thread::spawn(move || {
            for items in batches {
                let images = threads.install(|| items.par_iter().map(|&item| sample_loader.load(item)).collect());
                // Nobody is left to take it: training was interrupted or failed.
                if sender.send(Batch::new(&sample_loader, items, images)).is_err() {
                    return;
                }
            }
        });
        DataLoader { batches: receiver, producer: Some(producer), waited: Duration::ZERO }
    }

    /// How long [`next`](Iterator::next) has taken in all.
    pub fn wait_time(&self) -> Duration {
        self.waited
    }
}

impl Iterator for DataLoader {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let start = Instant::now();
        let batch = self.batches.recv().ok();
        self.waited += start.elapsed();
        // A thread that panicked must not pass for the end of an epoch.
        if batch.is_none()
            && let Some(Err(panic)) = self.producer.take().map(JoinHandle::join)
        {
            std::panic::resume_unwind(panic);
        }
        batch
    }
}

impl Batch {
    fn new(
        sample_loader: &SampleLoader,
        wanted: Vec<EpochItem>,
        loaded: Vec<Result<ImageBatch, SkippedSample>>,
    ) -> Self {
        let (mut images, mut items, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
        for (item, loaded) in wanted.into_iter().zip(loaded) {
            match loaded {
                Ok(image) => {
                    images.push(image);
                    items.push(item);
                }
                Err(failure) => skipped.push(failure),
            }
        }
        let classes = items.iter().map(|item| sample_loader.samples[item.index].class).collect();
        // Images of one source have one size, so that only an empty batch is none.
        Batch { images: ImageBatch::stack(images).ok(), items, classes, skipped }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        Augmentation, CacheSize, PhotoCache, Sample, SampleLocation, Transform, sequential_batches, shuffled_batches,
    };
    use super::*;
    use crate::recipe::Recipe;
    use model::preprocess::Preprocessing;

    /// Photos whose pixels tell them apart, and two files that are none.
    fn samples(folder: &std::path::Path) -> Vec<Sample> {
        let sample = |index: usize| {
            let file = folder.join(format!("{index:02}.bmp"));
            if index % 7 == 3 {
                std::fs::write(&file, "no photo").unwrap();
            } else {
                std::fs::write(&file, bitmap(20 + index as u32, 30, index)).unwrap();
            }
            Sample { location: SampleLocation::File(file), class: index % 3 }
        };
        (0..14).map(sample).collect()
    }

    /// A BMP of 24 bits.
    fn bitmap(width: u32, height: u32, seed: usize) -> Vec<u8> {
        let row = (width * 3).next_multiple_of(4);
        let mut file = b"BM".to_vec();
        let fields = [54 + row * height, 0, 54, 40, width, height, 1 | 24 << 16, 0, row * height, 0, 0, 0, 0];
        file.extend(fields.into_iter().flat_map(u32::to_le_bytes));
        file.extend((0..(row * height) as usize).map(|index| ((index + seed) * (seed + 5) % 251) as u8));
        file
    }

    fn item(index: usize) -> EpochItem {
        EpochItem { index, repetition: 0 }
    }

    fn sample_loader(samples: &[Sample], transform: Transform) -> SampleLoader {
        let preprocessing = Preprocessing { resize: 16, crop: 12, ..Preprocessing::default() };
        SampleLoader { samples: samples.into(), preprocessing, transform, cache: None }
    }

    fn drawn(epoch: usize) -> Transform {
        let augmentation = Augmentation::new(&Recipe::finetune_with(&["crop-scale=[0.1, 1.0]"]));
        Transform::Train { augmentation, seed: 4, epoch }
    }

    fn pixels(batches: impl Iterator<Item = Batch>) -> Vec<(Option<ImageBatch>, Vec<usize>)> {
        batches.map(|batch| (batch.images, batch.classes)).collect()
    }

    #[test]
    fn any_number_of_threads_makes_the_same_batches() {
        let folder = tempfile::tempdir().unwrap();
        let samples = samples(folder.path());
        let load = |count, epoch| {
            let threads = loader_threads(NonZero::new(count)).unwrap();
            let batches = shuffled_batches(samples.len(), 4, 1, 4, epoch);
            pixels(DataLoader::new(sample_loader(&samples, drawn(epoch)), batches, threads))
        };
        let alone = load(1, 0);
        assert_eq!(alone.len(), 3);
        for count in [2, 3, 8] {
            assert!(load(count, 0) == alone, "{count} threads make other batches");
        }
        assert!(load(1, 1) != alone, "each epoch draws anew");
    }

    #[test]
    fn a_cache_changes_no_batch() {
        let folder = tempfile::tempdir().unwrap();
        let samples = samples(folder.path());
        let load = |cache: &Option<Arc<PhotoCache>>, epoch| {
            let sample_loader = SampleLoader { cache: cache.clone(), ..sample_loader(&samples, drawn(epoch)) };
            pixels(DataLoader::new(
                sample_loader,
                shuffled_batches(samples.len(), 4, 1, 4, epoch),
                loader_threads(None).unwrap(),
            ))
        };
        let plain = [0, 1, 2].map(|epoch| load(&None, epoch));
        let cache = PhotoCache::new(&samples, CacheSize::Bytes(1_000_000)).0.map(Arc::new);
        assert!(cache.is_some() && [0, 1, 2].map(|epoch| load(&cache, epoch)) == plain);
        let kept = (0..samples.len()).filter(|&index| cache.as_ref().unwrap().get(index).is_some()).count();
        assert_eq!(kept, 12, "all but the two that are no photos");
    }

    #[test]
    fn files_that_are_no_photos_are_skipped_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let samples = samples(folder.path());
        let batches = [(0..9).collect(), vec![3, 10], (11..14).collect()];
        let batches = batches.map(|batch: Vec<usize>| batch.into_iter().map(item).collect()).into();
        let loader = DataLoader::new(sample_loader(&samples, Transform::Eval), batches, loader_threads(None).unwrap());
        let batches: Vec<_> = loader.collect();
        let skipped: Vec<_> = batches.iter().map(|batch| batch.skipped.len()).collect();
        assert_eq!(skipped, [1, 2, 0]);
        assert!(batches[1].images.is_none() && batches[1].classes.is_empty());
        assert_eq!(batches[0].classes, [0, 1, 2, 1, 2, 0, 1, 2]);
        assert_eq!(batches[0].images.as_ref().unwrap().shape(), [8, 12, 12]);
        assert_eq!(batches[0].skipped[0].location, samples[3].location);
        assert!(!batches[0].skipped[0].reason.is_empty());
    }

    #[test]
    fn the_middle_is_what_predict_looks_at() {
        let folder = tempfile::tempdir().unwrap();
        let samples = samples(folder.path());
        let sample_loader = sample_loader(&samples, Transform::Eval);
        let expected = sample_loader.load(item(5)).unwrap();
        let loaded =
            pixels(DataLoader::new(sample_loader, sequential_batches(samples.len(), 6), loader_threads(None).unwrap()));
        assert_eq!(loaded.len(), 3);
        // The fourth is skipped.
        assert_eq!(loaded[0].0.as_ref().unwrap().pixels()[4 * 12 * 12 * 3..], *expected.pixels());
    }

    /// An epoch that ends early would pass for a whole one.
    #[test]
    #[should_panic(expected = "index out of bounds")]
    fn a_thread_that_panics_is_no_end_of_an_epoch() {
        let sample_loader = sample_loader(&[], Transform::Eval);
        DataLoader::new(sample_loader, vec![vec![item(0)]], loader_threads(None).unwrap()).count();
    }
}
