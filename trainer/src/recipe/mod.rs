//! How a network is trained: a TOML file with flags laid over it, resolved into values that have been looked at.
//!
//! What a run resolved is written into its folder, and is a recipe again.

mod check;
mod choices;

pub use choices::{
    AutoAugment, ClassWeights, NamedClassWeights, OptimiserKind, Precision, ScheduleKind, TrainedLayers,
};

use anyhow::{Context, Result, anyhow, bail};
use model::architecture::Stem;
use model::preprocess::Preprocessing;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Every recipe that comes with the program, by name.
const BUILT_IN: [(&str, &str); 6] = [
    ("cifar", include_str!("../../recipes/cifar.toml")),
    ("fast", include_str!("../../recipes/fast.toml")),
    ("finetune", include_str!("../../recipes/finetune.toml")),
    ("torchvision-v1", include_str!("../../recipes/torchvision-v1.toml")),
    ("torchvision-v2", include_str!("../../recipes/torchvision-v2.toml")),
    ("tutorial", include_str!("../../recipes/tutorial.toml")),
];

/// Every key of a recipe. Numbers are within the bounds that [`Recipe::resolve`] names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Recipe {
    /// Weights to start from. Either these or an architecture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<PathBuf>,
    /// What to train from nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// Of `architecture`: what stands before its first stage, by default ImageNet's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stem: Option<Stem>,
    #[serde(default)]
    pub layers: TrainedLayers,

    /// Side of what the network sees when it answers, in pixels; by default what the checkpoint was trained on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_size: Option<u32>,
    /// Short side that a photo is resized to before its middle is cut out, for validation and answers; by default in
    /// proportion to the image size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<u32>,
    /// What the network is trained on, in pixels, from which epoch on; by default the image size.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub train_sizes: Vec<(usize, u32)>,
    pub epochs: usize,
    /// Photos of one step, of all replicas together.
    pub batch_size: usize,
    /// Parts of a replica's photos that go through the network one after the other, to need less memory.
    #[serde(default = "one")]
    pub accumulate: usize,
    pub seed: u64,
    #[serde(default)]
    pub precision: Precision,
    /// Computes forwards twice, to need less memory.
    #[serde(default)]
    pub gradient_checkpointing: bool,
    /// Stops after so many epochs that bring no better top-1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<usize>,

    #[serde(default)]
    pub optimiser: OptimiserKind,
    /// At its highest.
    pub learning_rate: f64,
    pub schedule: ScheduleKind,
    /// Of `step` alone: epochs from one fall to the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_epochs: Option<usize>,
    /// Of `step` alone: what a fall leaves of the learning rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_factor: Option<f64>,
    /// In front of the schedule, whose epochs are the fewer for it.
    #[serde(default)]
    pub warmup_epochs: f64,
    /// The share of the learning rate that the warm-up begins with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_factor: Option<f64>,
    /// Of `sgd` alone, which needs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    #[serde(default)]
    pub nesterov: bool,
    /// Of `adamw` and `lamb`: what is kept of the averages of gradients and of their squares, by default 0.9 and 0.999.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub betas: Option<[f64; 2]>,
    /// Of `adamw` and `lamb`: what keeps a division finite, by default 1e-8 and 1e-6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    pub weight_decay: f64,
    /// Whether weights of batch norms, and biases, decay too.
    pub decay_norms_and_biases: bool,
    /// The largest norm of all gradients together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// What an exponential moving average of the weights keeps of itself; it is what validates and is saved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema_decay: Option<f64>,
    /// Steps from one average to the next, by default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema_steps: Option<usize>,

    #[serde(default)]
    pub label_smoothing: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<ClassWeights>,

    /// The least and the largest share of a photo's area that a sample shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop_scale: Option<[f64; 2]>,
    /// The least and the largest width by height of what a sample shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop_ratio: Option<[f64; 2]>,
    /// Instead: black pixels around the photo's middle, of which a part is cut out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop_padding: Option<u32>,
    /// How likely a sample is mirrored.
    #[serde(default)]
    pub flip: f64,
    /// By how much brightness, contrast, saturation and hue change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub color_jitter: Option<[f64; 4]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_augment: Option<AutoAugment>,
    /// How likely a rectangle of a sample is erased.
    #[serde(default)]
    pub random_erasing: f64,
    /// Of the beta distribution that two samples are blended by; 0 for none.
    #[serde(default)]
    pub mixup_alpha: f64,
    /// Of the beta distribution that a rectangle of another sample is sized by; 0 for none. With `mixup-alpha`, a batch
    /// gets one of both.
    #[serde(default)]
    pub cutmix_alpha: f64,
    /// How often an epoch sees a sample, each time augmented anew; it sees the fewer samples.
    #[serde(default = "one")]
    pub repetitions: usize,
}

