//! Predictions of the teacher in the steps of a run.

use super::context::TrainingContext;
use super::display::{DisplayEvent, PhotoTask};
use super::run_folder::TEACHER_LOGITS;
use crate::data::{DataLoader, EpochItem, SampleLoader, sequential_batches};
use crate::distillation::{LogitFile, TeacherEngine};
use crate::learning::MixingPlan;
use anyhow::{Result, ensure};
use model::engine::Device;
use model::preprocess::ImageBatch;

/// Batch size with which logits are computed in advance.
const BATCH: usize = 16;

/// Source of the predictions that a student learns.
pub enum TeacherPredictions<'a> {
    /// The teacher, which is run on each batch.
    Engine(TeacherEngine),
    /// A file, if images are the same in all epochs.
    File(&'a LogitFile),
}

impl<'a> TeacherPredictions<'a> {
    /// Prepares the teacher for a replica on `device`, one of this number of replicas. Returns `None` without a teacher.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn prepare(context: &'a TrainingContext, device: Device, replicas: usize) -> Result<Option<Self>> {
        let Some(teacher) = &context.teacher else { return Ok(None) };
        Ok(Some(match &context.teacher_logits {
            Some(file) => TeacherPredictions::File(file),
            None => TeacherPredictions::Engine(TeacherEngine::prepare(teacher, device, replicas)?),
        }))
    }

    /// Returns the logits for the images of these items, mixed by `plan`: `[batch, classes]`, row by row.
    ///
    /// # Errors
    /// Returns an error if the device fails, or if the file cannot be read.
    pub fn logits(&self, items: &[EpochItem], images: &ImageBatch, plan: &MixingPlan) -> Result<Vec<f32>> {
        match self {
            TeacherPredictions::Engine(engine) => engine.logits(images, plan),
            TeacherPredictions::File(file) => file.logits(items),
        }
    }
}

/// Opens the file of the teacher's logits, or computes it. Returns `None` without a teacher.
///
/// # Errors
/// Returns an error if the device fails, if the file cannot be read or written, or if the run is interrupted.
pub fn open_teacher_logits(context: &TrainingContext, device: Device) -> Result<Option<LogitFile>> {
    let TrainingContext { recipe, dataset, metadata, threads, interrupt, teacher, .. } = context;
    let Some(teacher) = teacher else { return Ok(None) };
    let path = context.reporter().run_folder().path().join(TEACHER_LOGITS);
    let (photos, classes) = (dataset.training_count(), dataset.classes.len());
    if let Some(file) = LogitFile::open(&path, photos, classes)? {
        return Ok(Some(file));
    }
    context.reporter().log(&format!("computing the logits of the teacher for {photos} photos"))?;
    context.reporter().show(DisplayEvent::PhotosStarted { task: PhotoTask::TeacherLogits, count: photos });
    let engine = TeacherEngine::prepare(teacher, device, 1)?;
    // The images of all epochs are those of the first one.
    let sample_loader = SampleLoader::for_training(dataset, recipe, &metadata.preprocessing, 1);
    let loader = DataLoader::new(sample_loader, sequential_batches(photos, BATCH), threads.clone());
    let file = LogitFile::compute(&path, photos, classes, &engine, loader, |count, skipped| {
        ensure!(!interrupt.is_raised(), "interrupted while the logits of the teacher were computed");
        context.reporter().report_skipped(skipped)?;
        context.reporter().show(DisplayEvent::PhotosDone(count));
        Ok(())
    })?;
    context.reporter().show(DisplayEvent::PhotosEnded);
    Ok(Some(file))
}
