//! Training recipes: TOML files that hold all hyper-parameters of a training run.
//!
//! Command-line flags override the keys of a recipe. The result is validated and written to the folder of the run,
//! where it is a valid recipe itself.

mod check;
mod choices;

pub use choices::{
    AutoAugment, ClassWeights, NamedClassWeights, OptimiserKind, ScheduleKind, TrainedLayers, TrainingPrecision,
};

use anyhow::{Context, Result, anyhow, bail};
use checkpoints::CheckpointSource;
use model::architecture::Stem;
use model::preprocess::Preprocessing;
use serde::{Deserialize, Serialize};
use std::path::Path;
use toml::{Table, Value};

/// Recipes embedded in the program, with their names.
const BUILT_IN: [(&str, &str); 8] = [
    ("cifar", include_str!("../../recipes/cifar.toml")),
    ("distill", include_str!("../../recipes/distill.toml")),
    ("fast", include_str!("../../recipes/fast.toml")),
    ("finetune", include_str!("../../recipes/finetune.toml")),
    ("prune-finetune", include_str!("../../recipes/prune-finetune.toml")),
    ("torchvision-v1", include_str!("../../recipes/torchvision-v1.toml")),
    ("torchvision-v2", include_str!("../../recipes/torchvision-v2.toml")),
    ("tutorial", include_str!("../../recipes/tutorial.toml")),
];