fn one() -> usize {
    1
}

/// A key and the value that it shall have, or none.
pub type RecipeOverride = (String, Option<Value>);

impl Recipe {
    /// Names of the recipes that come with the program.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// By name or file, with `changes` laid over it.
    ///
    /// # Errors
    /// Name the key that is unknown, missing or wrong, and what would be right.
    pub fn resolve(name: &str, overrides: &[RecipeOverride]) -> Result<Self> {
        let built_in = BUILT_IN.iter().find(|(known, _)| *known == name);
        let text = match built_in {
            Some((_, text)) => (*text).to_owned(),
            None => read(name)?,
        };
        let recipe = || format!("recipe {name}");
        let mut table: Table = text.parse().with_context(recipe)?;
        for (key, value) in overrides {
            // Each stands for the other, and whoever names one has decided.
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
        // The key is named in a line of its own.
        let recipe: Recipe = table
            .try_into()
            .map_err(|error| anyhow!(error.to_string().trim_end().replace('\n', " ")).context(recipe()))?;
        recipe.check().with_context(|| format!("recipe {name}"))?;
        Ok(recipe)
    }

    /// What an epoch, counted from 1, trains on, where checkpoints are for `answers`.
    pub fn training_preprocessing(&self, epoch: usize, answers: &Preprocessing) -> Preprocessing {
        let side = self.train_sizes.iter().rev().find(|(first, _)| *first <= epoch).map(|(_, side)| *side);
        let crop = side.unwrap_or(answers.crop);
        let resize = f64::from(answers.resize) * f64::from(crop) / f64::from(answers.crop);
        Preprocessing { crop, resize: resize.round() as u32, ..answers.clone() }
    }

    /// As TOML, which [`Recipe::resolve`] reads.
    pub fn to_toml(&self) -> Result<String> {
        Ok(toml::to_string(self)?)
    }
}

#[cfg(test)]
impl Recipe {
    /// `finetune` with changes, for tests.
    pub fn finetune_with(changes: &[&str]) -> Self {
        let overrides: Vec<RecipeOverride> = changes.iter().map(|text| parse_override(text).unwrap()).collect();
        Recipe::resolve("finetune", &overrides).unwrap()
    }
}

fn read(name: &str) -> Result<String> {
    let known = Recipe::names().collect::<Vec<_>>().join(", ");
    if !Path::new(name).exists() {
        bail!("there is no recipe {name:?}: known are {known}, and files of this form");
    }
    std::fs::read_to_string(name).with_context(|| format!("recipe {name} cannot be read"))
}

/// `KEY=VALUE` with a value of TOML; a text needs no quotes. `KEY=` takes the key out of the recipe.
pub fn parse_override(text: &str) -> Result<RecipeOverride> {
    let (key, value) = text.split_once('=').with_context(|| format!("{text:?} is not of the form KEY=VALUE"))?;
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
    fn what_was_resolved_is_a_recipe_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.toml");
        for name in Recipe::names() {
            let recipe = Recipe::resolve(name, &[parse_override("seed=7").unwrap()]).unwrap();
            std::fs::write(&path, recipe.to_toml().unwrap()).unwrap();
            assert_eq!(Recipe::resolve(path.to_str().unwrap(), &[]).unwrap(), recipe, "{name}");
        }
    }

    #[test]
    fn changes_lie_over_the_recipe() {
        let recipe = resolve(&["epochs=3", "schedule = step", "step-epochs=1", "step-factor=0.5", "flip=0"]).unwrap();
        assert_eq!((recipe.epochs, recipe.schedule, recipe.step_factor), (3, ScheduleKind::Step, Some(0.5)));
        assert_eq!(recipe.flip, 0.0);
        assert_eq!(resolve(&["warmup-epochs=0", "warmup-factor="]).unwrap().warmup_factor, None);
        let recipe = resolve(&["architecture=resnet34"]).unwrap();
        assert_eq!((recipe.checkpoint, recipe.architecture.as_deref()), (None, Some("resnet34")));
    }

