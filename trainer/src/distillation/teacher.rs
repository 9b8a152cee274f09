//! The checkpoint of a teacher, with the classes of its student.

use crate::weights_file::{open_checkpoint, sha256};
use anyhow::{Context, Result, bail, ensure};
use checkpoints::CheckpointSource;
use model::architecture::Architecture;
use model::checkpoint::{Checkpoint, Metadata};
use std::collections::HashMap;

/// A teacher whose classes are those of the student.
#[derive(Clone, Debug)]
pub struct Teacher {
    /// Where the checkpoint was read from.
    pub source: CheckpointSource,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// Weights. The classifier contains only the classes of the student, in their order.
    pub checkpoint: Checkpoint,
}

impl Teacher {
    /// Opens a teacher for a student with these classes. They are matched by identifier.
    ///
    /// # Errors
    /// Returns an error if the checkpoint cannot be opened, or if it lacks a class.
    pub fn open(source: CheckpointSource, classes: &[String]) -> Result<Self> {
        let checkpoint = open_checkpoint(&source).context("cannot open the teacher (--teacher)")?;
        let sha256 = sha256(&source)?;
        let checkpoint = restrict(checkpoint, classes).with_context(|| format!("teacher {source}"))?;
        Ok(Teacher { source, sha256, checkpoint })
    }

    /// Adds the teacher to the provenance of a student that is about to be trained. With `takes_labels`, the student gets the
    /// teacher's readable names of the classes.
    ///
    /// # Errors
    /// Returns an error if the metadata is invalid.
    pub fn describe_student(&self, student: Checkpoint, takes_labels: bool) -> Result<Checkpoint> {
        let metadata = student.metadata().clone();
        let before = metadata.provenance.as_deref().unwrap_or_default();
        let provenance = Some(format!("{before}, with {} as the teacher", self.source.name()));
        let labels = if takes_labels { self.checkpoint.metadata().labels.clone() } else { metadata.labels };
        Ok(student.with_metadata(Metadata { labels, provenance, ..metadata })?)
    }

    /// Checks that the file is the one that a run was started with.
    ///
    /// # Errors
    /// Returns an error if `recorded`, the SHA-256 in the run's setup, is that of another file.
    pub fn check_sha256(&self, recorded: &str) -> Result<()> {
        ensure!(
            self.sha256 == recorded,
            "teacher {} differs from the one that the run was started with; restore that file, or start a new run \
             (SHA-256 {}, not {recorded})",
            self.source,
            self.sha256
        );
        Ok(())
    }
}

/// Returns the checkpoint with these classes only, in this order.
fn restrict(checkpoint: Checkpoint, classes: &[String]) -> Result<Checkpoint> {
    let metadata = checkpoint.metadata().clone();
    if metadata.classes == classes {
        return Ok(checkpoint);
    }
    let indices = class_indices(&metadata.classes, classes)?;
    let mut tensors = checkpoint.into_values();
    let width = metadata.architecture.features();
    for (name, row) in [("fc.weight", width), ("fc.bias", 1)] {
        let rows = tensors.get_mut(name).expect("a network has a classifier");
        *rows = indices.iter().flat_map(|index| &rows[index * row..(index + 1) * row]).copied().collect();
    }
    let metadata = Metadata {
        architecture: Architecture { classes: classes.len(), ..metadata.architecture },
        classes: classes.to_vec(),
        labels: indices.iter().map(|&index| metadata.labels[index].clone()).collect(),
        ..metadata
    };
    Ok(Checkpoint::new(metadata, tensors)?)
}

