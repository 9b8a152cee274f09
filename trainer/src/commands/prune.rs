//! `trainer prune`: removes weights or channels of a checkpoint, and fine-tunes the rest.

use super::arguments::fraction;
use super::compare;
use super::validation_photos::report_skipped;
use crate::comparison::{Candidate, Comparison, EngineSettings};
use crate::console;
use crate::data::{
    CacheSize, DataLoader, Dataset, LoaderThreads, Sample, SampleLoader, evaluation_samples, loader_threads,
    shuffled_batches,
};
use crate::pruning::{
    Budget, Criterion, FineTuning, GroupImportance, GroupSensitivity, Method, PruningRounds, gzip_bytes, sensitivities,
    zero_fraction,
};
use crate::recipe::{self, RecipeOverride};
use crate::training::Interrupt;
use crate::weights_file::{check_output, open_checkpoint, save};
use anyhow::{Context, Result, bail, ensure};
use bytesize::ByteSize;
use checkpoints::CheckpointSource;
use clap::Args;
use model::architecture::Architecture;
use model::checkpoint::{Checkpoint, write_atomically};
use model::engine::{Device, EngineOptions};
use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Number of photos from which the Taylor importance is estimated, and their batch size.
const IMPORTANCE_PHOTOS: usize = 512;
const IMPORTANCE_BATCH: usize = 16;
/// Batch size of the comparison.
const COMPARISON_BATCH: NonZero<usize> = NonZero::new(16).expect("16 is not zero");
/// Number of rounds if there are as many epochs.
const DEFAULT_ROUNDS: usize = 3;
/// Interval at which the state of fine-tuning is saved within an epoch.
const SAVE_EVERY: Duration = Duration::from_secs(600);

/// Remove weights or channels of a checkpoint, and fine-tune the rest
///
/// With --structured, whole channels are removed until the network is within --macs, --params or --milliseconds. The result is a
/// smaller and faster network, which every command, the server and the web page load. With --unstructured, single weights
/// become zero, which makes nothing faster.
///
/// Pruning alternates with fine-tuning in --rounds. A process that was interrupted or killed is continued by the same command.
/// At the end, `trainer compare` compares the checkpoints before and after. ResNeXt's grouped convolutions keep their channels.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Prune {
    /// Checkpoint to prune: a file, or the name of a bundled checkpoint. It is not modified
    #[arg(value_name = "FILE|NAME")]
    checkpoint: CheckpointSource,
    /// Checkpoint to write, in f32: .safetensors
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Remove single weights: the fraction of the weights of all convolutions that becomes zero, those with the smallest
    /// magnitudes first
    #[arg(long, value_name = "FRACTION", value_parser = fraction, required_unless_present = "structured")]
    unstructured: Option<f64>,
    /// Remove whole channels
    #[arg(long, conflicts_with = "unstructured", requires_all = ["budget", "data"])]
    structured: bool,
    #[command(flatten)]
    budget: BudgetArgs,
    /// Importance of a channel: the change of the loss without it, estimated from the gradients of 512 training photos; the
    /// norm of its filters; or the scale of its batch norms
    #[arg(long, value_enum, default_value_t = Criterion::Taylor, requires = "structured")]
    importance: Criterion,
    /// Dataset, as of `trainer train`, with the classes of the checkpoint
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Fraction of each class to hold out for validation, if the dataset has no val
    #[arg(long, value_name = "FRACTION", value_parser = fraction, requires = "data")]
    val_split: Option<f64>,
    /// Number of epochs of fine-tuning, over all rounds; 0 skips it [default: that of the recipe with --data, otherwise 0]
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Number of rounds of pruning and fine-tuning [default: 3, but at most one per epoch]
    #[arg(long, value_name = "N")]
    rounds: Option<NonZero<usize>>,
    /// Recipe of fine-tuning: a name or a TOML file, as for `trainer train`
    #[arg(long, value_name = "NAME|FILE", default_value = "prune-finetune")]
    recipe: String,
    /// Set any key of the recipe, such as learning-rate=0.005, or remove it (KEY=); may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = recipe::parse_override)]
    set: Vec<RecipeOverride>,
    /// Device to fine-tune on: cpu, flex, or, if compiled in, wgpu[:N] or cuda[:N]
    #[arg(long, value_name = "DEVICE", default_value_t)]
    device: Device,
    /// Number of validation photos for the table of sensitivities; 0 leaves it out
    #[arg(long, value_name = "N", default_value_t = 256, requires = "structured")]
    sensitivity_photos: usize,
    /// Folder of intermediate results, from which a killed process is continued [default: that of the output, with `-work`
    /// after the name of the output]
    #[arg(long, value_name = "FOLDER")]
    work: Option<PathBuf>,
}

