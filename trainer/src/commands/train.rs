//! `trainer train`, and `trainer` without a command: training of a network on photos.

use super::arguments::fraction;
use super::distillation_inputs::{
    DistillationArgs, DistillationInputs, note_image_size, print_comparison, with_distillation_keys,
};
use crate::command_line;
use crate::console;
use crate::data::{CacheSize, Dataset, LoaderThreads, PhotoCache, loader_threads};
use crate::distillation::Teacher;
use crate::full_screen;
use crate::learning::precision_warning;
use crate::recipe::{self, Recipe, RecipeOverride, TrainedLayers};
use crate::replicas::{ReplicaDevice, replica_devices};
use crate::report::{REPORT, RunReportOptions, write_run_report};
use crate::training::{
    BEST, FirstBatch, Interrupt, RunFolder, RunSetup, SaveRequest, Training, TrainingState, initial_weights,
    open_display, open_initial_checkpoint,
};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use model::checkpoint::Checkpoint;
use model::engine::{self, Device, EngineOptions};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use toml::Value;

/// Train a network on folders or shards of photos (the default command)
///
/// The output folder receives the resolved recipe, a log, metrics as JSON lines and as an event file for TensorBoard
/// (`tensorboard --logdir runs`), the names of the classes, states to resume from, the checkpoints last.safetensors and
/// best.safetensors, which `trainer predict`, the server and the web page load, and report.html.
/// Ctrl-C saves and stops after the current step; a second Ctrl-C stops at once.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Train {
    /// Dataset: a folder that contains train and val, each with one folder per class; or, with --val-split, a folder that
    /// contains one folder per class; or a folder of WebDataset shards train-*.tar and val-*.tar, and classes.txt (see
    /// `trainer pack`) [default: data, or that of the resumed run]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Fraction of each class to hold out for validation, if the dataset has no val
    #[arg(long, value_name = "FRACTION", value_parser = fraction)]
    val_split: Option<f64>,
    /// Recipe: cifar, distill, fast, finetune, prune-finetune, torchvision-v1, torchvision-v2, tutorial, or a TOML file
    #[arg(long, value_name = "NAME|FILE", default_value = "torchvision-v1")]
    recipe: String,
    /// Checkpoint to start from: a file, or one of the bundled checkpoints resnet18-imagenette and resnet50_v1-imagenet; its
    /// classifier is replaced if the classes differ
    #[arg(long, value_name = "FILE|NAME", conflicts_with = "architecture")]
    checkpoint: Option<String>,
    /// Architecture to train from scratch
    #[arg(long, value_name = "NAME")]
    architecture: Option<String>,
    /// Resume an interrupted or killed run with its recipe; the result is the same as without the interruption
    #[arg(long, value_name = "RUN", conflicts_with_all = FIXED_BY_RUN)]
    resume: Option<PathBuf>,
    /// Output folder, new or empty [default: runs/RECIPE-N]
    #[arg(long, value_name = "RUN")]
    output: Option<PathBuf>,
    /// Number of epochs
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Global batch size, divided among the replicas
    #[arg(long, value_name = "N")]
    batch_size: Option<u32>,
    /// Width and height of the network's input, in pixels
    #[arg(long, value_name = "PIXELS")]
    image_size: Option<u32>,
    /// Precision of convolutions: f32, bf16 or f16; weights, batch norms and the classifier stay in f32
    #[arg(long, value_name = "NAME")]
    precision: Option<String>,
    /// Random seed; runs of the same recipe on the same data with equal seeds are identical
    #[arg(long, value_name = "N")]
    seed: Option<u32>,
    /// Set any key of the recipe, such as learning-rate=0.01, or remove it (KEY=); may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = recipe::parse_override, conflicts_with = "resume")]
    set: Vec<RecipeOverride>,
    /// Number of threads that decode photos [default: number of cores]
    #[arg(long, value_name = "N", value_parser = engine::parse_thread_count)]
    loader_threads: Option<NonZero<usize>>,
    /// Memory for decoded training photos, which are kept if all fit: off, auto (half of the available memory), or a size
    /// such as 8GB
    #[arg(long, value_name = "SIZE", default_value_t = CacheSize::Auto)]
    cache: CacheSize,
    /// Device to train on: cpu, flex (Burn's CPU backend), or, if compiled in, wgpu[:N] or cuda[:N] [default: cpu, or
    /// the devices of the resumed run]
    #[arg(long, value_name = "DEVICE")]
    device: Option<Device>,
    /// Number of GPUs to train on, with one replica per GPU; 0 means --device cpu
    #[arg(long, value_name = "N", conflicts_with = "device")]
    gpus: Option<usize>,
    /// Number of replicas on --device, among which each batch is divided
    #[arg(long, value_name = "N", conflicts_with = "gpus")]
    replicas: Option<NonZero<usize>>,
    /// Interval at which the state is saved within an epoch; a killed run loses no more work than this. The state is also
    /// saved after each epoch
    #[arg(long, value_name = "MINUTES", default_value = "10", value_parser = minutes)]
    save_every: Duration,
    /// Leave photos out of report.html
    #[arg(long)]
    no_photos: bool,
    /// Write the first batch as a PNG instead of training: a grid of at most 64 images as the network gets them, cropped,
    /// augmented and mixed; prints the classes of each row, with their shares in mixed images
    #[arg(long, value_name = "PNG", conflicts_with = "resume")]
    show_batch: Option<PathBuf>,
    /// Show a full-screen display: curves of loss, top-1, learning rate, speed and waiting time, and the last lines of the
    /// log. Its keys are q (stop after the current step and save; again: end at once), s (save the state now) and ? (help)
    #[arg(long)]
    tui: bool,
    /// Arguments of `trainer distill`.
    #[arg(skip)]
    distillation: Option<DistillationArgs>,
}

