//! `trainer pack`: packing of photos into shards, resized to what training needs.

use super::arguments::fraction;
use crate::console;
use crate::data::{CLASSES_FILE, CounterRng, Dataset, Purpose, Sample, ShardWriter, SkippedSample, SplitStats};
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

/// Number of photos that are encoded in parallel before they are written: bounds memory and keeps all threads busy.
const CHUNK_SIZE: usize = 256;

/// Pack photos into WebDataset shards, resized to what training needs
///
/// Photos with a short side above --short-side are resized with antialiasing and encoded as upright JPEG (4:2:0). Smaller
/// photos are copied byte for byte, unless they are GIF or BMP. Training photos are shuffled. Unreadable files are reported and
/// skipped. Equal photos and seeds produce identical shards.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Pack {
    /// Folder of the photos or shards, as for `trainer train`
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// Output folder, new or empty, for the shards train-*.tar and val-*.tar, and for classes.txt
    #[arg(long, value_name = "FOLDER")]
    output: PathBuf,
    /// Maximum short side of a photo, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 256, value_parser = value_parser!(u32).range(8..=8192))]
    short_side: u32,
    /// JPEG quality, as in libjpeg
    #[arg(long, value_name = "1-100", default_value_t = 90, value_parser = value_parser!(u8).range(1..=100))]
    quality: u8,
    /// Number of photos per shard
    #[arg(long, value_name = "PHOTOS", default_value = "1000")]
    shard_size: NonZero<usize>,
    /// Fraction of each class to hold out for validation, if the dataset has no val
    #[arg(long, value_name = "FRACTION", value_parser = fraction)]
    val_split: Option<f64>,
    /// Random seed of the order and the split
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u32,
}

const EXAMPLES: &str = "\
Examples:
  trainer pack --data imagenet --output imagenet-256
  trainer pack --data photos --val-split 0.1 --output shards --short-side 160 --quality 95
  trainer train --data shards --recipe finetune";

/// A photo, ready to be written to a shard.
struct PackedPhoto {
    bytes: Vec<u8>,
    extension: &'static str,
    class: usize,
    unchanged: bool,
}

impl Pack {
    pub fn run(self) -> Result<()> {
        let Dataset { classes, mut train, val, .. } = Dataset::open(&self.data, self.val_split, self.seed.into(), &[])?;
        // The order of epoch 0; training starts with epoch 1.
        CounterRng::new(self.seed.into(), Purpose::Order, &[0]).shuffle(Arc::make_mut(&mut train));
        output_folder::create_empty(&self.output, "--output")?;
        // Removed with its contents on errors.
        let temporary = tempfile::Builder::new()
            .prefix("unfinished-")
            .tempdir_in(&self.output)
            .with_context(|| format!("cannot write {}", self.output.display()))?;

        let bar = Progress::of_photos(train.len() + val.len());
        let mut summaries = Vec::new();
        for (split, samples) in [("train", &train), ("val", &val)] {
            let writer = ShardWriter::new(temporary.path(), split, self.shard_size);
            summaries.push(self.write_split(split, samples, &classes, writer, &bar)?);
        }
        drop(bar);
        let names = classes.join("\n") + "\n";
        fs::write(temporary.path().join(CLASSES_FILE), names).context("cannot write the names of the classes")?;
        self.publish(temporary.path())?;
        summaries.iter().try_for_each(|summary| console::print_result(summary))
    }

    /// Writes the shards of a split, and returns a summary.
    fn write_split(
        &self,
        split: &str,
        samples: &[Sample],
        classes: &[String],
        mut writer: ShardWriter,
        bar: &Progress,
    ) -> Result<String> {
        let (mut skipped, mut unchanged, mut present) = (Vec::new(), 0, BTreeSet::new());
        for samples in samples.chunks(CHUNK_SIZE) {
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
                    Err(sample) => skipped.push(sample),
                }
            }
        }
        bar.suspend(|| {
            for SkippedSample { location, reason } in &skipped {
                console::note(format_args!("skipped {location}: {reason}"));
            }
        });
        let SplitStats { photos, shards, bytes } = writer.finish()?;
        ensure!(photos > 0, "none of the {} photos of {split} could be read", samples.len());
        let missing = samples.iter().find(|sample| split == "train" && !present.contains(&sample.class));
        if let Some(Sample { class, .. }) = missing {
            bail!("none of the photos of {} could be read", classes[*class]);
        }
        Ok(format!(
            "{split}: {photos} photos in {shards} shards, {} ({unchanged} copied unchanged, {} skipped)",
            ByteSize(bytes as u64).display().si(),
            skipped.len()
        ))
    }

    fn pack(&self, sample: &Sample) -> Result<PackedPhoto, SkippedSample> {
        let Sample { location, class } = sample;
        let skipped = |reason: String| SkippedSample { location: location.clone(), reason };
        let bytes = location.read().map_err(|failure| skipped(failure.error.message))?;
        let photo = Photo::decode(&bytes, &LIMITS).map_err(|error| skipped(error.to_string()))?;
        let is_small = photo.width().min(photo.height()) <= self.short_side;
        if let (true, Some(extension)) = (is_small, extension(&bytes)) {
            return Ok(PackedPhoto { bytes, extension, class: *class, unchanged: true });
        }
        let encoded = photo.downscaled(self.short_side, Interpolation::Bilinear).to_jpeg(self.quality);
        let bytes = encoded.map_err(|error| skipped(error.to_string()))?;
        Ok(PackedPhoto { bytes, extension: "jpg", class: *class, unchanged: false })
    }

    /// Moves the finished files to the output folder.
    fn publish(&self, temporary: &Path) -> Result<()> {
        let context = || format!("cannot write {}", self.output.display());
        for entry in temporary.read_dir().with_context(context)? {
            let entry = entry.with_context(context)?;
            fs::rename(entry.path(), self.output.join(entry.file_name())).with_context(context)?;
        }
        Ok(())
    }
}

/// Returns the extension of a format that all readers of WebDataset support, or `None` for other formats. The format is
/// detected from the first bytes, since files may have wrong extensions.
fn extension(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xd8, 0xff, ..] => Some("jpg"),
        [0x89, b'P', b'N', b'G', ..] => Some("png"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("webp"),
        _ => None,
    }
}
