//! `trainer train`, and `trainer` without a command: from photos to a checkpoint.

use super::arguments::fraction;
use crate::console;
use crate::data::{PhotoCache, CacheSize, Dataset, loader_threads};
use crate::recipe::{self, RecipeOverride, TrainedLayers, Recipe};
use crate::replicas::{ReplicaDevice, replica_devices};
use crate::training::{BEST, Interrupt, Run, Setup, State, Training, located, open, start};
use anyhow::{Result, bail, ensure};
use clap::Args;
use model::checkpoint::Checkpoint;
use model::engine::{self, Device};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use toml::Value;

/// Train a network on folders of photos; what happens without a command
///
/// The run's folder gets the resolved recipe, the log, metrics as JSON lines, names of the classes, states to go on from,
/// and the checkpoints last.safetensors and best.safetensors, which predict, server and page load. Ctrl-C saves after the
/// current step and stops; twice stops at once.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Train {
    /// Folders train and val with a folder for each class; or one folder of class folders, with --val-split; or a folder of
    /// WebDataset shards train-*.tar and val-*.tar, with the names of the classes in classes.txt (see trainer pack); by
    /// default data, or with --resume what the run was trained on
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Keep this share of each class for validation, where there is no val
    #[arg(long, value_name = "SHARE", value_parser = fraction)]
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
    /// Go on with a run that was interrupted or killed, as if it had not been; it keeps its recipe
    #[arg(long, value_name = "RUN", conflicts_with_all = DECIDED)]
    resume: Option<PathBuf>,
    /// Folder of the run, new or empty; by default runs/RECIPE-N
    #[arg(long, value_name = "RUN")]
    output: Option<PathBuf>,
    /// How often the photos are gone through
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Photos of one step, which replicas divide among them
    #[arg(long, value_name = "N")]
    batch_size: Option<u32>,
    /// Side of what the network sees, in pixels
    #[arg(long, value_name = "PIXELS")]
    image_size: Option<u32>,
    /// What is multiplied: f32, bf16 or f16; weights and norms stay f32
    #[arg(long, value_name = "NAME")]
    precision: Option<String>,
    /// Of all that is random; equal seeds train equally
    #[arg(long, value_name = "N")]
    seed: Option<u32>,
    /// Any other key of the recipe, such as learning-rate=0.01; more than once if need be
    #[arg(long, value_name = "KEY=VALUE", value_parser = recipe::parse_override, conflicts_with = "resume")]
    set: Vec<RecipeOverride>,
    /// Threads that decode photos; by default as many as there are cores
    #[arg(long, value_name = "N", value_parser = engine::threads)]
    loader_threads: Option<NonZero<usize>>,
    /// Keep decoded photos in memory if all to train on fit: off, auto (half of what is available), or a size such as 8GB
    #[arg(long, value_name = "SIZE", default_value_t = CacheSize::Auto)]
    cache: CacheSize,
    /// Where to train: cpu, which for training is Burn's backend flex, or if they were built in, wgpu[:N] and cuda[:N]
    ///
    /// By default cpu, or with --resume where the run was; so are --gpus and --replicas.
    #[arg(long, value_name = "DEVICE")]
    device: Option<Device>,
    /// Train on so many GPUs, with a replica on each; 0 is --device cpu
    #[arg(long, value_name = "N", conflicts_with = "device")]
    gpus: Option<usize>,
    /// Copies of the network that divide each batch among them, all on --device
    #[arg(long, value_name = "N", conflicts_with = "gpus")]
    replicas: Option<NonZero<usize>>,
    /// Save the state so often within an epoch, so that a run that is killed loses no more; it is saved after each epoch
    /// in any case
    #[arg(long, value_name = "MINUTES", default_value = "10", value_parser = minutes)]
    save_every: Duration,
}

/// What a run has decided that goes on.
const DECIDED: [&str; 10] = [
    "val_split",
    "recipe",
    "checkpoint",
    "architecture",
    "output",
    "epochs",
    "batch_size",
    "image_size",
    "precision",
    "seed",
];

const EXAMPLES: &str = "\
Examples:
  trainer --data photos --recipe finetune --device cpu
  trainer train --data photos --val-split 0.1 --recipe finetune --output runs/mine --epochs 5 --set learning-rate=0.002
  trainer train --data photos --recipe runs/mine/recipe.toml --seed 1
  trainer --data photos --recipe finetune --set layers=head --set learning-rate=0.05
  trainer --resume runs/mine
  trainer --data imagenet --gpus 4 --precision bf16";

fn minutes(text: &str) -> Result<Duration> {
    match text.parse() {
        Ok(minutes) if (0.0..=1e6).contains(&minutes) => Ok(Duration::from_secs_f64(60.0 * minutes)),
        _ => bail!("a number of minutes is expected, such as 10"),
    }
}

