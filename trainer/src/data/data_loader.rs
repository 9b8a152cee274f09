//! Loads batches ahead of need on background threads.

use super::{EpochItem, Sample, SampleLoader, SkippedSample, sequential_batches};
use anyhow::Result;
use model::preprocess::{ImageBatch, Preprocessing};
use rayon::prelude::*;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Number of finished batches that may be queued, in addition to the one that is being loaded.
const PREFETCHED_BATCHES: usize = 3;

/// A batch of samples.
pub struct SampleBatch {
    /// Images of the samples that could be decoded; `None` if there are none.
    pub images: Option<ImageBatch>,
    /// Sample of each image.
    pub items: Vec<EpochItem>,
    /// Class index of each image; `None` without a label.
    pub classes: Vec<Option<usize>>,
    /// Samples that could not be read or decoded.
    pub skipped: Vec<SkippedSample>,
}

/// Iterator over batches, in the given order for any number of threads.
pub struct DataLoader {
    batches: Receiver<SampleBatch>,
    producer: Option<JoinHandle<()>>,
    waited: Duration,
}

/// Thread pool shared by several loaders that run one after the other.
pub type LoaderThreads = Arc<rayon::ThreadPool>;

/// Creates a pool of `count` threads. Default: one per core.
pub fn loader_threads(count: Option<NonZero<usize>>) -> Result<LoaderThreads> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(count.map_or(0, NonZero::get));
    Ok(Arc::new(pool.thread_name(|index| format!("loader {index}")).build()?))
}

impl DataLoader {
    /// Starts loading `batches`, whose items are indices into the samples of `sample_loader`.
    pub fn new(sample_loader: SampleLoader, batches: Vec<Vec<EpochItem>>, threads: LoaderThreads) -> Self {
        let (sender, receiver) = sync_channel(PREFETCHED_BATCHES);
        let producer = std::thread::spawn(move || {
            for items in batches {
                let images = threads.install(|| items.par_iter().map(|&item| sample_loader.load(item)).collect());
                // The receiver was dropped: training was interrupted or failed.
                if sender.send(SampleBatch::new(&sample_loader, items, images)).is_err() {
                    return;
                }
            }
        });
        DataLoader { batches: receiver, producer: Some(producer), waited: Duration::ZERO }
    }

    /// Starts loading all samples in order, preprocessed as for inference.
    pub fn for_evaluation(
        samples: Arc<[Sample]>,
        preprocessing: &Preprocessing,
        batch_size: usize,
        threads: LoaderThreads,
    ) -> Self {
        let batches = sequential_batches(samples.len(), batch_size);
        DataLoader::new(SampleLoader::for_evaluation(samples, preprocessing), batches, threads)
    }

    /// Returns the total time spent in [`next`](Iterator::next).
    pub fn wait_time(&self) -> Duration {
        self.waited
    }
}

impl Iterator for DataLoader {
    type Item = SampleBatch;

    fn next(&mut self) -> Option<SampleBatch> {
        let start = Instant::now();
        let batch = self.batches.recv().ok();
        self.waited += start.elapsed();
        // A panic of the producer must not be mistaken for the end of the epoch.
        if batch.is_none()
            && let Some(Err(panic)) = self.producer.take().map(JoinHandle::join)
        {
            std::panic::resume_unwind(panic);
        }
        batch
    }
}

impl SampleBatch {
    fn new(
        sample_loader: &SampleLoader,
        requested: Vec<EpochItem>,
        loaded: Vec<Result<ImageBatch, SkippedSample>>,
    ) -> Self {
        let (mut images, mut items, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
        for (item, loaded) in requested.into_iter().zip(loaded) {
            match loaded {
                Ok(image) => {
                    images.push(image);
                    items.push(item);
                }
                Err(failure) => skipped.push(failure),
            }
        }
        let classes = items.iter().map(|item| sample_loader.class(item.index)).collect();
        // All images have the same size, so stacking fails only for an empty batch.
        SampleBatch { images: ImageBatch::stack(images).ok(), items, classes, skipped }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        Augmentation, CacheSize, Dataset, PhotoCache, SampleLocation, Transform, UnlabelledPhotos, shuffled_batches,
    };
    use super::*;
    use crate::recipe::Recipe;
    use model::preprocess::Preprocessing;

    /// Creates 12 photos with distinct pixels, and two files that are not photos.
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

    /// Encodes a 24-bit BMP.
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
        let (samples, unlabelled) = (samples.into(), UnlabelledPhotos::default());
        SampleLoader { samples, unlabelled, preprocessing, transform, cache: None }
    }

    fn train_transform(epoch: usize) -> Transform {
        let augmentation = Augmentation::new(&Recipe::finetune_with(&["crop-scale=[0.1, 1.0]"]));
        Transform::Train { augmentation, seed: 4, epoch }
    }

    fn pixels(batches: impl Iterator<Item = SampleBatch>) -> Vec<(Option<ImageBatch>, Vec<Option<usize>>)> {
        batches.map(|batch| (batch.images, batch.classes)).collect()
    }

