//! Where a checkpoint comes from: a file, or this program.

use crate::BundledCheckpoint;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// A checkpoint as named on a command line or in a recipe. The name of a bundled checkpoint refers to that checkpoint, and
/// anything else is a path; `./NAME` is a file with the name of a bundled checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "PathBuf", into = "PathBuf")]
pub enum CheckpointSource {
    File(PathBuf),
    Bundled(BundledCheckpoint),
}

impl CheckpointSource {
    /// Returns the name of the checkpoint: the file name without its extension.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            Self::Bundled(bundled) => bundled.name().to_owned(),
        }
    }

    /// Makes a relative path absolute.
    ///
    /// # Errors
    /// Returns an error if the path is empty, or if there is no working directory.
    pub fn into_absolute(self) -> io::Result<Self> {
        match self {
            Self::File(path) => Ok(Self::File(std::path::absolute(path)?)),
            bundled => Ok(bundled),
        }
    }

    /// Checks that the checkpoint exists.
    ///
    /// # Errors
    /// Returns an error if there is no such file. It lists the bundled checkpoints, but does not contain the path.
    pub fn check_exists(&self) -> io::Result<()> {
        match self {
            // Paths that cannot be examined are left to the caller that opens them, whose error says why.
            Self::File(path) if matches!(path.try_exists(), Ok(false)) => {
                let names = BundledCheckpoint::names();
                let message = format!("no such file; the bundled checkpoints are {names}");
                Err(io::Error::new(io::ErrorKind::NotFound, message))
            }
            _ => Ok(()),
        }
    }
}

impl From<PathBuf> for CheckpointSource {
    fn from(path: PathBuf) -> Self {
        match path.to_str().and_then(BundledCheckpoint::find) {
            Some(bundled) => Self::Bundled(bundled),
            None => Self::File(path),
        }
    }
}

/// For arguments of command lines.
impl From<OsString> for CheckpointSource {
    fn from(text: OsString) -> Self {
        PathBuf::from(text).into()
    }
}

/// For configuration files: the inverse of the conversion from a path.
impl From<CheckpointSource> for PathBuf {
    fn from(source: CheckpointSource) -> Self {
        match source {
            CheckpointSource::File(path) => path,
            CheckpointSource::Bundled(bundled) => bundled.name().into(),
        }
    }
}

impl fmt::Display for CheckpointSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Bundled(bundled) => f.write_str(bundled.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> CheckpointSource {
        PathBuf::from(text).into()
    }

    #[test]
    fn only_exact_names_refer_to_bundled_checkpoints() {
        let bundled = CheckpointSource::Bundled(BundledCheckpoint::ResNet18Imagenette);
        assert_eq!(source("resnet18-imagenette"), bundled);
        for path in ["./resnet18-imagenette", "checkpoints/resnet18-imagenette.safetensors", "resnet18", ""] {
            assert_eq!(source(path), CheckpointSource::File(path.into()));
        }
    }

    #[test]
    fn name_is_that_of_the_file_without_extension() {
        for (text, name) in
            [("resnet18-imagenette", "resnet18-imagenette"), ("models/birds.v2.safetensors", "birds.v2")]
        {
            assert_eq!(source(text).name(), name);
        }
    }

    #[test]
    fn sources_survive_serialisation() {
        for text in ["resnet50_v1-imagenet", "/models/birds.safetensors"] {
            assert_eq!(serde_json::to_value(source(text)).unwrap(), text);
            assert_eq!(serde_json::from_value::<CheckpointSource>(text.into()).unwrap(), source(text));
            assert_eq!(source(text).to_string(), text);
        }
    }

    #[test]
    fn only_paths_become_absolute() {
        assert_eq!(source("resnet18-imagenette").into_absolute().unwrap(), source("resnet18-imagenette"));
        let CheckpointSource::File(path) = source("./resnet18-imagenette").into_absolute().unwrap() else { panic!() };
        assert!(path.is_absolute() && path.ends_with("resnet18-imagenette"), "{}", path.display());
    }

    #[test]
    fn missing_files_are_reported_with_the_bundled_names() {
        let error = source("nowhere.safetensors").check_exists().unwrap_err().to_string();
        assert!(error.contains("resnet18-imagenette, resnet50_v1-imagenet"), "{error}");
        assert!(source("resnet18-imagenette").check_exists().is_ok());
        assert!(source("Cargo.toml").check_exists().is_ok());
    }
}
