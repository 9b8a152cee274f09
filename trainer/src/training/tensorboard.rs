//! Events of a run for TensorBoard: the metrics of `metrics.jsonl` as scalars, and the first batch as an image.
//!
//! `metrics.jsonl` remains the source of truth. Only the messages and fields that are used here are defined, with the
//! numbers of TensorBoard's `event.proto` and `summary.proto`.

use super::event_file::{self, EventFile, seconds_since_1970};
use super::metric_accumulator::MetricSummary;
use super::state::TrainingPosition;
use crate::evaluation::Evaluation;
use anyhow::Result;
use model::preprocess::Photo;
use prost::{Message, Oneof};
use std::path::{Path, PathBuf};

/// Version of the format, with which every event file starts.
const FILE_VERSION: &str = "brain.Event:2";
/// Value of [`Image::colorspace`].
const RGB: i32 = 3;

/// First parts of the tags of step records, and of the training and the evaluation in epoch records.
const STEPS: &str = "train";
const EPOCH: &str = "epoch";
const EVALUATION: &str = "val";

/// Writes the event files of a run. Each process that trains writes one file, which it creates with its first event.
pub struct EventWriter {
    folder: PathBuf,
    steps_per_epoch: usize,
    /// Position that the process starts at.
    start: TrainingPosition,
    file: Option<EventFile>,
}

impl EventWriter {
    /// Creates a writer for a run folder. It writes nothing yet.
    pub fn new(folder: &Path, steps_per_epoch: usize) -> Self {
        EventWriter { folder: folder.to_owned(), steps_per_epoch, start: TrainingPosition::default(), file: None }
    }

    /// Sets the position that the run is resumed from. Later events, which will be repeated, are removed from the
    /// existing files when the first new one is written.
    pub fn start_at(&mut self, position: &TrainingPosition) {
        self.start = position.clone();
    }

    /// Writes the metrics of the steps up to `step` of an epoch.
    ///
    /// # Errors
    /// Returns an error if an event file cannot be written.
    pub fn write_steps(&mut self, epoch: usize, step: usize, learning_rate: f64, train: &MetricSummary) -> Result<()> {
        let mut values = vec![scalar(STEPS, "learning_rate", learning_rate)];
        values.extend(metrics(STEPS, train));
        self.write(self.global_step(epoch, step), values)
    }

    /// Writes the metrics of an epoch, at its last step.
    ///
    /// # Errors
    /// Returns an error if an event file cannot be written.
    pub fn write_epoch(&mut self, epoch: usize, train: &MetricSummary, val: &Evaluation) -> Result<()> {
        let val = [("loss", val.loss), ("top1", val.top1), ("top5", val.top5)];
        let val = val.map(|(name, value)| scalar(EVALUATION, name, value));
        self.write(
            self.global_step(epoch, self.steps_per_epoch),
            metrics(EPOCH, train).into_iter().chain(val).collect(),
        )
    }

    /// Writes the images of the first batch, arranged in a grid, at the first step.
    ///
    /// # Errors
    /// Returns an error if an event file cannot be written.
    pub fn write_first_batch(&mut self, grid: &Photo) -> Result<()> {
        let image = Image {
            height: grid.height() as i32,
            width: grid.width() as i32,
            colorspace: RGB,
            encoded_image_string: grid.to_png(),
        };
        let value = SummaryValue { tag: format!("{STEPS}/batch"), content: Some(ValueContent::Image(image)) };
        self.write(self.global_step(1, 1), vec![value])
    }

