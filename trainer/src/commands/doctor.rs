//! `trainer doctor`: what is wrong with photos, before a night is spent on training with them.

use super::arguments::fraction;
use super::grid;
use crate::console;
use crate::data::{SampleLocation, Sample, SkippedSample, DatasetScan};
use crate::photos::LIMITS;
use crate::progress::Progress;
use anyhow::{Result, bail};
use clap::{Args, value_parser};
use model::preprocess::Photo;
use rayon::prelude::*;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The largest class has so many times the photos of the smallest before it is worth a word.
const IMBALANCE: f64 = 10.0;
/// What is listed in words; JSON has all.
const LISTED: usize = 10;
/// Classes that get a line of their own in words.
const CLASSES: usize = 50;

/// Look for what is wrong with photos before they are trained on
///
/// Every photo is decoded. The exit status is 1 if something would spoil a training: photos that cannot be read, classes with
/// none to train on, the same photo to train on and to validate with, or in two classes.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Doctor {
    /// Photos as `trainer train` takes them
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// Keep this share of each class for validation, where there is no val
    #[arg(long, value_name = "SHARE", value_parser = fraction)]
    val_split: Option<f64>,
    /// Of the split
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u32,
    /// Side of what the network sees, in pixels: photos with a shorter side are told
    #[arg(long, value_name = "PIXELS", default_value_t = 224, value_parser = value_parser!(u32).range(1..=4096))]
    image_size: u32,
    /// Write a picture with some photos of each class, a row for each of the first 20
    #[arg(long, value_name = "PNG")]
    grid: Option<PathBuf>,
    /// As a line of JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  trainer doctor --data photos
  trainer doctor --data photos --val-split 0.1 --grid grid.png
  trainer doctor --data shards --json | jq -r '.unreadable[].place'";

/// What one look at a photo tells.
struct Looked {
    /// Of its bytes, unless there were none to be read.
    hash: Option<[u8; 32]>,
    /// Width and height, or why it is no photo.
    size: Result<(u32, u32), String>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Findings {
    classes: Vec<Class>,
    /// The largest class' photos to train on by the smallest one's that has any.
    imbalance: f64,
    /// That have no photo to train on.
    empty_classes: Vec<String>,
    /// Without a photo to validate with, though others have some.
    only_in_train: Vec<String>,
    #[serde(serialize_with = "reasons")]
    unreadable: Vec<SkippedSample>,
    /// The same bytes more than once, by what is worst about it: a photo of two classes tells a network nonsense, one of both
    /// splits makes validation look too good, and others only count twice.
    duplicates: Duplicates,
    /// Photos with a side shorter than the image size.
    small: Vec<String>,
    /// Files that are no photos by their names, or that lie beside the class folders.
    foreign: Vec<PathBuf>,
    /// Names of the grid's rows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    grid: Vec<String>,
    /// How many of the above would spoil a training.
    problems: usize,
}

#[derive(Serialize)]
struct Class {
    name: String,
    train: usize,
    val: usize,
}

#[derive(Default, Serialize)]
struct Duplicates {
    of_different_classes: Vec<Vec<String>>,
    across_splits: Vec<Vec<String>>,
    within_a_split: Vec<Vec<String>>,
}

fn reasons<S: Serializer>(unreadable: &[SkippedSample], serializer: S) -> Result<S::Ok, S::Error> {
    let entry = |SkippedSample { location, reason }: &SkippedSample| {
        BTreeMap::from([("place", location.to_string()), ("reason", reason.clone())])
    };
    serializer.collect_seq(unreadable.iter().map(entry))
}

impl Doctor {
    pub fn run(self) -> Result<()> {
        let scan = DatasetScan::open(&self.data, self.val_split, self.seed.into())?;
        let samples: Vec<&Sample> = scan.train.iter().chain(&scan.val).collect();
        let bar = Progress::of_photos(samples.len());
        let look = |sample: &&Sample| {
            let looked = look(&sample.location);
            bar.advance(1);
            looked
        };
        let looked: Vec<Looked> = samples.par_iter().map(look).collect();
        drop(bar);
        let mut findings = self.findings(&scan, &samples, &looked);
        if let Some(path) = &self.grid {
            findings.grid = grid::write(&scan, path)?;
        }
        console::print_result(&if self.json { serde_json::to_string(&findings)? } else { self.in_words(&findings) })?;
        match findings.problems {
            0 => Ok(()),
            1 => bail!("1 problem would spoil a training"),
            problems => bail!("{problems} problems would spoil a training"),
        }
    }

