//! The text of the progress bar, for any width of the terminal.

use super::run_progress::{PhotoProgress, RunProgress};
use crate::number_text::{duration, short_duration};
use std::time::Instant;

/// Text around a bar.
#[derive(Clone, Debug, PartialEq)]
pub struct BarText {
    before: String,
    /// Width of the bar; 0 for no bar.
    bar: usize,
    after: String,
    /// Second line.
    below: String,
}

/// End of the metrics, which is left out if everything is in one line.
const FOR_PHOTOS: &str = " for photos";

/// Spaces between a bar and the text on one side.
const GAP: usize = 2;

impl BarText {
    /// Returns the text for the current state of a run: the longest that fits into `width` columns.
    pub fn new(progress: &RunProgress, width: usize, now: Instant) -> Self {
        match &progress.task {
            Some(task) => photo_text(task, width, now),
            None => training_text(progress, width, now),
        }
    }

    /// Returns the template for indicatif.
    pub fn template(&self) -> String {
        let BarText { before, bar, after, below } = self;
        let bar = if *bar > 0 { format!("  {{bar:{bar}.green}}  ") } else { String::new() };
        format!("{before}{bar}{after}\n{below}").trim_end().to_owned()
    }

    /// Returns the text if it fits with a bar of at least `min_bar` columns.
    fn fit(before: String, after: String, below: String, min_bar: usize, width: usize) -> Option<Self> {
        let gaps = if after.is_empty() { GAP } else { 2 * GAP };
        let bar = width.checked_sub(before.len() + after.len() + gaps)?;
        (bar >= min_bar && below.len() <= width).then_some(BarText { before, bar, after, below })
    }

    /// Returns the text without a bar, truncated to the width.
    fn without_bar(mut before: String, mut below: String, width: usize) -> Self {
        // The texts are ASCII.
        before.truncate(width);
        below.truncate(width);
        BarText { before, bar: 0, after: String::new(), below }
    }
}

/// Returns epoch, step, metrics, speed and time left, in one or two lines.
fn training_text(progress: &RunProgress, width: usize, now: Instant) -> BarText {
    let RunProgress { epoch, epochs, step, steps_per_epoch, .. } = progress;
    let position = format!("epoch {epoch}/{epochs}, step {step}/{steps_per_epoch}");
    let short_position = format!("{epoch}/{epochs} {step}/{steps_per_epoch}");
    let left = progress.time_left(now);
    let short_left = left.map(short_duration).unwrap_or_default();
    let left = left.map(|left| format!("{} left", duration(left))).unwrap_or_default();
    let (metrics, short_metrics) = (metrics_text(progress), short_metrics_text(progress));

    let one_line = match (metrics.strip_suffix(FOR_PHOTOS), &*left) {
        (Some(metrics), "") => metrics.to_owned(),
        (Some(metrics), left) => format!("{metrics}, {left}"),
        (None, left) => left.to_owned(),
    };
    BarText::fit(position.clone(), one_line, String::new(), 20, width)
        .or_else(|| BarText::fit(position.clone(), left.clone(), metrics.clone(), 15, width))
        .or_else(|| BarText::fit(short_position.clone(), left, metrics, 15, width))
        .or_else(|| BarText::fit(short_position.clone(), short_left, short_metrics.clone(), 8, width))
        .unwrap_or_else(|| BarText::without_bar(short_position, short_metrics, width))
}

/// Returns the metrics of the epoch so far, and the recent speed; empty before the first step.
pub fn metrics_text(progress: &RunProgress) -> String {
    let Some(step) = progress.last_step else { return String::new() };
    let speed = progress.speed.images_per_second().map(|speed| format!(", {speed:.1} images/s")).unwrap_or_default();
    let waiting = progress
        .speed
        .waiting()
        .map(|share| format!(", {:.0} % waiting{FOR_PHOTOS}", 100.0 * share))
        .unwrap_or_default();
    format!("loss {:.3}, top-1 {:.1} %{speed}{waiting}", step.loss, 100.0 * step.top1)
}

fn short_metrics_text(progress: &RunProgress) -> String {
    let Some(step) = progress.last_step else { return String::new() };
    let speed = progress.speed.images_per_second().map(|speed| format!(" {speed:.0}/s")).unwrap_or_default();
    let waiting = progress.speed.waiting().map(|share| format!(" wait {:.0}%", 100.0 * share)).unwrap_or_default();
    format!("loss {:.3} top-1 {:.1}%{speed}{waiting}", step.loss, 100.0 * step.top1)
}

/// Returns the progress of a task that processes photos, in one line.
fn photo_text(task: &PhotoProgress, width: usize, now: Instant) -> BarText {
    let name = task.task.to_string();
    let PhotoProgress { done, count, .. } = task;
    let short = format!("{done}/{count}");
    BarText::fit(name.clone(), photo_counts(task, now), String::new(), 15, width)
        .or_else(|| BarText::fit(name.clone(), short.clone(), String::new(), 8, width))
        .unwrap_or_else(|| BarText::without_bar(format!("{name} {short}"), String::new(), width))
}

