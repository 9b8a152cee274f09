//! Logits of a teacher in a file, for recipes with which the image of a photo is the same in all epochs.

use super::TeacherEngine;
use crate::data::{DataLoader, EpochItem, SkippedSample};
use crate::learning::MixingPlan;
use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Size of a logit, in bytes.
const LOGIT: usize = size_of::<f32>();

/// A file of little-endian f32 logits `[photo, class]`, in the order of the training photos. The rows of photos that could
/// not be decoded are NaN.
pub struct LogitFile {
    file: Mutex<File>,
    classes: usize,
}

impl LogitFile {
    /// Opens the file of an earlier process, or returns `None` if there is none.
    ///
    /// # Errors
    /// Returns an error if it cannot be read, or if it does not hold the logits of `photos` photos.
    pub fn open(path: &Path, photos: usize, classes: usize) -> Result<Option<Self>> {
        let context = || format!("cannot read {}", path.display());
        if !path.try_exists().with_context(context)? {
            return Ok(None);
        }
        let file = File::open(path).with_context(context)?;
        let bytes = file.metadata().with_context(context)?.len();
        let expected = (photos * classes * LOGIT) as u64;
        ensure!(
            bytes == expected,
            "{} has {bytes} bytes instead of {expected}; remove it, and it is computed again",
            path.display()
        );
        Ok(Some(LogitFile { file: Mutex::new(file), classes }))
    }

    /// Computes the logits of `photos` photos, and writes them to `path` through a temporary file. `loader` loads all photos
    /// in order. `progress` gets the number of photos of each batch, and its files that could not be decoded; an error that
    /// it returns ends the computation.
    ///
    /// # Errors
    /// Returns an error if the device fails, or if the file cannot be written.
    pub fn compute(
        path: &Path,
        photos: usize,
        classes: usize,
        teacher: &TeacherEngine,
        loader: DataLoader,
        mut progress: impl FnMut(usize, &[SkippedSample]) -> Result<()>,
    ) -> Result<Self> {
        let context = || format!("cannot write {}", path.display());
        // The folder of a run is cleared of such files when it is resumed.
        let partial = path.with_added_extension("partial");
        let mut file = BufWriter::new(File::create(&partial).with_context(context)?);
        let undecodable: Vec<u8> = f32::NAN.to_le_bytes().repeat(classes);
        let mut written = 0;
        for batch in loader {
            progress(batch.items.len() + batch.skipped.len(), &batch.skipped)?;
            let Some(images) = batch.images else { continue };
            let logits = teacher.logits(&images, &MixingPlan::default())?;
            for (item, row) in batch.items.iter().zip(logits.chunks_exact(classes)) {
                for _ in written..item.index {
                    file.write_all(&undecodable).with_context(context)?;
                }
                let row: Vec<u8> = row.iter().flat_map(|logit| logit.to_le_bytes()).collect();
                file.write_all(&row).with_context(context)?;
                written = item.index + 1;
            }
        }
        for _ in written..photos {
            file.write_all(&undecodable).with_context(context)?;
        }
        let file = file.into_inner().map_err(std::io::IntoInnerError::into_error).with_context(context)?;
        file.sync_all().with_context(context)?;
        drop(file);
        fs::rename(&partial, path).with_context(context)?;
        LogitFile::open(path, photos, classes)?.with_context(|| format!("{} has disappeared", path.display()))
    }

