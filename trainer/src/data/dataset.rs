//! A dataset with a training and a validation set, from class folders or shards.

use super::listing::{Listing, class_indices};
use super::{CounterRng, PhotoCache, Purpose, Sample, SampleLocation, UnlabelledPhotos, folders, shards};
use anyhow::{Result, bail, ensure};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Training and validation samples.
#[derive(Debug)]
pub struct Dataset {
    /// Names of the classes, by index.
    pub classes: Vec<String>,
    pub train: Arc<[Sample]>,
    /// Photos that are trained on in addition to `train`. Their indices follow those of `train`.
    pub unlabelled: UnlabelledPhotos,
    pub val: Arc<[Sample]>,
    /// Cache of decoded training photos, if they are to be kept in memory.
    pub cache: Option<Arc<PhotoCache>>,
}

impl Dataset {
    /// Opens the shards in `data` if there are any, otherwise its class folders. If `known` lists the same classes as
    /// `data`, its order is used. Without a validation set in `data`, the fraction `val_split` of each class is held
    /// out for validation.
    ///
    /// # Errors
    /// Returns an error if a class or set is missing or empty, if a shard is invalid, if the validation set has a class
    /// that the training set lacks, or if both or neither of a validation set and `val_split` are given.
    pub fn open(data: &Path, val_split: Option<f64>, seed: u64, known: &[String]) -> Result<Self> {
        let listing = if shards::are_in(data)? { shards::list(data)? } else { folders::list(data)? };
        let Listing { classes, mut train, mut val } = listing;
        let classes = if same_classes(&classes, known) {
            let class_indices = class_indices(known);
            let class = |index: usize| class_indices[classes[index].as_str()];
            let samples = train.iter_mut().chain(val.iter_mut().flatten());
            samples.for_each(|sample| sample.class = class(sample.class));
            known.to_vec()
        } else {
            classes
        };
        // Sort, because the indices of samples must not depend on `known`, which may be empty in a new run but not in a
        // resumed one.
        std::iter::once(&mut train).chain(&mut val).for_each(|samples| samples.sort_by_key(|sample| sample.class));
        let val = match (val, val_split) {
            (Some(_), Some(_)) => bail!("{} has a validation set (val); remove --val-split", data.display()),
            (Some(val), None) => val,
            (None, Some(fraction)) => split_off_validation(&mut train, fraction, seed),
            (None, None) => bail!(
                "{} has no validation set (val); use --val-split 0.1 to hold out a tenth of each class",
                data.display()
            ),
        };
        ensure!(!val.is_empty(), "the validation set of {} contains no photos", data.display());
        let unlabelled = UnlabelledPhotos::default();
        Ok(Dataset { classes, train: train.into(), unlabelled, val: val.into(), cache: None })
    }

    /// Returns the number of training photos, including unlabelled ones.
    pub fn training_count(&self) -> usize {
        self.train.len() + self.unlabelled.len()
    }

    /// Returns the locations of the training photos, including unlabelled ones, by index.
    pub fn training_locations(&self) -> Vec<&SampleLocation> {
        let labelled = self.train.iter().map(|sample| &sample.location);
        labelled.chain(self.unlabelled.locations()).collect()
    }

    /// Returns a hash, in hexadecimal, of the names, classes and order of the labelled samples. It does not depend on the
    /// location of `data`, nor on the contents of the files.
    pub fn fingerprint(&self, data: &Path) -> String {
        let mut hash = Sha256::new();
        let data = data.display().to_string();
        for Sample { location, class } in self.train.iter().chain(&*self.val) {
            let location = location.to_string();
            hash.update(location.strip_prefix(&data).unwrap_or(&location));
            hash.update([0]);
            hash.update((*class as u64).to_le_bytes());
        }
        hash.update((self.train.len() as u64).to_le_bytes());
        hex::encode(&hash.finalize()[..16])
    }
}

/// Lists the samples for evaluating a checkpoint with these classes: those of the validation set or, if there are
/// neither shards nor a folder `val`, of the class folders in `data` itself. A class may have no photos.
///
/// # Errors
/// Returns an error if a photo belongs to a class that is not among `classes`.
pub fn evaluation_samples(data: &Path, classes: &[String]) -> Result<Vec<Sample>> {
    if shards::are_in(data)? {
        shards::evaluation_samples(data, classes)
    } else {
        folders::evaluation_samples(data, classes)
    }
}

/// Returns whether both lists hold the same classes, in any order.
fn same_classes(classes: &[String], known: &[String]) -> bool {
    known.len() == classes.len() && known.iter().collect::<BTreeSet<_>>() == classes.iter().collect()
}

/// Moves `fraction` of each class out of `samples`: at least one photo, but never the last one.
pub(super) fn split_off_validation(samples: &mut Vec<Sample>, fraction: f64, seed: u64) -> Vec<Sample> {
    let by_class = |a: &Sample, b: &Sample| (a.class, &a.location).cmp(&(b.class, &b.location));
    samples.sort_by(by_class);
    let (mut train, mut val) = (Vec::new(), Vec::new());
    for class in samples.chunk_by(|a, b| a.class == b.class) {
        let mut class = class.to_vec();
        CounterRng::new(seed, Purpose::Split, &[class[0].class as u64]).shuffle(&mut class);
        let rounded = (class.len() as f64 * fraction).round() as usize;
        let count = rounded.max(1).min(class.len() - 1);
        train.extend(class.split_off(count));
        val.extend(class);
    }
    // Restore the order by class and name, so that a sample's index does not depend on the shuffled order.
    train.sort_by(by_class);
    val.sort_by(by_class);
    *samples = train;
    val
}