/// Returns the number of photos, the speed and the time left of a task.
pub fn photo_counts(task: &PhotoProgress, now: Instant) -> String {
    let PhotoProgress { done, count, .. } = task;
    let speed = task.photos_per_second(now).map(|speed| format!(", {speed:.1} photos/s")).unwrap_or_default();
    let left = task.time_left(now).map(|left| format!(", {} left", duration(left))).unwrap_or_default();
    format!("{done}/{count} photos{speed}{left}")
}

#[cfg(test)]
mod tests {
    use super::super::event::{DisplayEvent, PhotoTask};
    use super::super::run_progress::tests::{report, resumed_run};
    use super::*;
    use std::time::Duration;

    /// Returns the lines as they appear on the screen, with `#` for the bar.
    fn lines(progress: &RunProgress, width: usize, now: Instant) -> Vec<String> {
        let text = BarText::new(progress, width, now);
        let bar = format!("{{bar:{}.green}}", text.bar);
        let lines = text.template().replace(&bar, &"#".repeat(text.bar));
        assert!(lines.lines().all(|line| line.len() <= width), "{lines} exceeds {width} columns");
        lines.lines().map(str::to_owned).collect()
    }

    #[test]
    fn training_at_several_widths() {
        let (progress, now) = resumed_run(Instant::now());
        let metrics = "loss 0.523, top-1 81.2 %, 64.0 images/s, 3 % waiting for photos";
        let position = "epoch 3/30, step 120/1250";
        for width in [200, 120] {
            let short = metrics.trim_end_matches(" for photos");
            let expected = format!("{position}  {}  {short}, 4 h 50 min left", "#".repeat(width - 98));
            assert_eq!(lines(&progress, width, now), [expected]);
        }
        let two_lines = |bar| [format!("{position}  {}  4 h 50 min left", "#".repeat(bar)), metrics.to_owned()];
        assert_eq!(lines(&progress, 110, now), two_lines(66));
        assert_eq!(lines(&progress, 80, now), two_lines(36));
        assert_eq!(
            lines(&progress, 40, now),
            ["3/30 120/1250  ##################  4h50m", "loss 0.523 top-1 81.2% 64/s wait 3%"]
        );
        assert_eq!(lines(&progress, 20, now), ["3/30 120/1250", "loss 0.523 top-1 81."]);
        lines(&progress, 0, now);
    }

    /// The longest texts of realistic runs.
    #[test]
    fn long_numbers_leave_room_for_the_bar_at_80_columns() {
        let (mut progress, mut now) = resumed_run(Instant::now());
        (progress.epochs, progress.steps_per_epoch, progress.name) = (600, 10009, "run".to_owned());
        for step in 9001..9100 {
            now += Duration::from_secs_f64(0.0123);
            let images = if step % 2 == 0 { 128.0 } else { 256.0 };
            let waited = Duration::from_secs(1);
            let step = super::super::event::StepReport { loss: 6.9078, top1: 1.0, images, waited, ..report(599, step) };
            progress.apply(&DisplayEvent::Step(step), now);
        }
        let lines = lines(&progress, 80, now);
        let bar = lines[0].matches('#').count();
        assert!(lines.len() == 2 && bar >= 15 && lines[0].ends_with(" left"), "{lines:?}");
        assert!(
            lines[0].starts_with("epoch 599/600, step 9099/10009 ") && lines[1].contains("100 % waiting"),
            "{lines:?}"
        );
    }

    #[test]
    fn before_the_first_step_there_are_no_metrics() {
        let start = Instant::now();
        let mut progress = RunProgress::default();
        (progress.epochs, progress.steps_per_epoch) = (2, 7);
        progress.apply(&DisplayEvent::EpochStarted(1), start);
        assert_eq!(lines(&progress, 40, start), [format!("epoch 1/2, step 0/7  {}", "#".repeat(19))]);
    }

    #[test]
    fn photos_at_several_widths() {
        let (mut progress, start) = resumed_run(Instant::now());
        progress.apply(&DisplayEvent::PhotosStarted { task: PhotoTask::Validation, count: 153 }, start);
        progress.apply(&DisplayEvent::PhotosDone(51), start);
        let now = start + Duration::from_secs(2);
        for width in [120, 80] {
            let bar = "#".repeat(width - 52);
            let expected = format!("validation  {bar}  51/153 photos, 25.5 photos/s, 4 s left");
            assert_eq!(lines(&progress, width, now), [expected]);
        }
        assert_eq!(lines(&progress, 40, now), [format!("validation  {}  51/153", "#".repeat(20))]);
        assert_eq!(lines(&progress, 15, now), ["validation 51/1"]);
    }
}