    /// Returns the logits of photos, `[item, class]`, row by row.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, or if a photo could not be decoded when it was written.
    pub fn logits(&self, items: &[EpochItem]) -> Result<Vec<f32>> {
        let context = "cannot read the logits of the teacher";
        let mut bytes = vec![0; items.len() * self.classes * LOGIT];
        let mut file = self.file.lock();
        for (item, row) in items.iter().zip(bytes.chunks_exact_mut(self.classes * LOGIT)) {
            file.seek(SeekFrom::Start((item.index * row.len()) as u64)).context(context)?;
            file.read_exact(row).context(context)?;
        }
        let logits: Vec<f32> = bytes.as_chunks::<LOGIT>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        ensure!(
            logits.iter().all(|logit| logit.is_finite()),
            "a photo can be decoded now, but could not when the logits of the teacher were computed; start a new run"
        );
        Ok(logits)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Teacher;
    use super::*;
    use crate::data::{Sample, SampleLocation, loader_threads};
    use model::architecture::Architecture;
    use model::engine::Device;
    use model::preprocess::{Photo, Preprocessing};
    use model::random;
    use std::sync::Arc;

    const PHOTOS: usize = 7;
    const CLASSES: usize = 3;

    /// Creates photos of different colours, of which those with these indices cannot be decoded.
    fn samples(folder: &Path, broken: &[usize]) -> Arc<[Sample]> {
        let sample = |index: usize| {
            let file = folder.join(format!("{index}.png"));
            let photo = Photo::from_rgba(40, 40, &[30 * index as u8, 90, 0, 255].repeat(1600)).unwrap().to_png();
            fs::write(&file, if broken.contains(&index) { b"no photo".to_vec() } else { photo }).unwrap();
            Sample { location: SampleLocation::File(file), class: 0 }
        };
        (0..PHOTOS).map(sample).collect()
    }

    #[test]
    fn logits_are_those_of_the_teacher_and_survive_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("teacher-logits.f32");
        assert!(LogitFile::open(&path, PHOTOS, CLASSES).unwrap().is_none());
        let checkpoint = random::checkpoint(Architecture::new("resnet18", CLASSES).unwrap());
        let source = folder.path().join("teacher.safetensors").into();
        let engine = TeacherEngine::prepare(&Teacher { source, sha256: String::new(), checkpoint }, Device::Cpu, 1);
        let engine = engine.unwrap();
        let samples = samples(folder.path(), &[0, 3, 6]);
        let preprocessing = Preprocessing { resize: 32, crop: 32, ..Preprocessing::default() };
        let load = |batch_size| {
            let threads = loader_threads(None).unwrap();
            DataLoader::for_evaluation(samples.clone(), &preprocessing, batch_size, threads)
        };
        let (mut done, mut skipped) = (0, 0);
        let file = LogitFile::compute(&path, PHOTOS, CLASSES, &engine, load(2), |count, files| {
            (done, skipped) = (done + count, skipped + files.len());
            Ok(())
        });
        assert_eq!((done, skipped), (PHOTOS, 3));

        let mut expected = Vec::new();
        for batch in load(1) {
            if let Some(images) = batch.images {
                expected.push((batch.items[0], engine.logits(&images, &MixingPlan::default()).unwrap()));
            }
        }
        let reopened = LogitFile::open(&path, PHOTOS, CLASSES).unwrap().unwrap();
        for file in [file.unwrap(), reopened] {
            for (item, logits) in &expected {
                assert_eq!(file.logits(&[*item]).unwrap(), *logits);
            }
            let items: Vec<_> = expected.iter().rev().map(|(item, _)| *item).collect();
            let logits: Vec<f32> = expected.iter().rev().flat_map(|(_, logits)| logits.clone()).collect();
            assert_eq!(file.logits(&items).unwrap(), logits);
            let error = file.logits(&[EpochItem { index: 3, repetition: 0 }]).unwrap_err().to_string();
            assert!(error.contains("could not when the logits of the teacher were computed"), "{error}");
        }
        let error = LogitFile::open(&path, PHOTOS + 1, CLASSES).err().unwrap().to_string();
        assert!(error.contains("teacher-logits.f32 has 84 bytes instead of 96; remove it"), "{error}");
    }

    #[test]
    fn interrupted_computation_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("teacher-logits.f32");
        let checkpoint = random::checkpoint(Architecture::new("resnet18", CLASSES).unwrap());
        let source = folder.path().join("teacher.safetensors").into();
        let engine = TeacherEngine::prepare(&Teacher { source, sha256: String::new(), checkpoint }, Device::Cpu, 1);
        let preprocessing = Preprocessing { resize: 32, crop: 32, ..Preprocessing::default() };
        let samples = samples(folder.path(), &[]);
        let loader = DataLoader::for_evaluation(samples, &preprocessing, 2, loader_threads(None).unwrap());
        let result =
            LogitFile::compute(&path, PHOTOS, CLASSES, &engine.unwrap(), loader, |_, _| anyhow::bail!("interrupted"));
        assert_eq!(result.err().unwrap().to_string(), "interrupted");
        assert!(!path.exists());
    }
}
