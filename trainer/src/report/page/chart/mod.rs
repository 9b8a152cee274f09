//! Charts as SVG. The values under the pointer are added by the page's script, which reads them from the coordinates.

mod axis;
mod frame;
mod line_chart;
mod thinning;

pub use axis::Axis;
pub use frame::{Frame, Rectangle, coordinate};
pub use line_chart::{LineChart, Series, Stroke, class as line_class};

/// A point of a curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub x: f64,
    /// NaN if the value is missing.
    pub y: f64,
    /// Further value that is shown with the point under the pointer.
    pub note: Option<f64>,
}
