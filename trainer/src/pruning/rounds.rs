//! Iterative pruning: rounds that each remove a part, and fine-tune the rest. A process that was killed is continued by
//! another one with the same settings.
//!
//! Each round leaves two files in the work folder: `round-N-pruned.safetensors`, and after fine-tuning
//! `round-N.safetensors`. Both are written atomically, so a file that exists is complete. The states of fine-tuning are
//! in the folder `round-N-training` until the round has ended.

use super::channel_importance::{Criterion, GroupImportance};
use super::fine_tuning::FineTuning;
use super::narrowing::narrow;
use super::selection::{Budget, select_channels};
use super::single_weights::prune_single_weights;
use crate::console;
use crate::data::DataLoader;
use anyhow::{Context, Result, anyhow, ensure};
use model::checkpoint::{Checkpoint, Metadata, write_atomically};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// File of the work folder that holds the settings, by which a later process recognises them.
const SETTINGS: &str = "prune.toml";

/// What a round removes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Single weights: the fraction of the weights of all convolutions that is zero in the end.
    SingleWeights(f64),
    /// Channels.
    Channels { budget: Budget, criterion: Criterion },
}

/// Iterative pruning of a checkpoint.
pub struct PruningRounds<'a> {
    pub method: Method,
    /// Number of rounds.
    pub rounds: usize,
    /// Number of epochs of fine-tuning, over all rounds.
    pub epochs: usize,
    pub original: &'a Checkpoint,
    /// Name of the original checkpoint, for the provenance of the pruned one.
    pub name: String,
    pub fine_tuning: Option<&'a FineTuning>,
    /// Folder of the intermediate results.
    pub work: PathBuf,
}

/// Excludes other processes from a work folder.
pub struct WorkFolderLock {
    _file: File,
}

/// The settings that must not change between a process and the one that continues its work.
#[derive(PartialEq, Serialize, Deserialize)]
struct Settings {
    version: String,
    checkpoint: String,
    rounds: usize,
    epochs: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipe: Option<String>,
    method: Method,
}

