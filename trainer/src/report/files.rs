//! Files of an evaluation for spreadsheets and scripts: CSV tables, and the confusion matrix as images.

use super::content::Report;
use super::evaluation_report::EvaluationReport;
use super::page;
use super::run_report::REPORT;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::Path;

/// Writes `report.html`, `confusion.csv`, `classes.csv`, `predictions.csv`, `confusion.png` and `confusion.svg`.
///
/// # Errors
/// Returns an error if a file cannot be written.
pub fn write_evaluation(report: EvaluationReport, folder: &Path) -> Result<()> {
    let table = |name: &str, write: &dyn Fn(&mut csv::Writer<File>) -> csv::Result<()>| -> Result<()> {
        let path = folder.join(name);
        let written = csv::Writer::from_path(&path).and_then(|mut writer| {
            write(&mut writer)?;
            Ok(writer.flush()?)
        });
        written.with_context(|| format!("cannot write {}", path.display()))
    };
    let file = |name: &str, content: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    };
    table("confusion.csv", &|writer| write_confusion(&report, writer))?;
    table("classes.csv", &|writer| write_classes(&report, writer))?;
    table("predictions.csv", &|writer| write_predictions(&report, writer))?;
    file("confusion.png", &page::confusion_png(&report))?;
    file("confusion.svg", page::confusion_svg(&report).as_bytes())?;
    let title = format!("{} on {}", report.checkpoint.name, report.data);
    let report = Report { title, runs: Vec::new(), evaluation: Some(report), notes: Vec::new() };
    file(REPORT, page::render(&report).as_bytes())
}

/// Writes one row per actual class, with the counts by predicted class.
fn write_confusion(report: &EvaluationReport, writer: &mut csv::Writer<File>) -> csv::Result<()> {
    let header = ["actual \\ predicted"].into_iter().chain(report.classes.iter().map(String::as_str));
    writer.write_record(header)?;
    for (class, row) in report.classes.iter().zip(report.details.confusion.rows()) {
        writer.write_record([class.clone()].into_iter().chain(row.iter().map(u32::to_string)))?;
    }
    Ok(())
}

fn write_classes(report: &EvaluationReport, writer: &mut csv::Writer<File>) -> csv::Result<()> {
    writer.write_record(["index", "class", "label", "support", "predicted", "correct", "precision", "recall", "f1"])?;
    for (index, figures) in report.details.confusion.class_figures().into_iter().enumerate() {
        let counts = [figures.support, figures.predicted, figures.correct].map(|count| count.to_string());
        let rates = [figures.precision, figures.recall, figures.f1].map(|rate| rate.to_string());
        let names = [index.to_string(), report.classes[index].clone(), report.labels[index].clone()];
        writer.write_record(names.into_iter().chain(counts).chain(rates))?;
    }
    Ok(())
}

/// Writes one row per photo. `rank` is the position of the correct class, from 1.
fn write_predictions(report: &EvaluationReport, writer: &mut csv::Writer<File>) -> csv::Result<()> {
    let top = report.classes.len().min(5);
    let header = ["file", "class", "predicted", "correct", "rank", "probability", "correct_class_probability", "loss"];
    let ranked = (2..=top).flat_map(|rank| [format!("class_{rank}"), format!("probability_{rank}")]);
    writer.write_record(header.map(str::to_owned).into_iter().chain(ranked))?;
    for prediction in &report.details.predictions {
        let row = [
            report.location(prediction).to_string(),
            report.classes[prediction.class].clone(),
            report.classes[prediction.predicted()].clone(),
            u8::from(prediction.is_correct()).to_string(),
            (prediction.rank + 1).to_string(),
            prediction.confidence().to_string(),
            prediction.class_probability.to_string(),
            prediction.loss.to_string(),
        ];
        let ranked = prediction.top[1..]
            .iter()
            .flat_map(|(class, probability)| [report.classes[*class].clone(), probability.to_string()]);
        writer.write_record(row.into_iter().chain(ranked))?;
    }
    Ok(())
}
