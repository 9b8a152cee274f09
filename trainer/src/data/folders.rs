//! ImageNet's folder layout: one folder per class, named after it, in `train` and `val`; or one folder of class
//! folders, without a validation set.

use super::listing::{Listing, class_indices, unknown_class};
use super::{Sample, SampleLocation};
use crate::photos::{self, EXTENSIONS};
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;

/// Lists the samples of class folders. Classes are sorted by name.
///
/// # Errors
/// Returns an error if a folder is missing or has no photos, or if `val` has a class that `train` lacks.
pub(super) fn list(data: &Path) -> Result<Listing> {
    let [train, val] = ["train", "val"].map(|name| data.join(name));
    ensure!(train.is_dir() || !val.is_dir(), "{} has a folder val, but no folder train", data.display());
    let root = if train.is_dir() { &train } else { data };
    let classes = class_names(root)?;
    let train = samples_in(root, &classes)?;
    let mut present = vec![false; classes.len()];
    train.iter().for_each(|sample| present[sample.class] = true);
    if let Some(empty) = present.iter().position(|&present| !present) {
        bail!("{} contains no photos ({})", root.join(&classes[empty]).display(), EXTENSIONS.join(", "));
    }
    let val = val.is_dir().then(|| samples_in(&val, &classes)).transpose()?;
    Ok(Listing { classes, train, val })
}

/// Lists the samples of the folder `val`, if it exists, otherwise of the class folders in `data` itself.
pub(super) fn evaluation_samples(data: &Path, classes: &[String]) -> Result<Vec<Sample>> {
    let val = data.join("val");
    samples_in(if val.is_dir() { &val } else { data }, classes)
}

/// Returns the names of the class folders, sorted, without hidden folders.
pub(super) fn class_names(root: &Path) -> Result<Vec<String>> {
    let list_error = || format!("cannot list {}", root.display());
    let mut classes = Vec::new();
    for entry in root.read_dir().with_context(list_error)? {
        let entry = entry.with_context(list_error)?;
        let Ok(name) = entry.file_name().into_string() else {
            bail!("{}: folder name is not UTF-8", entry.path().display());
        };
        if entry.path().is_dir() && !name.starts_with('.') {
            classes.push(name);
        }
    }
    ensure!(!classes.is_empty(), "{} contains no class folders", root.display());
    classes.sort();
    Ok(classes)
}

/// Lists the photos of the class folders in `root`, ordered by class and name. A class may have no folder, but every
/// folder must belong to a class.
fn samples_in(root: &Path, classes: &[String]) -> Result<Vec<Sample>> {
    let class_indices = class_indices(classes);
    let mut samples = Vec::new();
    for name in class_names(root)? {
        let Some(&class) = class_indices.get(name.as_str()) else {
            return Err(unknown_class(&root.join(name).display(), classes));
        };
        let mut files = Vec::new();
        photos::collect(&root.join(name), &mut files)?;
        samples.extend(files.into_iter().map(|file| Sample { location: SampleLocation::File(file), class }));
    }
    samples.sort_by_key(|sample| sample.class);
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::super::Dataset;
    use super::*;
    use std::collections::BTreeSet;

    /// Creates folders with the given numbers of files that are photos by extension.
    fn folder(contents: &[(&str, usize)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, count) in contents {
            let folder = root.path().join(name);
            std::fs::create_dir_all(&folder).unwrap();
            for index in 0..*count {
                std::fs::write(folder.join(format!("{index:03}.jpg")), "").unwrap();
            }
            std::fs::write(folder.join("notes.txt"), "").unwrap();
        }
        root
    }

    fn known(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn lists_imagenet_layout() {
        let root = folder(&[("train/bee/more", 2), ("train/ant", 3), ("val/bee", 1), (".hidden", 1)]);
        let dataset = Dataset::open(root.path(), None, 0, &[]).unwrap();
        assert_eq!(dataset.classes, ["ant", "bee"]);
        assert_eq!(dataset.train.iter().map(|sample| sample.class).collect::<Vec<_>>(), [0, 0, 0, 1, 1]);
        assert_eq!(
            *dataset.val,
            [Sample { location: SampleLocation::File(root.path().join("val/bee/000.jpg")), class: 1 }]
        );
        let dataset = Dataset::open(root.path(), None, 0, &known(&["bee", "ant"])).unwrap();
        assert_eq!(dataset.classes, ["bee", "ant"], "the order of the known classes is kept");
        assert_eq!(dataset.val[0].class, 0);
        assert_eq!(dataset.train.iter().map(|sample| sample.class).collect::<Vec<_>>(), [0, 0, 1, 1, 1]);
        assert_eq!(Dataset::open(root.path(), None, 0, &known(&["bee", "cat"])).unwrap().classes, ["ant", "bee"]);
    }

    #[test]
    fn validation_split_is_stratified_and_disjoint() {
        let root = folder(&[("ant", 100), ("bee", 20), ("cat", 1), ("dog", 2)]);
        let Dataset { train, val, .. } = Dataset::open(root.path(), Some(0.1), 5, &[]).unwrap();
        let count = |samples: &[Sample]| [0, 1, 2, 3].map(|class| samples.iter().filter(|s| s.class == class).count());
        assert_eq!((count(&train), count(&val)), ([90, 18, 1, 1], [10, 2, 0, 1]));
        let all: BTreeSet<_> = train.iter().chain(&*val).map(|sample| &sample.location).collect();
        assert_eq!(all.len(), 123);
        assert!(train.is_sorted_by_key(|sample| (sample.class, sample.location.clone())));
        assert_eq!(Dataset::open(root.path(), Some(0.1), 5, &[]).unwrap().val, val);
        assert_ne!(Dataset::open(root.path(), Some(0.1), 6, &[]).unwrap().val, val);
    }

    #[test]
    fn errors_name_the_folder_and_the_problem() {
        let error = |contents: &[(&str, usize)], split| {
            format!("{:#}", Dataset::open(folder(contents).path(), split, 0, &[]).unwrap_err())
        };
        assert!(error(&[("ant", 2)], None).contains("--val-split 0.1"));
        assert!(error(&[("train/ant", 2), ("val/ant", 1)], Some(0.5)).contains("remove --val-split"));
        assert!(
            error(&[("train/ant", 2), ("val/bee", 1)], None).contains("val/bee: unknown class; expected one of ant")
        );
        assert!(error(&[("train/ant", 0), ("val/ant", 1)], None).contains("train/ant contains no photos (jpg"));
        assert!(error(&[("val/ant", 1)], Some(0.5)).contains("a folder val, but no folder train"));
        assert!(error(&[], Some(0.5)).contains("contains no class folders"));
        assert!(error(&[("ant", 1)], Some(0.5)).contains("no photo"));
        let missing = Dataset::open(Path::new("/nowhere"), None, 0, &[]).unwrap_err();
        assert!(format!("{missing:#}").contains("cannot list /nowhere"));
    }
}
