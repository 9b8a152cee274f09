//! What `trainer distill` adds to a training run: the teacher, unlabelled photos, and the comparison at the end.

use super::compare::summary_text;
use crate::comparison::{Candidate, Comparison, EngineSettings};
use crate::console;
use crate::data::{Dataset, Sample, UnlabelledPhotos};
use crate::distillation::{Teacher, inference_device};
use crate::recipe::Recipe;
use crate::training::{BEST, RecordedPhotos, RecordedTeacher, RunSetup};
use anyhow::{Context, Result, ensure};
use checkpoints::CheckpointSource;
use clap::Args;
use model::checkpoint::Checkpoint;
use model::engine::{Device, EngineOptions};
use std::num::NonZero;
use std::path::{Path, PathBuf};

/// Inputs that only a student has.
#[derive(Args, Clone, Debug)]
pub struct DistillationArgs {
    /// Checkpoint of the teacher: a file, or one of the bundled checkpoints resnet18-imagenette and resnet50_v1-imagenet. With
    /// --resume: its new path, if it was moved
    #[arg(long, value_name = "FILE|NAME", required_unless_present = "resume")]
    teacher: Option<CheckpointSource>,
    /// Folder of photos without labels, also in subfolders, which are trained on in addition to those of --data: the student
    /// learns the teacher's predictions for them. With --resume: its new path, if it was moved
    #[arg(long, value_name = "FOLDER")]
    unlabelled: Option<PathBuf>,
}

/// Inputs of the distillation of a run, which are recorded in its setup.
#[derive(Default)]
pub struct DistillationInputs {
    pub teacher: Option<Teacher>,
    pub recorded_photos: Option<RecordedPhotos>,
}

/// Returns the recipe of a new run, which has the keys of distillation if and only if there is a teacher.
///
/// # Errors
/// Returns an error if the recipe has the keys without a teacher, or if it does not support a teacher.
pub fn with_distillation_keys(recipe: Recipe, arguments: Option<&DistillationArgs>) -> Result<Recipe> {
    match arguments {
        Some(_) => recipe.with_default_distillation(),
        None => {
            ensure!(
                !recipe.distils(),
                "the recipe distils, but there is no teacher; use `trainer distill --teacher CHECKPOINT`, or remove \
                 `distillation-temperature` and `distillation-weight` with --set distillation-temperature= --set \
                 distillation-weight="
            );
            Ok(recipe)
        }
    }
}

impl DistillationInputs {
    /// Opens the inputs of a new run. The unlabelled photos are added to `dataset`.
    ///
    /// # Errors
    /// Returns an error if the teacher cannot be opened or lacks a class, or if the unlabelled photos cannot be listed.
    pub fn open(arguments: Option<&DistillationArgs>, dataset: &mut Dataset) -> Result<Self> {
        let Some(DistillationArgs { teacher, unlabelled }) = arguments.cloned() else {
            return Ok(DistillationInputs::default());
        };
        let source = teacher.context("--teacher is missing")?.into_absolute()?;
        let teacher = Some(Teacher::open(source, &dataset.classes)?);
        let recorded_photos = unlabelled.map(|folder| add_unlabelled(&folder, dataset)).transpose()?;
        Ok(DistillationInputs { teacher, recorded_photos })
    }

    /// Opens the inputs of a run that is resumed. `arguments` may hold new paths.
    ///
    /// # Errors
    /// Returns the errors of [`open`](Self::open), or an error if teacher or photos are not those of the run.
    pub fn reopen(arguments: Option<&DistillationArgs>, setup: &RunSetup, dataset: &mut Dataset) -> Result<Self> {
        let moved_teacher = arguments.and_then(|arguments| arguments.teacher.clone());
        let moved_photos = arguments.and_then(|arguments| arguments.unlabelled.clone());
        let Some(RecordedTeacher { checkpoint, sha256 }) = &setup.teacher else {
            ensure!(arguments.is_none(), "the run has no teacher; resume it with `trainer --resume`");
            return Ok(DistillationInputs::default());
        };
        let teacher = Teacher::open(moved_teacher.unwrap_or_else(|| checkpoint.clone()), &dataset.classes)?;
        teacher.check_sha256(sha256)?;
        ensure!(setup.unlabelled.is_some() || moved_photos.is_none(), "the run has no unlabelled photos");
        if let Some(RecordedPhotos { folder, photos }) = &setup.unlabelled {
            let opened = add_unlabelled(&moved_photos.unwrap_or_else(|| folder.clone()), dataset)?;
            ensure!(
                opened.photos == *photos,
                "unlabelled photos in {} differ from those that the run was trained on; start a new run",
                opened.folder.display()
            );
        }
        Ok(DistillationInputs { teacher: Some(teacher), recorded_photos: setup.unlabelled.clone() })
    }

    /// Describes the teacher for the setup of a run.
    pub fn recorded_teacher(&self) -> Option<RecordedTeacher> {
        let Teacher { source, sha256, .. } = self.teacher.as_ref()?;
        Some(RecordedTeacher { checkpoint: source.clone(), sha256: sha256.clone() })
    }
}

fn add_unlabelled(folder: &Path, dataset: &mut Dataset) -> Result<RecordedPhotos> {
    let folder = std::path::absolute(folder)?;
    dataset.unlabelled = UnlabelledPhotos::open(&folder, dataset)?;
    Ok(RecordedPhotos { photos: dataset.unlabelled.fingerprint(&folder), folder })
}

/// Prints a note if the teacher was trained with larger or smaller images than the student's.
pub fn note_image_size(teacher: &Teacher, student: &Checkpoint) {
    let [of_teacher, of_student] =
        [&teacher.checkpoint, student].map(|checkpoint| checkpoint.metadata().preprocessing.crop);
    if of_teacher != of_student {
        console::note(format_args!(
            "the teacher gets the images of the student, with {of_student} px, but was trained with {of_teacher} px; its \
             predictions for them may be worse"
        ));
    }
}

/// Prints the comparison of the teacher with the best checkpoint of a run to stderr.
///
/// # Errors
/// Returns an error if the device fails, or if no photo could be decoded.
pub fn print_comparison(
    teacher: Teacher,
    run_folder: &Path,
    data: &Path,
    samples: &[Sample],
    device: Device,
) -> Result<()> {
    let best = run_folder.join(BEST);
    let student = Checkpoint::from_path(&best)?;
    let candidates = Candidate::new_all(&[teacher.source, best.into()], vec![teacher.checkpoint, student])?;
    let settings = EngineSettings {
        device: inference_device(device),
        options: EngineOptions::default(),
        batch_size: const { NonZero::new(16).unwrap() },
    };
    let mut comparison = Comparison::compute(&candidates, data, samples, settings)?;
    comparison.measure_times(&candidates, settings)?;
    console::status(format_args!("\n{}\n", summary_text(&comparison)));
    Ok(())
}
