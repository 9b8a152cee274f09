//! The history of a run, read from the files of its folder.

use crate::training::{EpochRecord, FeaturesRecord, RecordedMetrics, RunFolder, StepRecord};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// Recipe, devices, commands and metrics of a run.
pub struct RunHistory {
    /// Name of the folder.
    pub name: String,
    /// The resolved recipe, as TOML.
    pub recipe: String,
    /// Folder of the photos or shards.
    pub data: String,
    /// Fingerprint of the photos.
    pub photos: String,
    /// Devices that the run was started on.
    pub devices: String,
    /// Command lines of the run: the one that started it, and those that resumed it.
    pub commands: Vec<String>,
    /// Number of steps of an epoch, or 0 if no step was recorded.
    pub steps_per_epoch: usize,
    /// Computations of the features on which the classifier was trained: one for each process of the run.
    pub features: Vec<FeaturesRecord>,
    /// Records of steps, in order.
    pub steps: Vec<StepRecord>,
    /// Records of epochs, in order.
    pub epochs: Vec<EpochRecord>,
}

impl RunHistory {
    /// Reads the folder of a run, which may be in progress or have been interrupted.
    ///
    /// # Errors
    /// Returns an error if it is not a run folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let setup = RunFolder::setup(folder)?;
        // The path may be ".".
        let absolute = folder.canonicalize().with_context(|| format!("cannot find {}", folder.display()))?;
        let name = absolute.file_name().unwrap_or(folder.as_os_str());
        let devices = match (setup.gpus, setup.device, setup.replicas) {
            (Some(gpus), ..) if gpus > 0 => format!("{gpus} GPUs"),
            (_, device, replicas) => {
                let device = device.unwrap_or_else(|| "cpu".to_owned());
                replicas.map_or_else(|| device.clone(), |replicas| format!("{replicas} replicas on {device}"))
            }
        };
        let log = read("log.txt")?;
        let commands = log.lines().filter(|line| line.contains("  (version ")).map(str::to_owned).collect();
        let (mut features, mut steps, mut epochs) = (Vec::new(), Vec::new(), Vec::new());
        for record in RecordedMetrics::read_all(&folder.join("metrics.jsonl"))? {
            match record {
                RecordedMetrics::Features(record) => features.push(record),
                RecordedMetrics::Step(record) => steps.push(record),
                RecordedMetrics::Epoch(record) => epochs.push(record),
            }
        }
        let last_step = steps.iter().map(|record: &StepRecord| record.step).max().unwrap_or(0);
        Ok(RunHistory {
            name: name.to_string_lossy().into_owned(),
            recipe: read("recipe.toml")?,
            data: setup.data.display().to_string(),
            photos: setup.photos,
            devices,
            commands,
            // Without the header, the last step of a complete epoch is its number of steps.
            steps_per_epoch: logged_steps_per_epoch(&log).unwrap_or(last_step),
            features,
            steps,
            epochs,
        })
    }

    /// Returns the best epoch.
    pub fn best(&self) -> Option<&EpochRecord> {
        self.epochs.iter().rev().find(|record| record.best)
    }

    /// Returns the duration of all computations of features, in seconds, or `None` if all layers were trained.
    pub fn features_seconds(&self) -> Option<f64> {
        (!self.features.is_empty()).then(|| self.features.iter().map(|record| record.seconds).sum())
    }

    /// Returns the duration of all recorded steps, without evaluations, in seconds.
    pub fn training_seconds(&self) -> f64 {
        let complete = self.epochs.last().map_or(0, |record| record.epoch);
        let epochs = self.epochs.iter().map(|record| record.train.seconds);
        let later_steps = self.steps.iter().filter(|record| record.epoch > complete);
        // The sum of no numbers is -0.0.
        epochs.chain(later_steps.map(|record| record.train.seconds)).fold(0.0, |sum, seconds| sum + seconds)
    }
}

/// Returns the number of steps of an epoch from the header of a run, such as "... 20 epochs of 125 steps on cpu, ...".
fn logged_steps_per_epoch(log: &str) -> Option<usize> {
    let header = log.lines().find(|line| line.contains(" classes, ") && line.contains(" epochs of "))?;
    let (_, rest) = header.split_once(" epochs of ")?;
    rest.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates a run folder with this log and these metrics.
    fn run_folder(log: &str, metrics: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let setup = "data = \"/photos\"\nphotos = \"0\"\ndevice = \"cpu\"\nreplicas = 2\n";
        let files =
            [("setup.toml", setup), ("recipe.toml", "epochs = 2\n"), ("log.txt", log), ("metrics.jsonl", metrics)];
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }

    #[test]
    fn reads_an_interrupted_run() {
        let log = "trainer --data /photos  (version 0.1.0)\n\
            resnet18, 2 classes, 90 training and 10 validation photos, 64 px, 2 epochs of 30 steps on cpu, output folder x\n";
        let step = |epoch, step| {
            format!(
                r#"{{"kind":"step","epoch":{epoch},"step":{step},"learning_rate":0.1,"train":{{"loss":2.0,"top1":0.5,"seconds":4.0,"images_per_second":7.0,"waiting":0.0}}}}"#
            )
        };
        let epoch = r#"{"kind":"epoch","epoch":1,"learning_rate":0.1,"train":{"loss":null,"top1":0.5,"seconds":12.5,"images_per_second":7.0,"waiting":0.1},"val":{"loss":null,"top1":0.25,"top5":1.0,"photos":10,"skipped":0},"skipped":1,"best":true}"#;
        let (first, second, third) = (step(1, 10), step(1, 20), step(2, 10));
        let features = r#"{"kind":"features","photos":100,"seconds":3.5}"#;
        let metrics = format!("{features}\n{first}\n{second}\n{epoch}\n{third}\n{}", r#"{"kind":"step","epo"#);
        let folder = run_folder(log, &metrics);
        let run = RunHistory::read(folder.path()).unwrap();
        assert_eq!(run.commands, ["trainer --data /photos  (version 0.1.0)"]);
        assert_eq!((run.devices.as_str(), run.data.as_str()), ("2 replicas on cpu", "/photos"));
        assert_eq!((run.steps.len(), run.epochs.len(), run.steps_per_epoch), (3, 1, 30));
        assert_eq!((run.epochs[0].train.loss, run.epochs[0].val.loss), (None, None));
        assert_eq!(run.best().unwrap().val.top1, 0.25);
        assert_eq!((run.features_seconds(), run.training_seconds()), (Some(3.5), 12.5 + 4.0));
    }

    #[test]
    fn rejects_other_folders() {
        let folder = tempfile::tempdir().unwrap();
        let error = RunHistory::read(folder.path()).err().unwrap();
        assert!(error.to_string().contains("is not a run folder"), "{error}");
    }
}
