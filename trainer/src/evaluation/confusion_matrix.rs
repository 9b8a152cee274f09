//! The confusion matrix, and the figures of each class that follow from it.

use serde::Serialize;

/// Number of photos by actual and predicted class.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfusionMatrix {
    classes: usize,
    /// Counts, `[actual class, predicted class]`.
    counts: Vec<u32>,
}

/// Figures of a class, as those of scikit-learn's `classification_report`. A figure is 0 if it is not defined.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClassFigures {
    /// Number of photos of the class.
    pub support: u32,
    /// Number of photos that were classified as the class.
    pub predicted: u32,
    /// Number of photos of the class that were classified correctly.
    pub correct: u32,
    /// Fraction of the photos classified as the class that belong to it.
    pub precision: f64,
    /// Fraction of the photos of the class that were classified as it.
    pub recall: f64,
    /// Harmonic mean of precision and recall.
    pub f1: f64,
}

/// Photos of one class that were classified as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfusedPair {
    pub actual: usize,
    pub predicted: usize,
    pub count: u32,
}

impl ConfusionMatrix {
    /// Creates a matrix without photos.
    pub fn new(classes: usize) -> Self {
        ConfusionMatrix { classes, counts: vec![0; classes * classes] }
    }

    /// Adds a photo.
    pub fn add(&mut self, actual: usize, predicted: usize) {
        self.counts[actual * self.classes + predicted] += 1;
    }

    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Returns the number of photos of `actual` that were classified as `predicted`.
    pub fn count(&self, actual: usize, predicted: usize) -> u32 {
        self.counts[actual * self.classes + predicted]
    }

    /// Returns the rows, one per actual class.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[u32]> {
        self.counts.chunks_exact(self.classes)
    }

    /// Returns the figures of each class.
    pub fn class_figures(&self) -> Vec<ClassFigures> {
        let mut predicted = vec![0; self.classes];
        for row in self.rows() {
            predicted.iter_mut().zip(row).for_each(|(sum, count)| *sum += count);
        }
        let figures = self.rows().enumerate().map(|(class, row)| {
            let (support, predicted, correct): (u32, u32, u32) = (row.iter().sum(), predicted[class], row[class]);
            ClassFigures {
                support,
                predicted,
                correct,
                precision: ratio(correct, predicted),
                recall: ratio(correct, support),
                f1: ratio(2 * correct, support + predicted),
            }
        });
        figures.collect()
    }

    /// Returns the `limit` pairs of different classes with the most photos, in descending order.
    pub fn most_confused(&self, limit: usize) -> Vec<ConfusedPair> {
        let pairs = self.rows().enumerate().flat_map(|(actual, row)| {
            let row = row.iter().enumerate().map(move |(predicted, &count)| ConfusedPair { actual, predicted, count });
            row.filter(|pair| pair.count > 0 && pair.actual != pair.predicted)
        });
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort_by_key(|pair| std::cmp::Reverse(pair.count));
        pairs.truncate(limit);
        pairs
    }
}

fn ratio(part: u32, whole: u32) -> f64 {
    if whole == 0 { 0.0 } else { f64::from(part) / f64::from(whole) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected figures: `sklearn.metrics.classification_report([0]*5 + [1]*3, [0,0,0,1,2,1,1,0], labels=[0,1,2],
    /// zero_division=0)`.
    #[test]
    fn figures_equal_those_of_scikit_learn() {
        let mut matrix = ConfusionMatrix::new(3);
        for (actual, predicted) in [(0, 0), (0, 0), (0, 0), (0, 1), (0, 2), (1, 1), (1, 1), (1, 0)] {
            matrix.add(actual, predicted);
        }
        let figures = matrix.class_figures();
        let rounded = |figure: f64| (figure * 1e4).round() / 1e4;
        let rounded: Vec<_> = figures
            .iter()
            .map(|figures| (figures.support, [figures.precision, figures.recall, figures.f1].map(rounded)))
            .collect();
        assert_eq!(rounded, [(5, [0.75, 0.6, 0.6667]), (3, [0.6667, 0.6667, 0.6667]), (0, [0.0, 0.0, 0.0])]);
    }

    #[test]
    fn confused_pairs_are_sorted_by_count() {
        let mut matrix = ConfusionMatrix::new(3);
        for (actual, predicted, count) in [(0, 0, 9), (2, 1, 1), (0, 1, 2), (1, 2, 3)] {
            (0..count).for_each(|_| matrix.add(actual, predicted));
        }
        let pairs: Vec<_> =
            matrix.most_confused(2).into_iter().map(|pair| (pair.actual, pair.predicted, pair.count)).collect();
        assert_eq!(pairs, [(1, 2, 3), (0, 1, 2)]);
    }
}
