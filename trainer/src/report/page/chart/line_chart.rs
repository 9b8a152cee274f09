//! Line charts.

use super::Point;
use super::axis::{Axis, Scale};
use super::frame::{Frame, Rectangle, coordinate};
use super::thinning::thin;
use crate::html_page::numbers::decimals;
use maud::{Markup, html};
use std::fmt::Write;

/// Size of a chart, in the coordinates of its SVG.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 230.0;
/// Number of colours of series in the style sheet.
const COLOURS: usize = 7;

/// Style of a series, in the order from the background to the foreground.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stroke {
    /// A thin, pale line, for noisy values.
    Thin,
    Dashed,
    Solid,
}

/// A curve of a chart.
pub struct Series {
    pub name: String,
    /// Index of the colour.
    pub colour: usize,
    pub stroke: Stroke,
    /// Points, in order of x.
    pub points: Vec<Point>,
    /// Points that are marked with a circle and a label.
    pub marks: Vec<(Point, String)>,
}

/// A chart of several curves.
pub struct LineChart<'a> {
    /// Title, with the unit of the values.
    pub title: &'a str,
    /// Text after a value.
    pub unit: &'a str,
    pub x: Axis,
    pub x_label: &'a str,
    /// Text after a value of x.
    pub x_unit: &'a str,
    /// Name of the notes of points.
    pub note: &'a str,
    pub series: Vec<Series>,
}

impl Series {
    /// Returns the CSS classes of the curve.
    pub fn class(&self) -> String {
        class(self.colour, self.stroke)
    }

    fn present(&self) -> impl Iterator<Item = &Point> {
        self.points.iter().filter(|point| point.y.is_finite() && point.x.is_finite())
    }
}

/// Returns the CSS classes of a curve with this colour and stroke.
pub fn class(colour: usize, stroke: Stroke) -> String {
    let stroke = match stroke {
        Stroke::Solid => "solid",
        Stroke::Dashed => "dashed",
        Stroke::Thin => "thin",
    };
    format!("line colour{} {stroke}", colour % COLOURS)
}

impl LineChart<'_> {
    /// Returns the chart as a figure, or nothing if no series has a value.
    pub fn render(&self) -> Markup {
        let values: Vec<f64> = self.series.iter().flat_map(Series::present).map(|point| point.y).collect();
        if values.is_empty() {
            return html! {};
        }
        let y = Axis::around_spikes(&values, 5);
        let area = Rectangle { left: 48.0, top: 12.0, width: WIDTH - 60.0, height: HEIGHT - 50.0 };
        let frame = Frame { area, x: &self.x, y: &y, x_label: Some(self.x_label) };
        html! {
            figure class="chart" {
                figcaption { (self.title) @if y.scale == Scale::Logarithmic { ", logarithmic scale" } }
                svg viewBox=(format_args!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(self.description())
                    data-area=(format_args!("{} {} {} {}", area.left, area.top, area.width, area.height))
                    data-x=(format_args!("{} {}", self.x.lower, self.x.upper))
                    data-y=(format_args!("{} {}", y.lower, y.upper))
                    data-logarithmic[y.scale == Scale::Logarithmic]
                    data-unit=(self.unit) data-x-label=(self.x_label) data-x-unit=(self.x_unit) data-note=(self.note) {
                    (frame.axes())
                    @for series in &self.series { (curve(series, &frame)) }
                    @for series in &self.series { (marks(series, &frame)) }
                }
            }
        }
    }

    /// Describes the curves for readers who do not see them.
    fn description(&self) -> String {
        let mut text = format!("{} by {}.", self.title, self.x_label);
        for series in self.series.iter().filter(|series| series.stroke != Stroke::Thin || self.series.len() == 1) {
            let values = || series.present().map(|point| point.y);
            if let (Some(first), Some(last)) = (values().next(), values().last()) {
                let (smallest, largest) = values().fold((first, first), |(a, b), value| (a.min(value), b.max(value)));
                let [first, last, smallest, largest] = [first, last, smallest, largest].map(|value| decimals(value, 3));
                let unit = self.unit;
                write!(
                    text,
                    " {}: from {first}{unit} to {last}{unit}, minimum {smallest}{unit}, maximum {largest}{unit}.",
                    series.name
                )
                .expect("writing to a string does not fail");
            }
        }
        text
    }
}

