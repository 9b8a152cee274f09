//! What is trained on and what validates, whether it lies in folders or in shards.

use super::listing::{Listing, positions};
use super::{Cache, Draws, Purpose, Sample, folders, shards};
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
    pub cache: Option<Arc<Cache>>,
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
        let classes = if same(&classes, known) {
            let positions = positions(known);
            let class = |index: usize| positions[classes[index].as_str()];
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
            (None, Some(share)) => split(&mut train, share, seed),
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
        for Sample { place, class } in self.train.iter().chain(&*self.val) {
            let place = place.to_string();
            hash.update(place.strip_prefix(&data).unwrap_or(&place));
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
pub fn samples(data: &Path, classes: &[String]) -> Result<Vec<Sample>> {
    if shards::are_in(data)? { shards::samples(data, classes) } else { folders::samples(data, classes) }
}

fn same(classes: &[String], known: &[String]) -> bool {
    known.len() == classes.len() && known.iter().collect::<BTreeSet<_>>() == classes.iter().collect()
}

/// Takes a share of each class out of `samples`: at least one photo, and never the last one.
pub(super) fn split(samples: &mut Vec<Sample>, share: f64, seed: u64) -> Vec<Sample> {
    let by_class = |a: &Sample, b: &Sample| (a.class, &a.place).cmp(&(b.class, &b.place));
    samples.sort_by(by_class);
    let (mut train, mut val) = (Vec::new(), Vec::new());
    for class in samples.chunk_by(|a, b| a.class == b.class) {
        let mut class = class.to_vec();
        Draws::new(seed, Purpose::Split, &[class[0].class as u64]).shuffle(&mut class);
        let wanted = (class.len() as f64 * share).round() as usize;
        let kept = wanted.max(1).min(class.len() - 1);
        train.extend(class.split_off(kept));
        val.extend(class);
    }
    // In order of class and name again, so that an index is the same sample whatever the order of the draws.
    train.sort_by(by_class);
    val.sort_by(by_class);
    *samples = train;
    val
}
