//! Charts of the calibration: the reliability diagram, and accuracy against coverage.

use super::chart::{Axis, Frame, LineChart, Point, Rectangle, Series, Stroke, coordinate};
use crate::evaluation::{Calibration, ReliabilityBin};
use crate::html_page::numbers::{counted, percent};
use maud::{Markup, html};

/// Plot areas of the reliability diagram and of the histogram below it, in the coordinates of the SVG.
const DIAGRAM: Rectangle = Rectangle { left: 48.0, top: 12.0, width: 340.0, height: 180.0 };
const HISTOGRAM: Rectangle = Rectangle { left: 48.0, top: 206.0, width: 340.0, height: 56.0 };
const HEIGHT: f64 = 302.0;
/// Space between two bars.
const GAP: f64 = 2.0;

/// Returns both charts with their explanations.
pub fn charts(calibration: &Calibration) -> Markup {
    let error = percent(calibration.expected_error);
    html! {
        p {
            "The expected calibration error is " b { (error) } ": the mean difference between the confidence of the predictions, "
            "which is the probability of the most likely class, and their accuracy, over all bins of the diagram, weighted by "
            "their numbers of photos. Coverage is the share of the photos that remain if predictions below a threshold of "
            "confidence are rejected."
        }
        div class="charts" {
            (reliability_diagram(calibration))
            (coverage_chart(calibration).render())
        }
    }
}

fn reliability_diagram(calibration: &Calibration) -> Markup {
    let bins = &calibration.bins;
    let largest = bins.iter().map(|bin| bin.photos).max().unwrap_or(0).max(1);
    let (confidence, accuracy) = (Axis::up_to(100.0, 5), Axis::up_to(100.0, 5));
    let photos = Axis::around([0.0, largest as f64].into_iter(), 2);
    let diagram = Frame { area: DIAGRAM, x: &confidence, y: &accuracy, x_label: None };
    let histogram = Frame { area: HISTOGRAM, x: &confidence, y: &photos, x_label: Some("confidence, %") };
    html! {
        figure class="chart" {
            figcaption { "Accuracy (%) and photos by confidence" }
            svg viewBox=(format_args!("0 0 400 {HEIGHT}")) role="img" aria-label=(description(bins)) {
                (diagram.axes())
                (histogram.axes())
                @for (index, bin) in bins.iter().enumerate().filter(|(_, bin)| bin.photos > 0) {
                    g class="bin" {
                        title { (bin_title(bin, bins.len())) }
                        (bar(&diagram, index, bins.len(), 100.0 * bin.accuracy, "bar"))
                        (bar(&histogram, index, bins.len(), bin.photos as f64, "bar pale"))
                        (confidence_mark(&diagram, index, bins.len(), bin))
                    }
                }
                path class="diagonal" d=(format_args!(
                    "M{},{}L{},{}", diagram.x(0.0), diagram.y(0.0), diagram.x(100.0), diagram.y(100.0)
                )) {}
            }
            ul class="legend" aria-label="Legend" {
                li { svg class="swatch" viewBox="0 0 24 10" aria-hidden="true" { rect class="bar" width="24" height="10" {} } "accuracy" }
                li { svg class="swatch" viewBox="0 0 24 10" aria-hidden="true" { path class="confidence" d="M1,5H23" {} } "mean confidence" }
                li { svg class="swatch" viewBox="0 0 24 10" aria-hidden="true" { path class="diagonal" d="M1,9L23,1" {} } "perfect calibration" }
            }
        }
    }
}

/// Returns the left end and the width of the bar of a bin.
fn bar_extent(frame: &Frame, index: usize, bins: usize) -> (f64, f64) {
    let width = frame.area.width / bins as f64;
    (coordinate(frame.area.left + index as f64 * width + GAP / 2.0), coordinate(width - GAP))
}

fn bar(frame: &Frame, index: usize, bins: usize, value: f64, class: &str) -> Markup {
    let (x, width) = bar_extent(frame, index, bins);
    let (top, bottom) = (coordinate(frame.y(value)), frame.area.top + frame.area.height);
    html! { rect class=(class) x=(x) y=(top) width=(width) height=(coordinate(bottom - top)) {} }
}

fn confidence_mark(frame: &Frame, index: usize, bins: usize, bin: &ReliabilityBin) -> Markup {
    let (x, width) = bar_extent(frame, index, bins);
    let y = coordinate(frame.y(100.0 * bin.confidence));
    html! { path class="confidence" d=(format_args!("M{x},{y}h{width}")) {} }
}

fn bin_title(bin: &ReliabilityBin, bins: usize) -> String {
    format!(
        "Confidence {} to {}: {}, accuracy {}, mean confidence {}",
        percent(bin.lower),
        percent(bin.lower + 1.0 / bins as f64),
        counted(bin.photos, "photo", "photos"),
        percent(bin.accuracy),
        percent(bin.confidence)
    )
}

fn description(bins: &[ReliabilityBin]) -> String {
    let titles: Vec<_> = bins.iter().filter(|bin| bin.photos > 0).map(|bin| bin_title(bin, bins.len())).collect();
    format!("Reliability diagram. {}.", titles.join(". "))
}

fn coverage_chart(calibration: &Calibration) -> LineChart<'static> {
    let points = calibration.coverage.iter().map(|point| Point {
        x: 100.0 * point.coverage,
        y: 100.0 * point.accuracy,
        note: Some(point.threshold),
    });
    let points: Vec<_> = points.collect();
    let series = Series { name: "accuracy".into(), colour: 0, stroke: Stroke::Solid, points, marks: Vec::new() };
    LineChart {
        title: "Accuracy (%) by coverage",
        unit: "\u{a0}%",
        x: Axis::up_to(100.0, 5),
        x_label: "coverage, %",
        x_unit: "\u{a0}%",
        note: "threshold",
        series: vec![series],
    }
}
