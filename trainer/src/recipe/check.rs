//! Validation of the values of a recipe and of their combinations.

use super::{ClassWeights, OptimiserKind, Recipe, ScheduleKind, TrainedLayers, TrainingPrecision};
use anyhow::{Context, Result, bail, ensure};
use model::architecture::{Architecture, Stem};

impl Recipe {
    /// Checks that the training photos fill at least one batch.
    ///
    /// # Errors
    /// Returns an error if `count` is less than the batch size.
    pub fn check_photo_count(&self, count: usize) -> Result<()> {
        ensure!(
            count >= self.batch_size,
            "`batch-size` is {}, but there are only {count} training photos",
            self.batch_size
        );
        Ok(())
    }

    /// Checks that a batch can be divided among `replicas` replicas.
    ///
    /// # Errors
    /// Returns an error if the parts would differ in size, or have fewer than two photos.
    pub fn check_replicas(&self, replicas: usize) -> Result<()> {
        let parts = replicas * self.accumulate;
        // Batch norm needs at least two samples.
        ensure!(
            self.batch_size.is_multiple_of(parts) && self.batch_size >= 2 * parts,
            "`batch-size` is {}; with `accumulate` = {} and {replicas} replicas it must be a multiple of {parts}, and at \
             least {}",
            self.batch_size,
            self.accumulate,
            2 * parts
        );
        Ok(())
    }

    /// Checks the number of class weights.
    ///
    /// # Errors
    /// Returns an error if the recipe lists weights for a number of classes other than `count`.
    pub fn check_class_count(&self, count: usize) -> Result<()> {
        if let Some(ClassWeights::Each(weights)) = &self.class_weights {
            ensure!(weights.len() == count, "`class-weights` has {} weights for {count} classes", weights.len());
        }
        Ok(())
    }

    pub(super) fn check(&self) -> Result<()> {
        self.check_start()?;
        self.check_steps()?;
        self.check_learning_rate()?;
        self.check_optimiser()?;
        self.check_loss()?;
        self.check_augmentation()
    }

    fn check_start(&self) -> Result<()> {
        match (&self.checkpoint, &self.architecture) {
            (Some(_), Some(_)) => bail!("`checkpoint` and `architecture` are mutually exclusive: set only one of them"),
            (None, None) => {
                bail!("`checkpoint` (weights to start from) or `architecture` (random weights) must be set")
            }
            (None, Some(name)) => drop(Architecture::new(name, 1).context("`architecture`")?),
            (Some(_), None) => {}
        }
        let has_architecture = self.architecture.is_some();
        allowed_if("stem", self.stem.is_some(), "`architecture`", has_architecture)?;
        let head = self.layers == TrainedLayers::Head;
        allowed_if(
            "layers = \"head\"",
            head,
            "a `checkpoint` that provides the other layers",
            self.checkpoint.is_some(),
        )?;
        // Every recipe sets crops and flips, which have no effect with `layers = "head"`; they are ignored. Other keys
        // without effect are rejected.
        for (key, is_set) in [
            ("train-sizes", !self.train_sizes.is_empty()),
            ("gradient-checkpointing", self.gradient_checkpointing),
            ("keep-zeros", self.keep_zeros),
            ("precision", self.precision != TrainingPrecision::F32),
            ("color-jitter", self.color_jitter.is_some()),
            ("auto-augment", self.auto_augment.is_some()),
            ("random-erasing", self.random_erasing > 0.0),
            ("mixup-alpha", self.mixup_alpha > 0.0),
            ("cutmix-alpha", self.cutmix_alpha > 0.0),
            ("repetitions", self.repetitions > 1),
            ("distillation-weight", self.distils()),
        ] {
            allowed_if(key, is_set, "`layers` = \"all\"", !head)?;
        }
        Ok(())
    }