/// A recipe; each field is a key. [`Recipe::resolve`] checks that the values are within their bounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Recipe {
    /// Checkpoint whose weights training starts from: a path, or the name of a bundled checkpoint. Mutually exclusive with
    /// `architecture`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointSource>,
    /// Architecture to train from randomly initialised weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// Stem of `architecture`. Default: the ImageNet stem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stem: Option<Stem>,
    /// Layers to train: all of them, or only the classifier.
    #[serde(default)]
    pub layers: TrainedLayers,

    /// Side of the network's input during validation and inference, in pixels. Default: that of the checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_size: Option<u32>,
    /// Length to which the short side of a photo is resized before the centre crop, for validation and inference, in
    /// pixels. Default: proportional to `image-size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<u32>,
    /// Progressive resizing: pairs of a first epoch and the side of the training images from that epoch on, in pixels.
    /// Default: `image-size` throughout.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub train_sizes: Vec<(usize, u32)>,
    /// Number of epochs.
    pub epochs: usize,
    /// Global batch size: number of photos per optimiser step, over all replicas.
    pub batch_size: usize,
    /// Number of micro-batches into which each replica splits its share of a batch; gradients are accumulated over
    /// them. Larger values need less memory.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// Seed of all random numbers of a run.
    pub seed: u64,
    /// Number format of the operands of convolutions.
    #[serde(default)]
    pub precision: TrainingPrecision,
    /// Recompute activations in the backward pass instead of storing them. Needs less memory and more time.
    #[serde(default)]
    pub gradient_checkpointing: bool,
    /// Stop after this many epochs without an improvement of the validation top-1 accuracy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<usize>,

    /// Optimiser: SGD, AdamW or LAMB.
    #[serde(default)]
    pub optimiser: OptimiserKind,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Learning-rate schedule after the warm-up.
    pub schedule: ScheduleKind,
    /// Number of epochs between two decays of the learning rate. Required by `schedule = "step"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_epochs: Option<usize>,
    /// Factor by which each decay multiplies the learning rate. Required by `schedule = "step"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_factor: Option<f64>,
    /// Number of epochs of linear warm-up before the schedule starts. They count towards `epochs`.
    #[serde(default)]
    pub warmup_epochs: f64,
    /// Fraction of the learning rate at which the warm-up starts. Required with `warmup-epochs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_factor: Option<f64>,
    /// Momentum of SGD. Required by `optimiser = "sgd"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// Use Nesterov momentum with SGD.
    #[serde(default)]
    pub nesterov: bool,
    /// Decay rates of the first and second moment estimates of AdamW and LAMB. Default: 0.9 and 0.999.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub betas: Option<[f64; 2]>,
    /// Term added to the denominator of AdamW and LAMB for numerical stability. Default: 1e-8 for AdamW, 1e-6 for LAMB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// Weight decay: L2 penalty for SGD, decoupled for AdamW and LAMB.
    pub weight_decay: f64,
    /// Apply weight decay also to the parameters of batch norms and to biases.
    pub decay_norms_and_biases: bool,
    /// Maximum norm of the gradient over all parameters; larger gradients are scaled down, as by
    /// `torch.nn.utils.clip_grad_norm_`. Default: no clipping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// Keep weights of convolutions at zero that are zero, as `trainer prune --unstructured` leaves them.
    #[serde(default)]
    pub keep_zeros: bool,
    /// Decay of an exponential moving average (EMA) of the weights. If set, the averaged weights are validated and
    /// saved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema_decay: Option<f64>,
    /// Number of steps between two updates of the EMA. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema_steps: Option<usize>,

    /// Label smoothing: fraction of each target that is distributed evenly over all classes.
    #[serde(default)]
    pub label_smoothing: f64,
    /// Weights of the classes in the loss: "balanced", or a list with one number per class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<ClassWeights>,
    /// Temperature of distillation, by which the logits of student and teacher are divided before softmax. Only for
    /// `trainer distill`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distillation_temperature: Option<f64>,
    /// Weight, in the loss of a student, of the divergence from the predictions of its teacher; the cross-entropy with the
    /// labels has the remaining weight. Only for `trainer distill`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distillation_weight: Option<f64>,

    /// Minimum and maximum area of a random resized crop, as fractions of the photo's area
    /// (`torchvision.transforms.RandomResizedCrop`). Mutually exclusive with `crop-padding`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop_scale: Option<[f64; 2]>,
    /// Minimum and maximum aspect ratio (width / height) of a random resized crop. Required with `crop-scale`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop_ratio: Option<[f64; 2]>,
    /// Width of the black border, in pixels, that is added to the centre crop before a random crop of the original size
    /// is taken (`torchvision.transforms.RandomCrop` with `padding`). Mutually exclusive with `crop-scale`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop_padding: Option<u32>,
    /// Probability of a horizontal flip.
    #[serde(default)]
    pub flip: f64,
    /// Strengths of random changes of brightness, contrast, saturation and hue (`torchvision.transforms.ColorJitter`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub color_jitter: Option<[f64; 4]>,
    /// Automatic augmentation policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_augment: Option<AutoAugment>,
    /// Probability that a random rectangle of a sample is erased (`torchvision.transforms.RandomErasing`).
    #[serde(default)]
    pub random_erasing: f64,
    /// Parameter of the beta distribution of mixup's mixing ratio (Zhang et al., 2018); 0 disables mixup.
    #[serde(default)]
    pub mixup_alpha: f64,
    /// Parameter of the beta distribution of CutMix's mixing ratio (Yun et al., 2019); 0 disables CutMix. If mixup and
    /// CutMix are both enabled, one of them is chosen for each sample with equal probability.
    #[serde(default)]
    pub cutmix_alpha: f64,
    /// Repeated augmentation (torchvision's `RASampler`): how many differently augmented copies of a sample an epoch
    /// contains. The length of an epoch does not change, so that it contains correspondingly fewer distinct samples.
    #[serde(default = "one")]
    pub repetitions: usize,
}

fn one() -> usize {
    1
}

/// A key of a recipe and its new value; `None` removes the key.
pub type RecipeOverride = (String, Option<Value>);