/// What the pruned network may cost.
#[derive(Args)]
#[group(id = "budget", multiple = false)]
struct BudgetArgs {
    /// Fraction of the multiply-adds that remains
    #[arg(long, value_name = "FRACTION", value_parser = fraction, requires = "structured")]
    macs: Option<f64>,
    /// Fraction of the parameters that remains
    #[arg(long, value_name = "FRACTION", value_parser = fraction, requires = "structured")]
    params: Option<f64>,
    /// Time for one photo with device cpu, measured on this machine
    #[arg(long, value_name = "MS", value_parser = milliseconds, requires = "structured")]
    milliseconds: Option<f64>,
}

const EXAMPLES: &str = "\
Examples:
  trainer prune resnet18-imagenette --data imagenette --structured --macs 0.5 --epochs 10 --output half.safetensors
  trainer prune resnet18-imagenette --data imagenette --structured --milliseconds 8 --epochs 10 --output fast.safetensors
  trainer prune resnet18-imagenette --data imagenette --structured --params 0.3 --importance l2 --epochs 0 --output small.safetensors
  trainer prune resnet18-imagenette --unstructured 0.3 --output sparse.safetensors";

fn milliseconds(text: &str) -> Result<f64> {
    match text.parse() {
        Ok(milliseconds) if milliseconds > 0.0 && milliseconds < 1e6 => Ok(milliseconds),
        _ => bail!("expected a number of milliseconds, such as 8.5"),
    }
}

/// The photos that pruning needs.
struct Photos {
    /// `None` if neither fine-tuning nor the importance needs training photos.
    train: Option<Arc<[Sample]>>,
    val: Arc<[Sample]>,
    seed: u64,
}

impl Prune {
    /// Prunes. All arguments are validated before anything is written.
    pub fn run(self) -> Result<()> {
        check_output(&self.checkpoint, &self.output)?;
        let original = open_checkpoint(&self.checkpoint)?;
        let method = self.method(&original.architecture())?;
        let (threads, interrupt) = (loader_threads(None)?, Interrupt::default());
        let fine_tuning = self.fine_tuning(&threads, &interrupt)?;
        let epochs = self.epochs(fine_tuning.as_ref())?;
        let rounds = self.rounds.map_or(DEFAULT_ROUNDS.min(epochs).max(1), NonZero::get);
        ensure!(
            epochs == 0 || rounds <= epochs,
            "--rounds {rounds} needs at least as many epochs of fine-tuning; set --epochs"
        );
        let photos = fine_tuning.as_ref().map(|tuning| self.photos(tuning, &original, epochs)).transpose()?;
        interrupt.listen(console::note)?;

        let pruning = PruningRounds {
            method,
            rounds,
            epochs,
            original: &original,
            name: self.checkpoint.name(),
            fine_tuning: fine_tuning.as_ref(),
            work: self.work_folder(),
        };
        let lock = pruning.open_work_folder()?;
        if let (Method::Channels { criterion, .. }, Some(photos)) = (method, &photos) {
            self.print_sensitivities(&pruning, criterion, photos, &threads, &interrupt)?;
        }
        let load = |checkpoint: &Checkpoint| {
            let photos = photos.as_ref().expect("--structured requires --data");
            photos.load_for_importance(checkpoint, &threads)
        };
        let pruned = pruning.run(&lock, load)?;
        save(&pruned, &self.checkpoint, &self.output)?;
        match method {
            Method::SingleWeights(_) => self.print_zeros(&original, &pruned)?,
            Method::Channels { .. } => console::print_result(&widths_table(&original, &pruned))?,
        }
        if let Some(photos) = &photos {
            self.print_comparison(&photos.val)?;
        }
        if epochs == 0 {
            // Nothing in it is worth keeping: there are no logs and metrics of fine-tuning.
            fs::remove_dir_all(&pruning.work).ok();
        } else {
            console::status(format_args!("{} can be removed", pruning.work.display()));
        }
        console::print_result(&self.output.display().to_string())
    }

