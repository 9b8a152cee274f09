//! Comparison of an exported file, in the program that it is for, with the checkpoint in this program's engine.

use super::python_runtime::RunningExport;
use crate::data::{DataLoader, SkippedSample};
use crate::learning::class_rank;
use anyhow::{Result, ensure};
use model::checkpoint::Metadata;
use model::engine::{Engine, Input};
use model::prediction::{probabilities, top_k_indices};
use pollster::block_on;
use std::fmt;

/// Differences between the outputs of an exported file and those of the checkpoint.
#[derive(Debug, Default, PartialEq)]
pub struct ExportComparison {
    pub photos: usize,
    /// Largest difference of an output, relative to the largest absolute output of the checkpoint.
    pub difference: f64,
    /// Number of photos that are classified differently.
    pub disagreements: usize,
    /// Number of photos that the checkpoint classifies correctly.
    checkpoint_correct: usize,
    /// Number of photos that the exported file classifies correctly.
    export_correct: usize,
}

impl ExportComparison {
    /// Classifies the photos of the loader with both. If `softmax`, the exported file returns probabilities.
    ///
    /// # Errors
    /// Returns an error if the engine or the runtime fails, or if no photo can be decoded.
    pub fn compute(
        engine: &Engine,
        export: &mut RunningExport,
        loader: DataLoader,
        metadata: &Metadata,
        softmax: bool,
    ) -> Result<(Self, Vec<SkippedSample>)> {
        let (mut comparison, mut skipped) = (ExportComparison::default(), Vec::new());
        let (mut largest, mut largest_difference) = (0.0f64, 0.0f64);
        for batch in loader {
            skipped.extend(batch.skipped);
            let Some(images) = batch.images else { continue };
            let found = export.run(images.pixels(), batch.classes.len())?;
            let logits = block_on(engine.run(&Input::Pixels(images), &[]))?.logits;
            for (row, (found, class)) in found.chunks(metadata.architecture.classes).zip(&batch.classes).enumerate() {
                let class = class.expect("the photos have labels");
                let logits = logits.row(row);
                let expected = if softmax { probabilities(metadata, logits) } else { logits.to_vec() };
                ensure!(
                    found.iter().all(|value| value.is_finite()),
                    "the exported file returns values that are not finite"
                );
                for (found, expected) in found.iter().zip(&expected) {
                    largest = largest.max(f64::from(expected.abs()));
                    largest_difference = largest_difference.max(f64::from((found - expected).abs()));
                }
                comparison.add(found, logits, class);
            }
        }
        ensure!(comparison.photos > 0, "none of {} photos could be decoded", skipped.len());
        comparison.difference = if largest > 0.0 { largest_difference / largest } else { largest_difference };
        Ok((comparison, skipped))
    }

    fn add(&mut self, found: &[f32], logits: &[f32], class: usize) {
        let is_correct = |outputs: &[f32]| usize::from(class_rank(outputs, class) == 0);
        self.photos += 1;
        self.disagreements += usize::from(top_k_indices(found, 1) != top_k_indices(logits, 1));
        self.checkpoint_correct += is_correct(logits);
        self.export_correct += is_correct(found);
    }

    /// Returns by how many percentage points the top-1 accuracy of the exported file is lower. Negative if it is higher.
    pub fn drop(&self) -> f64 {
        self.percent(self.checkpoint_correct) - self.percent(self.export_correct)
    }

    fn percent(&self, photos: usize) -> f64 {
        100.0 * photos as f64 / self.photos as f64
    }
}

impl fmt::Display for ExportComparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ExportComparison { photos, difference, disagreements, .. } = self;
        let [checkpoint, export] = [self.checkpoint_correct, self.export_correct].map(|photos| self.percent(photos));
        write!(
            f,
            "checked on {photos} photos: outputs differ by at most {difference:.1e} of the largest one, {disagreements} photos \
             are classified differently, top-1 {checkpoint:.2} % becomes {export:.2} %"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_is_the_difference_of_accuracies() {
        let mut comparison = ExportComparison::default();
        comparison.add(&[0.2, 0.1], &[0.2, 0.1], 0);
        comparison.add(&[0.2, 0.1], &[0.1, 0.2], 1);
        comparison.add(&[0.2, 0.1], &[0.2, 0.1], 1);
        comparison.add(&[0.1, 0.2], &[0.1, 0.2], 1);
        assert_eq!(comparison.drop(), 25.0);
        assert_eq!(comparison.disagreements, 1);
        let text = comparison.to_string();
        assert!(text.contains("top-1 75.00 % becomes 50.00 %"), "{text}");
    }
}
