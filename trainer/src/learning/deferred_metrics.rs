//! Metrics of a step that a GPU may still be computing.

use super::metrics::{StepMetrics, count_correct, count_unlabelled};
use burn::tensor::Tensor;

/// Metrics of a step. Reading those that are on a device waits for it, so they are read as late as possible.
#[derive(Default)]
pub struct DeferredMetrics {
    /// Weight and numbers of images of all micro-batches; loss and number of correct images of those that are known.
    known: StepMetrics,
    on_device: Vec<MetricsOnDevice>,
}

/// Results of a micro-batch on a device.
struct MetricsOnDevice {
    /// Sum of the losses of the images.
    loss: Tensor<1>,
    logits: Tensor<2>,
    /// Class of each image; `None` without a label.
    classes: Vec<Option<usize>>,
}

impl DeferredMetrics {
    /// Wraps metrics that are known.
    pub fn known(metrics: StepMetrics) -> Self {
        DeferredMetrics { known: metrics, on_device: Vec::new() }
    }

    /// Adds a micro-batch whose results are on a device, without autodiff. `weight` is the divisor of the loss.
    pub fn push(&mut self, loss: Tensor<1>, weight: f64, logits: Tensor<2>, classes: &[Option<usize>]) {
        self.known.weight += weight;
        self.known.images += classes.len() as f64;
        self.known.unlabelled += count_unlabelled(classes);
        self.on_device.push(MetricsOnDevice { loss, logits, classes: classes.to_vec() });
    }

    /// Returns whether [`read`](Self::read) does not wait for a device.
    pub fn is_known(&self) -> bool {
        self.on_device.is_empty()
    }

    /// Returns the divisor of the loss.
    pub fn weight(&self) -> f64 {
        self.known.weight
    }

    /// Returns the number of images.
    pub fn images(&self) -> f64 {
        self.known.images
    }

    /// Reads the metrics.
    pub fn read(self) -> StepMetrics {
        let mut metrics = self.known;
        for MetricsOnDevice { loss, logits, classes } in self.on_device {
            metrics.loss += loss.into_scalar::<f64>();
            let rows: Vec<f32> = logits.into_data().iter().collect();
            metrics.correct += count_correct(&rows, &classes);
        }
        metrics
    }
}
