//! Initial weights of a run, with the metadata of the checkpoints that it saves.

use crate::data::{CounterRng, Purpose};
use crate::recipe::Recipe;
use crate::weights_file::open_checkpoint;
use anyhow::{Context, Result};
use burn::tensor::Device;
use checkpoints::CheckpointSource;
use model::architecture::Architecture;
use model::checkpoint::{Checkpoint, Metadata};
use model::network::{Initialisation, ResNet};
use model::preprocess::Preprocessing;

/// Opens the recipe's checkpoint, if it has one.
///
/// # Errors
/// Returns an error if it does not exist or is not a checkpoint.
pub fn open_initial_checkpoint(recipe: &Recipe) -> Result<Option<Checkpoint>> {
    let open =
        |source| open_checkpoint(source).context("cannot open the weights to start from (`checkpoint`, --checkpoint)");
    recipe.checkpoint.as_ref().map(open).transpose()
}

/// Returns weights for `classes`: those of `checkpoint`, with a new classifier if its classes differ, or random weights
/// if there is no checkpoint.
///
/// # Errors
/// Returns an error if the recipe's architecture is unknown, or if the checkpoint's weights are invalid.
pub fn initial_weights(recipe: &Recipe, checkpoint: Option<Checkpoint>, classes: &[String]) -> Result<Checkpoint> {
    let Some(checkpoint) = checkpoint else { return random_weights(recipe, classes) };
    let old = checkpoint.metadata().clone();
    let metadata = Metadata {
        architecture: Architecture { classes: classes.len(), ..old.architecture },
        classes: classes.to_vec(),
        labels: labels(classes, &old),
        preprocessing: preprocessing(&old.preprocessing, recipe),
        // Temperature and threshold are not valid for the weights after training.
        temperature: None,
        rejection_threshold: None,
        provenance: Some(provenance(recipe, old.provenance.as_deref())),
        recipe: None,
        metrics: None,
        version: old.version,
    };
    if old.classes == classes {
        return Ok(checkpoint.with_metadata(metadata)?);
    }
    let mut tensors = checkpoint.into_values();
    // As PyTorch's `Linear`: uniform in +-1 / sqrt(inputs).
    let features = metadata.architecture.features();
    let bound = 1.0 / (features as f64).sqrt();
    let mut rng = CounterRng::new(recipe.seed, Purpose::Classifier, &[]);
    let mut uniform = |count| (0..count).map(|_| rng.uniform(-bound, bound) as f32).collect();
    tensors.insert("fc.weight".to_owned(), uniform(classes.len() * features));
    tensors.insert("fc.bias".to_owned(), uniform(classes.len()));
    Ok(Checkpoint::new(metadata, tensors)?)
}

fn random_weights(recipe: &Recipe, classes: &[String]) -> Result<Checkpoint> {
    let architecture = recipe.architecture(classes.len())?;
    let default = Metadata::new(architecture);
    let metadata = Metadata {
        classes: classes.to_vec(),
        labels: labels(classes, &default),
        preprocessing: preprocessing(&default.preprocessing, recipe),
        provenance: Some(provenance(recipe, None)),
        ..default
    };
    let device = Device::flex();
    device.seed(recipe.seed);
    let network = ResNet::new(&architecture, Initialisation::default(), &device);
    Ok(Checkpoint::new(metadata, network.tensors(&architecture))?)
}

/// Takes the labels of known classes from the checkpoint, and derives the others from the names of their folders.
fn labels(classes: &[String], known: &Metadata) -> Vec<String> {
    let label = |class: &String| match known.classes.iter().position(|known| known == class) {
        Some(index) => known.labels[index].clone(),
        None => class.replace('_', " "),
    };
    classes.iter().map(label).collect()
}

/// Changes the crop to the recipe's image size, and the resize in proportion unless the recipe has one.
fn preprocessing(old: &Preprocessing, recipe: &Recipe) -> Preprocessing {
    let crop = recipe.image_size.unwrap_or(old.crop);
    let proportional = f64::from(old.resize) * f64::from(crop) / f64::from(old.crop);
    Preprocessing { resize: recipe.resize.unwrap_or(proportional.round() as u32), crop, ..old.clone() }
}

fn provenance(recipe: &Recipe, before: Option<&str>) -> String {
    let from = recipe.checkpoint.as_ref().map(|source| match source {
        CheckpointSource::File(path) => path.file_name().unwrap_or_default().to_string_lossy(),
        CheckpointSource::Bundled(bundled) => bundled.name().into(),
    });
    match (from, before) {
        (None, _) => "trained from scratch by `trainer train`".to_owned(),
        (Some(name), None) => format!("trained by `trainer train`, from {name}"),
        (Some(name), Some(before)) => format!("trained by `trainer train`, from {name}: {before}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::random;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn known() -> Checkpoint {
        let checkpoint = random::checkpoint(Architecture::new("resnet18", 3).unwrap());
        let (classes, labels) = (names(&["n1", "n2", "n3"]), names(&["ant", "bee", "cat"]));
        let metadata = Metadata { classes, labels, ..checkpoint.metadata().clone() };
        checkpoint.with_metadata(metadata).unwrap()
    }

    #[test]
    fn different_classes_get_a_new_classifier() {
        let classes = names(&["n2", "garden_gnome"]);
        let recipe = Recipe::finetune_with(&["image-size=112"]);
        let weights = initial_weights(&recipe, Some(known()), &classes).unwrap();
        let Metadata { labels, preprocessing, .. } = weights.metadata();
        assert_eq!(*labels, ["bee", "garden gnome"]);
        assert_eq!((preprocessing.resize, preprocessing.crop), (128, 112));
        assert_eq!(weights.values("layer4.1.conv2.weight"), known().values("layer4.1.conv2.weight"));
        let weight = weights.values("fc.weight");
        assert_eq!(weight.len(), 2 * 512);
        let bound = 1.0 / 512.0_f32.sqrt();
        let largest = weight.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        assert!(largest < bound && largest > 0.98 * bound, "{largest} of {bound}");
    }

    #[test]
    fn equal_classes_keep_the_classifier() {
        let weights = initial_weights(&Recipe::finetune_with(&[]), Some(known()), &known().metadata().classes).unwrap();
        assert_eq!(weights.values("fc.weight"), known().values("fc.weight"));
        assert_eq!(weights.metadata().labels, ["ant", "bee", "cat"]);
    }

    #[test]
    fn calibration_of_the_initial_checkpoint_is_dropped() {
        let metadata = known().metadata().clone();
        let metadata = Metadata { temperature: Some(1.5), rejection_threshold: Some(0.5), ..metadata };
        let calibrated = known().with_metadata(metadata).unwrap();
        for classes in [&calibrated.metadata().classes.clone(), &names(&["ant", "bee"])] {
            let weights = initial_weights(&Recipe::finetune_with(&[]), Some(calibrated.clone()), classes).unwrap();
            let Metadata { version, temperature, rejection_threshold, .. } = *weights.metadata();
            assert_eq!((version, temperature, rejection_threshold), (1, None, None));
        }
    }

    #[test]
    fn random_weights_depend_on_the_seed_only() {
        let weight = |seed: &str| {
            let recipe = Recipe::finetune_with(&["architecture=resnet18", seed]);
            initial_weights(&recipe, None, &names(&["ant", "bee"])).unwrap().values("conv1.weight")
        };
        assert_eq!(weight("seed=1"), weight("seed=1"));
        assert_ne!(weight("seed=1"), weight("seed=2"));
    }
}