    #[test]
    fn epochs_train_on_sizes_of_their_own() {
        let answers = Preprocessing::default();
        let at = |changes: &[&str], epoch| resolve(changes).unwrap().training_preprocessing(epoch, &answers);
        let size = |changes: &[&str], epoch| at(changes, epoch).crop;
        let sizes = ["train-sizes=[[1, 96], [3, 128]]"];
        assert_eq!([1, 2, 3, 9].map(|epoch| size(&sizes, epoch)), [96, 96, 128, 128]);
        assert_eq!(at(&sizes, 3).resize, 146, "in proportion to 256 for 224");
        assert_eq!(at(&[], 1), answers);
    }

    #[test]
    fn mistakes_name_the_key_and_what_is_possible() {
        let cases = [
            ("architecture=vgg16", "`architecture`: unknown architecture \"vgg16\"; known are"),
            ("epoch=3", "unknown field `epoch`, expected one of"),
            ("epochs=many", "epochs"),
            ("epochs=0", "`epochs` is 0; 1 to"),
            ("batch-size=1", "`batch-size` is 1; 2 to"),
            ("image-size=8", "`image-size` is 8; 32 to 1024"),
            ("seed=-1", "seed"),
            ("schedule=linear", "expected one of `constant`, `cosine`, `step`"),
            ("schedule=step", "`step-epochs` is missing"),
            ("step-factor=0.5", "`step-factor` means nothing without `schedule` = \"step\""),
            ("warmup-epochs=0", "`warmup-factor` means nothing without"),
            ("warmup-epochs=11", "`warmup-epochs` is 11; 0 to 10"),
            ("learning-rate=0", "`learning-rate` is 0; it must be above 0"),
            ("learning-rate=nan", "`learning-rate`"),
            ("momentum=0", "`nesterov` means nothing without a `momentum` above 0: leave it out, with --set nesterov="),
            ("optimiser=adam", "expected one of `sgd`, `adamw`, `lamb`"),
            (
                "optimiser=adamw",
                "`momentum` means nothing without `optimiser` = \"sgd\": leave it out, with --set momentum=",
            ),
            ("betas=[0.9, 0.99]", "`betas` means nothing without `optimiser` = \"adamw\" or \"lamb\""),
            ("ema-steps=2", "`ema-steps` means nothing without `ema-decay`"),
            ("accumulate=3", "`batch-size` is 16; with `accumulate` = 3 and 1 replicas it must be a multiple of 3"),
            ("train-sizes=[[2, 64]]", "rise from 1"),
            ("train-sizes=[[1, 64], [1, 96]]", "rise from 1"),
            ("train-sizes=[[1, 64], [20, 96]]", "epoch 20 of 10"),
            ("class-weights=heavy", "expected \"balanced\" or a list of numbers"),
            ("stem=small", "`stem` means nothing without `architecture`"),
            ("class-weights=[1, 0]", "`class-weights` has 0"),
            ("color-jitter=[0.1, 0.1, 0.1, 0.6]", "`color-jitter` is 0.6; 0 to 0.5"),
            ("crop-padding=4", "only one of them"),
            ("crop-scale=", "`crop-scale` or `crop-padding` is missing"),
            ("label-smoothing=1", "`label-smoothing` is 1; 0 to 0.99"),
            ("crop-scale=[0.5, 0.2]", "`crop-scale` is 0.2; 0.5 to 1"),
            ("crop-ratio=[0, 1]", "`crop-ratio` begins with 0"),
            ("crop-ratio=1", "crop-ratio"),
            ("flip", "KEY=VALUE"),
        ];
        for (change, expected) in cases {
            let error = resolve(&[change]).unwrap_err();
            assert!(error.contains(expected), "{change}: {error}");
        }
        let error = resolve(&["layers=head", "mixup-alpha=0.2"]).unwrap_err();
        assert!(error.contains("`mixup-alpha` means nothing without `layers` = \"all\""), "{error}");
        let error = Recipe::resolve("fintune", &[]).unwrap_err().to_string();
        assert!(error.contains("cifar, fast, finetune, torchvision-v1"), "{error}");
    }

    #[test]
    fn what_to_start_from_is_said_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("both.toml");
        let finetune = BUILT_IN.iter().find(|(name, _)| *name == "finetune").unwrap().1;
        std::fs::write(&path, format!("architecture = \"resnet18\"\n{finetune}")).unwrap();
        let error = Recipe::resolve(path.to_str().unwrap(), &[]).unwrap_err();
        assert!(format!("{error:#}").contains("only one of them"), "{error:#}");
    }
}
