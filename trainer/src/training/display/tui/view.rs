//! The layout of the full-screen display.

use super::chart::{ChartView, Scale, Series, ValueFormat};
use super::model::TuiModel;
use crate::number_text::duration;
use crate::training::display::bar_text::{metrics_text, photo_counts};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Borders, Clear, Gauge, Paragraph};
use std::time::Instant;
use textwrap::{Options, WordSplitter};

/// Colours of the curves.
const TRAIN: Color = Color::Cyan;
const VALIDATION: Color = Color::Yellow;

/// Smallest size of the terminal at which each row of charts is shown.
const FIRST_CHARTS: (u16, u16) = (30, 12);
const SECOND_CHARTS: (u16, u16) = (60, 20);

const HELP: &str = "\
q, Ctrl-C   stop after the current step and save
            again: end at once, without saving
s           save the state after the current step
?           show or hide this text

Loss, top-1 and speed are means of up to ten steps, as
in metrics.jsonl; the learning rate is that of the last
of them. The first line of numbers shows the epoch so
far, and the speed of the last minute.";

/// Draws everything.
pub fn render(frame: &mut Frame, model: &TuiModel, now: Instant) {
    let area = frame.area();
    let has_room = |(width, height)| area.width >= width && area.height >= height;
    let rows = |(size, share)| if has_room(size) { Constraint::Fill(share) } else { Constraint::Length(0) };
    let [header, gauge, numbers, first, second, log, footer] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        rows((FIRST_CHARTS, 4)),
        rows((SECOND_CHARTS, 3)),
        Constraint::Fill(3),
        Constraint::Length(1),
    ])
    .areas(area);
    render_header(frame, header, model, now);
    render_gauge(frame, gauge, model, now);
    frame.render_widget(Line::from(metrics_text(&model.progress)), numbers);
    if has_room(FIRST_CHARTS) {
        render_first_charts(frame, first, model);
    }
    if has_room(SECOND_CHARTS) {
        render_second_charts(frame, second, model);
    }
    render_log(frame, log, model);
    frame.render_widget(footer_line(model), footer);
    if model.help {
        render_help(frame, area);
    }
}

/// Name and position of the run on the left, the time since the start of the process and the time left on the right.
fn render_header(frame: &mut Frame, area: Rect, model: &TuiModel, now: Instant) {
    let progress = &model.progress;
    let mut position = Line::from(vec![progress.name.clone().bold()]);
    if progress.epoch > 0 {
        position.push_span(format!(
            "  epoch {}/{}, step {}/{}",
            progress.epoch, progress.epochs, progress.step, progress.steps_per_epoch
        ));
    }
    frame.render_widget(position, area);
    let elapsed = duration(now - model.start);
    let left = progress.time_left(now).map(|left| format!(", {} left", duration(left))).unwrap_or_default();
    let times = Line::from(format!("  {elapsed} elapsed{left}")).right_aligned();
    let width = (times.width() as u16).min(area.width);
    frame.render_widget(times, Rect { x: area.right() - width, width, ..area });
}

/// A bar of the run's steps, or of the photos of the current task.
fn render_gauge(frame: &mut Frame, area: Rect, model: &TuiModel, now: Instant) {
    let progress = &model.progress;
    let (fraction, label, colour) = match &progress.task {
        Some(task) => (task.fraction(), format!("{}: {}", task.task, photo_counts(task, now)), VALIDATION),
        None => {
            let fraction = (progress.steps_done() as f64 / progress.steps().max(1) as f64).min(1.0);
            (fraction, format!("{:.1} %", 100.0 * fraction), Color::Green)
        }
    };
    let gauge = Gauge::default().ratio(fraction).label(label).use_unicode(true);
    frame.render_widget(gauge.gauge_style(Style::new().fg(colour).bg(Color::DarkGray)), area);
}

fn render_first_charts(frame: &mut Frame, area: Rect, model: &TuiModel) {
    let curves = &model.curves;
    let charts: [(_, _, _, ValueFormat); 2] = [
        ("loss:", &curves.train_loss, &curves.validation_loss, |loss| format!("{loss:.3}")),
        ("top-1:", &curves.train_top1, &curves.validation_top1, |percent| format!("{percent:.1} %")),
    ];
    let areas: [Rect; 2] = Layout::horizontal([Constraint::Fill(1); 2]).spacing(1).areas(area);
    for ((title, train, validation, format), area) in charts.into_iter().zip(areas) {
        let series = &[
            Series { name: "train", curve: train, colour: TRAIN },
            Series { name: "validation", curve: validation, colour: VALIDATION },
        ];
        let scale = Scale::Fitted;
        ChartView { title, series, scale, format, shows_steps: true }.render(frame, area, last_step(model));
    }
}

