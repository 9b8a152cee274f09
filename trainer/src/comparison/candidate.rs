//! The checkpoints of a comparison: their names, and the correspondence of their classes.

use crate::weights_file::{file_bytes, open_checkpoint};
use anyhow::{Result, bail, ensure};
use checkpoints::CheckpointSource;
use model::checkpoint::Checkpoint;
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

/// A checkpoint that is compared.
pub struct Candidate {
    /// Name that distinguishes the checkpoint from the others.
    pub name: String,
    /// Path, or name of a bundled checkpoint.
    pub file: String,
    /// Size of the file, in bytes.
    pub file_bytes: u64,
    pub checkpoint: Checkpoint,
    /// Index in the first candidate of each class of this one.
    pub class_indices: Vec<usize>,
}

/// Identifier and readable name of a class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClassName {
    pub class: String,
    pub label: String,
}

impl Candidate {
    /// Opens the checkpoints.
    ///
    /// # Errors
    /// Returns an error if a checkpoint cannot be opened or is given twice, or if they do not have the same classes.
    pub fn open_all(sources: &[CheckpointSource]) -> Result<Vec<Candidate>> {
        // Names first, so that a repeated checkpoint is reported before any is opened.
        distinct_names(sources)?;
        let checkpoints = sources.iter().map(open_checkpoint).collect::<Result<Vec<_>>>()?;
        Candidate::new_all(sources, checkpoints)
    }

    /// Wraps checkpoints that were read from these sources.
    ///
    /// # Errors
    /// Returns an error if a checkpoint is given twice, or if they do not have the same classes.
    pub fn new_all(sources: &[CheckpointSource], checkpoints: Vec<Checkpoint>) -> Result<Vec<Candidate>> {
        let mut candidates: Vec<Candidate> = Vec::new();
        let names = distinct_names(sources)?;
        for ((source, name), checkpoint) in sources.iter().zip(names).zip(checkpoints) {
            let classes = &checkpoint.metadata().classes;
            let first = candidates
                .first()
                .map_or((&name, classes), |first| (&first.name, &first.checkpoint.metadata().classes));
            let class_indices = class_indices(first, (&name, classes))?;
            let (file, file_bytes) = (source.to_string(), file_bytes(source)?);
            candidates.push(Candidate { name, file, file_bytes, checkpoint, class_indices });
        }
        Ok(candidates)
    }

    /// Returns the names of the classes.
    pub fn class_names(&self) -> Vec<ClassName> {
        let metadata = self.checkpoint.metadata();
        let names = metadata.classes.iter().cloned().zip(metadata.labels.iter().cloned());
        names.map(|(class, label)| ClassName { class, label }).collect()
    }
}

/// Returns the shortest names that distinguish the checkpoints: the names of the files, those of their folders and the
/// files, or the paths.
fn distinct_names(sources: &[CheckpointSource]) -> Result<Vec<String>> {
    for name in [CheckpointSource::name, name_with_folder, CheckpointSource::to_string] {
        let names: Vec<_> = sources.iter().map(name).collect();
        if names.iter().collect::<BTreeSet<_>>().len() == names.len() {
            return Ok(names);
        }
    }
    let is_repeated = |index: &usize| sources[..*index].contains(&sources[*index]);
    let repeated = (0..sources.len()).find(is_repeated).expect("the paths are not distinct");
    bail!("{} is given twice; name each checkpoint once", sources[repeated])
}

fn name_with_folder(source: &CheckpointSource) -> String {
    let folder = match source {
        CheckpointSource::File(path) => path.parent().and_then(Path::file_name),
        CheckpointSource::Bundled(_) => None,
    };
    let name = source.name();
    folder.map_or_else(|| name.clone(), |folder| format!("{}/{name}", folder.to_string_lossy()))
}

/// Returns the index in `first` of each class of `other`. Both are the name of a checkpoint and its classes.
fn class_indices(first: (&String, &Vec<String>), other: (&String, &Vec<String>)) -> Result<Vec<usize>> {
    let indices: HashMap<_, _> = first.1.iter().enumerate().map(|(index, class)| (class, index)).collect();
    for (name, classes) in [first, other] {
        let mut seen = BTreeSet::new();
        if let Some(repeated) = classes.iter().find(|class| !seen.insert(*class)) {
            bail!("{name} has two classes {repeated}; classes must be unique");
        }
    }
    let missing = |(name, classes): (&String, &Vec<String>), (from_name, from): (&String, &Vec<String>)| {
        let present: BTreeSet<_> = classes.iter().collect();
        let missing: Vec<_> = from.iter().filter(|class| !present.contains(class)).collect();
        (!missing.is_empty()).then(|| format!("{name} lacks {} of {from_name}", list(&missing)))
    };
    let problems: Vec<_> = [missing(other, first), missing(first, other)].into_iter().flatten().collect();
    ensure!(problems.is_empty(), "checkpoints must have the same classes: {}", problems.join("; "));
    Ok(other.1.iter().map(|class| indices[class]).collect())
}

/// Lists classes in an error message.
fn list(classes: &[&String]) -> String {
    const SHOWN: usize = 10;
    let shown = classes.iter().take(SHOWN).map(|class| class.as_str()).collect::<Vec<_>>().join(", ");
    let count = if classes.len() == 1 { "the class".to_owned() } else { format!("the {} classes", classes.len()) };
    format!("{count} {shown}{}", if classes.len() > SHOWN { ", ..." } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn names(sources: &[&str]) -> Result<Vec<String>> {
        distinct_names(&sources.iter().map(|source| PathBuf::from(source).into()).collect::<Vec<_>>())
    }

    fn indices(first: &[&str], other: &[&str]) -> Result<Vec<usize>> {
        let [first, other] = [first, other].map(|classes| classes.iter().map(|&class| class.to_owned()).collect());
        class_indices((&"a".to_owned(), &first), (&"b".to_owned(), &other))
    }

    #[test]
    fn names_are_as_short_as_possible() {
        assert_eq!(
            names(&["runs/x/best.safetensors", "resnet18-imagenette"]).unwrap(),
            ["best", "resnet18-imagenette"]
        );
        assert_eq!(names(&["runs/x/best.safetensors", "runs/y/best.safetensors"]).unwrap(), ["x/best", "y/best"]);
        let paths = ["a/x/best.safetensors", "b/x/best.safetensors"];
        assert_eq!(names(&paths).unwrap(), paths);
        let error = names(&["a.safetensors", "b.safetensors", "a.safetensors"]).unwrap_err().to_string();
        assert_eq!(error, "a.safetensors is given twice; name each checkpoint once");
    }

    #[test]
    fn classes_are_matched_by_identifier() {
        assert_eq!(indices(&["ant", "bee", "cat"], &["cat", "ant", "bee"]).unwrap(), [2, 0, 1]);
    }

    #[test]
    fn different_classes_are_an_error_that_names_them() {
        let error = |first: &[&str], other: &[&str]| indices(first, other).unwrap_err().to_string();
        assert_eq!(
            error(&["ant", "bee", "cat"], &["cat", "dog", "fly"]),
            "checkpoints must have the same classes: b lacks the 2 classes ant, bee of a; a lacks the 2 classes dog, fly of b"
        );
        assert_eq!(
            error(&["ant"], &["ant", "bee"]),
            "checkpoints must have the same classes: a lacks the class bee of b"
        );
        assert_eq!(error(&["ant", "bee"], &["bee", "bee"]), "b has two classes bee; classes must be unique");
        let many: Vec<_> = (0..11).map(|index| index.to_string()).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert!(error(&["ant"], &many).contains("the 11 classes 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... of b"));
    }
}
