//! Which checkpoints there are to serve, under which names.

use crate::settings::{DEFAULT_FOLDER, Settings};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};

/// A checkpoint to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFile {
    pub name: String,
    pub path: PathBuf,
}

/// Where checkpoints are looked for: some by name, and a folder's, which may change.
#[derive(Clone, Debug, Default)]
pub struct ModelFiles {
    named: Vec<ModelFile>,
    folder: Option<PathBuf>,
}

impl ModelFiles {
    pub fn of(settings: &Settings) -> Self {
        let named = settings.model.iter().map(|(name, path)| ModelFile { name: name.clone(), path: path.clone() });
        let named: Vec<_> = named.collect();
        let folder = settings.models.clone().or_else(|| named.is_empty().then(default_folder));
        ModelFiles { named, folder }
    }

    /// Those named one by one, in their order, then those of the folder, by name, as they are now; and a sentence for each that
    /// does not count, for one before it has its name.
    pub fn list(&self) -> Result<(Vec<ModelFile>, Vec<String>)> {
        let (mut files, mut remarks): (Vec<ModelFile>, _) = (Vec::new(), Vec::new());
        for file in self.all()? {
            match files.iter().find(|other| other.name == file.name) {
                Some(ModelFile { path, .. }) => {
                    remarks.push(format!("{} is not served: {} has its name", file.path.display(), path.display()));
                }
                None => files.push(file),
            }
        }
        Ok((files, remarks))
    }

    /// The one of this name, for which the folder is read only if none was named so.
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

    /// The same for who begins: there is at least one, and no name twice.
    pub fn list_at_start(&self) -> Result<Vec<ModelFile>> {
        let files = self.all()?;
        for (index, file) in files.iter().enumerate() {
            if let Some(other) = files[..index].iter().find(|other| other.name == file.name) {
                let (path, other) = (file.path.display(), other.path.display());
                bail!("two models are named {:?}: {other} and {path}; name one with --model NAME=PATH", file.name);
            }
        }
        let folder = self.folder.as_deref().unwrap_or(Path::new("")).display();
        ensure!(!files.is_empty(), "the folder {folder} holds no *.safetensors");
        Ok(files)
    }
}

/// In the working directory, or where there is none, beside this program.
fn default_folder() -> PathBuf {
    let here = PathBuf::from(DEFAULT_FOLDER);
    let beside = std::env::current_exe().ok().map(|program| program.with_file_name(DEFAULT_FOLDER));
    beside.filter(|beside| !here.is_dir() && beside.is_dir()).unwrap_or(here)
}

fn in_folder(folder: &Path) -> Result<Vec<ModelFile>> {
    let unreadable = || {
        format!(
            "cannot read the folder of models {}; name one with --models, or a checkpoint with --model",
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
        Ok(ModelFiles::of(&settings).list_at_start()?.into_iter().map(|file| file.name).collect())
    }

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        folder
    }

    #[test]
    fn named_models_come_first_and_the_folder_is_sorted() {
        let folder = folder(&["b.safetensors", "a.safetensors", "readme.md"]);
        let arguments = ["--models", folder.path().to_str().unwrap(), "--model", "z=z.safetensors"];
        assert_eq!(names(&arguments).unwrap(), ["z", "a", "b"]);
    }

    #[test]
    fn a_named_model_needs_no_folder() {
        assert_eq!(names(&["--model", "z=z.safetensors"]).unwrap(), ["z"]);
    }

    #[test]
    fn a_name_given_twice_is_refused_with_both_files() {
        let error = names(&["--model", "a=1.safetensors", "--model", "a=2.safetensors"]).unwrap_err().to_string();
        assert!(error.contains("1.safetensors and 2.safetensors"), "{error}");
    }

    #[test]
    fn a_named_model_is_found_though_the_folder_is_gone() {
        let folder = folder(&["a.safetensors", "z.safetensors"]);
        let arguments = ["server", "--models", folder.path().to_str().unwrap(), "--model", "z=other.safetensors"];
        let files = ModelFiles::of(&Settings::try_parse_from(arguments).unwrap());
        let (listed, remarks) = files.list().unwrap();
        assert_eq!(listed.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["z", "a"]);
        assert!(remarks.len() == 1 && remarks[0].contains("other.safetensors has its name"), "{remarks:?}");
        folder.close().unwrap();
        assert!(files.find("a").is_err());
        assert_eq!(files.find("z").unwrap().unwrap().path, PathBuf::from("other.safetensors"));
    }

    #[test]
    fn a_folder_without_checkpoints_is_refused_by_name() {
        let folder = folder(&["readme.md"]);
        let error = names(&["--models", folder.path().to_str().unwrap()]).unwrap_err().to_string();
        assert!(error.contains(folder.path().to_str().unwrap()), "{error}");
    }

    #[test]
    fn a_missing_folder_is_refused_by_name() {
        let error = names(&["--models", "no/such/folder"]).unwrap_err().to_string();
        assert!(error.contains("no/such/folder"), "{error}");
    }
}
