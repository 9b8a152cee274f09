//! `trainer train`, and `trainer` without a command: from photos to a checkpoint.

use super::{answer, remark};
use crate::data::{Cache, CacheSize, Dataset, threads};
use crate::recipe::{self, Change, Recipe};
use crate::training::{Interrupt, Run, Training, open, start};
use anyhow::{Result, bail};
use clap::Args;
use model::engine::{self, Device};
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use toml::Value;

/// Train a network on folders of photos; what happens without a command
///
/// The run's folder gets the resolved recipe, the log, metrics as JSON lines, names of the classes, and the checkpoints
/// last.safetensors and best.safetensors, which predict, server and page load. Ctrl-C saves after the current step and
/// stops; twice stops at once.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Train {
    /// Folders train and val with a folder for each class; or one folder of class folders, with --val-split; or a folder of
    /// WebDataset shards train-*.tar and val-*.tar, with the names of the classes in classes.txt (see trainer pack)
    #[arg(long, value_name = "FOLDER", default_value = "data")]
    data: PathBuf,
    /// Keep this share of each class for validation, where there is no val
    #[arg(long, value_name = "SHARE", value_parser = share)]
    val_split: Option<f64>,
    /// How to train: cifar, fast, finetune, torchvision-v1, torchvision-v2, tutorial, or a TOML file
    #[arg(long, value_name = "NAME|FILE", default_value = "torchvision-v1")]
    recipe: String,
    /// Weights to start from; their classifier is replaced if the classes are others
    #[arg(long, value_name = "FILE", conflicts_with = "architecture")]
    checkpoint: Option<String>,
    /// Start from nothing, with a network of this architecture
    #[arg(long, value_name = "NAME")]
    architecture: Option<String>,
    /// Folder of the run, new or empty; by default runs/RECIPE-N
    #[arg(long, value_name = "RUN")]
    output: Option<PathBuf>,
    /// How often the photos are gone through
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Photos of one step
    #[arg(long, value_name = "N")]
    batch_size: Option<u32>,
    /// Side of what the network sees, in pixels
    #[arg(long, value_name = "PIXELS")]
    image_size: Option<u32>,
    /// Of all that is random; equal seeds train equally
    #[arg(long, value_name = "N")]
    seed: Option<u32>,
    /// Any other key of the recipe, such as learning-rate=0.01; more than once if need be
    #[arg(long, value_name = "KEY=VALUE", value_parser = recipe::change)]
    set: Vec<Change>,
    /// Threads that decode photos; by default as many as there are cores
    #[arg(long, value_name = "N", value_parser = engine::threads)]
    loader_threads: Option<NonZero<usize>>,
    /// Keep decoded photos in memory if all to train on fit: off, auto (half of what is available), or a size such as 8GB
    #[arg(long, value_name = "SIZE", default_value_t = CacheSize::Auto)]
    cache: CacheSize,
    /// Where to train: cpu, which for training is Burn's backend flex
    #[arg(long, default_value_t)]
    device: Device,
}

const EXAMPLES: &str = "\
Examples:
  trainer --data photos --recipe finetune --device cpu
  trainer train --data photos --val-split 0.1 --recipe finetune --output runs/mine --epochs 5 --set learning-rate=0.002
  trainer train --data photos --recipe runs/mine/recipe.toml --seed 1";

pub(super) fn share(text: &str) -> Result<f64> {
    match text.parse() {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        _ => bail!("a share between 0 and 1 is expected, such as 0.1"),
    }
}

impl Train {
    /// What can be wrong is looked at before anything is written.
    pub fn run(self) -> Result<()> {
        if !matches!(self.device, Device::Cpu | Device::Flex) {
            bail!("networks are trained on the device cpu alone, not on {}", self.device);
        }
        let recipe = Recipe::resolve(&self.recipe, &self.changes())?;
        let checkpoint = open(&recipe)?;
        let known = checkpoint.as_ref().map_or(&[][..], |checkpoint| &checkpoint.metadata().classes);
        let mut dataset = Dataset::open(&self.data, self.val_split, recipe.seed, known)?;
        let start = start(&recipe, checkpoint, &dataset.classes)?;
        // What the checkpoint decided, so that the run tells it.
        let recipe = Recipe { image_size: Some(start.metadata().preprocessing.crop), ..recipe };
        recipe.check_photos(dataset.train.len())?;
        let (threads, interrupt) = (threads(self.loader_threads)?, Interrupt::listen()?);
        let mut run = Run::create(self.output, &self.recipe)?;
        let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
        run.log(&format!("{}  (version {})", words.collect::<Vec<_>>().join(" "), env!("CARGO_PKG_VERSION")))?;
        let (cache, said) = Cache::new(&dataset.train, self.cache);
        dataset.cache = cache.map(Arc::new);
        if let Some(said) = said {
            run.log(&said)?;
            remark(&said);
        }
        let folder = run.folder().to_owned();
        Training::new(recipe, dataset, &start, run, threads, interrupt)?.run()?;
        answer(&folder.join("best.safetensors").display().to_string())
    }

    /// The flags that name a key of the recipe.
    fn changes(&self) -> Vec<Change> {
        let number = |value: Option<u32>| value.map(|value| Value::Integer(value.into()));
        let text = |value: &Option<String>| value.clone().map(Value::String);
        let named = [
            ("checkpoint", text(&self.checkpoint)),
            ("architecture", text(&self.architecture)),
            ("epochs", number(self.epochs)),
            ("batch-size", number(self.batch_size)),
            ("image-size", number(self.image_size)),
            ("seed", number(self.seed)),
        ];
        let named = named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), Some(value?))));
        self.set.iter().cloned().chain(named).collect()
    }
}
