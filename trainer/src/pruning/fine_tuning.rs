//! Fine-tuning of a pruned network, in a folder of its own in which it can be resumed.

use crate::data::{CacheSize, Dataset, LoaderThreads, PhotoCache};
use crate::recipe::{Recipe, RecipeOverride};
use crate::replicas::replica_devices;
use crate::training::{
    BEST, Interrupt, RunFolder, RunSetup, SaveRequest, Training, TrainingState, initial_weights, open_display,
    open_initial_checkpoint,
};
use anyhow::{Context, Result, ensure};
use model::checkpoint::Checkpoint;
use model::engine::Device;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use toml::Value;

/// How pruned networks are fine-tuned.
pub struct FineTuning {
    /// Name or path of the recipe.
    pub recipe: String,
    pub overrides: Vec<RecipeOverride>,
    pub data: PathBuf,
    pub val_split: Option<f64>,
    pub device: Device,
    pub threads: LoaderThreads,
    pub cache: CacheSize,
    pub save_every: Duration,
    pub interrupt: Interrupt,
}

impl FineTuning {
    /// Returns the recipe of a run that starts from a checkpoint.
    ///
    /// # Errors
    /// Returns an error if the recipe or an override is invalid.
    pub fn recipe(&self, checkpoint: &Path, epochs: usize) -> Result<Recipe> {
        let fixed = [
            ("checkpoint", Value::String(checkpoint.display().to_string())),
            ("epochs", Value::Integer(epochs as i64)),
        ];
        let fixed = fixed.map(|(key, value)| (key.to_owned(), Some(value)));
        let overrides: Vec<_> = self.overrides.iter().cloned().chain(fixed).collect();
        Recipe::resolve(&self.recipe, &overrides)?.with_absolute_paths()
    }

    /// Opens the photos.
    ///
    /// # Errors
    /// Returns an error if there are no photos, or if their classes are not those of the checkpoint.
    pub fn open_photos(&self, seed: u64, classes: &[String]) -> Result<Dataset> {
        let dataset = Dataset::open(&self.data, self.val_split, seed, classes)?;
        ensure!(
            dataset.classes == classes,
            "the classes in {} are not those of the checkpoint; train it on them first",
            self.data.display()
        );
        Ok(dataset)
    }

    /// Trains the checkpoint in `folder`, or resumes the run that an earlier process started there, and returns the best
    /// weights by validation top-1.
    ///
    /// # Errors
    /// Returns an error if training fails or is interrupted. Saved states remain.
    pub fn run(&self, checkpoint: &Path, folder: &Path, epochs: usize) -> Result<Checkpoint> {
        let recipe = self.recipe(checkpoint, epochs)?;
        let start = open_initial_checkpoint(&recipe)?.context("the recipe has a checkpoint")?;
        let mut dataset = self.open_photos(recipe.seed, &start.metadata().classes)?;
        let devices = replica_devices(self.device, None, None)?;
        recipe.check_photo_count(dataset.train.len())?;
        recipe.check_replicas(devices.len())?;
        recipe.check_class_count(dataset.classes.len())?;
        let initial_weights = initial_weights(&recipe, Some(start), &dataset.classes)?;
        let recipe = Recipe { image_size: Some(initial_weights.metadata().preprocessing.crop), ..recipe };
        let (cache, _) = PhotoCache::new(&dataset.training_locations(), self.cache);
        dataset.cache = cache.map(Arc::new);
        let (run_folder, state) = self.open_folder(folder, &dataset)?;
        let initial_weights = match &state {
            Some(state) => Checkpoint::new(state.metadata.clone(), state.learner.network.clone())?,
            None => initial_weights,
        };
        let save_request = SaveRequest::default();
        let training = Training {
            recipe,
            dataset,
            initial_weights,
            teacher: None,
            state,
            run_folder,
            devices,
            threads: self.threads.clone(),
            interrupt: self.interrupt.clone(),
            display: open_display(false, &self.interrupt, &save_request)?,
            save_request,
            save_every: self.save_every,
        };
        training.run()?;
        Ok(Checkpoint::from_path(folder.join(BEST))?)
    }

    /// Opens the folder of a run with its last state, or creates it.
    fn open_folder(&self, folder: &Path, dataset: &Dataset) -> Result<(RunFolder, Option<TrainingState>)> {
        let photos = dataset.fingerprint(&self.data);
        if RunFolder::has_state(folder) {
            let setup = RunFolder::setup(folder)?;
            ensure!(
                setup.photos == photos,
                "photos in {} differ from those that the pruning was started on; choose another --work folder",
                self.data.display()
            );
            let (run_folder, state) = RunFolder::reopen(folder)?;
            return Ok((run_folder, Some(state)));
        }
        // A process that was killed before the first state has left nothing to resume from.
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        let run_folder = RunFolder::create(Some(folder.to_owned()), &self.recipe)?;
        run_folder.write_setup(&RunSetup {
            data: self.data.clone(),
            val_split: self.val_split,
            photos,
            unlabelled: None,
            teacher: None,
            device: Some(self.device.to_string()),
            gpus: None,
            replicas: None,
        })?;
        Ok((run_folder, None))
    }
}