/// What a training begins or goes on with.
struct Prepared {
    recipe: Recipe,
    dataset: Dataset,
    start: Checkpoint,
    state: Option<State>,
    devices: Vec<ReplicaDevice>,
    run: Run,
}

impl Train {
    /// What can be wrong is looked at before anything is written.
    pub fn run(self) -> Result<()> {
        let threads = loader_threads(self.loader_threads)?;
        let prepared = match &self.resume {
            Some(folder) => self.resumed(folder)?,
            None => self.begun()?,
        };
        let Prepared { recipe, mut dataset, start, state, devices, mut run } = prepared;
        let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
        run.log(&format!("{}  (version {})", words.collect::<Vec<_>>().join(" "), env!("CARGO_PKG_VERSION")))?;
        if recipe.layers == TrainedLayers::All {
            let (cache, said) = PhotoCache::new(&dataset.train, self.cache);
            dataset.cache = cache.map(Arc::new);
            if let Some(said) = said {
                run.log(&said)?;
                console::note(&said);
            }
        }
        let best = run.folder().join(BEST);
        let (interrupt, save_every) = (Interrupt::listen()?, self.save_every);
        Training { recipe, dataset, start, state, run, devices, threads, interrupt, save_every }.run()?;
        console::print_result(&best.display().to_string())
    }

    fn begun(&self) -> Result<Prepared> {
        let devices = self.devices()?;
        let recipe = located(Recipe::resolve(&self.recipe, &self.changes())?)?;
        let checkpoint = open(&recipe)?;
        let known = checkpoint.as_ref().map_or(&[][..], |checkpoint| &checkpoint.metadata().classes);
        let data = std::path::absolute(self.data.as_deref().unwrap_or(Path::new("data")))?;
        let dataset = Dataset::open(&data, self.val_split, recipe.seed, known)?;
        let start = start(&recipe, checkpoint, &dataset.classes)?;
        // What the checkpoint decided, so that the run tells it.
        let recipe = Recipe { image_size: Some(start.metadata().preprocessing.crop), ..recipe };
        ensure!(dataset.classes.len() > 1, "{} has one class alone, and nothing to tell it from", data.display());
        recipe.check_photo_count(dataset.train.len())?;
        recipe.check_replicas(devices.len())?;
        recipe.check_class_count(dataset.classes.len())?;
        let run = Run::create(self.output.clone(), &self.recipe)?;
        run.write_setup(&Setup {
            data: data.clone(),
            val_split: self.val_split,
            photos: dataset.fingerprint(&data),
            device: self.device.map(|device| device.to_string()),
            gpus: self.gpus,
            replicas: self.replicas,
        })?;
        Ok(Prepared { recipe, dataset, start, state: None, devices, run })
    }

    fn resumed(&self, folder: &Path) -> Result<Prepared> {
        let Setup { data: recorded, val_split, photos, device, gpus, replicas } = Run::setup(folder)?;
        let devices = if (self.device, self.gpus, self.replicas) == (None, None, None) {
            let device = device.map(|name| name.parse()).transpose()?;
            replica_devices(device.unwrap_or_default(), gpus, replicas)?
        } else {
            self.devices()?
        };
        let recipe = Recipe::resolve(&folder.join("recipe.toml").display().to_string(), &[])?;
        recipe.check_replicas(devices.len())?;
        let (run, state) = Run::reopen(folder)?;
        let data = self.data.clone().unwrap_or(recorded);
        let dataset = Dataset::open(&data, val_split, recipe.seed, &state.metadata.classes)?;
        ensure!(
            dataset.classes == state.metadata.classes && dataset.fingerprint(&data) == photos,
            "{} does not hold the photos that the run was trained on: begin anew",
            data.display()
        );
        let start = Checkpoint::new(state.metadata.clone(), state.learner.network.clone())?;
        Ok(Prepared { recipe, dataset, start, state: Some(state), devices, run })
    }

    fn devices(&self) -> Result<Vec<ReplicaDevice>> {
        replica_devices(self.device.unwrap_or_default(), self.gpus, self.replicas)
    }

    /// The flags that name a key of the recipe.
    fn changes(&self) -> Vec<RecipeOverride> {
        let number = |value: Option<u32>| value.map(|value| Value::Integer(value.into()));
        let text = |value: &Option<String>| value.clone().map(Value::String);
        let named = [
            ("checkpoint", text(&self.checkpoint)),
            ("architecture", text(&self.architecture)),
            ("epochs", number(self.epochs)),
            ("batch-size", number(self.batch_size)),
            ("image-size", number(self.image_size)),
            ("precision", text(&self.precision)),
            ("seed", number(self.seed)),
        ];
        let named = named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), Some(value?))));
        self.set.iter().cloned().chain(named).collect()
    }
}