    fn check_steps(&self) -> Result<()> {
        check_range("image-size", self.image_size.map_or(32.0, f64::from), 32.0, 1024.0)?;
        let min = self.image_size.unwrap_or(32);
        check_range("resize", f64::from(self.resize.unwrap_or(min)), f64::from(min), 2048.0)?;
        check_range("epochs", self.epochs as f64, 1.0, 1e6)?;
        check_range("batch-size", self.batch_size as f64, 2.0, 65536.0)?;
        check_range("accumulate", self.accumulate as f64, 1.0, 65536.0)?;
        self.check_replicas(1)?;
        ensure!(self.seed <= i64::MAX as u64, "`seed` is {}; valid values are 0 to {}", self.seed, i64::MAX);
        for (index, &(epoch, side)) in self.train_sizes.iter().enumerate() {
            check_range("train-sizes", f64::from(side), 32.0, 1024.0)?;
            let before = if index == 0 { 0 } else { self.train_sizes[index - 1].0 };
            ensure!(
                if index == 0 { epoch == 1 } else { epoch > before },
                "`train-sizes` must be pairs [first epoch, side in pixels] whose epochs start at 1 and increase"
            );
            ensure!(epoch <= self.epochs, "`train-sizes` names epoch {epoch}, but `epochs` is {}", self.epochs);
        }
        check_range("early-stopping", self.early_stopping.unwrap_or(1) as f64, 1.0, 1e6)
    }

    fn check_learning_rate(&self) -> Result<()> {
        ensure!(self.learning_rate > 0.0, "`learning-rate` is {}; it must be above 0", self.learning_rate);
        check_range("learning-rate", self.learning_rate, 0.0, 1000.0)?;
        check_range("warmup-epochs", self.warmup_epochs, 0.0, self.epochs as f64)?;
        check_range("warmup-factor", self.warmup_factor.unwrap_or(0.0), 0.0, 1.0)?;
        required_iff(
            "warmup-factor",
            self.warmup_factor.is_some(),
            "`warmup-epochs` above 0",
            self.warmup_epochs > 0.0,
        )?;
        let steps = self.schedule == ScheduleKind::Step;
        required_iff("step-epochs", self.step_epochs.is_some(), "`schedule` = \"step\"", steps)?;
        required_iff("step-factor", self.step_factor.is_some(), "`schedule` = \"step\"", steps)?;
        check_range("step-epochs", self.step_epochs.unwrap_or(1) as f64, 1.0, 1e6)?;
        check_range("step-factor", self.step_factor.unwrap_or(0.0), 0.0, 1.0)
    }

    fn check_optimiser(&self) -> Result<()> {
        let sgd = self.optimiser == OptimiserKind::Sgd;
        required_iff("momentum", self.momentum.is_some(), "`optimiser` = \"sgd\"", sgd)?;
        check_range("momentum", self.momentum.unwrap_or(0.0), 0.0, 0.9999)?;
        allowed_if(
            "nesterov",
            self.nesterov,
            "a `momentum` above 0",
            self.momentum.is_some_and(|momentum| momentum > 0.0),
        )?;
        allowed_if("betas", self.betas.is_some(), "`optimiser` = \"adamw\" or \"lamb\"", !sgd)?;
        allowed_if("epsilon", self.epsilon.is_some(), "`optimiser` = \"adamw\" or \"lamb\"", !sgd)?;
        for beta in self.betas.into_iter().flatten() {
            check_range("betas", beta, 0.0, 0.99999)?;
        }
        check_range("epsilon", self.epsilon.unwrap_or(1e-8), 1e-12, 1.0)?;
        check_range("weight-decay", self.weight_decay, 0.0, 1.0)?;
        check_range("clip-norm", self.clip_norm.unwrap_or(1.0), 1e-6, 1e6)?;
        check_range("ema-decay", self.ema_decay.unwrap_or(0.9), 0.0, 0.999_999)?;
        allowed_if("ema-steps", self.ema_steps.is_some(), "`ema-decay`", self.ema_decay.is_some())?;
        check_range("ema-steps", self.ema_steps.unwrap_or(1) as f64, 1.0, 1e6)
    }

