//! All that lies where photos are trained on, mistakes included: what [`Dataset`](super::Dataset) refuses is found here.

use super::dataset::split;
use super::listing::{Listing, positions};
use super::{Place, Sample, folders, shards};
use crate::photos;
use anyhow::Result;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub struct Survey {
    /// Names of all classes, of whichever split.
    pub classes: Vec<String>,
    pub train: Vec<Sample>,
    /// Empty if there is none.
    pub val: Vec<Sample>,
    /// Files that are no photos by their names, or that lie beside the class folders.
    pub foreign: Vec<PathBuf>,
}

impl Survey {
    /// Of folders or shards; a share of each class is kept for validation where there is no val and if one is named.
    ///
    /// # Errors
    /// If there are no classes, or if a shard is not as it should be.
    pub fn of(data: &Path, val_split: Option<f64>, seed: u64) -> Result<Self> {
        let mut survey = if shards::are_in(data)? {
            let Listing { classes, train, val } = shards::list(data)?;
            Survey { classes, train, val: val.unwrap_or_default(), foreign: Vec::new() }
        } else {
            Survey::of_folders(data)?
        };
        if let (true, Some(share)) = (survey.val.is_empty(), val_split) {
            survey.val = split(&mut survey.train, share, seed);
        }
        Ok(survey)
    }

    fn of_folders(data: &Path) -> Result<Self> {
        let splits = ["train", "val"].map(|name| data.join(name));
        let (train, val) = match splits.each_ref().map(|split| split.is_dir()) {
            [false, false] => (Some(data), None),
            [train, val] => (train.then_some(&*splits[0]), val.then_some(&*splits[1])),
        };
        let mut classes = BTreeSet::new();
        for root in train.iter().chain(&val) {
            classes.extend(folders::classes(root)?);
        }
        let mut survey = Survey { classes: classes.into_iter().collect(), train: vec![], val: vec![], foreign: vec![] };
        survey.train = train.map(|root| survey.within(root)).transpose()?.unwrap_or_default();
        survey.val = val.map(|root| survey.within(root)).transpose()?.unwrap_or_default();
        Ok(survey)
    }

    /// The photos of class folders; what else is there is added to what is foreign.
    fn within(&mut self, root: &Path) -> Result<Vec<Sample>> {
        let positions = positions(&self.classes);
        let mut samples = Vec::new();
        photos::walk(root, &mut |file| {
            let folders = file.strip_prefix(root).ok().and_then(Path::parent).and_then(|path| path.iter().next());
            let class = folders.and_then(|name| positions.get(name.to_str()?));
            match class {
                Some(&class) if photos::is_photo(&file) => samples.push(Sample { place: Place::File(file), class }),
                _ => self.foreign.push(file),
            }
        })?;
        Ok(samples)
    }
}
