//! `trainer doctor`: checks of a dataset before a long training run.

use super::arguments::fraction;
use super::photo_grid;
use crate::console;
use crate::data::{DatasetScan, Sample, SampleLocation, SkippedSample};
use crate::photos::LIMITS;
use crate::progress::Progress;
use anyhow::{Result, bail};
use clap::{Args, value_parser};
use model::preprocess::Photo;
use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Ratio of the largest to the smallest class above which the text report mentions it.
const IMBALANCE: f64 = 10.0;
/// Maximum number of entries per section of the text report; JSON has all.
const MAX_LISTED: usize = 10;
/// Maximum number of classes for which the text report has a table.
const MAX_CLASSES: usize = 50;

/// Check photos for problems before training
///
/// Decodes every photo. The exit status is 1 if there are problems that would harm training: unreadable files, classes without
/// training photos, or identical photos in both splits or in different classes.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Doctor {
    /// Folder of the photos or shards, as for `trainer train`
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// Fraction of each class to hold out for validation, if the dataset has no val
    #[arg(long, value_name = "FRACTION", value_parser = fraction)]
    val_split: Option<f64>,
    /// Random seed of the split
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u32,
    /// Width and height of the network's input, in pixels; photos with a shorter side are listed
    #[arg(long, value_name = "PIXELS", default_value_t = 224, value_parser = value_parser!(u32).range(1..=4096))]
    image_size: u32,
    /// Write a PNG with some photos of each class, one row for each of the first 20 classes
    #[arg(long, value_name = "PNG")]
    grid: Option<PathBuf>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  trainer doctor --data photos
  trainer doctor --data photos --val-split 0.1 --grid grid.png
  trainer doctor --data shards --json | jq -r '.unreadable[].file'";

/// The result of reading and decoding a photo.
struct PhotoCheck {
    /// SHA-256 of the file, if it could be read.
    hash: Option<[u8; 32]>,
    /// Width and height, or the reason why it cannot be decoded.
    size: Result<(u32, u32), String>,
}

/// The output of `--json`.
#[derive(Serialize)]
struct DatasetReport {
    classes: Vec<ClassCounts>,
    /// Number of training photos of the largest class, divided by that of the smallest non-empty one.
    imbalance: f64,
    /// Classes without training photos.
    empty_classes: Vec<String>,
    /// Classes without validation photos, although other classes have some.
    only_in_train: Vec<String>,
    unreadable: Vec<SkippedSample>,
    /// Identical files, by their most severe effect: in different classes, they contradict each other; in both splits,
    /// they make validation metrics too optimistic; within a split, they only count twice.
    duplicates: Duplicates,
    /// Photos with a side shorter than the image size.
    small: Vec<String>,
    /// Files without a photo's extension, or outside the class folders.
    foreign: Vec<PathBuf>,
    /// Class names of the grid's rows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    grid: Vec<String>,
    /// Number of the above problems that would harm training.
    problems: usize,
}

#[derive(Serialize)]
struct ClassCounts {
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

impl Doctor {
    pub fn run(self) -> Result<()> {
        let scan = DatasetScan::open(&self.data, self.val_split, self.seed.into())?;
        let samples: Vec<&Sample> = scan.train.iter().chain(&scan.val).collect();
        let bar = Progress::of_photos(samples.len());
        let check = |sample: &&Sample| {
            let check = check_photo(&sample.location);
            bar.advance(1);
            check
        };
        let checks: Vec<PhotoCheck> = samples.par_iter().map(check).collect();
        drop(bar);
        let mut report = self.report(&scan, &samples, &checks);
        if let Some(path) = &self.grid {
            report.grid = photo_grid::write(&scan, path)?;
        }
        console::print_result(&if self.json { serde_json::to_string(&report)? } else { self.to_text(&report) })?;
        match report.problems {
            0 => Ok(()),
            1 => bail!("found 1 problem that would harm training"),
            problems => bail!("found {problems} problems that would harm training"),
        }
    }

