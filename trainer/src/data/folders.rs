//! ImageNet's layout: a folder for each class, named after it, within `train` and `val`; or one folder of class folders,
//! of which a share is kept for validation.

use super::{Draws, Purpose};
use crate::photos::{self, EXTENSIONS};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A photo and what it shows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sample {
    pub file: PathBuf,
    /// By index.
    pub class: usize,
}

/// What is trained on, and what validates.
#[derive(Debug)]
pub struct Folders {
    /// Names of the class folders, by index.
    pub classes: Vec<String>,
    pub train: Arc<[Sample]>,
    pub val: Arc<[Sample]>,
}

impl Folders {
    /// Classes come in order of their names, or in that of `known` if they are the same.
    ///
    /// # Errors
    /// If a folder is missing, empty or validates what is not trained, or if there is not one way to validate.
    pub fn open(data: &Path, val_split: Option<f64>, seed: u64, known: &[String]) -> Result<Self> {
        let [train, val] = ["train", "val"].map(|name| data.join(name));
        ensure!(train.is_dir() || !val.is_dir(), "{} has a folder val, but no folder train", data.display());
        let root = if train.is_dir() { &train } else { data };
        let classes = ordered(classes(root)?, known);
        let mut train = samples(root, &classes)?;
        let present: BTreeSet<usize> = train.iter().map(|sample| sample.class).collect();
        if let Some(empty) = (0..classes.len()).find(|class| !present.contains(class)) {
            bail!("{} holds no photos ({})", root.join(&classes[empty]).display(), EXTENSIONS.join(", "));
        }
        let val = match (val.is_dir(), val_split) {
            (true, Some(_)) => bail!("{} validates already: leave out --val-split", val.display()),
            (true, None) => samples(&val, &classes)?,
            (false, Some(share)) => split(&mut train, share, seed),
            (false, None) => bail!(
                "{} has no folders train and val; --val-split 0.1 keeps a tenth of each class for validation",
                data.display()
            ),
        };
        ensure!(!val.is_empty(), "no photo of {} is left to validate with", data.display());
        Ok(Folders { classes, train: train.into(), val: val.into() })
    }
}

/// Names of the class folders, sorted; hidden ones are none.
pub fn classes(root: &Path) -> Result<Vec<String>> {
    let listed = || format!("{} cannot be listed", root.display());
    let mut classes = Vec::new();
    for entry in root.read_dir().with_context(listed)? {
        let entry = entry.with_context(listed)?;
        let Ok(name) = entry.file_name().into_string() else {
            bail!("{}: the name is not UTF-8", entry.path().display());
        };
        if entry.path().is_dir() && !name.starts_with('.') {
            classes.push(name);
        }
    }
    ensure!(!classes.is_empty(), "{} holds no folders, one for each class", root.display());
    classes.sort();
    Ok(classes)
}

/// Every photo of the class folders, in order of class and name. A folder that is none of `classes` is an error; a class may
/// have no folder.
pub fn samples(root: &Path, classes: &[String]) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for name in self::classes(root)? {
        let Some(class) = classes.iter().position(|class| *class == name) else {
            let some = classes.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
            bail!("{}: none of the {} classes is called so ({some} ...)", root.join(name).display(), classes.len());
        };
        let mut files = Vec::new();
        photos::collect(&root.join(name), &mut files)?;
        samples.extend(files.into_iter().map(|file| Sample { file, class }));
    }
    samples.sort_by_key(|sample| sample.class);
    Ok(samples)
}

fn ordered(classes: Vec<String>, known: &[String]) -> Vec<String> {
    let same = known.len() == classes.len() && known.iter().collect::<BTreeSet<_>>() == classes.iter().collect();
    if same { known.to_vec() } else { classes }
}

/// Takes a share of each class out of `samples`: at least one photo, and never the last one.
fn split(samples: &mut Vec<Sample>, share: f64, seed: u64) -> Vec<Sample> {
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
    train.sort_by(|a, b| (a.class, &a.file).cmp(&(b.class, &b.file)));
    val.sort_by(|a, b| (a.class, &a.file).cmp(&(b.class, &b.file)));
    *samples = train;
    val
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Folders with so many files that are photos by name.
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
    fn imagenets_layout_is_read() {
        let root = folder(&[("train/bee/more", 2), ("train/ant", 3), ("val/bee", 1), (".hidden", 1)]);
        let folders = Folders::open(root.path(), None, 0, &[]).unwrap();
        assert_eq!(folders.classes, ["ant", "bee"]);
        assert_eq!(folders.train.iter().map(|sample| sample.class).collect::<Vec<_>>(), [0, 0, 0, 1, 1]);
        assert_eq!(*folders.val, [Sample { file: root.path().join("val/bee/000.jpg"), class: 1 }]);
        let folders = Folders::open(root.path(), None, 0, &known(&["bee", "ant"])).unwrap();
        assert_eq!(folders.classes, ["bee", "ant"], "a checkpoint's order is kept");
        assert_eq!(folders.val[0].class, 0);
        assert_eq!(Folders::open(root.path(), None, 0, &known(&["bee", "cat"])).unwrap().classes, ["ant", "bee"]);
    }

    #[test]
    fn a_split_takes_a_share_of_each_class_and_each_photo_once() {
        let root = folder(&[("ant", 100), ("bee", 20), ("cat", 1), ("dog", 2)]);
        let Folders { train, val, .. } = Folders::open(root.path(), Some(0.1), 5, &[]).unwrap();
        let count = |samples: &[Sample]| [0, 1, 2, 3].map(|class| samples.iter().filter(|s| s.class == class).count());
        assert_eq!((count(&train), count(&val)), ([90, 18, 1, 1], [10, 2, 0, 1]));
        let all: BTreeSet<_> = train.iter().chain(&*val).map(|sample| &sample.file).collect();
        assert_eq!(all.len(), 123);
        assert!(train.is_sorted_by_key(|sample| (sample.class, sample.file.clone())));
        assert_eq!(Folders::open(root.path(), Some(0.1), 5, &[]).unwrap().val, val);
        assert_ne!(Folders::open(root.path(), Some(0.1), 6, &[]).unwrap().val, val);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |contents: &[(&str, usize)], split| {
            format!("{:#}", Folders::open(folder(contents).path(), split, 0, &[]).unwrap_err())
        };
        assert!(error(&[("ant", 2)], None).contains("--val-split 0.1"));
        assert!(error(&[("train/ant", 2), ("val/ant", 1)], Some(0.5)).contains("leave out --val-split"));
        assert!(error(&[("train/ant", 2), ("val/bee", 1)], None).contains("val/bee: none of the 1 classes"));
        assert!(error(&[("train/ant", 0), ("val/ant", 1)], None).contains("train/ant holds no photos (jpg"));
        assert!(error(&[("val/ant", 1)], Some(0.5)).contains("a folder val, but no folder train"));
        assert!(error(&[], Some(0.5)).contains("holds no folders"));
        assert!(error(&[("ant", 1)], Some(0.5)).contains("no photo"));
        let missing = Folders::open(Path::new("/nowhere"), None, 0, &[]).unwrap_err();
        assert!(format!("{missing:#}").contains("/nowhere cannot be listed"));
    }
}
