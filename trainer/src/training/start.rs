//! What a training starts from: weights, described as what comes out will be.

use crate::data::{CounterRng, Purpose};
use crate::recipe::Recipe;
use anyhow::{Context, Result};
use burn::tensor::Device;
use model::architecture::Architecture;
use model::checkpoint::{Checkpoint, Metadata};
use model::network::{Initialisation, ResNet};
use model::preprocess::Preprocessing;
use std::path::PathBuf;

/// The recipe with a `checkpoint` that is the same file wherever it is resolved again: what is named relatively lies in the
/// working directory or, as the bundled ones may, beside this program.
pub fn located(recipe: Recipe) -> Result<Recipe> {
    let locate = |path: PathBuf| {
        let beside = std::env::current_exe().ok().map(|program| program.with_file_name(&path));
        let beside = beside.filter(|beside| !path.exists() && beside.exists());
        std::path::absolute(beside.unwrap_or(path))
    };
    Ok(Recipe { checkpoint: recipe.checkpoint.map(locate).transpose()?, ..recipe })
}

/// The checkpoint that the recipe names, if it names one.
pub fn open(recipe: &Recipe) -> Result<Option<Checkpoint>> {
    let open = |path| Checkpoint::from_path(path).context("`checkpoint`, the weights to start from (--checkpoint)");
    recipe.checkpoint.as_ref().map(open).transpose()
}

/// For `classes`: weights of `checkpoint`, with a new classifier where the classes are others, or else new weights.
pub fn start(recipe: &Recipe, checkpoint: Option<Checkpoint>, classes: &[String]) -> Result<Checkpoint> {
    let Some(checkpoint) = checkpoint else { return from_nothing(recipe, classes) };
    let old = checkpoint.metadata().clone();
    let metadata = Metadata {
        architecture: Architecture { classes: classes.len(), ..old.architecture },
        classes: classes.to_vec(),
        labels: labels(classes, &old),
        preprocessing: preprocessing(&old.preprocessing, recipe),
        provenance: Some(provenance(recipe, old.provenance.as_deref())),
        recipe: None,
        metrics: None,
        version: old.version,
    };
    if old.classes == classes {
        return Ok(checkpoint.with_metadata(metadata)?);
    }
    let mut tensors = checkpoint.into_values();
    // PyTorch's `Linear`: uniform within one by the square root of its inputs.
    let features = metadata.architecture.features();
    let bound = 1.0 / (features as f64).sqrt();
    let mut rng = CounterRng::new(recipe.seed, Purpose::Classifier, &[]);
    let mut uniform = |count| (0..count).map(|_| rng.uniform(-bound, bound) as f32).collect();
    tensors.insert("fc.weight".to_owned(), uniform(classes.len() * features));
    tensors.insert("fc.bias".to_owned(), uniform(classes.len()));
    Ok(Checkpoint::new(metadata, tensors)?)
}

fn from_nothing(recipe: &Recipe, classes: &[String]) -> Result<Checkpoint> {
    let architecture = recipe.architecture(classes.len())?;
    let nameless = Metadata::new(architecture);
    let metadata = Metadata {
        classes: classes.to_vec(),
        labels: labels(classes, &nameless),
        preprocessing: preprocessing(&nameless.preprocessing, recipe),
        provenance: Some(provenance(recipe, None)),
        ..nameless
    };
    let device = Device::flex();
    device.seed(recipe.seed);
    let network = ResNet::new(&architecture, Initialisation::default(), &device);
    Ok(Checkpoint::new(metadata, network.tensors(&architecture))?)
}

/// As the checkpoint calls those classes that it knows; the others as their folders.
fn labels(classes: &[String], known: &Metadata) -> Vec<String> {
    let label = |class: &String| match known.classes.iter().position(|known| known == class) {
        Some(index) => known.labels[index].clone(),
        None => class.replace('_', " "),
    };
    classes.iter().map(label).collect()
}

/// Of another size, photos are resized in proportion.
fn preprocessing(old: &Preprocessing, recipe: &Recipe) -> Preprocessing {
    let crop = recipe.image_size.unwrap_or(old.crop);
    let in_proportion = f64::from(old.resize) * f64::from(crop) / f64::from(old.crop);
    Preprocessing { resize: recipe.resize.unwrap_or(in_proportion.round() as u32), crop, ..old.clone() }
}

fn provenance(recipe: &Recipe, before: Option<&str>) -> String {
    let from = recipe.checkpoint.as_ref().and_then(|path| path.file_name());
    match (from, before) {
        (None, _) => "trained from nothing by `trainer train`".to_owned(),
        (Some(name), None) => format!("trained by `trainer train`, from {}", name.display()),
        (Some(name), Some(before)) => format!("trained by `trainer train`, from {}: {before}", name.display()),
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
    fn other_classes_get_a_new_classifier() {
        let classes = names(&["n2", "garden_gnome"]);
        let recipe = Recipe::finetune_with(&["image-size=112"]);
        let start = start(&recipe, Some(known()), &classes).unwrap();
        let Metadata { labels, preprocessing, .. } = start.metadata();
        assert_eq!(*labels, ["bee", "garden gnome"]);
        assert_eq!((preprocessing.resize, preprocessing.crop), (128, 112));
        assert_eq!(start.values("layer4.1.conv2.weight"), known().values("layer4.1.conv2.weight"));
        let weight = start.values("fc.weight");
        assert_eq!(weight.len(), 2 * 512);
        let bound = 1.0 / 512.0_f32.sqrt();
        let largest = weight.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        assert!(largest < bound && largest > 0.98 * bound, "{largest} of {bound}");
    }

    #[test]
    fn the_same_classes_keep_theirs() {
        let start = start(&Recipe::finetune_with(&[]), Some(known()), &known().metadata().classes).unwrap();
        assert_eq!(start.values("fc.weight"), known().values("fc.weight"));
        assert_eq!(start.metadata().labels, ["ant", "bee", "cat"]);
    }

    #[test]
    fn a_seed_gives_new_weights_again() {
        let weight = |seed: &str| {
            let recipe = Recipe::finetune_with(&["architecture=resnet18", seed]);
            start(&recipe, None, &names(&["ant", "bee"])).unwrap().values("conv1.weight")
        };
        assert_eq!(weight("seed=1"), weight("seed=1"));
        assert_ne!(weight("seed=1"), weight("seed=2"));
    }
}