    fn method(&self, architecture: &Architecture) -> Result<Method> {
        let BudgetArgs { macs, params, milliseconds } = self.budget;
        let budget = macs.map(Budget::Macs).or(params.map(Budget::Params));
        let budget = budget.or(milliseconds.map(Budget::Milliseconds));
        match (self.unstructured, budget) {
            (Some(amount), None) => Ok(Method::SingleWeights(amount)),
            (None, Some(budget)) => Ok(Method::Channels { budget, criterion: self.importance }),
            _ => bail!("cannot prune {architecture}: choose --unstructured, or --structured with one budget"),
        }
    }

    /// Returns how networks are fine-tuned, if there are photos.
    fn fine_tuning(&self, threads: &LoaderThreads, interrupt: &Interrupt) -> Result<Option<FineTuning>> {
        let Some(data) = &self.data else { return Ok(None) };
        // Without it, fine-tuning would undo the pruning of single weights.
        let keep_zeros = self.unstructured.map(|_| ("keep-zeros".to_owned(), Some(toml::Value::Boolean(true))));
        Ok(Some(FineTuning {
            recipe: self.recipe.clone(),
            overrides: self.set.iter().cloned().chain(keep_zeros).collect(),
            data: std::path::absolute(data)?,
            val_split: self.val_split,
            device: self.device,
            threads: threads.clone(),
            cache: CacheSize::Auto,
            save_every: SAVE_EVERY,
            interrupt: interrupt.clone(),
        }))
    }

    fn epochs(&self, fine_tuning: Option<&FineTuning>) -> Result<usize> {
        match (self.epochs, fine_tuning) {
            (None | Some(0), None) => Ok(0),
            (Some(_), None) => bail!("--epochs needs photos to train on; choose them with --data"),
            (Some(epochs), Some(_)) => Ok(epochs),
            (None, Some(tuning)) => Ok(recipe::Recipe::resolve(&tuning.recipe, &tuning.overrides)?.epochs),
        }
    }

    fn photos(&self, tuning: &FineTuning, original: &Checkpoint, epochs: usize) -> Result<Photos> {
        let recipe = tuning.recipe(Path::new("checkpoint.safetensors"), epochs.max(1))?;
        let classes = &original.metadata().classes;
        let needs_training = epochs > 0 || (self.structured && self.importance == Criterion::Taylor);
        if !needs_training && self.val_split.is_none() {
            let val = evaluation_samples(&tuning.data, classes)?.into();
            return Ok(Photos { train: None, val, seed: recipe.seed });
        }
        let Dataset { train, val, .. } = tuning.open_photos(recipe.seed, classes)?;
        if epochs > 0 {
            recipe.check_photo_count(train.len())?;
        }
        Ok(Photos { train: Some(train), val, seed: recipe.seed })
    }

    fn work_folder(&self) -> PathBuf {
        self.work.clone().unwrap_or_else(|| {
            let name = self.output.file_stem().unwrap_or_default().to_string_lossy();
            self.output.with_file_name(format!("{name}-work"))
        })
    }

    /// Prints the table of sensitivities of the original checkpoint, which is kept in the work folder.
    fn print_sensitivities(
        &self,
        pruning: &PruningRounds,
        criterion: Criterion,
        photos: &Photos,
        threads: &LoaderThreads,
        interrupt: &Interrupt,
    ) -> Result<()> {
        if self.sensitivity_photos == 0 {
            return Ok(());
        }
        let file = pruning.work.join("sensitivity.txt");
        if let Ok(table) = fs::read_to_string(&file) {
            return console::print_result(&table);
        }
        let original = pruning.original;
        let samples = spread(&photos.val, self.sensitivity_photos);
        console::status(format_args!("measuring the sensitivity of the layers on {} photos", samples.len()));
        let load = || photos.load_for_importance(original, threads);
        let importance = GroupImportance::compute(original, criterion, load)?;
        let (whole, rows) = sensitivities(original, &importance, &samples, threads, || interrupt.is_raised())?;
        let mut table = console::table();
        table.set_header(["channels of", "channels", "saved MACs", "top-1", "change", "loss"]);
        for GroupSensitivity { group, channels, saved, metrics } in rows {
            table.add_row([
                group.to_string(),
                channels.to_string(),
                format!("{:.1} %", 100.0 * saved),
                format!("{:.1} %", 100.0 * metrics.top1),
                format!("{:+.1}", 100.0 * (metrics.top1 - whole.top1)),
                format!("{:.3}", metrics.loss),
            ]);
        }
        console::align_right(&mut table, 1..6);
        let text = format!(
            "without half of the channels of one layer, and no fine-tuning ({whole} with all, on {} photos):\n{}\n",
            whole.photos,
            table.trim_fmt()
        );
        write_atomically(&file, text.as_bytes()).with_context(|| format!("cannot write {}", file.display()))?;
        console::print_result(&text)
    }