    fn report(&self, scan: &DatasetScan, samples: &[&Sample], checks: &[PhotoCheck]) -> DatasetReport {
        let count = |samples: &[Sample]| {
            let mut counts = vec![0; scan.classes.len()];
            samples.iter().for_each(|sample| counts[sample.class] += 1);
            counts
        };
        let counts = count(&scan.train).into_iter().zip(count(&scan.val)).zip(&scan.classes);
        let classes: Vec<_> =
            counts.map(|((train, val), name)| ClassCounts { name: name.clone(), train, val }).collect();
        let training_counts = || classes.iter().map(|class| class.train).filter(|&count| count > 0);
        let names_of = |matches: &dyn Fn(&ClassCounts) -> bool| {
            classes.iter().filter(|class| matches(class)).map(|class| class.name.clone()).collect::<Vec<_>>()
        };
        let (empty_classes, has_val) = (names_of(&|class| class.train == 0), !scan.val.is_empty());
        let only_in_train = names_of(&|class| has_val && class.train > 0 && class.val == 0);

        let (mut unreadable, mut small) = (Vec::new(), Vec::new());
        for (Sample { location, .. }, PhotoCheck { size, .. }) in samples.iter().zip(checks) {
            match size {
                Err(reason) => unreadable.push(SkippedSample { location: location.clone(), reason: reason.clone() }),
                Ok((width, height)) if width.min(height) < &self.image_size => small.push(location.to_string()),
                Ok(_) => {}
            }
        }
        let duplicates = duplicates(samples, checks, scan.train.len());
        let problems = unreadable.len()
            + empty_classes.len()
            + duplicates.of_different_classes.len()
            + duplicates.across_splits.len();
        DatasetReport {
            imbalance: training_counts().max().unwrap_or(0) as f64 / training_counts().min().unwrap_or(1) as f64,
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

    fn to_text(&self, report: &DatasetReport) -> String {
        let DatasetReport { classes, imbalance, empty_classes, only_in_train, unreadable, duplicates, small, .. } =
            report;
        let photos = |count: fn(&ClassCounts) -> usize| classes.iter().map(count).sum::<usize>();
        let (train, val) = (photos(|class| class.train), photos(|class| class.val));
        let mut text = format!("{} classes, {train} training and {val} validation photos\n", classes.len());
        if classes.len() <= MAX_CLASSES {
            text += &format!("\n{}\n", table(classes));
        }
        let mut section = |kind: &str, title: &str, entries: Vec<String>| {
            if entries.is_empty() {
                return;
            }
            text += &format!("\n{kind}: {title} ({})\n", entries.len());
            entries.iter().take(MAX_LISTED).for_each(|line| text += &format!("  {line}\n"));
            if entries.len() > MAX_LISTED {
                text += &format!("  and {} more (--json lists all)\n", entries.len() - MAX_LISTED);
            }
        };
        let groups = |groups: &[Vec<String>]| groups.iter().map(|group| group.join("  =  ")).collect::<Vec<_>>();
        let reasons =
            unreadable.iter().map(|SkippedSample { location, reason }| format!("{location}: {reason}")).collect();
        section("problem", "unreadable files", reasons);
        section("problem", "classes without training photos", empty_classes.clone());
        section("problem", "identical photos in different classes", groups(&duplicates.of_different_classes));
        section("problem", "identical photos in both splits", groups(&duplicates.across_splits));
        section("note", "identical photos within a split", groups(&duplicates.within_a_split));
        section("note", "classes without validation photos", only_in_train.clone());
        section("note", &format!("photos with a side below {} pixels", self.image_size), small.clone());
        let foreign = report.foreign.iter().map(|path| path.display().to_string()).collect();
        section("note", "files without a photo's extension, or outside the class folders", foreign);
        if val == 0 {
            text += "\nnote: no validation photos; --val-split 0.1 holds out a tenth of each class\n";
        }
        if *imbalance > IMBALANCE {
            text += &format!("\nnote: the largest class has {imbalance:.0} times the photos of the smallest\n");
        }
        for (row, name) in report.grid.iter().enumerate() {
            text += &format!("{}row {} of the grid: {name}\n", if row == 0 { "\n" } else { "" }, row + 1);
        }
        if report.problems == 0 {
            text += "\nno problems found\n";
        }
        text.trim_end().to_owned()
    }
}

fn check_photo(location: &SampleLocation) -> PhotoCheck {
    match location.read() {
        Err(failure) => PhotoCheck { hash: None, size: Err(failure.error.message) },
        Ok(bytes) => {
            let photo = Photo::decode(&bytes, &LIMITS).map_err(|error| error.to_string());
            let size = photo.map(|photo| (photo.width(), photo.height()));
            PhotoCheck { hash: Some(Sha256::digest(&bytes).into()), size }
        }
    }
}

/// Finds identical files. The first `train` samples are training photos.
fn duplicates(samples: &[&Sample], checks: &[PhotoCheck], train: usize) -> Duplicates {
    let mut by_hash = BTreeMap::<[u8; 32], Vec<usize>>::new();
    for (index, check) in checks.iter().enumerate() {
        if let Some(hash) = check.hash {
            by_hash.entry(hash).or_default().push(index);
        }
    }
    let mut groups: Vec<_> = by_hash.into_values().filter(|group| group.len() > 1).collect();
    groups.sort();
    let mut duplicates = Duplicates::default();
    for group in groups {
        let classes: BTreeSet<_> = group.iter().map(|&index| samples[index].class).collect();
        let splits: BTreeSet<_> = group.iter().map(|&index| index < train).collect();
        let places = group.iter().map(|&index| samples[index].location.to_string()).collect();
        let kind = match (classes.len(), splits.len()) {
            (1, 1) => &mut duplicates.within_a_split,
            (1, _) => &mut duplicates.across_splits,
            _ => &mut duplicates.of_different_classes,
        };
        kind.push(places);
    }
    duplicates
}

fn table(classes: &[ClassCounts]) -> String {
    let mut table = console::table();
    table.set_header(["train", "val", "class"]);
    for ClassCounts { name, train, val } in classes {
        table.add_row([train.to_string(), val.to_string(), name.clone()]);
    }
    console::align_right(&mut table, 0..2);
    table.trim_fmt()
}