impl PruningRounds<'_> {
    /// Prunes, and returns the pruned checkpoint. `load` starts to load photos for the importance of channels.
    ///
    /// # Errors
    /// Returns an error if the budget cannot be met, or if fine-tuning fails or is interrupted; the same call then continues.
    pub fn run(&self, _folder: &WorkFolderLock, load: impl Fn(&Checkpoint) -> DataLoader) -> Result<Checkpoint> {
        let mut checkpoint = self.original.clone();
        for round in 1..=self.rounds {
            checkpoint = self.round(round, checkpoint, &load)?;
        }
        let before = self.original.metadata().provenance.as_deref();
        let suffix = before.map_or_else(String::new, |before| format!(": {before}"));
        let verb = if self.epochs > 0 { "pruned and fine-tuned" } else { "pruned" };
        let provenance = Some(format!("{verb} by `trainer prune`, from {}{suffix}", self.name));
        let metadata = Metadata { provenance, ..checkpoint.metadata().clone() };
        Ok(checkpoint.with_metadata(metadata)?)
    }

    fn round(
        &self,
        round: usize,
        checkpoint: Checkpoint,
        load: &impl Fn(&Checkpoint) -> DataLoader,
    ) -> Result<Checkpoint> {
        let [done, pruned_file, training] = ["", "-pruned", "-training"].map(|suffix| {
            let extension = if suffix == "-training" { "" } else { ".safetensors" };
            self.work.join(format!("round-{round}{suffix}{extension}"))
        });
        if done.exists() {
            return Ok(Checkpoint::from_path(&done)?);
        }
        let pruned = if pruned_file.exists() {
            Checkpoint::from_path(&pruned_file)?
        } else {
            console::status(format_args!("round {round} of {}: pruning", self.rounds));
            let pruned = self.prune(round, checkpoint, load)?;
            pruned.save(&pruned_file)?;
            pruned
        };
        let epochs = self.epochs * round / self.rounds - self.epochs * (round - 1) / self.rounds;
        let result = match self.fine_tuning.filter(|_| epochs > 0) {
            Some(fine_tuning) => {
                console::status(format_args!("round {round} of {}: fine-tuning for {epochs} epochs", self.rounds));
                let context = || {
                    format!(
                        "fine-tuning ended in round {round}; the same command continues from {}",
                        self.work.display()
                    )
                };
                fine_tuning.run(&pruned_file, &training, epochs).with_context(context)?
            }
            None => pruned,
        };
        result.save(&done)?;
        if training.exists() {
            // Its states are many times as large as the checkpoint, and no longer needed.
            fs::remove_dir_all(training.join("states")).ok();
        }
        Ok(result)
    }

    fn prune(
        &self,
        round: usize,
        checkpoint: Checkpoint,
        load: &impl Fn(&Checkpoint) -> DataLoader,
    ) -> Result<Checkpoint> {
        let pruned = match self.method {
            Method::SingleWeights(amount) => {
                // Every round keeps the same fraction of the weights.
                let amount = 1.0 - (1.0 - amount).powf(round as f64 / self.rounds as f64);
                prune_single_weights(checkpoint, if round == self.rounds { self.amount() } else { amount })?
            }
            Method::Channels { budget, criterion } => {
                let budget = budget.of_round(round, self.rounds, self.original)?;
                let importance = GroupImportance::compute(&checkpoint, criterion, || load(&checkpoint))?;
                let original = self.original.architecture();
                let kept = select_channels(&checkpoint, &importance, budget, &original)?;
                narrow(&checkpoint, &kept)?
            }
        };
        // Neither calibration nor metrics are valid for the weights after pruning.
        let metadata = Metadata {
            temperature: None,
            rejection_threshold: None,
            recipe: None,
            metrics: None,
            ..pruned.metadata().clone()
        };
        Ok(pruned.with_metadata(metadata)?)
    }

    fn amount(&self) -> f64 {
        match self.method {
            Method::SingleWeights(amount) => amount,
            Method::Channels { .. } => 0.0,
        }
    }

    /// Creates the work folder with the settings, or checks that it has the same ones, and locks it.
    ///
    /// # Errors
    /// Returns an error if the folder belongs to other settings, or is in use.
    pub fn open_work_folder(&self) -> Result<WorkFolderLock> {
        let path = self.work.join(SETTINGS);
        let context = || format!("cannot write {}", path.display());
        let settings = self.settings()?;
        if path.exists() {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let is_same = toml::from_str::<Settings>(&text).is_ok_and(|other| other == settings);
            ensure!(
                is_same,
                "{} belongs to a pruning with other settings; repeat its command to continue it, or choose another folder \
                 with --work",
                self.work.display()
            );
            console::status(format_args!("continuing the pruning in {}", self.work.display()));
        } else {
            crate::output_folder::create_empty(&self.work, "--work")?;
            write_atomically(&path, toml::to_string(&settings)?.as_bytes()).with_context(context)?;
        }
        let file = File::open(&path).with_context(context)?;
        file.try_lock().map_err(|_| anyhow!("another process is pruning in {}", self.work.display()))?;
        Ok(WorkFolderLock { _file: file })
    }

    fn settings(&self) -> Result<Settings> {
        let recipe = |fine_tuning: &FineTuning| fine_tuning.recipe(Path::new("checkpoint.safetensors"), 1)?.to_toml();
        Ok(Settings {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            checkpoint: hex::encode(&Sha256::digest(self.original.to_bytes())[..16]),
            rounds: self.rounds,
            epochs: self.epochs,
            data: self.fine_tuning.map(|fine_tuning| fine_tuning.data.clone()),
            recipe: self.fine_tuning.map(recipe).transpose()?,
            method: self.method,
        })
    }
}