    fn findings(&self, scan: &DatasetScan, samples: &[&Sample], looked: &[Looked]) -> Findings {
        let count = |samples: &[Sample]| {
            let mut counts = vec![0; scan.classes.len()];
            samples.iter().for_each(|sample| counts[sample.class] += 1);
            counts
        };
        let counts = count(&scan.train).into_iter().zip(count(&scan.val)).zip(&scan.classes);
        let classes: Vec<_> = counts.map(|((train, val), name)| Class { name: name.clone(), train, val }).collect();
        let trained = || classes.iter().map(|class| class.train).filter(|&count| count > 0);
        let names = |wanted: &dyn Fn(&Class) -> bool| {
            classes.iter().filter(|class| wanted(class)).map(|class| class.name.clone()).collect::<Vec<_>>()
        };
        let (empty_classes, validated) = (names(&|class| class.train == 0), !scan.val.is_empty());
        let only_in_train = names(&|class| validated && class.train > 0 && class.val == 0);

        let (mut unreadable, mut small) = (Vec::new(), Vec::new());
        for (Sample { location, .. }, Looked { size, .. }) in samples.iter().zip(looked) {
            match size {
                Err(reason) => unreadable.push(SkippedSample { location: location.clone(), reason: reason.clone() }),
                Ok((width, height)) if width.min(height) < &self.image_size => small.push(location.to_string()),
                Ok(_) => {}
            }
        }
        let duplicates = duplicates(samples, looked, scan.train.len());
        let problems = unreadable.len()
            + empty_classes.len()
            + duplicates.of_different_classes.len()
            + duplicates.across_splits.len();
        Findings {
            imbalance: trained().max().unwrap_or(0) as f64 / trained().min().unwrap_or(1) as f64,
            classes,
            empty_classes,
            only_in_train,
            unreadable,
            duplicates,
            small,
            foreign: scan.other_files.clone(),
            grid: Vec::new(),
            problems,
        }
    }

    fn in_words(&self, findings: &Findings) -> String {
        let Findings { classes, imbalance, empty_classes, only_in_train, unreadable, duplicates, small, .. } = findings;
        let photos = |count: fn(&Class) -> usize| classes.iter().map(count).sum::<usize>();
        let (train, val) = (photos(|class| class.train), photos(|class| class.val));
        let mut text = format!("{} classes, {train} photos to train on and {val} to validate with\n", classes.len());
        if classes.len() <= CLASSES {
            text += &format!("\n{}\n", table(classes));
        }
        let mut say = |kind: &str, what: &str, listed: Vec<String>| {
            if listed.is_empty() {
                return;
            }
            text += &format!("\n{kind}: {what} ({})\n", listed.len());
            listed.iter().take(LISTED).for_each(|line| text += &format!("  {line}\n"));
            if listed.len() > LISTED {
                text += &format!("  and {} more (--json lists all)\n", listed.len() - LISTED);
            }
        };
        let groups = |groups: &[Vec<String>]| groups.iter().map(|group| group.join("  =  ")).collect::<Vec<_>>();
        let reasons = unreadable.iter().map(|SkippedSample { location, reason }| format!("{location}: {reason}")).collect();
        say("problem", "files that cannot be read", reasons);
        say("problem", "classes without a photo to train on", empty_classes.clone());
        say("problem", "photos that are of different classes", groups(&duplicates.of_different_classes));
        say("problem", "photos to train on and to validate with", groups(&duplicates.across_splits));
        say("note", "photos that are there more than once", groups(&duplicates.within_a_split));
        say("note", "classes without a photo to validate with", only_in_train.clone());
        say("note", &format!("photos with a side below {} pixels", self.image_size), small.clone());
        let foreign = findings.foreign.iter().map(|path| path.display().to_string()).collect();
        say("note", "files that are no photos by their names, or lie beside the class folders", foreign);
        if val == 0 {
            text += "\nnote: nothing to validate with: --val-split 0.1 keeps a tenth of each class for that\n";
        }
        if *imbalance > IMBALANCE {
            text += &format!("\nnote: the largest class has {imbalance:.0} times the photos of the smallest\n");
        }
        for (row, name) in findings.grid.iter().enumerate() {
            text += &format!("{}row {} of the grid: {name}\n", if row == 0 { "\n" } else { "" }, row + 1);
        }
        if findings.problems == 0 {
            text += "\nnothing was found that would spoil a training\n";
        }
        text.trim_end().to_owned()
    }
}

fn look(location: &SampleLocation) -> Looked {
    match location.read() {
        Err(failure) => Looked { hash: None, size: Err(failure.error.message) },
        Ok(bytes) => {
            let photo = Photo::decode(&bytes, &LIMITS).map_err(|error| error.to_string());
            let size = photo.map(|photo| (photo.width(), photo.height()));
            Looked { hash: Some(Sha256::digest(&bytes).into()), size }
        }
    }
}

/// The first `train` of the samples are trained on.
fn duplicates(samples: &[&Sample], looked: &[Looked], train: usize) -> Duplicates {
    let mut equal = BTreeMap::<[u8; 32], Vec<usize>>::new();
    for (index, looked) in looked.iter().enumerate() {
        if let Some(hash) = looked.hash {
            equal.entry(hash).or_default().push(index);
        }
    }
    let mut groups: Vec<_> = equal.into_values().filter(|group| group.len() > 1).collect();
    groups.sort();
    let mut duplicates = Duplicates::default();
    for group in groups {
        let classes: BTreeSet<_> = group.iter().map(|&index| samples[index].class).collect();
        let splits: BTreeSet<_> = group.iter().map(|&index| index < train).collect();
        let places = group.iter().map(|&index| samples[index].place.to_string()).collect();
        let kind = match (classes.len(), splits.len()) {
            (1, 1) => &mut duplicates.within_a_split,
            (1, _) => &mut duplicates.across_splits,
            _ => &mut duplicates.of_different_classes,
        };
        kind.push(places);
    }
    duplicates
}

fn table(classes: &[Class]) -> String {
    let mut table = console::table();
    table.set_header(["train", "val", "class"]);
    for Class { name, train, val } in classes {
        table.add_row([train.to_string(), val.to_string(), name.clone()]);
    }
    console::align_right(&mut table, 0..2);
    table.trim_fmt()
}
