//! WebDataset shards (<https://github.com/webdataset/webdataset>): tar files `train-000000.tar`..., `val-000000.tar`...
//!
//! Consecutive members whose names agree up to the first dot form a sample: `KEY.jpg` is the photo, `KEY.cls` its class
//! as a decimal index; other members are ignored. The file `classes.txt` in the same folder holds the names of the
//! classes, one per line; without it, classes are named after their index. Listing reads only the headers; photos are
//! read later, in any order.

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

/// Name of the file with the names of the classes, in the order of their indices.
pub const CLASSES_FILE: &str = "classes.txt";

/// Block size of tar files, in bytes; members are padded to a multiple of it.
const BLOCK: u64 = 512;

/// Returns whether a data folder contains shards.
///
/// # Errors
/// Returns an error if it contains both shards and a folder `train` or `val`.
pub(super) fn are_in(data: &Path) -> Result<bool> {
    let shards = !shards(data, "train").is_empty() || !shards(data, "val").is_empty();
    let folder = ["train", "val"].map(|name| data.join(name)).into_iter().find(|folder| folder.is_dir());
    if let (true, Some(folder)) = (shards, folder) {
        bail!("{} contains both shards and the folder {}; remove one of them", data.display(), folder.display());
    }
    Ok(shards)
}

/// Lists the samples of all shards, in the order of the files and their members.
///
/// # Errors
/// Returns an error if there are no training shards, if a shard is not a complete tar file, if a photo has no class, or
/// if a class has no photo.
pub(super) fn list(data: &Path) -> Result<Listing> {
    let [train, val] = ["train", "val"].map(|split| shards(data, split));
    ensure!(!train.is_empty(), "{} has shards val-*.tar, but no shards train-*.tar", data.display());
    let train = index_shards(&train)?;
    let present: BTreeSet<usize> = train.iter().map(|sample| sample.class).collect();
    let names = class_names(data)?;
    let count = names.as_ref().map_or(present.last().map_or(0, |last| last + 1), Vec::len);
    let name = |index: usize| names.as_ref().map_or_else(|| index.to_string(), |names| names[index].clone());
    if let Some(empty) = (0..count).find(|class| !present.contains(class)) {
        bail!("{} contains no photo of class {empty} ({})", data.join("train-*.tar").display(), name(empty));
    }
    let classes: Vec<String> = (0..count).map(name).collect();
    let val = (!val.is_empty()).then(|| index_shards(&val)).transpose()?;
    for sample in train.iter().chain(val.iter().flatten()) {
        check_class(sample, count)?;
    }
    Ok(Listing { classes, train, val })
}

/// Lists the samples of the shards `val-*.tar`. Without a file `classes.txt`, class indices are assumed to refer to
/// `classes`.
///
/// # Errors
/// Returns an error if there are no such shards, if one is invalid, or if a sample has a class that is not among
/// `classes`.
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
        let Some(&class) = class_indices.get(name.as_str()) else {
            return Err(unknown_class(&format!("{}: {name}", data.join(CLASSES_FILE).display()), classes));
        };
        sample.class = class;
    }
    Ok(samples)
}

/// Returns the tar files of a split, sorted by name.
fn shards(data: &Path, split: &str) -> Vec<PathBuf> {
    let is_shard = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.strip_prefix(split).is_some_and(|rest| rest.starts_with('-') && rest.ends_with(".tar"))
    };
    // Ignore errors: listing the class folders of the same folder reports them.
    let entries = data.read_dir().into_iter().flatten().flatten();
    let mut shards: Vec<_> = entries.map(|entry| entry.path()).filter(is_shard).collect();
    shards.sort();
    shards
}

