//! The frame of a chart: its plot area with axes, ticks and grid lines.

use super::Axis;
use maud::{Markup, html};

/// Rectangle in the coordinates of an SVG.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rectangle {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

/// A plot area and its axes.
pub struct Frame<'a> {
    pub area: Rectangle,
    pub x: &'a Axis,
    pub y: &'a Axis,
    /// Label of the x axis; without one, its ticks have no labels either.
    pub x_label: Option<&'a str>,
}

impl Frame<'_> {
    /// Returns the x coordinate of a value.
    pub fn x(&self, value: f64) -> f64 {
        self.area.left + self.x.position(value) * self.area.width
    }

    /// Returns the y coordinate of a value.
    pub fn y(&self, value: f64) -> f64 {
        self.area.top + (1.0 - self.y.position(value)) * self.area.height
    }

    /// Returns the grid lines and the labels of the axes.
    pub fn axes(&self) -> Markup {
        let Rectangle { left, top, width, height } = self.area;
        let (right, bottom) = (left + width, top + height);
        html! {
            @for (value, label) in &self.y.ticks {
                @let y = coordinate(self.y(*value));
                path class="grid" d=(format_args!("M{left},{y}H{right}")) {}
                text class="tick" x=(left - 6.0) y=(y) dy="0.35em" text-anchor="end" { (label) }
            }
            path class="axis" d=(format_args!("M{left},{bottom}H{right}")) {}
            @for (value, label) in &self.x.ticks {
                @let x = coordinate(self.x(*value));
                path class="axis" d=(format_args!("M{x},{bottom}v4")) {}
                @if self.x_label.is_some() {
                    text class="tick" x=(x) y=(bottom + 16.0) text-anchor="middle" { (label) }
                }
            }
            @if let Some(label) = self.x_label {
                text class="axis-label" x=(left + width / 2.0) y=(bottom + 32.0) text-anchor="middle" { (label) }
            }
        }
    }
}

/// Rounds a coordinate to hundredths, which is far below the size of a pixel.
pub fn coordinate(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
