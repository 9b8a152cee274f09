//! One chart of the full-screen display: curves over steps, with the latest values in the title.

use super::curves::{Curve, thin_out};
use ratatui::Frame;
use ratatui::layout::{Alignment, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Borders, Chart, Dataset, GraphType, Padding, Paragraph};

/// Formats a value of a chart.
pub type ValueFormat = fn(f64) -> String;

/// Curves that share a chart.
pub struct ChartView<'a> {
    pub title: &'static str,
    pub series: &'a [Series<'a>],
    pub scale: Scale,
    /// Formats a value for the title and the axis.
    pub format: ValueFormat,
    /// Whether the axis of the steps is shown.
    pub shows_steps: bool,
}

/// A curve of a chart.
pub struct Series<'a> {
    /// Name, which may be empty if the chart has only one curve.
    pub name: &'static str,
    pub curve: &'a Curve,
    pub colour: Color,
}

/// Range of the vertical axis.
#[derive(Clone, Copy)]
pub enum Scale {
    /// From the smallest to the largest value.
    Fitted,
    /// From 0 to the largest value.
    FromZero,
    /// From 0 to 100.
    Percent,
}

/// Number of dots of a Braille character from left to right.
const DOTS: usize = 2;

const AXIS: Style = Style::new().fg(Color::DarkGray);

impl ChartView<'_> {
    /// Draws the chart. `steps` is the number of steps at its right edge.
    pub fn render(&self, frame: &mut Frame, area: Rect, steps: f64) {
        let block = Block::new().borders(Borders::TOP).border_style(AXIS).title(self.title_line());
        if self.series.iter().all(|series| series.curve.is_empty()) {
            let text = Paragraph::new("no values yet").style(AXIS).centered();
            frame.render_widget(text.block(block.padding(Padding::top(area.height / 3))), area);
            return;
        }
        let curves: Vec<_> =
            self.series.iter().map(|series| thin_out(series.curve, DOTS * usize::from(area.width))).collect();
        let datasets = self.series.iter().zip(&curves).map(|(series, curve)| {
            let dataset = Dataset::default().marker(Marker::Braille).graph_type(GraphType::Line);
            dataset.style(Style::new().fg(series.colour)).data(curve)
        });
        let [low, high] = self.scale.bounds(curves.iter().flatten().map(|point| point.1));
        let label = |value: f64| Span::from((self.format)(value));
        let y_axis = Axis::default().style(AXIS).bounds([low, high]).labels([label(low), label(high)]);
        let y_axis = y_axis.labels_alignment(Alignment::Right);
        let mut x_axis = Axis::default().style(AXIS).bounds([0.0, steps.max(1.0)]);
        if self.shows_steps {
            x_axis = x_axis.labels([Span::from("0"), Span::from(format!("step {steps}"))]);
            x_axis = x_axis.labels_alignment(Alignment::Right);
        }
        frame.render_widget(Chart::new(datasets.collect()).block(block).x_axis(x_axis).y_axis(y_axis), area);
    }

    /// Returns the title: the name of each curve in its colour, with its latest value.
    fn title_line(&self) -> Line<'static> {
        let mut title = Line::from(self.title.to_owned().bold());
        for (index, Series { name, curve, colour }) in self.series.iter().enumerate() {
            let value = curve.last().map_or_else(|| "-".to_owned(), |point| (self.format)(point.1));
            let text =
                format!("{} {name}{}{value}", if index > 0 { "," } else { "" }, if name.is_empty() { "" } else { " " });
            title.push_span(text.fg(*colour));
        }
        title.push_span(" ");
        title
    }
}

impl Scale {
    /// Returns the range of the axis for these values.
    fn bounds(self, values: impl Iterator<Item = f64>) -> [f64; 2] {
        let (low, high) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let bounds = match self {
            Scale::Fitted => [low, high],
            Scale::FromZero => [0.0, high],
            Scale::Percent => return [0.0, 100.0],
        };
        match bounds {
            // A range without extent has no scale.
            [low, high] if low < high => [low, high],
            [low, high] if low == high => [low - 0.5 * low.abs().max(1e-3), high + 0.5 * high.abs().max(1e-3)],
            _ => [0.0, 1.0],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_contain_all_values_and_have_an_extent() {
        let bounds = |scale: Scale, values: &[f64]| scale.bounds(values.iter().copied());
        assert_eq!(bounds(Scale::Fitted, &[2.0, 0.5, 1.0]), [0.5, 2.0]);
        assert_eq!(bounds(Scale::Fitted, &[2.0]), [1.0, 3.0]);
        assert_eq!(bounds(Scale::FromZero, &[2.0, 0.5]), [0.0, 2.0]);
        assert_eq!(bounds(Scale::Percent, &[2.0]), [0.0, 100.0]);
        assert_eq!(bounds(Scale::Fitted, &[]), [0.0, 1.0]);
        let [low, high] = bounds(Scale::FromZero, &[0.0]);
        assert!(low < 0.0 && high > 0.0);
    }
}
