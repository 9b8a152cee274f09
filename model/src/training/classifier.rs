//! The classifier, a linear layer, with its gradients.

use super::value::Execution;
use crate::engine::cpu::buffer::SharedMutSlice;
use crate::engine::cpu::simd::{Kernel, Simd};

/// Weight `[classes, features]` and bias `[classes]` of the classifier.
#[derive(Clone, Copy)]
pub struct Classifier<'a> {
    pub weight: &'a [f32],
    pub bias: &'a [f32],
}

/// Number of independent sums of a dot product.
const SUMS: usize = 16;

impl Classifier<'_> {
    fn features(&self) -> usize {
        self.weight.len() / self.bias.len()
    }

    /// Returns the logits `[batch, classes]` of features `[batch, features]`.
    pub fn forward(&self, features: &[f32], execution: Execution) -> Vec<f32> {
        let (width, classes) = (self.features(), self.bias.len());
        let batch = features.len() / width;
        let mut logits = vec![0.0; batch * classes];
        let target = SharedMutSlice::new(&mut logits);
        execution.threads.for_each(classes, |class| {
            let weight = &self.weight[class * width..][..width];
            for (image, features) in features.chunks_exact(width).enumerate() {
                let logit = execution.set.run(Dot(features, weight)) + self.bias[class];
                // SAFETY: the logit lies inside the logits, and each task writes those of its class.
                unsafe { *target.as_mut_ptr().add(image * classes + class) = logit };
            }
        });
        logits
    }

    /// Returns the gradient of the features from that of the logits, and adds the gradients of weight and bias to
    /// `weight_gradient` and `bias_gradient`.
    pub fn backward(
        &self,
        features: &[f32],
        logit_gradients: &[f32],
        weight_gradient: &mut [f32],
        bias_gradient: &mut [f32],
        execution: Execution,
    ) -> Vec<f32> {
        let (width, classes) = (self.features(), self.bias.len());
        assert!(weight_gradient.len() == self.weight.len() && bias_gradient.len() == classes);
        let batch = features.len() / width;
        assert_eq!(logit_gradients.len(), batch * classes);
        for (class, sum) in bias_gradient.iter_mut().enumerate() {
            *sum += (0..batch).map(|image| logit_gradients[image * classes + class]).sum::<f32>();
        }
        let target = SharedMutSlice::new(weight_gradient);
        execution.threads.for_each(classes, |class| {
            // The sums of this batch are added to the gradient only at the end, as those of a replica are.
            let mut sums = vec![0.0; width];
            for (image, features) in features.chunks_exact(width).enumerate() {
                execution.set.run(AddProduct(logit_gradients[image * classes + class], features, &mut sums));
            }
            // SAFETY: the assertion above checks that there is a row per class, and each task writes its own row.
            let row = unsafe { std::slice::from_raw_parts_mut(target.as_mut_ptr().add(class * width), width) };
            row.iter_mut().zip(sums).for_each(|(gradient, sum)| *gradient += sum);
        });
        let mut feature_gradients = vec![0.0; features.len()];
        let target = SharedMutSlice::new(&mut feature_gradients);
        execution.threads.for_each(batch, |image| {
            // SAFETY: there is a row of features per image, and each task writes its own row.
            let sums = unsafe { std::slice::from_raw_parts_mut(target.as_mut_ptr().add(image * width), width) };
            let gradients = &logit_gradients[image * classes..][..classes];
            for (gradient, weight) in gradients.iter().zip(self.weight.chunks_exact(width)) {
                execution.set.run(AddProduct(*gradient, weight, sums));
            }
        });
        feature_gradients
    }
}

/// Dot product.
struct Dot<'a>(&'a [f32], &'a [f32]);

impl Kernel for Dot<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> f32 {
        let (a, a_rest) = self.0.as_chunks::<SUMS>();
        let (b, b_rest) = self.1.as_chunks::<SUMS>();
        let mut sums = [0.0; SUMS];
        for (a, b) in a.iter().zip(b) {
            for lane in 0..SUMS {
                sums[lane] += a[lane] * b[lane];
            }
        }
        let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
        sums.iter().sum::<f32>() + rest
    }
}

/// Adds a factor times some values to sums.
struct AddProduct<'a>(f32, &'a [f32], &'a mut [f32]);

impl Kernel for AddProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let AddProduct(factor, values, sums) = self;
        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += factor * value);
    }
}