    fn write(&mut self, step: i64, values: Vec<SummaryValue>) -> Result<()> {
        let event = Event::new(step, EventContent::Summary(Summary { values }));
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let file = self.create_file()?;
                self.file.insert(file)
            }
        };
        file.append(&event.encode_to_vec())
    }

    /// Creates this process's file, and removes events that will be repeated from those of earlier processes.
    fn create_file(&self) -> Result<EventFile> {
        event_file::retain(&self.folder, |event| Event::decode(event).is_ok_and(|event| self.is_before_start(&event)))?;
        let mut file = EventFile::create(&self.folder)?;
        file.append(&Event::new(0, EventContent::FileVersion(FILE_VERSION.to_owned())).encode_to_vec())?;
        Ok(file)
    }

    /// Returns whether the run is resumed from a position after that of an event. An epoch record has the step of the
    /// epoch's last step record, but a state that is saved between the two precedes it.
    fn is_before_start(&self, event: &Event) -> bool {
        let Some(EventContent::Summary(Summary { values })) = &event.content else { return true };
        let is_of_steps = values.iter().all(|value| value.tag.starts_with(STEPS));
        event.step <= self.global_step(self.start.epoch, if is_of_steps { self.start.step } else { 0 })
    }

    /// Returns the number of a step over all epochs. Epochs and steps count from 1; the step 0 of an epoch is the last
    /// one of the epoch before.
    fn global_step(&self, epoch: usize, step: usize) -> i64 {
        (epoch.saturating_sub(1) * self.steps_per_epoch + step) as i64
    }
}

fn metrics(group: &str, metrics: &MetricSummary) -> Vec<SummaryValue> {
    let MetricSummary { loss, top1, seconds, images_per_second, waiting } = *metrics;
    let metrics = [
        ("loss", loss),
        ("top1", top1),
        ("seconds", seconds),
        ("images_per_second", images_per_second),
        ("waiting", waiting),
    ];
    metrics.map(|(name, value)| scalar(group, name, value)).into()
}

fn scalar(group: &str, name: &str, value: f64) -> SummaryValue {
    SummaryValue { tag: format!("{group}/{name}"), content: Some(ValueContent::SimpleValue(value as f32)) }
}

#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "EventContent", tags = "3, 5")]
    content: Option<EventContent>,
}

#[derive(Clone, PartialEq, Oneof)]
enum EventContent {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    values: Vec<SummaryValue>,
}

/// `Summary.Value`
#[derive(Clone, PartialEq, Message)]
struct SummaryValue {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(oneof = "ValueContent", tags = "2, 4")]
    content: Option<ValueContent>,
}

#[derive(Clone, PartialEq, Oneof)]
enum ValueContent {
    #[prost(float, tag = "2")]
    SimpleValue(f32),
    #[prost(message, tag = "4")]
    Image(Image),
}

/// `Summary.Image`
#[derive(Clone, PartialEq, Message)]
struct Image {
    #[prost(int32, tag = "1")]
    height: i32,
    #[prost(int32, tag = "2")]
    width: i32,
    #[prost(int32, tag = "3")]
    colorspace: i32,
    /// A PNG.
    #[prost(bytes = "vec", tag = "4")]
    encoded_image_string: Vec<u8>,
}