fn render_second_charts(frame: &mut Frame, area: Rect, model: &TuiModel) {
    let curves = &model.curves;
    let charts: [(_, _, _, ValueFormat); 3] = [
        ("learning rate", &curves.learning_rate, Scale::FromZero, |rate| {
            if rate == 0.0 { "0".to_owned() } else { format!("{rate:.1e}") }
        }),
        ("images/s", &curves.images_per_second, Scale::FromZero, |speed| format!("{speed:.1}")),
        ("waiting for photos", &curves.waiting, Scale::Percent, |percent| format!("{percent:.0} %")),
    ];
    let areas: [Rect; 3] = Layout::horizontal([Constraint::Fill(1); 3]).spacing(1).areas(area);
    for ((title, curve, scale, format), area) in charts.into_iter().zip(areas) {
        let series = &[Series { name: "", curve, colour: TRAIN }];
        ChartView { title, series, scale, format, shows_steps: false }.render(frame, area, last_step(model));
    }
}

/// Returns the number of the last step with a record, over all epochs.
fn last_step(model: &TuiModel) -> f64 {
    let last = |curve: &[(f64, f64)]| curve.last().map_or(0.0, |point| point.0);
    last(&model.curves.learning_rate).max(last(&model.curves.validation_top1))
}

fn render_log(frame: &mut Frame, area: Rect, model: &TuiModel) {
    let block = Block::new().borders(Borders::TOP).border_style(Style::new().fg(Color::DarkGray)).title("log ".bold());
    let inner = block.inner(area);
    let (width, height) = (usize::from(inner.width), usize::from(inner.height));
    // Wrap only lines that may be visible.
    let recent = model.log.iter().skip(model.log.len().saturating_sub(height));
    let options = Options::new(width).subsequent_indent("  ").word_splitter(WordSplitter::NoHyphenation);
    let lines: Vec<_> = recent.flat_map(|line| textwrap::wrap(line, &options)).collect();
    let visible = lines[lines.len().saturating_sub(height)..].iter().map(|line| Line::from(&**line));
    frame.render_widget(Paragraph::new(Text::from_iter(visible)).block(block), area);
}

/// Returns the keys, or the request that is pending.
fn footer_line(model: &TuiModel) -> Line<'static> {
    let warning = Style::new().fg(Color::Black).bg(Color::Yellow);
    if model.is_stopping {
        return Line::styled("stopping after this step and saving; press q again to end at once", warning);
    }
    if model.is_saving {
        return Line::styled("saving the state after this step", warning);
    }
    let keys = [("q", " stop and save   "), ("s", " save now   "), ("?", " help")];
    keys.into_iter().flat_map(|(key, action)| [key.bold().fg(TRAIN), action.into()]).collect()
}

