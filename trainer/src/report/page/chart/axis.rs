//! Axes of charts: the range of the values, and ticks at round numbers.

/// Scale of an axis, from a value to a fraction of the axis's length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    Linear,
    Logarithmic,
}

/// Minimum length of an axis around some values, relative to the largest of them.
const MIN_EXTENT: f64 = 0.01;

/// An axis with its ticks.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    pub scale: Scale,
    pub lower: f64,
    pub upper: f64,
    /// Values of the ticks, with their labels.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Creates an axis from 0 to `upper` that ends there, such as that of epochs, with about `count` ticks.
    pub fn up_to(upper: f64, count: usize) -> Self {
        let upper = if upper > 0.0 { upper } else { 1.0 };
        let step = round_step(upper, count);
        Axis { scale: Scale::Linear, lower: 0.0, upper, ticks: linear_ticks(0.0, upper, step) }
    }

    /// Creates an axis for these finite values with about `count` intervals, which starts and ends with a tick.
    pub fn around(values: impl Iterator<Item = f64>, count: usize) -> Self {
        let (mut smallest, mut largest) = extent(values);
        // An axis from 0 is easier to read, unless the values would be squeezed into its upper part.
        if smallest > 0.0 && smallest < 0.4 * largest {
            smallest = 0.0;
        }
        if largest - smallest < 1e-9 * largest.abs().max(smallest.abs()).max(1e-9) {
            // Quantities that are never negative, such as shares, have no negative range.
            (smallest, largest) = match largest {
                0.0 => (0.0, 1.0),
                _ if largest > 0.0 => (0.0, largest),
                _ => (1.1 * smallest, 0.9 * largest),
            };
        }
        // Labels of closer values would need more digits than there is space for. The axis is not extended upwards, so that
        // it ends at 100 %.
        smallest = smallest.min(largest - MIN_EXTENT * largest.abs().max(smallest.abs()));
        let step = round_step(largest - smallest, count);
        // The tolerance keeps rounding errors from adding an interval.
        let (lower, upper) = ((smallest / step + 1e-9).floor() * step, (largest / step - 1e-9).ceil() * step);
        Axis { scale: Scale::Linear, lower, upper, ticks: linear_ticks(lower, upper, step) }
    }

    /// Creates an axis for these values like [`around`](Self::around), but logarithmic if they are positive and the largest
    /// is far above most of them.
    pub fn around_spikes(values: &[f64], count: usize) -> Self {
        let mut sorted: Vec<f64> = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (Some(&smallest), Some(&largest)) = (sorted.first(), sorted.last()) else {
            return Axis::around(std::iter::empty(), count);
        };
        let median = sorted[sorted.len() / 2];
        if smallest <= 0.0 || largest < 20.0 * median {
            return Axis::around(sorted.into_iter(), count);
        }
        let (lower, upper) = (smallest.log10().floor() as i32, largest.log10().ceil() as i32);
        let power = |exponent: i32| 10f64.powi(exponent);
        let ticks = (lower..=upper).map(|exponent| (power(exponent), label(power(exponent), power(exponent))));
        Axis { scale: Scale::Logarithmic, lower: power(lower), upper: power(upper), ticks: ticks.collect() }
    }

    /// Returns the position of a value, from 0 for the lower end to 1 for the upper one.
    pub fn position(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => (value - self.lower) / (self.upper - self.lower),
            Scale::Logarithmic => (value / self.lower).ln() / (self.upper / self.lower).ln(),
        }
    }
}

/// Returns the smallest and the largest value; 0 and 1 without values.
fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let extremes = |extent: Option<(f64, f64)>, value: f64| {
        Some(extent.map_or((value, value), |(smallest, largest)| (smallest.min(value), largest.max(value))))
    };
    values.fold(None, extremes).unwrap_or((0.0, 1.0))
}

