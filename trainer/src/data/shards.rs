//! WebDataset's layout: tar files `train-000000.tar`..., `val-000000.tar`..., whose consecutive members of one name up to its
//! first dot are a sample: `KEY.jpg` the photo, `KEY.cls` its class as a decimal index; whatever else belongs to it is
//! passed over. `classes.txt` beside them names the classes, one a line; without it they are called by their index.
//!
//! Follows https://github.com/webdataset/webdataset. Only headers are read, and photos later, in any order.

use super::listing::{Listing, class_indices, unknown_class};
use super::{Sample, SampleLocation};
use crate::photos::EXTENSIONS;
use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tar::Archive;

/// The names of the classes, by index.
pub const CLASSES_FILE: &str = "classes.txt";

/// What tar rounds everything up to, in bytes.
const BLOCK: u64 = 512;

/// Whether a folder holds shards rather than folders.
///
/// # Errors
/// If it holds both.
pub(super) fn are_in(data: &Path) -> Result<bool> {
    let shards = !shards(data, "train").is_empty() || !shards(data, "val").is_empty();
    let folder = ["train", "val"].map(|name| data.join(name)).into_iter().find(|folder| folder.is_dir());
    if let (true, Some(folder)) = (shards, folder) {
        bail!("{} holds shards as well as the folder {}: which is meant?", data.display(), folder.display());
    }
    Ok(shards)
}

/// Samples come in the order in which they lie there.
///
/// # Errors
/// If there is nothing to train on, if a shard is no whole tar file, or if a photo has no class or a class no photo.
pub(super) fn list(data: &Path) -> Result<Listing> {
    let [train, val] = ["train", "val"].map(|split| shards(data, split));
    ensure!(!train.is_empty(), "{} has shards val-*.tar, but none train-*.tar", data.display());
    let train = index_shards(&train)?;
    let present: BTreeSet<usize> = train.iter().map(|sample| sample.class).collect();
    let names = class_names(data)?;
    let count = names.as_ref().map_or(present.last().map_or(0, |last| last + 1), Vec::len);
    let name = |index: usize| names.as_ref().map_or_else(|| index.to_string(), |names| names[index].clone());
    if let Some(empty) = (0..count).find(|class| !present.contains(class)) {
        bail!("{} holds no photo of class {empty} ({})", data.join("train-*.tar").display(), name(empty));
    }
    let classes: Vec<String> = (0..count).map(name).collect();
    let val = (!val.is_empty()).then(|| index_shards(&val)).transpose()?;
    for sample in train.iter().chain(val.iter().flatten()) {
        check_class(sample, count)?;
    }
    Ok(Listing { classes, train, val })
}

/// Of the shards `val-*.tar`. Classes without names are those of the same index.
pub(super) fn evaluation_samples(data: &Path, classes: &[String]) -> Result<Vec<Sample>> {
    let val = shards(data, "val");
    ensure!(!val.is_empty(), "{} has no shards val-*.tar", data.display());
    let mut samples = index_shards(&val)?;
    let Some(names) = class_names(data)? else {
        samples.iter().try_for_each(|sample| check_class(sample, classes.len()))?;
        return Ok(samples);
    };
    let class_indices = class_indices(classes);
    for sample in &mut samples {
        check_class(sample, names.len())?;
        let name = &names[sample.class];
        let position = class_indices.get(name.as_str());
        sample.class = *position
            .ok_or_else(|| unknown_class(&format!("{}: {name}", data.join(CLASSES_FILE).display()), classes))?;
    }
    Ok(samples)
}

/// The tar files of a split, in order of their names.
fn shards(data: &Path, split: &str) -> Vec<PathBuf> {
    let is_one = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.strip_prefix(split).is_some_and(|rest| rest.starts_with('-') && rest.ends_with(".tar"))
    };
    // A folder that cannot be listed is an error of whoever looks for folders in it.
    let entries = data.read_dir().into_iter().flatten().flatten();
    let mut shards: Vec<_> = entries.map(|entry| entry.path()).filter(is_one).collect();
    shards.sort();
    shards
}

