//! Finds the checkpoints to serve, and their names.

use crate::settings::Settings;
use anyhow::{Context, Result, bail, ensure};
use checkpoints::{BundledCheckpoint, CheckpointSource};
use std::path::{Path, PathBuf};

/// A checkpoint and the name of its model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSource {
    pub name: String,
    pub checkpoint: CheckpointSource,
}

/// Where to look for checkpoints: those given by `--model`, and a folder, whose content may change; without settings, the
/// bundled ones.
#[derive(Clone, Debug, Default)]
pub struct ModelSources {
    named: Vec<ModelSource>,
    folder: Option<PathBuf>,
}

impl ModelSources {
    pub fn from_settings(settings: &Settings) -> Self {
        if settings.model.is_empty() && settings.models.is_none() {
            return ModelSources::bundled();
        }
        let named = settings.model.iter().cloned().map(|(name, checkpoint)| ModelSource { name, checkpoint });
        ModelSources { named: named.collect(), folder: settings.models.clone() }
    }

    fn bundled() -> Self {
        let named = BundledCheckpoint::ALL.map(|bundled| ModelSource {
            name: bundled.name().to_owned(),
            checkpoint: CheckpointSource::Bundled(bundled),
        });
        ModelSources { named: named.to_vec(), folder: None }
    }

    /// Lists the current checkpoints: first those given by `--model`, in their order, then those of the folder, sorted by
    /// name. Checkpoints whose name is already taken are left out; the second list has a warning for each of them.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be read.
    pub fn list(&self) -> Result<(Vec<ModelSource>, Vec<String>)> {
        let (mut sources, mut warnings): (Vec<ModelSource>, _) = (Vec::new(), Vec::new());
        for source in self.all()? {
            match sources.iter().find(|other| other.name == source.name) {
                Some(other) => {
                    let (checkpoint, other) = (source.checkpoint, &other.checkpoint);
                    warnings.push(format!("{checkpoint} is not served, because {other} has the same name"));
                }
                None => sources.push(source),
            }
        }
        Ok((sources, warnings))
    }

    /// Returns whether the model of this name was given by `--model`, or is bundled, rather than found in the folder.
    pub fn is_named(&self, name: &str) -> bool {
        self.named.iter().any(|source| source.name == name)
    }

    /// Returns the source of this name. Reads the folder only if none of this name was given by `--model`.
    pub fn find(&self, name: &str) -> Result<Option<ModelSource>> {
        if let Some(named) = self.named.iter().find(|source| source.name == name) {
            return Ok(Some(named.clone()));
        }
        Ok(self.list()?.0.into_iter().find(|source| source.name == name))
    }

    fn all(&self) -> Result<Vec<ModelSource>> {
        let mut sources = self.named.clone();
        if let Some(folder) = &self.folder {
            sources.extend(in_folder(folder)?);
        }
        Ok(sources)
    }

    /// Lists the checkpoints at startup, when mistakes are errors instead of warnings.
    ///
    /// # Errors
    /// Returns an error if there is no checkpoint, or if two have the same name.
    pub fn list_at_startup(&self) -> Result<Vec<ModelSource>> {
        let sources = self.all()?;
        for (index, ModelSource { name, checkpoint }) in sources.iter().enumerate() {
            if let Some(ModelSource { checkpoint: other, .. }) =
                sources[..index].iter().find(|other| other.name == *name)
            {
                bail!("two models are named {name:?}: {other} and {checkpoint}; rename one with --model NAME=PATH");
            }
        }
        let folder = self.folder.as_deref().unwrap_or(Path::new("")).display();
        ensure!(!sources.is_empty(), "no *.safetensors files in the model folder {folder}");
        Ok(sources)
    }
}

fn in_folder(folder: &Path) -> Result<Vec<ModelSource>> {
    let unreadable = || {
        format!(
            "cannot read the model folder {}; choose a folder with --models or a checkpoint with --model",
            folder.display()
        )
    };
    let mut sources = Vec::new();
    for entry in folder.read_dir().with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        if let Some(name) = name
            && path.extension().is_some_and(|extension| extension == "safetensors")
        {
            sources.push(ModelSource { name, checkpoint: CheckpointSource::File(path) });
        }
    }
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn names(arguments: &[&str]) -> Result<Vec<String>> {
        let settings = Settings::try_parse_from([&["server"], arguments].concat())?;
        Ok(ModelSources::from_settings(&settings).list_at_startup()?.into_iter().map(|source| source.name).collect())
    }

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        folder
    }

    #[test]
    fn named_models_come_first_and_folder_is_sorted() {
        let folder = folder(&["b.safetensors", "a.safetensors", "readme.md"]);
        let arguments = ["--models", folder.path().to_str().unwrap(), "--model", "z=z.safetensors"];
        assert_eq!(names(&arguments).unwrap(), ["z", "a", "b"]);
    }

    #[test]
    fn bundled_checkpoints_are_served_by_default() {
        assert_eq!(names(&[]).unwrap(), ["resnet18-imagenette", "resnet50_v1-imagenet"]);
        let settings = Settings::try_parse_from(["server", "--model", "mine=resnet50_v1-imagenet"]).unwrap();
        let source = ModelSources::from_settings(&settings).find("mine").unwrap().unwrap();
        assert_eq!(source.checkpoint, CheckpointSource::Bundled(BundledCheckpoint::ResNet50V1Imagenet));
    }

    #[test]
    fn folder_is_optional_if_a_model_is_named() {
        assert_eq!(names(&["--model", "z=z.safetensors"]).unwrap(), ["z"]);
    }

    #[test]
    fn rejects_duplicate_names_and_reports_both_files() {
        let error = names(&["--model", "a=1.safetensors", "--model", "a=2.safetensors"]).unwrap_err().to_string();
        assert!(error.contains("1.safetensors and 2.safetensors"), "{error}");
    }

    #[test]
    fn finds_named_model_after_folder_was_deleted() {
        let folder = folder(&["a.safetensors", "z.safetensors"]);
        let arguments = ["server", "--models", folder.path().to_str().unwrap(), "--model", "z=other.safetensors"];
        let sources = ModelSources::from_settings(&Settings::try_parse_from(arguments).unwrap());
        let (listed, warnings) = sources.list().unwrap();
        assert_eq!(listed.iter().map(|source| source.name.as_str()).collect::<Vec<_>>(), ["z", "a"]);
        assert!(warnings.len() == 1 && warnings[0].contains("other.safetensors has the same name"), "{warnings:?}");
        folder.close().unwrap();
        assert!(sources.find("a").is_err());
        let named = sources.find("z").unwrap().unwrap();
        assert_eq!(named.checkpoint, CheckpointSource::File("other.safetensors".into()));
    }

    #[test]
    fn empty_folder_is_rejected_with_its_path() {
        let folder = folder(&["readme.md"]);
        let error = names(&["--models", folder.path().to_str().unwrap()]).unwrap_err().to_string();
        assert!(error.contains(folder.path().to_str().unwrap()), "{error}");
    }

    #[test]
    fn missing_folder_is_rejected_with_its_path() {
        let error = names(&["--models", "no/such/folder"]).unwrap_err().to_string();
        assert!(error.contains("no/such/folder"), "{error}");
    }
}
