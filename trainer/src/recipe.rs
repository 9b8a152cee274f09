//! How a network is trained: a TOML file with flags laid over it, resolved into values that have been looked at.
//!
//! What a run resolved is written into its folder, and is a recipe again.

use anyhow::{Context, Result, anyhow, bail, ensure};
use model::architecture::Architecture;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Every recipe that comes with the program, by name.
const EMBEDDED: [(&str, &str); 2] = [
    ("finetune", include_str!("../recipes/finetune.toml")),
    ("torchvision-v1", include_str!("../recipes/torchvision-v1.toml")),
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
    /// Side of what the network sees, in pixels; by default what the checkpoint was trained on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_size: Option<u32>,
    pub epochs: usize,
    pub batch_size: usize,
    pub seed: u64,

    /// At its highest.
    pub learning_rate: f64,
    pub schedule: Schedule,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup_factor: Option<f64>,
    pub momentum: f64,
    pub nesterov: bool,
    pub weight_decay: f64,
    /// Whether weights of batch norms, and biases, decay too.
    pub decay_norms_and_biases: bool,
    pub label_smoothing: f64,

    /// The least and the largest share of a photo's area that a sample shows.
    pub crop_scale: [f64; 2],
    /// The least and the largest width by height of what a sample shows.
    pub crop_ratio: [f64; 2],
    /// How likely a sample is mirrored.
    pub flip: f64,
}

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    Constant,
    Cosine,
    Step,
}

/// A key and the value that it shall have.
pub type Change = (String, Value);

impl Recipe {
    /// Names of the recipes that come with the program.
    pub fn names() -> impl Iterator<Item = &'static str> {
        EMBEDDED.iter().map(|(name, _)| *name)
    }

    /// By name or file, with `changes` laid over it.
    ///
    /// # Errors
    /// Name the key that is unknown, missing or wrong, and what would be right.
    pub fn resolve(name: &str, changes: &[Change]) -> Result<Self> {
        let embedded = EMBEDDED.iter().find(|(known, _)| *known == name);
        let text = match embedded {
            Some((_, text)) => (*text).to_owned(),
            None => read(name)?,
        };
        let recipe = || format!("recipe {name}");
        let mut table: Table = text.parse().with_context(recipe)?;
        for (key, value) in changes {
            // Each stands for the other, and whoever names one has decided.
            match key.as_str() {
                "checkpoint" => table.remove("architecture"),
                "architecture" => table.remove("checkpoint"),
                _ => None,
            };
            table.insert(key.clone(), value.clone());
        }
        // The key is named in a line of its own.
        let recipe: Recipe = table
            .try_into()
            .map_err(|error| anyhow!(error.to_string().trim_end().replace('\n', " ")).context(recipe()))?;
        recipe.validate().with_context(|| format!("recipe {name}"))?;
        Ok(recipe)
    }

    /// # Errors
    /// If so many photos do not fill a batch.
    pub fn check_photos(&self, count: usize) -> Result<()> {
        ensure!(
            count >= self.batch_size,
            "`batch-size` is {}, but there are {count} photos to train on",
            self.batch_size
        );
        Ok(())
    }

    /// As TOML, which [`Recipe::resolve`] reads.
    pub fn to_toml(&self) -> Result<String> {
        Ok(toml::to_string(self)?)
    }

    fn validate(&self) -> Result<()> {
        match (&self.checkpoint, &self.architecture) {
            (Some(_), Some(_)) => bail!("`checkpoint` and `architecture`: only one of them can be what to start from"),
            (None, None) => bail!("`checkpoint` or `architecture` is missing: what to start from"),
            (None, Some(name)) => drop(Architecture::new(name, 1).context("`architecture`")?),
            (Some(_), None) => {}
        }
        let image_size = self.image_size.map_or(32.0, f64::from);
        within("image-size", image_size, 32.0, 1024.0)?;
        within("epochs", self.epochs as f64, 1.0, 1e6)?;
        // A batch norm needs two values.
        within("batch-size", self.batch_size as f64, 2.0, 65536.0)?;
        ensure!(self.seed <= i64::MAX as u64, "`seed` is {}; 0 to {} are possible", self.seed, i64::MAX);
        ensure!(self.learning_rate > 0.0, "`learning-rate` is {}; it must be above 0", self.learning_rate);
        within("learning-rate", self.learning_rate, 0.0, 1000.0)?;
        within("warmup-epochs", self.warmup_epochs, 0.0, self.epochs as f64)?;
        within("warmup-factor", self.warmup_factor.unwrap_or(0.0), 0.0, 1.0)?;
        let warms_up = self.warmup_epochs > 0.0;
        together("warmup-factor", self.warmup_factor.is_some(), "`warmup-epochs` above 0", warms_up)?;
        let steps = self.schedule == Schedule::Step;
        together("step-epochs", self.step_epochs.is_some(), "`schedule` = \"step\"", steps)?;
        together("step-factor", self.step_factor.is_some(), "`schedule` = \"step\"", steps)?;
        within("step-epochs", self.step_epochs.unwrap_or(1) as f64, 1.0, 1e6)?;
        within("step-factor", self.step_factor.unwrap_or(0.0), 0.0, 1.0)?;
        within("momentum", self.momentum, 0.0, 0.9999)?;
        ensure!(!self.nesterov || self.momentum > 0.0, "`nesterov` needs a `momentum` above 0");
        within("weight-decay", self.weight_decay, 0.0, 1.0)?;
        within("label-smoothing", self.label_smoothing, 0.0, 0.99)?;
        within("flip", self.flip, 0.0, 1.0)?;
        for (key, [least, largest], most) in
            [("crop-scale", self.crop_scale, 1.0), ("crop-ratio", self.crop_ratio, 100.0)]
        {
            ensure!(least > 0.0, "`{key}` begins with {least}; it must be above 0");
            within(key, largest, least, most)?;
        }
        Ok(())
    }
}