/// Returns 1, 2 or 5 times a power of ten, so that `length` has at most `count` intervals of this size.
fn round_step(length: f64, count: usize) -> f64 {
    let at_least = length / count as f64;
    let power = 10f64.powf(at_least.log10().floor());
    let multiple = [1.0, 2.0, 5.0].into_iter().find(|multiple| multiple * power >= at_least * (1.0 - 1e-9));
    multiple.unwrap_or(10.0) * power
}

/// Returns the multiples of `step` from `lower` to `upper`.
fn linear_ticks(lower: f64, upper: f64, step: f64) -> Vec<(f64, String)> {
    let (first, last) = ((lower / step - 1e-6).ceil() as i64, (upper / step + 1e-6).floor() as i64);
    (first..=last).map(|multiple| multiple as f64 * step).map(|value| (value, label(value, step))).collect()
}

/// Returns the label of a tick, with as many decimals as the interval between ticks needs.
fn label(value: f64, step: f64) -> String {
    let exponent = |number: f64| (number.abs().log10() + 1e-9).floor() as i32;
    let decimals = -exponent(step);
    let is_tiny = decimals > 4;
    if value == 0.0 {
        "0".to_owned()
    } else if is_tiny || value.abs() >= 1e5 {
        format!("{value:.*e}", (exponent(value) - exponent(step)).max(0) as usize)
    } else {
        format!("{value:.*}", decimals.max(0) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(labels(&Axis::around([0.61, 6.9].into_iter(), 5)), ["0", "2", "4", "6", "8"]);
        assert_eq!(labels(&Axis::around([71.0, 84.3].into_iter(), 5)), ["70", "75", "80", "85"]);
        assert_eq!(labels(&Axis::around([0.0, 2e-6].into_iter(), 4)), ["0", "5e-7", "1.0e-6", "1.5e-6", "2.0e-6"]);
        let close = Axis::around([0.00491, 0.00496].into_iter(), 3);
        assert_eq!(labels(&close), ["4.90e-3", "4.92e-3", "4.94e-3", "4.96e-3"]);
        let very_close = Axis::around([0.69745, 0.69765].into_iter(), 5);
        assert_eq!(labels(&very_close), ["0.690", "0.692", "0.694", "0.696", "0.698"]);
        assert_eq!(labels(&Axis::around([0.0, 2e5].into_iter(), 2)), ["0", "1e5", "2e5"]);
        assert_eq!(labels(&Axis::around([0.0, 0.0].into_iter(), 2)), ["0", "0.5", "1.0"]);
        assert_eq!(labels(&Axis::around([100.0, 100.0].into_iter(), 2)), ["0", "50", "100"]);
        assert_eq!(labels(&Axis::up_to(3.0, 6)), ["0", "0.5", "1.0", "1.5", "2.0", "2.5", "3.0"]);
        assert_eq!(labels(&Axis::up_to(90.0, 6)), ["0", "20", "40", "60", "80"]);
    }

    #[test]
    fn degenerate_ranges_have_an_axis() {
        for values in [&[][..], &[0.0], &[5.0, 5.0], &[-3.0], &[1e-300], &[1e300]] {
            let axis = Axis::around(values.iter().copied(), 5);
            assert!(axis.lower < axis.upper && axis.ticks.len() >= 2, "{values:?}: {axis:?}");
            assert!(values.iter().all(|&value| (0.0..=1.0).contains(&axis.position(value))), "{values:?}: {axis:?}");
        }
        assert!(Axis::up_to(0.0, 5).upper > 0.0);
    }

    #[test]
    fn spikes_select_a_logarithmic_scale() {
        let axis = Axis::around_spikes(&[0.5, 0.6, 0.7, 900.0], 5);
        assert_eq!((axis.scale, axis.lower, axis.upper), (Scale::Logarithmic, 0.1, 1000.0));
        assert_eq!(labels(&axis), ["0.1", "1", "10", "100", "1000"]);
        assert!((axis.position(10.0) - 0.5).abs() < 1e-9);
        assert_eq!(Axis::around_spikes(&[0.5, 0.6, 3.0], 5).scale, Scale::Linear);
    }
}
