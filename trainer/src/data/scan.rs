//! Lenient listing of a data folder for `trainer doctor`: includes the mistakes that [`Dataset`](super::Dataset)
//! rejects.

use super::dataset::split_off_validation;
use super::listing::{Listing, class_indices};
use super::{Sample, SampleLocation, folders, shards};
use crate::photos;
use anyhow::Result;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Everything found in a data folder.
pub struct DatasetScan {
    /// Names of the classes of both sets.
    pub classes: Vec<String>,
    pub train: Vec<Sample>,
    /// Empty if there is no validation set.
    pub val: Vec<Sample>,
    /// Files without the extension of a photo, or outside the class folders.
    pub other_files: Vec<PathBuf>,
}

impl DatasetScan {
    /// Lists the shards or class folders in `data`. If there is no validation set, the fraction `val_split` of each
    /// class is held out.
    ///
    /// # Errors
    /// Returns an error if there are no classes, or if a shard is invalid.
    pub fn open(data: &Path, val_split: Option<f64>, seed: u64) -> Result<Self> {
        let mut scan = if shards::are_in(data)? {
            let Listing { classes, train, val } = shards::list(data)?;
            DatasetScan { classes, train, val: val.unwrap_or_default(), other_files: Vec::new() }
        } else {
            DatasetScan::open_folders(data)?
        };
        if let (true, Some(fraction)) = (scan.val.is_empty(), val_split) {
            scan.val = split_off_validation(&mut scan.train, fraction, seed);
        }
        Ok(scan)
    }

    fn open_folders(data: &Path) -> Result<Self> {
        let splits = ["train", "val"].map(|name| data.join(name));
        let (train, val) = match splits.each_ref().map(|split| split.is_dir()) {
            [false, false] => (Some(data), None),
            [train, val] => (train.then_some(&*splits[0]), val.then_some(&*splits[1])),
        };
        let mut classes = BTreeSet::new();
        for root in train.iter().chain(&val) {
            classes.extend(folders::class_names(root)?);
        }
        let mut scan =
            DatasetScan { classes: classes.into_iter().collect(), train: vec![], val: vec![], other_files: vec![] };
        scan.train = train.map(|root| scan.add_class_folders(root)).transpose()?.unwrap_or_default();
        scan.val = val.map(|root| scan.add_class_folders(root)).transpose()?.unwrap_or_default();
        Ok(scan)
    }

    /// Lists the photos of the class folders in `root`; adds all other files to `other_files`.
    fn add_class_folders(&mut self, root: &Path) -> Result<Vec<Sample>> {
        let class_indices = class_indices(&self.classes);
        let mut samples = Vec::new();
        photos::walk(root, &mut |file| {
            let folder = file.strip_prefix(root).ok().and_then(Path::parent).and_then(|path| path.iter().next());
            let class = folder.and_then(|name| class_indices.get(name.to_str()?));
            match class {
                Some(&class) if photos::is_photo(&file) => {
                    samples.push(Sample { location: SampleLocation::File(file), class })
                }
                _ => self.other_files.push(file),
            }
        })?;
        Ok(samples)
    }
}
