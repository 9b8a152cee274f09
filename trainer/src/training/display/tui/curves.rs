//! The curves of a run, over the number of steps since its beginning.

use crate::training::recorded_metrics::{EpochRecord, RecordedMetrics, StepRecord, TrainMetrics};

/// Points of a curve: step and value, in the order of the steps.
pub type Curve = Vec<(f64, f64)>;

/// All curves of a run.
#[derive(Debug, Default)]
pub struct Curves {
    pub train_loss: Curve,
    pub validation_loss: Curve,
    /// Top-1 in percent.
    pub train_top1: Curve,
    pub validation_top1: Curve,
    pub learning_rate: Curve,
    pub images_per_second: Curve,
    /// Share of the time spent waiting for photos, in percent.
    pub waiting: Curve,
}

impl Curves {
    /// Adds a record. Values that are not finite are left out.
    pub fn add(&mut self, record: &RecordedMetrics, steps_per_epoch: usize) {
        let percent = |fraction: Option<f64>| fraction.map(|fraction| 100.0 * fraction);
        match record {
            RecordedMetrics::Features(_) => {}
            RecordedMetrics::Step(StepRecord { epoch, step, learning_rate, train }) => {
                let TrainMetrics { loss, top1, images_per_second, waiting, .. } = *train;
                let step = (epoch.saturating_sub(1) * steps_per_epoch + step) as f64;
                push(&mut self.train_loss, step, loss);
                push(&mut self.train_top1, step, percent(top1));
                push(&mut self.learning_rate, step, Some(*learning_rate));
                push(&mut self.images_per_second, step, images_per_second);
                push(&mut self.waiting, step, percent(waiting));
            }
            RecordedMetrics::Epoch(EpochRecord { epoch, val, .. }) => {
                let step = (epoch * steps_per_epoch) as f64;
                push(&mut self.validation_loss, step, val.loss);
                push(&mut self.validation_top1, step, percent(Some(val.top1)));
            }
        }
    }
}

fn push(curve: &mut Curve, step: f64, value: Option<f64>) {
    curve.extend(value.filter(|value| value.is_finite()).map(|value| (step, value)));
}

/// Returns a curve of at most `limit` points, each of which is the mean of equally many points of `curve`.
pub fn thin_out(curve: &[(f64, f64)], limit: usize) -> Curve {
    let group = curve.len().div_ceil(limit.max(1)).max(1);
    let mean = |points: &[(f64, f64)]| {
        let (steps, values) = points.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (steps / points.len() as f64, values / points.len() as f64)
    };
    curve.chunks(group).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::recorded_metrics::ValidationMetrics;

    #[test]
    fn points_are_placed_by_step_and_gaps_are_left_out() {
        let mut curves = Curves::default();
        let train = TrainMetrics { loss: Some(0.5), top1: Some(0.25), waiting: Some(0.1), ..TrainMetrics::default() };
        let step = StepRecord { epoch: 3, step: 10, learning_rate: 0.1, train: train.clone() };
        curves.add(&RecordedMetrics::Step(step), 100);
        let val = ValidationMetrics { top1: 0.5, ..ValidationMetrics::default() };
        curves.add(&RecordedMetrics::Epoch(EpochRecord { epoch: 3, train, val, skipped: 0, best: true }), 100);
        assert_eq!(curves.train_loss, [(210.0, 0.5)]);
        assert_eq!(curves.train_top1, [(210.0, 25.0)]);
        assert_eq!(curves.waiting, [(210.0, 10.0)]);
        assert_eq!(curves.validation_top1, [(300.0, 50.0)]);
        assert!(curves.images_per_second.is_empty() && curves.validation_loss.is_empty());
    }

    #[test]
    fn long_curves_are_averaged() {
        let curve: Curve = (0..7).map(|step| (f64::from(step), 10.0 * f64::from(step))).collect();
        assert_eq!(thin_out(&curve, 3), [(1.0, 10.0), (4.0, 40.0), (6.0, 60.0)]);
        assert_eq!(thin_out(&curve, 7), curve);
        assert_eq!(thin_out(&[], 7), []);
    }
}