/// Flags that cannot change when a run is resumed.
const FIXED_BY_RUN: [&str; 10] = [
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
  trainer --data photos --recipe finetune --set mixup-alpha=0.2 --show-batch batch.png
  trainer --resume runs/mine --tui
  trainer --data imagenet --gpus 4 --precision bf16";

fn minutes(text: &str) -> Result<Duration> {
    match text.parse() {
        Ok(minutes) if (0.0..=1e6).contains(&minutes) => Ok(Duration::from_secs_f64(60.0 * minutes)),
        _ => bail!("expected a number of minutes, such as 10"),
    }
}

/// Validated inputs of a new run, before its folder is created.
struct NewRun {
    recipe: Recipe,
    data: PathBuf,
    dataset: Dataset,
    initial_weights: Checkpoint,
    distillation: DistillationInputs,
    devices: Vec<ReplicaDevice>,
}

/// Validated inputs of a new or a resumed run.
struct PreparedRun {
    recipe: Recipe,
    data: PathBuf,
    dataset: Dataset,
    initial_weights: Checkpoint,
    teacher: Option<Teacher>,
    state: Option<TrainingState>,
    devices: Vec<ReplicaDevice>,
    run_folder: RunFolder,
}

impl Train {
    /// Adds the arguments of `trainer distill`.
    pub fn with_distillation(self, arguments: DistillationArgs) -> Self {
        Train { distillation: Some(arguments), ..self }
    }

    /// Trains. All arguments are validated before anything is written.
    pub fn run(self) -> Result<()> {
        if self.tui {
            full_screen::check_terminal().context("cannot show the display of --tui")?;
        }
        let threads = loader_threads(self.loader_threads)?;
        if let Some(path) = &self.show_batch {
            return self.write_first_batch(path, &threads);
        }
        let prepared = match &self.resume {
            Some(folder) => self.resume_run(folder)?,
            None => self.new_run()?,
        };
        let PreparedRun { recipe, data, mut dataset, initial_weights, teacher, state, devices, mut run_folder } =
            prepared;
        run_folder.log(&format!("{}  (version {})", command_line::of_this_process(), env!("CARGO_PKG_VERSION")))?;
        if let Some(warning) = precision_warning(&recipe, &devices[0]) {
            run_folder.log(&warning)?;
            console::note(warning);
        }
        if recipe.layers == TrainedLayers::All {
            let (cache, note) = PhotoCache::new(&dataset.training_locations(), self.cache);
            dataset.cache = cache.map(Arc::new);
            if let Some(note) = note {
                run_folder.log(&note)?;
                console::note(note);
            }
        }
        if let Some(teacher) = &teacher {
            note_image_size(teacher, &initial_weights);
        }
        let folder = run_folder.path().to_owned();
        let (interrupt, save_request) = (Interrupt::default(), SaveRequest::default());
        let display = open_display(self.tui, &interrupt, &save_request)?;
        interrupt.listen(display.notifier())?;
        let report_options = RunReportOptions {
            device: devices[0].name,
            options: EngineOptions::default(),
            threads: threads.clone(),
            data: self.data.clone(),
            with_photos: !self.no_photos,
        };
        let (report_interrupt, val) = (interrupt.clone(), dataset.val.clone());
        let device = devices[0].name;
        let training = Training {
            recipe,
            dataset,
            initial_weights,
            teacher: teacher.clone(),
            state,
            run_folder,
            devices,
            threads,
            interrupt,
            save_request,
            display,
            save_every: self.save_every,
        };
        training.run()?;
        // The run has succeeded, whatever happens to its report.
        let report = folder.join(REPORT);
        console::status("evaluating the best checkpoint for the report; Ctrl-C skips the evaluation");
        match write_run_report(&folder, &report, report_options, || report_interrupt.is_raised()) {
            Ok(notes) => {
                notes.iter().for_each(console::note);
                console::wrote(&report);
            }
            Err(error) => console::note(format_args!(
                "no report was written: {error:#}; `trainer report {}` tries again",
                folder.display()
            )),
        }
        if let Some(teacher) = teacher
            && let Err(error) = print_comparison(teacher, &folder, &data, &val, device)
        {
            console::note(format_args!("teacher and student were not compared: {error:#}"));
        }
        console::print_result(&folder.join(BEST).display().to_string())
    }

    /// Writes a picture of the first batch that a new run would train on.
    fn write_first_batch(&self, path: &Path, threads: &LoaderThreads) -> Result<()> {
        let is_png = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
        ensure!(is_png, "--show-batch {}: the file is a PNG; choose a name that ends in .png", path.display());
        let NewRun { recipe, data, dataset, initial_weights, devices, .. } = self.check_new_run()?;
        let preprocessing = &initial_weights.metadata().preprocessing;
        let batch = FirstBatch::load(&recipe, &dataset, preprocessing, devices.len(), threads);
        batch.skipped.iter().for_each(|skipped| {
            console::note(format_args!("skipped {}: {}", skipped.location, skipped.reason));
        });
        let grid = batch.grid().with_context(|| {
            format!(
                "none of the {} photos of the first batch could be decoded; check {}",
                recipe.batch_size,
                data.display()
            )
        })?;
        std::fs::write(path, grid.to_png()).with_context(|| format!("cannot write {}", path.display()))?;
        console::wrote(path);
        for (index, row) in batch.rows().enumerate() {
            let targets: Vec<_> = row.iter().map(|target| target.text(&dataset.classes)).collect();
            console::print_result(&format!("row {}: {}", index + 1, targets.join(", ")))?;
        }
        Ok(())
    }

    fn new_run(&self) -> Result<PreparedRun> {
        let NewRun { recipe, data, dataset, initial_weights, distillation, devices } = self.check_new_run()?;
        let run_folder = RunFolder::create(self.output.clone(), &self.recipe)?;
        run_folder.write_setup(&RunSetup {
            photos: dataset.fingerprint(&data),
            data: data.clone(),
            val_split: self.val_split,
            device: self.device.map(|device| device.to_string()),
            gpus: self.gpus,
            replicas: self.replicas,
            teacher: distillation.recorded_teacher(),
            unlabelled: distillation.recorded_photos,
        })?;
        let teacher = distillation.teacher;
        Ok(PreparedRun { recipe, data, dataset, initial_weights, teacher, state: None, devices, run_folder })
    }

    fn check_new_run(&self) -> Result<NewRun> {
        let devices = self.devices()?;
        let recipe = Recipe::resolve(&self.recipe, &self.recipe_overrides())?.with_absolute_paths()?;
        let recipe = with_distillation_keys(recipe, self.distillation.as_ref())?;
        let checkpoint = open_initial_checkpoint(&recipe)?;
        let known = checkpoint.as_ref().map_or(&[][..], |checkpoint| &checkpoint.metadata().classes);
        let data = std::path::absolute(self.data.as_deref().unwrap_or(Path::new("data")))?;
        let mut dataset = Dataset::open(&data, self.val_split, recipe.seed, known)?;
        let distillation = DistillationInputs::open(self.distillation.as_ref(), &mut dataset)?;
        let initial_weights = initial_weights(&recipe, checkpoint, &dataset.classes)?;
        let initial_weights = match &distillation.teacher {
            Some(teacher) => teacher.describe_student(initial_weights, recipe.checkpoint.is_none())?,
            None => initial_weights,
        };
        // The run's recipe records the image size that the checkpoint determined.
        let recipe = Recipe { image_size: Some(initial_weights.metadata().preprocessing.crop), ..recipe };
        ensure!(dataset.classes.len() > 1, "{} has only one class; at least two are required", data.display());
        recipe.check_photo_count(dataset.training_count())?;
        recipe.check_replicas(devices.len())?;
        recipe.check_class_count(dataset.classes.len())?;
        Ok(NewRun { recipe, data, dataset, initial_weights, distillation, devices })
    }

    fn resume_run(&self, folder: &Path) -> Result<PreparedRun> {
        let setup = RunFolder::setup(folder)?;
        let RunSetup { data: recorded_data, val_split, photos, device, gpus, replicas, .. } = setup.clone();
        let devices = if (self.device, self.gpus, self.replicas) == (None, None, None) {
            let device = device.map(|name| name.parse()).transpose()?;
            replica_devices(device.unwrap_or_default(), gpus, replicas)?
        } else {
            self.devices()?
        };
        let recipe = Recipe::resolve(&folder.join("recipe.toml").display().to_string(), &[])?;
        recipe.check_replicas(devices.len())?;
        let (run_folder, state) = RunFolder::reopen(folder)?;
        let data = self.data.clone().unwrap_or(recorded_data);
        let mut dataset = Dataset::open(&data, val_split, recipe.seed, &state.metadata.classes)?;
        ensure!(
            dataset.classes == state.metadata.classes && dataset.fingerprint(&data) == photos,
            "photos in {} differ from those that the run was trained on; start a new run",
            data.display()
        );
        let distillation = DistillationInputs::reopen(self.distillation.as_ref(), &setup, &mut dataset)?;
        let teacher = distillation.teacher;
        ensure!(
            teacher.is_some() == recipe.distils(),
            "recipe.toml and setup.toml in {} disagree about a teacher; restore them, or start a new run",
            folder.display()
        );
        let initial_weights = Checkpoint::new(state.metadata.clone(), state.learner.network.clone())?;
        Ok(PreparedRun { recipe, data, dataset, initial_weights, teacher, state: Some(state), devices, run_folder })
    }

    fn devices(&self) -> Result<Vec<ReplicaDevice>> {
        replica_devices(self.device.unwrap_or_default(), self.gpus, self.replicas)
    }

    /// Returns the changes to the recipe: those of `--set`, then those of the flags.
    fn recipe_overrides(&self) -> Vec<RecipeOverride> {
        let number = |value: Option<u32>| value.map(|value| Value::Integer(value.into()));
        let text = |value: &Option<String>| value.clone().map(Value::String);
        let flags = [
            ("checkpoint", text(&self.checkpoint)),
            ("architecture", text(&self.architecture)),
            ("epochs", number(self.epochs)),
            ("batch-size", number(self.batch_size)),
            ("image-size", number(self.image_size)),
            ("precision", text(&self.precision)),
            ("seed", number(self.seed)),
        ];
        let flags = flags.into_iter().filter_map(|(key, value)| Some((key.to_owned(), Some(value?))));
        self.set.iter().cloned().chain(flags).collect()
    }
}