/// Returns the index in `of_teacher` of each class.
fn class_indices(of_teacher: &[String], classes: &[String]) -> Result<Vec<usize>> {
    const SHOWN: usize = 5;
    let mut indices = HashMap::new();
    for (index, class) in of_teacher.iter().enumerate() {
        if indices.insert(class, index).is_some() {
            bail!("there are two classes {class}; classes must be unique");
        }
    }
    let missing: Vec<_> = classes.iter().filter(|class| !indices.contains_key(class)).map(String::as_str).collect();
    if !missing.is_empty() {
        let shown = missing[..missing.len().min(SHOWN)].join(", ");
        let more = if missing.len() > SHOWN { ", ..." } else { "" };
        bail!(
            "{} of the {} classes of the photos are missing: {shown}{more}; a teacher must have all of them, with the same \
             identifiers (see `trainer inspect`)",
            missing.len(),
            classes.len()
        );
    }
    Ok(classes.iter().map(|class| indices[class]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::random;
    use std::path::PathBuf;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    /// Returns a teacher with the classes ant, bee and cat.
    fn checkpoint() -> Checkpoint {
        let checkpoint = random::checkpoint(Architecture::new("resnet18", 3).unwrap());
        let (classes, labels) = (names(&["ant", "bee", "cat"]), names(&["an ant", "a bee", "a cat"]));
        let metadata = Metadata { classes, labels, ..checkpoint.metadata().clone() };
        checkpoint.with_metadata(metadata).unwrap()
    }

    #[test]
    fn classes_are_selected_and_ordered_by_identifier() {
        let (all, restricted) = (checkpoint(), restrict(checkpoint(), &names(&["cat", "ant"])).unwrap());
        assert_eq!(restricted.metadata().labels, ["a cat", "an ant"]);
        let [weight, selected] = [&all, &restricted].map(|checkpoint| checkpoint.values("fc.weight"));
        assert_eq!(selected, [&weight[2 * 512..], &weight[..512]].concat());
        let [bias, selected] = [&all, &restricted].map(|checkpoint| checkpoint.values("fc.bias"));
        assert_eq!(selected, [bias[2], bias[0]]);
        assert_eq!(all.values("layer4.1.conv2.weight"), restricted.values("layer4.1.conv2.weight"));
    }

    #[test]
    fn missing_and_repeated_classes_are_errors_that_name_them() {
        let error = |classes: &[&str]| restrict(checkpoint(), &names(classes)).unwrap_err().to_string();
        assert!(error(&["ant", "dog", "fly"]).starts_with("2 of the 3 classes of the photos are missing: dog, fly; "));
        assert!(error(&["1", "2", "3", "4", "5", "6"]).contains("missing: 1, 2, 3, 4, 5, ...; "));
        let twice = class_indices(&names(&["ant", "ant"]), &names(&["ant"])).unwrap_err().to_string();
        assert_eq!(twice, "there are two classes ant; classes must be unique");
    }

    #[test]
    fn student_gets_labels_and_provenance() {
        let classes = names(&["bee", "ant"]);
        let source = PathBuf::from("models/large.safetensors").into();
        let teacher = Teacher { source, sha256: String::new(), checkpoint: restrict(checkpoint(), &classes).unwrap() };
        let student = random::checkpoint(Architecture::new("resnet18", 2).unwrap());
        let metadata = Metadata { provenance: Some("from scratch".to_owned()), ..student.metadata().clone() };
        let student = student.with_metadata(metadata).unwrap();
        let described = teacher.describe_student(student.clone(), true).unwrap();
        assert_eq!(described.metadata().labels, ["a bee", "an ant"]);
        assert_eq!(described.metadata().provenance.as_deref(), Some("from scratch, with large as the teacher"));
        assert_eq!(teacher.describe_student(student, false).unwrap().metadata().labels, ["0", "1"]);
    }

    #[test]
    fn changed_file_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join("teacher.safetensors");
        let open = || Teacher::open(path.clone().into(), &names(&["ant", "bee", "cat"])).unwrap();
        checkpoint().save(&path).unwrap();
        let recorded = open().sha256;
        open().check_sha256(&recorded).unwrap();
        let changed = Metadata { provenance: Some("changed".to_owned()), ..checkpoint().metadata().clone() };
        checkpoint().with_metadata(changed).unwrap().save(&path).unwrap();
        let error = open().check_sha256(&recorded).unwrap_err().to_string();
        assert!(error.contains("teacher.safetensors differs from the one that the run was started with"), "{error}");
    }
}