    fn check_loss(&self) -> Result<()> {
        check_range("label-smoothing", self.label_smoothing, 0.0, 0.99)?;
        if let Some(ClassWeights::Each(weights)) = &self.class_weights {
            for &weight in weights {
                ensure!(weight > 0.0, "`class-weights` has {weight}; each must be above 0");
                check_range("class-weights", weight, 0.0, 1e6)?;
            }
        }
        let (temperature, weight) = (self.distillation_temperature, self.distillation_weight);
        required_iff("distillation-temperature", temperature.is_some(), "`distillation-weight`", weight.is_some())?;
        if let (Some(temperature), Some(weight)) = (temperature, weight) {
            check_range("distillation-temperature", temperature, 0.1, 100.0)?;
            ensure!(weight > 0.0, "`distillation-weight` is {weight}; it must be above 0");
            check_range("distillation-weight", weight, 0.0, 1.0)?;
        }
        Ok(())
    }

    fn check_augmentation(&self) -> Result<()> {
        let (crop, padding) = (self.crop_scale.is_some(), self.crop_padding.is_some());
        ensure!(
            crop || padding,
            "`crop-scale` or `crop-padding` is missing: one of them must define the training crop"
        );
        ensure!(!(crop && padding), "`crop-scale` and `crop-padding` are mutually exclusive: set only one of them");
        required_iff("crop-ratio", self.crop_ratio.is_some(), "`crop-scale`", crop)?;
        for (key, range, limit) in [("crop-scale", self.crop_scale, 1.0), ("crop-ratio", self.crop_ratio, 100.0)] {
            let [min, max] = range.unwrap_or([1.0, 1.0]);
            ensure!(min > 0.0, "`{key}` starts at {min}; it must be above 0");
            check_range(key, max, min, limit)?;
        }
        check_range("crop-padding", f64::from(self.crop_padding.unwrap_or(0)), 0.0, 512.0)?;
        check_range("flip", self.flip, 0.0, 1.0)?;
        if let Some([brightness, contrast, saturation, hue]) = self.color_jitter {
            for strength in [brightness, contrast, saturation] {
                check_range("color-jitter", strength, 0.0, 10.0)?;
            }
            check_range("color-jitter", hue, 0.0, 0.5).context("hue, the fourth value of `color-jitter`")?;
        }
        check_range("random-erasing", self.random_erasing, 0.0, 1.0)?;
        check_range("mixup-alpha", self.mixup_alpha, 0.0, 100.0)?;
        check_range("cutmix-alpha", self.cutmix_alpha, 0.0, 100.0)?;
        check_range("repetitions", self.repetitions as f64, 1.0, 64.0)
    }

    /// Returns the architecture to train from random weights, with `classes` classes.
    ///
    /// # Errors
    /// Returns an error if the recipe has no `architecture` or an unknown one.
    pub fn architecture(&self, classes: usize) -> Result<Architecture> {
        let name = self.architecture.as_deref().context("`architecture` is missing")?;
        let stem = self.stem.unwrap_or(Stem::Imagenet);
        Ok(Architecture { stem, ..Architecture::new(name, classes).context("`architecture`")? })
    }
}

fn check_range(key: &str, value: f64, min: f64, max: f64) -> Result<()> {
    ensure!((min..=max).contains(&value), "`{key}` is {value}; valid values are {min} to {max}");
    Ok(())
}

/// Rejects a key that is set although the condition under which it has an effect does not hold.
fn allowed_if(key: &str, is_set: bool, condition: &str, holds: bool) -> Result<()> {
    let name = key.split(' ').next().unwrap_or(key);
    ensure!(holds || !is_set, "`{key}` has no effect without {condition}; remove it with --set {name}=");
    Ok(())
}

/// Requires a key to be set if and only if the condition under which it has an effect holds.
fn required_iff(key: &str, is_set: bool, condition: &str, holds: bool) -> Result<()> {
    ensure!(is_set || !holds, "`{key}` is missing; it is required with {condition}");
    allowed_if(key, is_set, condition, holds)
}
