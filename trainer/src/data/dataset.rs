//! What is trained on and what validates, whether it lies in folders or in shards.

use super::listing::{Listing, class_indices};
use super::{CounterRng, PhotoCache, Purpose, Sample, folders, shards};
use anyhow::{Result, bail, ensure};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

#[derive(Debug)]
pub struct Dataset {
    /// Names by index.
    pub classes: Vec<String>,
    pub train: Arc<[Sample]>,
    pub val: Arc<[Sample]>,
    /// Of `train`, where all of it is to stay in memory.
    pub cache: Option<Arc<PhotoCache>>,
}

impl Dataset {
    /// Folders of class folders, or shards where there are any. Classes come in the order that lies there, or in that of
    /// `known` if they are the same.
    ///
    /// # Errors
    /// If something is missing, empty, not whole, or validates what is not trained, or if there is not one way to validate.
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
        // An index is the same sample whatever was known: a training that goes on knows more than one that begins.
        std::iter::once(&mut train).chain(&mut val).for_each(|samples| samples.sort_by_key(|sample| sample.class));
        let val = match (val, val_split) {
            (Some(_), Some(_)) => bail!("{}: val validates already: leave out --val-split", data.display()),
            (Some(val), None) => val,
            (None, Some(share)) => split_off_validation(&mut train, share, seed),
            (None, None) => bail!(
                "{} has no val to validate with; --val-split 0.1 keeps a tenth of each class for that",
                data.display()
            ),
        };
        ensure!(!val.is_empty(), "no photo of {} is left to validate with", data.display());
        Ok(Dataset { classes, train: train.into(), val: val.into(), cache: None })
    }

    /// In hexadecimal: the same for the same photos, by name, in the same order, wherever `data` lies.
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

/// What there is to evaluate these classes on: `val`, or the class folders of `data` themselves. A class may have no photo.
///
/// # Errors
/// If there is a class that is none of `classes`.
pub fn evaluation_samples(data: &Path, classes: &[String]) -> Result<Vec<Sample>> {
    if shards::are_in(data)? {
        shards::evaluation_samples(data, classes)
    } else {
        folders::evaluation_samples(data, classes)
    }
}

fn same_classes(classes: &[String], known: &[String]) -> bool {
    known.len() == classes.len() && known.iter().collect::<BTreeSet<_>>() == classes.iter().collect()
}

/// Takes a share of each class out of `samples`: at least one photo, and never the last one.
pub(super) fn split_off_validation(samples: &mut Vec<Sample>, share: f64, seed: u64) -> Vec<Sample> {
    let by_class = |a: &Sample, b: &Sample| (a.class, &a.location).cmp(&(b.class, &b.location));
    samples.sort_by(by_class);
    let (mut train, mut val) = (Vec::new(), Vec::new());
    for class in samples.chunk_by(|a, b| a.class == b.class) {
        let mut class = class.to_vec();
        CounterRng::new(seed, Purpose::Split, &[class[0].class as u64]).shuffle(&mut class);
        let rounded = (class.len() as f64 * share).round() as usize;
        let count = rounded.max(1).min(class.len() - 1);
        train.extend(class.split_off(count));
        val.extend(class);
    }
    // In order of class and name again, so that an index is the same sample whatever the order of the draws.
    train.sort_by(by_class);
    val.sort_by(by_class);
    *samples = train;
    val
}