/// Returns a series as a path, which is interrupted where values are missing.
fn curve(series: &Series, frame: &Frame) -> Markup {
    let points = thin(&series.points);
    let (mut path, mut notes, mut dots) = (String::new(), Vec::new(), Vec::new());
    for part in points.split(|point| !point.y.is_finite() || !point.x.is_finite()) {
        // A line of a single point has no length.
        if let ([point], true) = (part, series.stroke != Stroke::Thin) {
            dots.push((coordinate(frame.x(point.x)), coordinate(frame.y(point.y))));
        }
        for (index, point) in part.iter().enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            let (x, y) = (coordinate(frame.x(point.x)), coordinate(frame.y(point.y)));
            write!(path, "{command}{x},{y}").expect("writing to a string does not fail");
            notes.extend(point.note.map(|note| format!("{note:.4}")));
        }
    }
    let notes = (!notes.is_empty()).then(|| notes.join(" "));
    html! {
        @if !path.is_empty() {
            path class=(series.class()) d=(path) data-name=(series.name) data-notes=[notes] {}
            @for (x, y) in dots { circle class=(format_args!("dot colour{}", series.colour % COLOURS)) cx=(x) cy=(y) r="3" {} }
        }
    }
}

fn marks(series: &Series, frame: &Frame) -> Markup {
    html! {
        @for (point, label) in &series.marks {
            @let (x, y) = (coordinate(frame.x(point.x)), coordinate(frame.y(point.y)));
            // The label is on the side with more space.
            @let is_right = frame.x.position(point.x) > 0.5;
            @let distance = if frame.y.position(point.y) > 0.3 { 18.0 } else { -9.0 };
            circle class=(format_args!("mark colour{}", series.colour % COLOURS)) cx=(x) cy=(y) r="4" {}
            text class="mark-label" x=(x) y=(y + distance) text-anchor=(if is_right { "end" } else { "start" }) { (label) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: &[f64]) -> String {
        let points = values.iter().enumerate().map(|(index, &y)| Point { x: index as f64, y, note: None }).collect();
        let series = Series { name: "a < b".into(), colour: 9, stroke: Stroke::Solid, points, marks: Vec::new() };
        let x = Axis::up_to(values.len() as f64, 5);
        let chart =
            LineChart { title: "Loss", unit: "", x, x_label: "epoch", x_unit: "", note: "", series: vec![series] };
        chart.render().into_string()
    }

    #[test]
    fn missing_values_interrupt_the_curve() {
        let svg = chart(&[1.0, 2.0, f64::NAN, 3.0, f64::INFINITY]);
        let path = svg.split(" d=\"").find(|part| part.contains("data-name")).unwrap().split('"').next().unwrap();
        assert_eq!((path.matches('M').count(), path.matches('L').count()), (2, 1), "{path}");
        assert_eq!(svg.matches("<circle").count(), 1, "the single value is a dot");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(svg.contains("colour2") && svg.contains("a &lt; b"), "{svg}");
    }

    /// The axis for values from 0 to 2 is [0, 2], and the plot area is 340 x 180 at (48, 12).
    #[test]
    fn coordinates_are_those_of_the_values() {
        assert!(chart(&[0.0, 1.0, 2.0]).contains("d=\"M48,192L161.33,102L274.67,12\""));
    }

    #[test]
    fn chart_without_values_is_omitted() {
        assert_eq!(chart(&[f64::NAN]), "");
        assert_eq!(chart(&[]), "");
    }
}