    #[test]
    fn batches_do_not_depend_on_the_number_of_threads() {
        let folder = tempfile::tempdir().unwrap();
        let samples = samples(folder.path());
        let load = |count, epoch| {
            let threads = loader_threads(NonZero::new(count)).unwrap();
            let batches = shuffled_batches(samples.len(), 4, 1, 4, epoch);
            pixels(DataLoader::new(sample_loader(&samples, train_transform(epoch)), batches, threads))
        };
        let expected = load(1, 0);
        assert_eq!(expected.len(), 3);
        for count in [2, 3, 8] {
            assert!(load(count, 0) == expected, "{count} threads load different batches");
        }
        assert!(load(1, 1) != expected, "epochs differ");
    }

    #[test]
    fn cache_does_not_change_batches() {
        let folder = tempfile::tempdir().unwrap();
        let samples = samples(folder.path());
        let load = |cache: &Option<Arc<PhotoCache>>, epoch| {
            let sample_loader =
                SampleLoader { cache: cache.clone(), ..sample_loader(&samples, train_transform(epoch)) };
            pixels(DataLoader::new(
                sample_loader,
                shuffled_batches(samples.len(), 4, 1, 4, epoch),
                loader_threads(None).unwrap(),
            ))
        };
        let plain = [0, 1, 2].map(|epoch| load(&None, epoch));
        let locations: Vec<_> = samples.iter().map(|sample| &sample.location).collect();
        let cache = PhotoCache::new(&locations, CacheSize::Bytes(1_000_000)).0.map(Arc::new);
        assert!(cache.is_some() && [0, 1, 2].map(|epoch| load(&cache, epoch)) == plain);
        let cached = (0..samples.len()).filter(|&index| cache.as_ref().unwrap().get(index).is_some()).count();
        assert_eq!(cached, 12, "all but the two that are not photos");
    }

    #[test]
    fn undecodable_files_are_skipped_and_reported() {
        let folder = tempfile::tempdir().unwrap();
        let samples = samples(folder.path());
        let batches = [(0..9).collect(), vec![3, 10], (11..14).collect()];
        let batches = batches.map(|batch: Vec<usize>| batch.into_iter().map(item).collect()).into();
        let loader = DataLoader::new(sample_loader(&samples, Transform::Eval), batches, loader_threads(None).unwrap());
        let batches: Vec<_> = loader.collect();
        let skipped: Vec<_> = batches.iter().map(|batch| batch.skipped.len()).collect();
        assert_eq!(skipped, [1, 2, 0]);
        assert!(batches[1].images.is_none() && batches[1].classes.is_empty());
        assert_eq!(batches[0].classes, [0, 1, 2, 1, 2, 0, 1, 2].map(Some));
        assert_eq!(batches[0].images.as_ref().unwrap().shape(), [8, 12, 12]);
        assert_eq!(batches[0].skipped[0].location, samples[3].location);
        assert!(!batches[0].skipped[0].reason.is_empty());
    }

    #[test]
    fn eval_transform_is_a_centre_crop_of_each_sample_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let samples = samples(folder.path());
        let sample_loader = sample_loader(&samples, Transform::Eval);
        let expected = sample_loader.load(item(5)).unwrap();
        let loaded =
            pixels(DataLoader::new(sample_loader, sequential_batches(samples.len(), 6), loader_threads(None).unwrap()));
        assert_eq!(loaded.len(), 3);
        // Sample 3 is skipped, so that sample 5 is the fifth image.
        assert_eq!(loaded[0].0.as_ref().unwrap().pixels()[4 * 12 * 12 * 3..], *expected.pixels());
    }

    #[test]
    fn unlabelled_photos_follow_the_samples() {
        let folder = tempfile::tempdir().unwrap();
        let (samples, unlabelled) = (folder.path().join("samples"), folder.path().join("unlabelled"));
        [&samples, &unlabelled].into_iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
        let samples = self::samples(&samples);
        std::fs::write(unlabelled.join("photo.bmp"), bitmap(20, 30, 77)).unwrap();
        let dataset = Dataset {
            classes: Vec::new(),
            train: samples.into(),
            unlabelled: UnlabelledPhotos::default(),
            val: Vec::new().into(),
            cache: None,
        };
        let dataset = Dataset { unlabelled: UnlabelledPhotos::open(&unlabelled, &dataset).unwrap(), ..dataset };
        assert_eq!(dataset.training_count(), 15);
        let preprocessing = Preprocessing { resize: 16, crop: 12, ..Preprocessing::default() };
        let sample_loader = SampleLoader::for_training(&dataset, &Recipe::finetune_with(&[]), &preprocessing, 1);
        let batches = vec![vec![item(13), item(14)]];
        let batch = DataLoader::new(sample_loader, batches, loader_threads(None).unwrap()).next().unwrap();
        assert_eq!(batch.classes, [Some(1), None]);
        assert_eq!(batch.images.unwrap().shape(), [2, 12, 12]);
    }

    /// Without this, an epoch that ends early would be mistaken for a complete one.
    #[test]
    #[should_panic(expected = "index out of bounds")]
    fn panic_of_the_producer_is_propagated() {
        let sample_loader = sample_loader(&[], Transform::Eval);
        DataLoader::new(sample_loader, vec![vec![item(0)]], loader_threads(None).unwrap()).count();
    }
}