#[cfg(test)]
impl Recipe {
    /// `finetune` with changes, for tests.
    pub fn changed(changes: &[&str]) -> Self {
        let changes: Vec<Change> = changes.iter().map(|text| change(text).unwrap()).collect();
        Recipe::resolve("finetune", &changes).unwrap()
    }
}

fn within(key: &str, value: f64, least: f64, most: f64) -> Result<()> {
    ensure!((least..=most).contains(&value), "`{key}` is {value}; {least} to {most} are possible");
    Ok(())
}

/// A key that is there if and only if something gives it a meaning.
fn together(key: &str, is_there: bool, meaning: &str, has_meaning: bool) -> Result<()> {
    ensure!(is_there || !has_meaning, "`{key}` is missing, which {meaning} needs");
    ensure!(has_meaning || !is_there, "`{key}` means nothing without {meaning}");
    Ok(())
}

fn read(name: &str) -> Result<String> {
    let known = Recipe::names().collect::<Vec<_>>().join(", ");
    if !Path::new(name).exists() {
        bail!("there is no recipe {name:?}: known are {known}, and files of this form");
    }
    std::fs::read_to_string(name).with_context(|| format!("recipe {name} cannot be read"))
}

/// `KEY=VALUE` with a value of TOML; a text needs no quotes.
pub fn change(text: &str) -> Result<Change> {
    let (key, value) = text.split_once('=').with_context(|| format!("{text:?} is not of the form KEY=VALUE"))?;
    let (key, value) = (key.trim(), value.trim());
    Ok((key.to_owned(), value.parse().unwrap_or_else(|_| Value::String(value.to_owned()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(changes: &[&str]) -> Result<Recipe, String> {
        let changes = changes.iter().map(|text| change(text)).collect::<Result<Vec<_>>>();
        changes.and_then(|changes| Recipe::resolve("finetune", &changes)).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn what_was_resolved_is_a_recipe_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.toml");
        for name in Recipe::names() {
            let recipe = Recipe::resolve(name, &[change("seed=7").unwrap()]).unwrap();
            std::fs::write(&path, recipe.to_toml().unwrap()).unwrap();
            assert_eq!(Recipe::resolve(path.to_str().unwrap(), &[]).unwrap(), recipe, "{name}");
        }
    }

    #[test]
    fn changes_lie_over_the_recipe() {
        let recipe = resolve(&["epochs=3", "schedule = step", "step-epochs=1", "step-factor=0.5", "flip=0"]).unwrap();
        assert_eq!((recipe.epochs, recipe.schedule, recipe.step_factor), (3, Schedule::Step, Some(0.5)));
        assert_eq!(recipe.flip, 0.0);
        let recipe = resolve(&["architecture=resnet34"]).unwrap();
        assert_eq!((recipe.checkpoint, recipe.architecture.as_deref()), (None, Some("resnet34")));
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
            ("momentum=0", "`nesterov` needs"),
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
        let error = Recipe::resolve("fintune", &[]).unwrap_err().to_string();
        assert!(error.contains("finetune, torchvision-v1"), "{error}");
    }

    #[test]
    fn what_to_start_from_is_said_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("both.toml");
        std::fs::write(&path, format!("architecture = \"resnet18\"\n{}", EMBEDDED[0].1)).unwrap();
        let error = Recipe::resolve(path.to_str().unwrap(), &[]).unwrap_err();
        assert!(format!("{error:#}").contains("only one of them"), "{error:#}");
    }
}