fn render_help(frame: &mut Frame, area: Rect) {
    let text = Text::from(HELP);
    let (width, height) = ((text.width() + 4) as u16, (text.height() + 2) as u16);
    let area = area.centered(Constraint::Length(width), Constraint::Length(height));
    frame.render_widget(Clear, area);
    let block = Block::bordered().title("keys").padding(ratatui::widgets::Padding::horizontal(1));
    frame.render_widget(Paragraph::new(text).block(block), area);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::display::run_progress::tests::{report, resumed_run};
    use crate::training::display::{DisplayEvent, LineKind, PhotoTask};
    use crate::training::recorded_metrics::{
        EpochRecord, RecordedMetrics, StepRecord, TrainMetrics, ValidationMetrics,
    };
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use std::time::Duration;

    /// Returns the rows of the screen at the given size.
    fn screen(model: &TuiModel, width: u16, height: u16, now: Instant) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| render(frame, model, now)).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(row).collect()
    }

    fn count_braille(rows: &[String]) -> usize {
        let is_dotted = |character: &char| ('\u{2801}'..='\u{28ff}').contains(character);
        rows.iter().flat_map(|row| row.chars()).filter(is_dotted).count()
    }

    /// Returns the model of a run with records up to step 120 of epoch 3.
    fn model() -> (TuiModel, Instant) {
        let start = Instant::now();
        let (progress, now) = resumed_run(start);
        let mut model = TuiModel { progress, ..TuiModel::new(start) };
        let train = |loss| TrainMetrics {
            loss,
            top1: Some(0.8),
            images_per_second: Some(64.0),
            waiting: Some(0.25),
            ..TrainMetrics::default()
        };
        for epoch in 1..=3 {
            for step in (10..=if epoch == 3 { 120 } else { 1250 }).step_by(10) {
                let loss = Some(2.0 - 0.0005 * ((epoch - 1) * 1250 + step) as f64);
                let record = StepRecord { epoch, step, learning_rate: 0.001, train: train(loss) };
                model.apply(DisplayEvent::Recorded(RecordedMetrics::Step(record)), now);
            }
            if epoch < 3 {
                let val = ValidationMetrics { loss: Some(1.25), top1: 0.905, ..ValidationMetrics::default() };
                let record = EpochRecord { epoch, train: train(None), val, skipped: 0, best: true };
                model.apply(DisplayEvent::Recorded(RecordedMetrics::Epoch(record)), now);
            }
        }
        for number in 1..=20 {
            model.apply(DisplayEvent::Line { kind: LineKind::Log, text: format!("line {number} of the log") }, now);
        }
        (model, now)
    }

    #[test]
    fn screen_of_80_by_24_shows_everything() {
        let (model, now) = model();
        let rows = screen(&model, 80, 24, now);
        let text = rows.join("\n");
        assert!(
            rows[0].starts_with("finetune-1  epoch 3/30, step 120/1250 ")
                && rows[0].ends_with(" 37 s elapsed, 4 h 50 min left")
        );
        assert!(rows[1].contains("7.0 %"), "{}", rows[1]);
        assert!(rows[2].starts_with("loss 0.523, top-1 81.2 %, 64.0 images/s, 3 % waiting for photos"), "{text}");
        for expected in [
            "loss: train 0.690, validation 1.250",
            "top-1: train 80.0 %, validation 90.5 %",
            "learning rate 1.0e-3",
            "images/s 64.0",
            "waiting for photos 25 %",
            "step 2620",
            "line 20 of the log",
        ] {
            assert!(text.contains(expected), "{expected:?} is missing:\n{text}");
        }
        assert!(rows[23].starts_with("q stop and save   s save now   ? help"), "{}", rows[23]);
        assert!(count_braille(&rows) > 80, "{text}");
    }

    #[test]
    fn larger_screens_have_larger_charts_and_smaller_ones_fewer() {
        let (model, now) = model();
        let dots = |width, height| count_braille(&screen(&model, width, height, now));
        assert!(dots(160, 50) > 2 * dots(80, 24));
        assert!((1..dots(80, 24)).contains(&dots(50, 16)));
        let small = screen(&model, 40, 8, now);
        assert!(count_braille(&small) == 0 && small.join("\n").contains("line 20 of the log"));
        assert!(small[0].ends_with("4 h 50 min left") && small[7].starts_with("q stop and save"), "{small:?}");
        for (width, height) in [(1, 1), (3, 30), (200, 2), (31, 13), (61, 21)] {
            screen(&model, width, height, now);
        }
    }

    #[test]
    fn curves_are_empty_before_the_first_record() {
        let model = TuiModel::new(Instant::now());
        let rows = screen(&model, 80, 24, model.start);
        assert_eq!(count_braille(&rows), 0);
        let text = rows.join("\n");
        assert!(text.contains("loss: train -, validation -") && text.contains("no values yet"), "{text}");
    }

    #[test]
    fn tasks_and_requests_are_shown() {
        let (mut model, now) = model();
        model.apply(DisplayEvent::PhotosStarted { task: PhotoTask::Validation, count: 100 }, now);
        model.apply(DisplayEvent::PhotosDone(40), now);
        let later = now + Duration::from_secs(4);
        assert!(screen(&model, 80, 24, later)[1].contains("validation: 40/100 photos, 10.0 photos/s, 6 s left"));
        assert!(model.set_requests(false, true) && !model.set_requests(false, true));
        assert!(screen(&model, 80, 24, now)[23].starts_with("saving the state after this step"));
        model.set_requests(true, true);
        assert!(screen(&model, 80, 24, now)[23].starts_with("stopping after this step and saving; press q again"));
        model.help = true;
        let help = screen(&model, 80, 24, now).join("\n");
        assert!(help.contains("end at once, without saving") && help.contains("save the state after"), "{help}");
    }

    #[test]
    fn training_continues_after_a_task() {
        let (mut model, now) = model();
        model.apply(DisplayEvent::PhotosStarted { task: PhotoTask::Validation, count: 100 }, now);
        model.apply(DisplayEvent::PhotosEnded, now);
        model.apply(DisplayEvent::Step(report(3, 121)), now);
        assert!(screen(&model, 80, 24, now)[1].contains("7.0 %"));
    }

    #[test]
    fn long_log_lines_are_wrapped() {
        let (mut model, now) = model();
        let text = format!("{}the end", "a long line ".repeat(7));
        model.apply(DisplayEvent::Line { kind: LineKind::Log, text }, now);
        let rows = screen(&model, 80, 24, now);
        assert!(rows[21].starts_with("a long line a long") && rows[22].starts_with("  line the end"), "{rows:?}");
    }
}
