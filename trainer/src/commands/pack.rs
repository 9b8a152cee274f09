//! `trainer pack`: photos in few large files, none larger than training needs.

use super::arguments::fraction;
use crate::console;
use crate::data::{CLASSES_FILE, Dataset, CounterRng, Purpose, Sample, ShardWriter, SkippedSample, SplitStats};
use crate::output_folder;
use crate::photos::LIMITS;
use crate::progress::Progress;
use anyhow::{Context, Result, bail, ensure};
use bytesize::ByteSize;
use clap::Args;
use clap::value_parser;
use model::preprocess::{Interpolation, Photo};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Photos that are packed at once, so that many threads have something to do and memory is bounded.
const AT_ONCE: usize = 256;

/// Pack photos into WebDataset shards, none larger than training needs
///
/// A short side that is longer is resized, antialiased, and the photo encoded as JPEG (4:2:0), upright. What is small enough
/// already is taken over byte for byte, unless it is a GIF or BMP. Photos to train on are shuffled. What cannot be read is
/// left out and named. Equal photos make equal shards.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Pack {
    /// Photos as `trainer train` takes them
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// Folder of the shards train-000000.tar and so on, val-000000.tar and so on, and of classes.txt; new or empty
    #[arg(long, value_name = "FOLDER")]
    output: PathBuf,
    /// The longest that a short side stays, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 256, value_parser = value_parser!(u32).range(8..=8192))]
    short_side: u32,
    /// Of the JPEGs, as libjpeg counts it
    #[arg(long, value_name = "1-100", default_value_t = 90, value_parser = value_parser!(u8).range(1..=100))]
    quality: u8,
    /// Photos of a shard
    #[arg(long, value_name = "PHOTOS", default_value = "1000")]
    shard_size: NonZero<usize>,
    /// Keep this share of each class for validation, where there is no val
    #[arg(long, value_name = "SHARE", value_parser = fraction)]
    val_split: Option<f64>,
    /// Of the order and the split
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u32,
}

const EXAMPLES: &str = "\
Examples:
  trainer pack --data imagenet --output imagenet-256
  trainer pack --data photos --val-split 0.1 --output shards --short-side 160 --quality 95
  trainer train --data shards --recipe finetune";

/// A photo as it goes into a shard.
struct Packed {
    bytes: Vec<u8>,
    extension: &'static str,
    class: usize,
    unchanged: bool,
}

impl Pack {
    pub fn run(self) -> Result<()> {
        let Dataset { classes, mut train, val, .. } = Dataset::open(&self.data, self.val_split, self.seed.into(), &[])?;
        // That of an epoch before the first.
        CounterRng::new(self.seed.into(), Purpose::Order, &[0]).shuffle(Arc::make_mut(&mut train));
        output_folder::take(&self.output)?;
        // Goes with whatever is in it if something fails.
        let unfinished = tempfile::Builder::new()
            .prefix("unfinished-")
            .tempdir_in(&self.output)
            .with_context(|| format!("{} cannot be written", self.output.display()))?;

        let bar = Progress::of_photos(train.len() + val.len());
        let mut lines = Vec::new();
        for (split, samples) in [("train", &train), ("val", &val)] {
            let writer = ShardWriter::new(unfinished.path(), split, self.shard_size);
            lines.push(self.split(split, samples, &classes, writer, &bar)?);
        }
        drop(bar);
        let names = classes.join("\n") + "\n";
        fs::write(unfinished.path().join(CLASSES_FILE), names).context("the names of the classes cannot be written")?;
        self.publish(unfinished.path())?;
        lines.iter().try_for_each(|line| console::print_result(line))
    }

    /// Writes the shards of a split and says in words what they are.
    fn split(
        &self,
        split: &str,
        samples: &[Sample],
        classes: &[String],
        mut writer: ShardWriter,
        bar: &Progress,
    ) -> Result<String> {
        let (mut skipped, mut unchanged, mut present) = (Vec::new(), 0, BTreeSet::new());
        for samples in samples.chunks(AT_ONCE) {
            let pack = |sample| {
                let packed = self.pack(sample);
                bar.advance(1);
                packed
            };
            for packed in samples.par_iter().map(pack).collect::<Vec<_>>() {
                match packed {
                    Ok(packed) => {
                        writer.add(&packed.bytes, packed.extension, packed.class)?;
                        unchanged += usize::from(packed.unchanged);
                        present.insert(packed.class);
                    }
                    Err(failure) => skipped.push(failure),
                }
            }
        }
        bar.suspend(|| {
            for SkippedSample { location, reason } in &skipped {
                console::note(format_args!("left out {location}: {reason}"));
            }
        });
        let SplitStats { photos, shards, bytes } = writer.finish()?;
        ensure!(photos > 0, "none of the {} photos of {split} could be read", samples.len());
        let lost = samples.iter().find(|sample| split == "train" && !present.contains(&sample.class));
        if let Some(Sample { class, .. }) = lost {
            bail!("none of the photos of {} could be read", classes[*class]);
        }
        Ok(format!(
            "{split}: {photos} photos in {shards} shards, {} ({unchanged} taken over unchanged, {} left out)",
            ByteSize(bytes as u64).display().si(),
            skipped.len()
        ))
    }

    fn pack(&self, sample: &Sample) -> Result<Packed, SkippedSample> {
        let Sample { location, class } = sample;
        let skipped = |reason: String| SkippedSample { location: location.clone(), reason };
        let bytes = location.read().map_err(|failure| skipped(failure.error.message))?;
        let photo = Photo::decode(&bytes, &LIMITS).map_err(|error| skipped(error.to_string()))?;
        let is_small = photo.width().min(photo.height()) <= self.short_side;
        if let (true, Some(extension)) = (is_small, extension(&bytes)) {
            return Ok(Packed { bytes, extension, class: *class, unchanged: true });
        }
        let encoded = photo.shrunk(self.short_side, Interpolation::Bilinear).to_jpeg(self.quality);
        let bytes = encoded.map_err(|error| skipped(error.to_string()))?;
        Ok(Packed { bytes, extension: "jpg", class: *class, unchanged: false })
    }

    /// Everything is there: it gets its place.
    fn publish(&self, unfinished: &Path) -> Result<()> {
        let cannot = || format!("{} cannot be written", self.output.display());
        for entry in unfinished.read_dir().with_context(cannot)? {
            let entry = entry.with_context(cannot)?;
            fs::rename(entry.path(), self.output.join(entry.file_name())).with_context(cannot)?;
        }
        Ok(())
    }
}

/// What a file is called that every reader of WebDataset takes for a photo; none for other formats. By its first bytes, since
/// files may be called anything.
fn extension(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xd8, 0xff, ..] => Some("jpg"),
        [0x89, b'P', b'N', b'G', ..] => Some("png"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("webp"),
        _ => None,
    }
}
