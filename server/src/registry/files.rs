//! Finds the checkpoint files to serve, and their names.

use crate::settings::{DEFAULT_FOLDER, Settings};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};

/// A checkpoint file and the name of its model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFile {
    pub name: String,
    pub path: PathBuf,
}

/// Where to look for checkpoints: files given by `--model`, and a folder, whose content may change.
#[derive(Clone, Debug, Default)]
pub struct ModelFiles {
    named: Vec<ModelFile>,
    folder: Option<PathBuf>,
}

impl ModelFiles {
    pub fn from_settings(settings: &Settings) -> Self {
        let named = settings.model.iter().map(|(name, path)| ModelFile { name: name.clone(), path: path.clone() });
        let named: Vec<_> = named.collect();
        let folder = settings.models.clone().or_else(|| named.is_empty().then(default_folder));
        ModelFiles { named, folder }
    }

    /// Lists the current files: first those given by `--model`, in their order, then those of the folder, sorted by
    /// name. Files whose name is already taken are left out; the second list has a warning for each of them.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be read.
    pub fn list(&self) -> Result<(Vec<ModelFile>, Vec<String>)> {
        let (mut files, mut warnings): (Vec<ModelFile>, _) = (Vec::new(), Vec::new());
        for file in self.all()? {
            match files.iter().find(|other| other.name == file.name) {
                Some(ModelFile { path, .. }) => {
                    let (file, other) = (file.path.display(), path.display());
                    warnings.push(format!("{file} is not served, because {other} has the same name"));
                }
                None => files.push(file),
            }
        }
        Ok((files, warnings))
    }

    /// Returns the file of this name. Reads the folder only if no file of this name was given by `--model`.
    pub fn find(&self, name: &str) -> Result<Option<ModelFile>> {
        if let Some(named) = self.named.iter().find(|file| file.name == name) {
            return Ok(Some(named.clone()));
        }
        Ok(self.list()?.0.into_iter().find(|file| file.name == name))
    }

    fn all(&self) -> Result<Vec<ModelFile>> {
        let mut files = self.named.clone();
        if let Some(folder) = &self.folder {
            files.extend(in_folder(folder)?);
        }
        Ok(files)
    }

    /// Lists the files at startup, when mistakes are errors instead of warnings.
    ///
    /// # Errors
    /// Returns an error if there is no file, or if two files have the same name.
    pub fn list_at_startup(&self) -> Result<Vec<ModelFile>> {
        let files = self.all()?;
        for (index, file) in files.iter().enumerate() {
            if let Some(other) = files[..index].iter().find(|other| other.name == file.name) {
                let (path, other) = (file.path.display(), other.path.display());
                bail!("two models are named {:?}: {other} and {path}; rename one with --model NAME=PATH", file.name);
            }
        }
        let folder = self.folder.as_deref().unwrap_or(Path::new("")).display();
        ensure!(!files.is_empty(), "no *.safetensors files in the model folder {folder}");
        Ok(files)
    }
}

/// Returns the default folder in the working directory or, if that does not exist, next to the executable.
fn default_folder() -> PathBuf {
    let here = PathBuf::from(DEFAULT_FOLDER);
    let next_to_executable = std::env::current_exe().ok().map(|program| program.with_file_name(DEFAULT_FOLDER));
    next_to_executable.filter(|folder| !here.is_dir() && folder.is_dir()).unwrap_or(here)
}

fn in_folder(folder: &Path) -> Result<Vec<ModelFile>> {
    let unreadable = || {
        format!(
            "cannot read the model folder {}; choose a folder with --models or a checkpoint with --model",
            folder.display()
        )
    };
    let mut files = Vec::new();
    for entry in folder.read_dir().with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        if let Some(name) = name
            && path.extension().is_some_and(|extension| extension == "safetensors")
        {
            files.push(ModelFile { name, path });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn names(arguments: &[&str]) -> Result<Vec<String>> {
        let settings = Settings::try_parse_from([&["server"], arguments].concat())?;
        Ok(ModelFiles::from_settings(&settings).list_at_startup()?.into_iter().map(|file| file.name).collect())
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
        let files = ModelFiles::from_settings(&Settings::try_parse_from(arguments).unwrap());
        let (listed, warnings) = files.list().unwrap();
        assert_eq!(listed.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["z", "a"]);
        assert!(warnings.len() == 1 && warnings[0].contains("other.safetensors has the same name"), "{warnings:?}");
        folder.close().unwrap();
        assert!(files.find("a").is_err());
        assert_eq!(files.find("z").unwrap().unwrap().path, PathBuf::from("other.safetensors"));
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