impl Recipe {
    /// Returns the names of the recipes embedded in the program.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// Loads the recipe with this name or path, and applies `overrides` to it.
    ///
    /// # Errors
    /// Returns an error if the recipe does not exist, or if a key is unknown, missing or invalid; the message names the
    /// key and its valid values.
    pub fn resolve(name: &str, overrides: &[RecipeOverride]) -> Result<Self> {
        let built_in = BUILT_IN.iter().find(|(known, _)| *known == name);
        let text = match built_in {
            Some((_, text)) => (*text).to_owned(),
            None => read(name)?,
        };
        let recipe = || format!("recipe {name}");
        let mut table: Table = text.parse().with_context(recipe)?;
        for (key, value) in overrides {
            // The two keys are mutually exclusive, and an override takes precedence over the recipe.
            match key.as_str() {
                "checkpoint" => table.remove("architecture"),
                "architecture" => table.remove("checkpoint"),
                _ => None,
            };
            match value {
                Some(value) => table.insert(key.clone(), value.clone()),
                None => table.remove(key),
            };
        }
        // The crate `toml` reports the key on a separate line; join the lines.
        let recipe: Recipe = table
            .try_into()
            .map_err(|error| anyhow!(error.to_string().trim_end().replace('\n', " ")).context(recipe()))?;
        recipe.check().with_context(|| format!("recipe {name}"))?;
        Ok(recipe)
    }

    /// Returns the preprocessing of the training images in `epoch`, counted from 1. `evaluation` is the preprocessing
    /// for validation and inference; its resize length is scaled in proportion to the image size of the epoch.
    pub fn training_preprocessing(&self, epoch: usize, evaluation: &Preprocessing) -> Preprocessing {
        let side = self.train_sizes.iter().rev().find(|(first, _)| *first <= epoch).map(|(_, side)| *side);
        let crop = side.unwrap_or(evaluation.crop);
        let resize = f64::from(evaluation.resize) * f64::from(crop) / f64::from(evaluation.crop);
        Preprocessing { crop, resize: resize.round() as u32, ..evaluation.clone() }
    }

    /// Makes the path of the checkpoint absolute, so that the recipe does not depend on the working directory.
    ///
    /// # Errors
    /// Returns an error if there is no working directory.
    pub fn with_absolute_paths(self) -> Result<Self> {
        Ok(Recipe { checkpoint: self.checkpoint.map(CheckpointSource::into_absolute).transpose()?, ..self })
    }

    /// Returns whether the network is the student of a teacher.
    pub fn distils(&self) -> bool {
        self.distillation_weight.is_some()
    }

    /// Sets the keys of distillation, if the recipe does not have them, to the values of RepDistiller
    /// (<https://github.com/HobbitLong/RepDistiller>).
    ///
    /// # Errors
    /// Returns an error if another key of the recipe excludes distillation.
    pub fn with_default_distillation(self) -> Result<Self> {
        if self.distils() {
            return Ok(self);
        }
        let recipe = Recipe { distillation_temperature: Some(4.0), distillation_weight: Some(0.9), ..self };
        recipe.check()?;
        Ok(recipe)
    }

    /// Returns whether the image of a photo is the same in all epochs: a centre crop, or one that is always flipped,
    /// without other augmentation.
    pub fn has_fixed_images(&self) -> bool {
        self.crop_padding == Some(0)
            && (self.flip == 0.0 || self.flip == 1.0)
            && self.train_sizes.len() <= 1
            && self.color_jitter.is_none()
            && self.auto_augment.is_none()
            && [self.random_erasing, self.mixup_alpha, self.cutmix_alpha] == [0.0; 3]
    }

    /// Serialises the recipe as TOML, which [`Recipe::resolve`] can read.
    pub fn to_toml(&self) -> Result<String> {
        Ok(toml::to_string(self)?)
    }
}

#[cfg(test)]
impl Recipe {
    /// Returns the recipe `finetune` with overrides in the form `KEY=VALUE`.
    pub fn finetune_with(changes: &[&str]) -> Self {
        let overrides: Vec<RecipeOverride> = changes.iter().map(|text| parse_override(text).unwrap()).collect();
        Recipe::resolve("finetune", &overrides).unwrap()
    }
}

fn read(name: &str) -> Result<String> {
    let known = Recipe::names().collect::<Vec<_>>().join(", ");
    if !Path::new(name).exists() {
        bail!("unknown recipe {name:?}: expected one of {known}, or the path of a TOML file");
    }
    std::fs::read_to_string(name).with_context(|| format!("cannot read recipe {name}"))
}