/// Reads the names of the classes; `None` if the file does not exist.
fn class_names(data: &Path) -> Result<Option<Vec<String>>> {
    let path = data.join(CLASSES_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let names: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    if let Some(empty) = names.iter().position(String::is_empty) {
        bail!("{}: line {} is empty; expected the name of class {empty}", path.display(), empty + 1);
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = names.iter().find(|name| !seen.insert(*name)) {
        bail!("{}: duplicate class name {twice}", path.display());
    }
    Ok(Some(names))
}

fn check_class(sample: &Sample, count: usize) -> Result<()> {
    let Sample { location, class } = sample;
    ensure!(*class < count, "{location} has class index {class}, but there are only {count} classes (counted from 0)");
    Ok(())
}

fn index_shards(shards: &[PathBuf]) -> Result<Vec<Sample>> {
    let samples = shards.par_iter().map(|shard| index_shard(shard).with_context(|| shard.display().to_string()));
    Ok(samples.collect::<Result<Vec<_>>>()?.concat())
}

/// Members of a shard that form one sample.
#[derive(Default)]
struct SampleMembers {
    key: String,
    photo: Option<SampleLocation>,
    class: Option<usize>,
}

/// Lists the samples of a shard.
fn index_shard(path: &Path) -> Result<Vec<Sample>> {
    let shard: Arc<Path> = path.into();
    let file = File::open(path)?;
    let file_size = file.metadata()?.len();
    let (mut samples, mut members, mut end) = (Vec::new(), SampleMembers::default(), 0);
    for entry in Archive::new(file).entries_with_seek().context("not a tar file")? {
        let mut entry = entry.context("not a tar file, or truncated")?;
        let (offset, length) = (entry.raw_file_position(), entry.size());
        let name = String::from_utf8(entry.path_bytes().into_owned()).context("member name is not UTF-8")?;
        ensure!(offset.saturating_add(length) <= file_size, "truncated: the file ends within {name}");
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
            let class = class.with_context(|| format!("{name} contains {text:?}; expected a class index"))?;
            ensure!(members.class.replace(class).is_none(), "duplicate member {name}");
        } else if EXTENSIONS.contains(&extension.as_str()) {
            let location = SampleLocation::Member { shard: shard.clone(), name: name.clone(), offset, length };
            ensure!(members.photo.replace(location).is_none(), "{name} is a second photo of {key}");
        }
    }
    // A complete tar file ends with blocks of zeros; a copy that was truncated between two members does not.
    ensure!(end < file_size, "truncated: the end-of-archive marker is missing");
    samples.extend(members.sample()?);
    Ok(samples)
}

/// Splits the name of a member at the first dot of its last path component into key and extension; `None` for hidden
/// files.
fn split_key(name: &str) -> Option<(&str, &str)> {
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = last + name[last..].find('.')?;
    (dot > last).then(|| (&name[..dot], &name[dot + 1..]))
}

impl SampleMembers {
    /// Returns the sample, or `None` if the members contain neither a photo nor a class.
    fn sample(self) -> Result<Option<Sample>> {
        let key = &self.key;
        match (self.photo, self.class) {
            (Some(location), Some(class)) => Ok(Some(Sample { location, class })),
            (Some(_), None) => bail!("sample {key} has a photo but no class (expected {key}.cls with the class index)"),
            (None, Some(_)) => {
                bail!("sample {key} has a class but no photo (expected {key}.{})", EXTENSIONS.join(", ."))
            }
            (None, None) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Dataset;
    use super::*;
    use std::fs;

    /// Creates a tar file with these members.
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
    fn lists_and_reads_samples() {
        let folder = shards();
        let dataset = Dataset::open(folder.path(), None, 0, &[]).unwrap();
        assert_eq!(dataset.classes, ["ant", "bee"]);
        // Sorted by class.
        let train = [("x/a.JPEG", "photo a", 0), ("b.jpg", "photo b", 1), ("y/a.png", "another", 1)];
        assert_eq!(read(&dataset.train), expected(&train));
        assert_eq!(read(&dataset.val), expected(&[("a.webp", "val", 1)]));
        let names = |names: [&str; 2]| names.map(str::to_owned);
        let dataset = Dataset::open(folder.path(), None, 0, &names(["bee", "ant"])).unwrap();
        assert_eq!(
            (read(&dataset.val)[0].2, read(&dataset.train)[2].2),
            (0, 1),
            "the order of the known classes is kept"
        );
        assert_eq!(read(&super::evaluation_samples(folder.path(), &names(["bee", "cat"])).unwrap())[0].2, 0);
        fs::remove_file(folder.path().join("classes.txt")).unwrap();
        assert_eq!(Dataset::open(folder.path(), None, 0, &[]).unwrap().classes, ["0", "1"]);
        assert_eq!(read(&super::evaluation_samples(folder.path(), &names(["bee", "cat"])).unwrap())[0].2, 1);
        fs::remove_file(folder.path().join("val-000000.tar")).unwrap();
        let Dataset { train, val, .. } = Dataset::open(folder.path(), Some(0.1), 0, &[]).unwrap();
        assert_eq!((train.len(), val.len()), (2, 1), "one of the two samples of class 1");
    }

    /// The shard was written by WebDataset's `ShardWriter` (tests/golden/shards.py).
    #[test]
    fn reads_shards_written_by_webdataset() {
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
    fn errors_name_the_shard_and_the_problem() {
        let complete = tar(&[("a.jpg", &"photo".repeat(1000)), ("a.cls", "0")]);
        let error = |files: &[(&str, Vec<u8>)]| {
            let folder = folder(files);
            format!("{:#}", Dataset::open(folder.path(), Some(0.5), 0, &[]).unwrap_err())
        };
        let of = |bytes: &[u8]| error(&[("train-0.tar", bytes.to_vec())]);
        assert!(of(b"text instead of a tar file").contains("train-0.tar: "), "{}", of(b"text instead of a tar file"));
        assert!(of(&[7; 5000]).contains("train-0.tar: not a tar file"));
        assert!(of(b"").contains("end-of-archive marker"));
        // Truncated at any position.
        for length in (1..complete.len() - 1024).step_by(100).chain([6144, 6656]) {
            let error = of(&complete[..length]);
            assert!(error.contains("train-0.tar: ") && error.contains("truncated"), "{length}: {error}");
        }
        for (members, expected) in [
            (&[("a.jpg", ""), ("b.cls", "0")][..], "sample a has a photo but no class (expected a.cls"),
            (&[("a.tiff", ""), ("a.cls", "0")], "sample a has a class but no photo (expected a.jpg, .jpeg"),
            (&[("a.jpg", ""), ("a.png", ""), ("a.cls", "0")], "a.png is a second photo of a"),
            (&[("a.jpg", ""), ("a.cls", "bee")], "a.cls contains \"bee\"; expected"),
            (&[("a.jpg", ""), ("a.cls", "-1")], "a.cls contains \"-1\"; expected"),
            (&[("a.jpg", ""), ("a.cls", "4000000000")], "no photo of class 0 (0)"),
        ] {
            let error = of(&tar(members));
            assert!(error.contains(expected), "{error}");
        }
        let named = |names: &[u8]| error(&[("train-0.tar", complete.clone()), ("classes.txt", names.to_vec())]);
        assert!(named(b"ant\nbee\n").contains("train-*.tar contains no photo of class 1 (bee)"));
        assert!(named(b"ant\n\nbee").contains("classes.txt: line 2 is empty"));
        assert!(named(b"ant\nant\n").contains("duplicate class name ant"));
        let more = tar(&[("a.jpg", ""), ("a.cls", "0"), ("b.jpg", ""), ("b.cls", "1")]);
        let error_of = error(&[("train-0.tar", more), ("classes.txt", b"ant\n".to_vec())]);
        assert!(error_of.contains("train-0.tar/b.jpg has class index 1, but there are only 1 classes"), "{error_of}");
        assert!(error(&[("val-0.tar", complete.clone())]).contains("no shards train-*.tar"));
        let both = folder(&[("train-0.tar", complete)]);
        fs::create_dir(both.path().join("train")).unwrap();
        assert!(
            format!("{:#}", Dataset::open(both.path(), None, 0, &[]).unwrap_err())
                .contains("contains both shards and the folder")
        );
    }
}