    /// Prints how many weights are zero, and what that saves.
    fn print_zeros(&self, original: &Checkpoint, pruned: &Checkpoint) -> Result<()> {
        // Both in f32, so that without fine-tuning the sizes differ by the zeros only.
        let original = Checkpoint::new(original.metadata().clone(), original.clone().into_values())?;
        let [before, after] = [&original, pruned].map(Checkpoint::to_bytes);
        let [gzip_before, gzip_after] = [gzip_bytes(&before)?, gzip_bytes(&after)?];
        let size = |bytes: u64| ByteSize(bytes).display().si();
        console::print_result(&format!(
            "{:.2} % of the weights of the convolutions are zero. This makes nothing faster, and the file no smaller: the \
             engines multiply by zeros as by any other number.\n\
             Only compression saves something: gzip reduces the file of {} to {} ({:+.1} % compared with \
             {} for the original checkpoint in f32).\n",
            100.0 * zero_fraction(pruned),
            size(after.len() as u64),
            size(gzip_after),
            100.0 * (gzip_after as f64 / gzip_before as f64 - 1.0),
            size(gzip_before),
        ))
    }

    /// Prints the table of `trainer compare` before and after.
    fn print_comparison(&self, samples: &[Sample]) -> Result<()> {
        let output = CheckpointSource::File(self.output.clone());
        let candidates = Candidate::open_all(&[self.checkpoint.clone(), output])?;
        let settings =
            EngineSettings { device: Device::Cpu, options: EngineOptions::default(), batch_size: COMPARISON_BATCH };
        let data = self.data.as_deref().unwrap_or(Path::new(""));
        let mut comparison = Comparison::compute(&candidates, data, samples, settings)?;
        report_skipped(&comparison.skipped_files);
        comparison.measure_times(&candidates, settings)?;
        console::print_result(&(compare::summary_text(&comparison) + "\n"))
    }
}

impl Photos {
    /// Starts to load the training photos from which the importance of channels is estimated.
    fn load_for_importance(&self, checkpoint: &Checkpoint, threads: &LoaderThreads) -> DataLoader {
        let train = self.train.clone().expect("the importance needs training photos");
        let batch = IMPORTANCE_BATCH.min(train.len());
        let mut batches = shuffled_batches(train.len(), batch, 1, self.seed, 0);
        batches.truncate(IMPORTANCE_PHOTOS / IMPORTANCE_BATCH);
        let loader = SampleLoader::for_evaluation(train, &checkpoint.metadata().preprocessing);
        DataLoader::new(loader, batches, threads.clone())
    }
}

/// Returns at most `count` samples, evenly spread.
fn spread(samples: &[Sample], count: usize) -> Arc<[Sample]> {
    let count = count.min(samples.len());
    (0..count).map(|index| samples[index * samples.len() / count].clone()).collect()
}

/// Returns a table of the numbers of channels before and after.
fn widths_table(before: &Checkpoint, after: &Checkpoint) -> String {
    let [before, after] = [before, after].map(Checkpoint::architecture);
    let mut table = console::table();
    table.set_header(["channels of", "before", "after"]);
    for group in before.channel_groups() {
        table.add_row([
            group.to_string(),
            before.widths().get(group).to_string(),
            after.widths().get(group).to_string(),
        ]);
    }
    console::align_right(&mut table, 1..3);
    table.trim_fmt() + "\n"
}