/// Parses `KEY=VALUE`, where the value is TOML; strings need no quotes. `KEY=` removes the key from the recipe.
pub fn parse_override(text: &str) -> Result<RecipeOverride> {
    let (key, value) =
        text.split_once('=').with_context(|| format!("invalid override {text:?}: expected KEY=VALUE"))?;
    let (key, value) = (key.trim(), value.trim());
    let value = (!value.is_empty()).then(|| value.parse().unwrap_or_else(|_| Value::String(value.to_owned())));
    Ok((key.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(changes: &[&str]) -> Result<Recipe, String> {
        let changes = changes.iter().map(|text| parse_override(text)).collect::<Result<Vec<_>>>();
        changes.and_then(|changes| Recipe::resolve("finetune", &changes)).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn resolved_recipe_round_trips_through_toml() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.toml");
        for name in Recipe::names() {
            let recipe = Recipe::resolve(name, &[parse_override("seed=7").unwrap()]).unwrap();
            std::fs::write(&path, recipe.to_toml().unwrap()).unwrap();
            assert_eq!(Recipe::resolve(path.to_str().unwrap(), &[]).unwrap(), recipe, "{name}");
        }
    }

    #[test]
    fn overrides_take_precedence_over_the_recipe() {
        let recipe = resolve(&["epochs=3", "schedule = step", "step-epochs=1", "step-factor=0.5", "flip=0"]).unwrap();
        assert_eq!((recipe.epochs, recipe.schedule, recipe.step_factor), (3, ScheduleKind::Step, Some(0.5)));
        assert_eq!(recipe.flip, 0.0);
        assert_eq!(resolve(&["warmup-epochs=0", "warmup-factor="]).unwrap().warmup_factor, None);
        let recipe = resolve(&["architecture=resnet34"]).unwrap();
        assert_eq!((recipe.checkpoint, recipe.architecture.as_deref()), (None, Some("resnet34")));
    }

    #[test]
    fn train_sizes_apply_from_their_first_epoch() {
        let evaluation = Preprocessing::default();
        let at = |changes: &[&str], epoch| resolve(changes).unwrap().training_preprocessing(epoch, &evaluation);
        let size = |changes: &[&str], epoch| at(changes, epoch).crop;
        let sizes = ["train-sizes=[[1, 96], [3, 128]]"];
        assert_eq!([1, 2, 3, 9].map(|epoch| size(&sizes, epoch)), [96, 96, 128, 128]);
        assert_eq!(at(&sizes, 3).resize, 146, "in proportion to 256 / 224");
        assert_eq!(at(&[], 1), evaluation);
    }

    #[test]
    fn errors_name_the_key_and_its_valid_values() {
        let cases = [
            ("architecture=vgg16", "`architecture`: unknown architecture \"vgg16\"; known are"),
            ("epoch=3", "unknown field `epoch`, expected one of"),
            ("epochs=many", "epochs"),
            ("epochs=0", "`epochs` is 0; valid values are 1 to"),
            ("batch-size=1", "`batch-size` is 1; valid values are 2 to"),
            ("image-size=8", "`image-size` is 8; valid values are 32 to 1024"),
            ("seed=-1", "seed"),
            ("schedule=linear", "expected one of `constant`, `cosine`, `step`"),
            ("schedule=step", "`step-epochs` is missing"),
            ("step-factor=0.5", "`step-factor` has no effect without `schedule` = \"step\""),
            ("warmup-epochs=0", "`warmup-factor` has no effect without"),
            ("warmup-epochs=11", "`warmup-epochs` is 11; valid values are 0 to 10"),
            ("learning-rate=0", "`learning-rate` is 0; it must be above 0"),
            ("learning-rate=nan", "`learning-rate`"),
            ("momentum=0", "`nesterov` has no effect without a `momentum` above 0; remove it with --set nesterov="),
            ("optimiser=adam", "expected one of `sgd`, `adamw`, `lamb`"),
            (
                "optimiser=adamw",
                "`momentum` has no effect without `optimiser` = \"sgd\"; remove it with --set momentum=",
            ),
            ("betas=[0.9, 0.99]", "`betas` has no effect without `optimiser` = \"adamw\" or \"lamb\""),
            ("ema-steps=2", "`ema-steps` has no effect without `ema-decay`"),
            ("accumulate=3", "`batch-size` is 16; with `accumulate` = 3 and 1 replicas it must be a multiple of 3"),
            ("train-sizes=[[2, 64]]", "epochs start at 1 and increase"),
            ("train-sizes=[[1, 64], [1, 96]]", "epochs start at 1 and increase"),
            ("train-sizes=[[1, 64], [20, 96]]", "names epoch 20, but `epochs` is 10"),
            ("class-weights=heavy", "expected \"balanced\" or a list of numbers"),
            ("stem=small", "`stem` has no effect without `architecture`"),
            ("class-weights=[1, 0]", "`class-weights` has 0"),
            ("color-jitter=[0.1, 0.1, 0.1, 0.6]", "`color-jitter` is 0.6; valid values are 0 to 0.5"),
            ("crop-padding=4", "only one of them"),
            ("crop-scale=", "`crop-scale` or `crop-padding` is missing"),
            ("label-smoothing=1", "`label-smoothing` is 1; valid values are 0 to 0.99"),
            ("crop-scale=[0.5, 0.2]", "`crop-scale` is 0.2; valid values are 0.5 to 1"),
            ("crop-scale=[0.5, 2]", "`crop-scale` is 2; valid values are 0.5 to 1"),
            ("crop-ratio=[0, 1]", "`crop-ratio` starts at 0"),
            ("crop-ratio=[0.75, 101]", "`crop-ratio` is 101; valid values are 0.75 to 100"),
            ("crop-ratio=1", "crop-ratio"),
            (
                "distillation-weight=0.5",
                "`distillation-temperature` is missing; it is required with `distillation-weight`",
            ),
            ("distillation-temperature=4", "`distillation-temperature` has no effect without `distillation-weight`"),
            ("flip", "KEY=VALUE"),
        ];
        for (change, expected) in cases {
            let error = resolve(&[change]).unwrap_err();
            assert!(error.contains(expected), "{change}: {error}");
        }
        let error = resolve(&["layers=head", "mixup-alpha=0.2"]).unwrap_err();
        assert!(error.contains("`mixup-alpha` has no effect without `layers` = \"all\""), "{error}");
        for (changes, expected) in [
            (["distillation-temperature=4", "distillation-weight=0"], "`distillation-weight` is 0; it must be above 0"),
            (
                ["distillation-temperature=4", "distillation-weight=1.5"],
                "`distillation-weight` is 1.5; valid values are 0",
            ),
            (
                ["distillation-temperature=0", "distillation-weight=1"],
                "`distillation-temperature` is 0; valid values are",
            ),
        ] {
            let error = resolve(&changes).unwrap_err();
            assert!(error.contains(expected), "{changes:?}: {error}");
        }
        let error = resolve(&["layers=head", "keep-zeros=true"]).unwrap_err();
        assert!(error.contains("`keep-zeros` has no effect without `layers` = \"all\""), "{error}");
        let error = Recipe::resolve("fintune", &[]).unwrap_err().to_string();
        assert!(error.contains("cifar, distill, fast, finetune, prune-finetune, torchvision-v1"), "{error}");
    }

    #[test]
    fn rejects_checkpoint_together_with_architecture() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("both.toml");
        let finetune = BUILT_IN.iter().find(|(name, _)| *name == "finetune").unwrap().1;
        std::fs::write(&path, format!("architecture = \"resnet18\"\n{finetune}")).unwrap();
        let error = Recipe::resolve(path.to_str().unwrap(), &[]).unwrap_err();
        assert!(format!("{error:#}").contains("only one of them"), "{error:#}");
    }
}