impl Event {
    /// Creates an event that happens now.
    fn new(step: i64, content: EventContent) -> Self {
        Event { wall_time: seconds_since_1970(), step, content: Some(content) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const STEPS_PER_EPOCH: usize = 12;
    const METRICS: MetricSummary =
        MetricSummary { loss: 1.5, top1: 0.0, seconds: 2.0, images_per_second: 0.1 + 0.2, waiting: 0.25 };
    const VAL: Evaluation = Evaluation { loss: 1.25, top1: 0.5, top5: 1.0, photos: 8, skipped: 0 };

    fn position(epoch: usize, step: usize) -> TrainingPosition {
        TrainingPosition { epoch, step, ..TrainingPosition::default() }
    }

    fn writer(folder: &Path, start: &TrainingPosition) -> EventWriter {
        let mut writer = EventWriter::new(folder, STEPS_PER_EPOCH);
        writer.start_at(start);
        writer
    }

    fn grid() -> Photo {
        Photo::from_rgba(2, 1, &[255, 0, 0, 255, 0, 0, 255, 255]).unwrap()
    }

    /// Writes what a run from a position to the end of the second epoch writes.
    fn run(folder: &Path, start: &TrainingPosition) {
        let mut writer = writer(folder, start);
        if start.epoch <= 1 && start.step == 0 {
            writer.write_first_batch(&grid()).unwrap();
        }
        for epoch in start.epoch.max(1)..=2 {
            for step in [10, STEPS_PER_EPOCH] {
                if epoch > start.epoch || step > start.step {
                    writer.write_steps(epoch, step, 0.1, &METRICS).unwrap();
                }
            }
            writer.write_epoch(epoch, &METRICS, &VAL).unwrap();
        }
    }

    /// Returns the step and the first tag of each summary in the event files, in their order.
    fn summaries(folder: &Path) -> Vec<(i64, String)> {
        let events = event_file::read_all(folder).into_iter().map(|event| Event::decode(&event[..]).unwrap());
        let summary = |event: Event| match event.content {
            Some(EventContent::Summary(summary)) => Some((event.step, summary.values[0].tag.clone())),
            _ => None,
        };
        events.filter_map(summary).collect()
    }

    fn expected() -> Vec<(i64, String)> {
        let steps = [
            (1, "train/batch"),
            (10, "train/learning_rate"),
            (12, "train/learning_rate"),
            (12, "epoch/loss"),
            (22, "train/learning_rate"),
            (24, "train/learning_rate"),
            (24, "epoch/loss"),
        ];
        steps.map(|(step, tag)| (step, tag.to_owned())).into()
    }

    /// Bytes written by `tests/golden/events.py` with the messages and the writer of TensorBoard.
    #[test]
    fn events_equal_those_of_tensorboard() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = writer(folder.path(), &position(0, 0));
        let image = ValueContent::Image(Image {
            height: 1,
            width: 2,
            colorspace: RGB,
            encoded_image_string: b"not really a PNG".to_vec(),
        });
        let value = SummaryValue { tag: "train/batch".to_owned(), content: Some(image) };
        writer.write(1, vec![value]).unwrap();
        writer.write_steps(2, 10, 0.1, &METRICS).unwrap();
        writer.write_epoch(300, &METRICS, &VAL).unwrap();
        let mut golden = EventFile::create(folder.path()).unwrap();
        for event in event_file::read_all(folder.path()) {
            let event = Event { wall_time: 1.75e9 + 0.125, ..Event::decode(&event[..]).unwrap() };
            golden.append(&event.encode_to_vec()).unwrap();
        }
        let mut paths: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert_eq!(fs::read(&paths[1]).unwrap(), include_bytes!("../../tests/golden/events.tfrecord"));
    }

    #[test]
    fn resumed_runs_have_no_duplicate_events() {
        for (epoch, step) in [(0, 0), (1, 0), (1, 3), (1, 10), (1, 11), (1, 12), (2, 1), (2, 10), (2, 12)] {
            let folder = tempfile::tempdir().unwrap();
            run(folder.path(), &position(0, 0));
            run(folder.path(), &position(epoch, step));
            assert_eq!(summaries(folder.path()), expected(), "resumed in epoch {epoch} after step {step}");
        }
    }

    #[test]
    fn run_that_was_killed_while_it_wrote_an_event_is_resumed() {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), &position(0, 0));
        let path = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        run(folder.path(), &position(2, STEPS_PER_EPOCH));
        assert_eq!(summaries(folder.path()), expected());
    }

    #[test]
    fn failed_resume_changes_no_file() {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), &position(0, 0));
        drop(writer(folder.path(), &position(1, 0)));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(summaries(folder.path()), expected());
    }

    #[test]
    fn errors_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("removed");
        let error = writer(&missing, &position(0, 0)).write_steps(1, 10, 0.1, &METRICS).unwrap_err();
        assert!(error.to_string().contains("removed"), "{error}");
    }
}
