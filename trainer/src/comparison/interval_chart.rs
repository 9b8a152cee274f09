//! A chart of estimates with their confidence intervals, as SVG.

use crate::evaluation::Estimate;
use maud::{Markup, html};

/// Sizes, in pixels.
const WIDTH: f64 = 720.0;
const LABELS: f64 = 200.0;
const MARGIN: f64 = 24.0;
const ROW: f64 = 28.0;
const AXIS: f64 = 26.0;
/// Maximum number of intervals between the ticks of the axis.
const MAX_TICKS: f64 = 6.0;
/// Maximum number of characters of a name; the rest is shown as a tooltip.
const MAX_NAME: usize = 28;

/// Draws one row per estimate: a point for the value, and a line for the interval.
pub fn interval_chart(title: &str, rows: &[(&str, Estimate)]) -> Markup {
    let low = rows.iter().map(|(_, estimate)| estimate.low).fold(f64::INFINITY, f64::min);
    let high = rows.iter().map(|(_, estimate)| estimate.high).fold(f64::NEG_INFINITY, f64::max);
    let step = tick_step((high - low).max(1e-3));
    let (low, high) = ((low / step).floor() * step, ((high / step).ceil() * step).max(low + step));
    let x = |value: f64| LABELS + (value - low) / (high - low) * (WIDTH - LABELS - MARGIN);
    let bottom = ROW * rows.len() as f64;
    let ticks = (0..=((high - low) / step).round() as usize).map(|index| low + index as f64 * step);
    html! {
        svg.intervals viewBox=(format!("0 0 {WIDTH} {}", bottom + AXIS)) role="img" aria-label=(title) {
            @for tick in ticks {
                line.grid x1=(x(tick)) x2=(x(tick)) y1="0" y2=(bottom) {}
                text.tick x=(x(tick)) y=(bottom + 18.0) text-anchor="middle" { (tick_label(tick, step)) }
            }
            @for (index, (name, estimate)) in rows.iter().enumerate() {
                @let y = ROW * (index as f64 + 0.5);
                text x=(LABELS - 12.0) y=(y + 4.0) text-anchor="end" { title { (name) } (shortened(name)) }
                line.interval x1=(x(estimate.low)) x2=(x(estimate.high)) y1=(y) y2=(y) {}
                circle.value cx=(x(estimate.value)) cy=(y) r="5" {}
            }
        }
    }
}

/// Returns the distance of the ticks of an axis of this length: 1, 2 or 5 times a power of ten.
fn tick_step(length: f64) -> f64 {
    let power = 10f64.powf((length / MAX_TICKS).log10().floor());
    let multiple = [1.0, 2.0, 5.0].into_iter().find(|multiple| length / (multiple * power) <= MAX_TICKS);
    multiple.unwrap_or(10.0) * power
}

/// Formats a fraction in per cent, with as many decimals as the step needs.
fn tick_label(fraction: f64, step: f64) -> String {
    let decimals = (-(100.0 * step).log10().floor()).max(0.0) as usize;
    format!("{:.decimals$} %", 100.0 * fraction)
}

fn shortened(name: &str) -> String {
    match name.chars().count() {
        0..=MAX_NAME => name.to_owned(),
        _ => name.chars().take(MAX_NAME - 3).chain("...".chars()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axis_has_few_round_ticks() {
        for (length, expected) in [(0.06, 0.01), (0.07, 0.02), (0.13, 0.05), (0.31, 0.1), (1.0, 0.2), (0.001, 0.0002)] {
            assert!((tick_step(length) / expected - 1.0).abs() < 1e-9, "{length}: {}", tick_step(length));
        }
        assert_eq!(tick_label(0.9, 0.05), "90 %");
        assert_eq!(tick_label(0.9725, 0.0005), "97.25 %");
    }

    #[test]
    fn equal_limits_have_an_axis() {
        let certain = Estimate { value: 1.0, low: 1.0, high: 1.0 };
        let svg = interval_chart("top-1", &[("a", certain)]).into_string();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