fn class_names(data: &Path) -> Result<Option<Vec<String>>> {
    let path = data.join(CLASSES_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let names: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    if let Some(empty) = names.iter().position(String::is_empty) {
        bail!("{}: line {} is empty, where the name of class {empty} is wanted", path.display(), empty + 1);
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = names.iter().find(|name| !seen.insert(*name)) {
        bail!("{}: two classes are called {twice}", path.display());
    }
    Ok(Some(names))
}

fn check_class(sample: &Sample, count: usize) -> Result<()> {
    let Sample { location, class } = sample;
    ensure!(*class < count, "{location} is of class {class}, but there are {count} classes, counted from 0");
    Ok(())
}

fn index_shards(shards: &[PathBuf]) -> Result<Vec<Sample>> {
    let samples = shards.par_iter().map(|shard| index_shard(shard).with_context(|| shard.display().to_string()));
    Ok(samples.collect::<Result<Vec<_>>>()?.concat())
}

/// SampleMembers of one key.
#[derive(Default)]
struct SampleMembers {
    key: String,
    photo: Option<SampleLocation>,
    class: Option<usize>,
}

/// The samples of a shard.
fn index_shard(path: &Path) -> Result<Vec<Sample>> {
    let shard: Arc<Path> = path.into();
    let file = File::open(path)?;
    let whole = file.metadata()?.len();
    let (mut samples, mut members, mut end) = (Vec::new(), SampleMembers::default(), 0);
    for entry in Archive::new(file).entries_with_seek().context("no tar file")? {
        let mut entry = entry.context("no tar file, or not a whole one")?;
        let (offset, length) = (entry.raw_file_position(), entry.size());
        let name = String::from_utf8(entry.path_bytes().into_owned()).context("a name is not UTF-8")?;
        ensure!(offset.saturating_add(length) <= whole, "the file ends in the middle of {name}: it is not whole");
        end = (offset + length).next_multiple_of(BLOCK);
        let Some((key, extension)) = split_key(&name).filter(|_| entry.header().entry_type().is_file()) else {
            continue;
        };
        if key != members.key {
            let key = key.to_owned();
            samples
                .extend(std::mem::replace(&mut members, SampleMembers { key, ..SampleMembers::default() }).sample()?);
        }
        let extension = extension.to_ascii_lowercase();
        if extension == "cls" {
            let mut text = String::new();
            entry.by_ref().take(32).read_to_string(&mut text).ok();
            let class = text.trim().parse().ok();
            let class = class.with_context(|| format!("{name} holds {text:?}, no index of a class"))?;
            ensure!(members.class.replace(class).is_none(), "{name} is there twice");
        } else if EXTENSIONS.contains(&extension.as_str()) {
            let location = SampleLocation::Member { shard: shard.clone(), name: name.clone(), offset, length };
            ensure!(members.photo.replace(location).is_none(), "{name} is a second photo of {key}");
        }
    }
    // What tar ends with: blocks of zeros. A copy that broke off between two members has none.
    ensure!(end < whole, "the file ends without tar's mark of the end: it is not whole");
    samples.extend(members.sample()?);
    Ok(samples)
}

/// A member's name up to the first dot of its last part, and what follows the dot; none for hidden files.
fn split_key(name: &str) -> Option<(&str, &str)> {
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = last + name[last..].find('.')?;
    (dot > last).then(|| (&name[..dot], &name[dot + 1..]))
}

impl SampleMembers {
    /// `None` if they have nothing to do with photos.
    fn sample(self) -> Result<Option<Sample>> {
        let key = &self.key;
        match (self.photo, self.class) {
            (Some(location), Some(class)) => Ok(Some(Sample { location, class })),
            (Some(_), None) => bail!("{key} has no class beside its photo ({key}.cls, the class' index)"),
            (None, Some(_)) => bail!("{key} has no photo beside its class ({key}.{})", EXTENSIONS.join(", .")),
            (None, None) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Dataset;
    use super::*;
    use std::fs;

    /// A tar file with these members.
    fn tar(members: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, data) in members {
            let mut header = tar::Header::new_ustar();
            header.set_size(data.len() as u64);
            tar.append_data(&mut header, name, data.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn folder(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, bytes)| fs::write(folder.path().join(name), bytes).unwrap());
        folder
    }

    fn read(samples: &[Sample]) -> Vec<(String, String, usize)> {
        let text = |location: &SampleLocation| String::from_utf8(location.read().unwrap()).unwrap();
        let name = |location: &SampleLocation| location.to_string().rsplit_once(".tar/").unwrap().1.to_owned();
        samples.iter().map(|Sample { location, class }| (name(location), text(location), *class)).collect()
    }

    fn expected(samples: &[(&str, &str, usize)]) -> Vec<(String, String, usize)> {
        samples.iter().map(|&(name, text, class)| (name.to_owned(), text.to_owned(), class)).collect()
    }

    fn shards() -> tempfile::TempDir {
        let first = tar(&[("b.jpg", "photo b"), ("b.cls", "1"), ("b.json", "{}"), ("README", ""), ("c.v2.txt", "?")]);
        let second = tar(&[("x/a.CLS", " 0\n"), ("x/a.JPEG", "photo a"), ("y/a.png", "another"), ("y/a.cls", "1")]);
        let val = tar(&[("a.cls", "1"), ("a.webp", "val")]);
        let classes = b"ant\nbee\n".to_vec();
        folder(&[
            ("train-000001.tar", second),
            ("train-000000.tar", first),
            ("val-000000.tar", val),
            ("classes.txt", classes),
        ])
    }

    #[test]
    fn samples_are_read_from_where_they_lie() {
        let folder = shards();
        let dataset = Dataset::open(folder.path(), None, 0, &[]).unwrap();
        assert_eq!(dataset.classes, ["ant", "bee"]);
        // In order of their classes.
        let train = [("x/a.JPEG", "photo a", 0), ("b.jpg", "photo b", 1), ("y/a.png", "another", 1)];
        assert_eq!(read(&dataset.train), expected(&train));
        assert_eq!(read(&dataset.val), expected(&[("a.webp", "val", 1)]));
        let names = |names: [&str; 2]| names.map(str::to_owned);
        let dataset = Dataset::open(folder.path(), None, 0, &names(["bee", "ant"])).unwrap();
        assert_eq!((read(&dataset.val)[0].2, read(&dataset.train)[2].2), (0, 1), "a checkpoint's order is kept");
        assert_eq!(read(&super::evaluation_samples(folder.path(), &names(["bee", "cat"])).unwrap())[0].2, 0);
        fs::remove_file(folder.path().join("classes.txt")).unwrap();
        assert_eq!(Dataset::open(folder.path(), None, 0, &[]).unwrap().classes, ["0", "1"]);
        assert_eq!(read(&super::evaluation_samples(folder.path(), &names(["bee", "cat"])).unwrap())[0].2, 1);
        fs::remove_file(folder.path().join("val-000000.tar")).unwrap();
        let Dataset { train, val, .. } = Dataset::open(folder.path(), Some(0.1), 0, &[]).unwrap();
        assert_eq!((train.len(), val.len()), (2, 1), "one of the two that are of a class");
    }

    /// Written by webdataset's own `ShardWriter`: tests/golden/shards.py.
    #[test]
    fn a_shard_of_webdatasets_is_read() {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
        let Dataset { classes, train, val, .. } = Dataset::open(Path::new(golden), Some(0.5), 0, &[]).unwrap();
        assert_eq!((classes.len(), train.len(), val.len()), (2, 2, 2));
        for Sample { location, class } in train.iter().chain(&*val) {
            let photo = model::preprocess::Photo::decode(&location.read().unwrap(), &crate::photos::LIMITS).unwrap();
            assert_eq!((photo.width(), photo.height()), (12, 8), "{location}");
            // Class 0 is red, class 1 blue.
            let (red, blue) = (photo.pixels()[0], photo.pixels()[2]);
            assert_eq!(usize::from(blue > red), *class, "{location}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let whole = tar(&[("a.jpg", &"photo".repeat(1000)), ("a.cls", "0")]);
        let error = |files: &[(&str, Vec<u8>)]| {
            let folder = folder(files);
            format!("{:#}", Dataset::open(folder.path(), Some(0.5), 0, &[]).unwrap_err())
        };
        let of = |bytes: &[u8]| error(&[("train-0.tar", bytes.to_vec())]);
        assert!(of(b"no tar file, but text").contains("train-0.tar: "), "{}", of(b"no tar file, but text"));
        assert!(of(&[7; 5000]).contains("train-0.tar: no tar file"));
        assert!(of(b"").contains("mark of the end"));
        // Wherever it breaks off.
        for length in (1..whole.len() - 1024).step_by(100).chain([6144, 6656]) {
            let error = of(&whole[..length]);
            assert!(error.contains("train-0.tar: ") && error.contains("whole"), "{length}: {error}");
        }
        for (members, expected) in [
            (&[("a.jpg", ""), ("b.cls", "0")][..], "a has no class beside its photo (a.cls"),
            (&[("a.tiff", ""), ("a.cls", "0")], "a has no photo beside its class (a.jpg, .jpeg"),
            (&[("a.jpg", ""), ("a.png", ""), ("a.cls", "0")], "a.png is a second photo of a"),
            (&[("a.jpg", ""), ("a.cls", "bee")], "a.cls holds \"bee\", no index"),
            (&[("a.jpg", ""), ("a.cls", "-1")], "a.cls holds \"-1\", no index"),
            (&[("a.jpg", ""), ("a.cls", "4000000000")], "no photo of class 0 (0)"),
        ] {
            let error = of(&tar(members));
            assert!(error.contains(expected), "{error}");
        }
        let named = |names: &[u8]| error(&[("train-0.tar", whole.clone()), ("classes.txt", names.to_vec())]);
        assert!(named(b"ant\nbee\n").contains("train-*.tar holds no photo of class 1 (bee)"));
        assert!(named(b"ant\n\nbee").contains("classes.txt: line 2 is empty"));
        assert!(named(b"ant\nant\n").contains("two classes are called ant"));
        let more = tar(&[("a.jpg", ""), ("a.cls", "0"), ("b.jpg", ""), ("b.cls", "1")]);
        let error_of = error(&[("train-0.tar", more), ("classes.txt", b"ant\n".to_vec())]);
        assert!(error_of.contains("train-0.tar/b.jpg is of class 1, but there are 1 classes"), "{error_of}");
        assert!(error(&[("val-0.tar", whole.clone())]).contains("none train-*.tar"));
        let both = folder(&[("train-0.tar", whole)]);
        fs::create_dir(both.path().join("train")).unwrap();
        assert!(format!("{:#}", Dataset::open(both.path(), None, 0, &[]).unwrap_err()).contains("which is meant?"));
    }
}
